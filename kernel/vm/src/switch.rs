//! The file with `unsafe`: the switch to a guest, its tables, and the content of its memory.
//!
//! ```text
//!   Root   (movable memory) <-- Arc -- OwnVcpu: runs on it      so a tree exists while a CPU may walk it
//!     ^------------------------ Arc -- GuestTables: fills it    memory is freed after clear and flush only
//! ```

// UNSAFETY: runs guests, and accesses memory by physical address.
#![expect(unsafe_code)]

use crate::devices::GuestDevices;
use crate::enabled::EnabledHere;
use crate::id::VmId;
use crate::platform::Platform;
use crate::program::Begin;
use crate::residence::{self, Residence, RootAddress};
use crate::state_pages::StatePages;
use crate::stops::{Moment, Stops};
use crate::word::TableWord;
use alloc::sync::Arc;
use core::fmt;
use core::marker::PhantomData;
use core::ptr::NonNull;
use hotmem::paging::{Guest, GuestAddr, GuestRange, Mapper, NotFlushed, TableFrame, Tables, Tlb};
use hotmem::{
    FreeError, Machine, Mm, Move, Mover, Order, OutOfMemory, Pages, Pfn, PfnRange, PhysAddr,
    Request, VirtRange,
};
use hotmem_arch::contract::{CpuReply, CpuSet, GuestExit, GuestSpace, Guests, StateMemory, Vcpu};

/// The second-stage tables of a guest.
pub(crate) type GuestTables<M, P> =
    Tables<<<P as Platform>::Guests as Guests>::GuestFormat, &'static M, SpaceTlb<M, P>, Guest>;

/// The virtual CPU of a platform.
type PlatformVcpu<P> = <<P as Platform>::Guests as Guests>::Vcpu;

/// The order of an extent of at least `bytes`.
pub(crate) fn order_for<M: Machine>(bytes: u64) -> Order {
    Order::fitting(bytes.div_ceil(M::PAGE_BYTES).next_power_of_two())
}

/// The memory of `pages`, for the hardware.
///
/// # Safety
///
/// The pages are allocated for as long as the hardware uses the result, and have no other use.
unsafe fn state<M: Machine>(machine: &M, pages: Option<&Pages<'static, M>>) -> StateMemory {
    let at = pages.map_or(PhysAddr::default(), |pages| M::address(pages.pfn()));
    let pointer = pages.map_or(NonNull::dangling(), |_| machine.pointer(at));
    // SAFETY: `kernel_memory` zeroed the pages; the rest by the contract of this function.
    unsafe { StateMemory::new(at, pointer) }
}

/// The root of a guest's tables: memory of the tables' owner that is empty at first.
#[derive(Debug)]
pub(crate) struct Root<M: Machine + 'static> {
    mm: &'static Mm<M>,
    mover: &'static Mover,
    at: RootAddress,
    order: Order,
    tag: u16,
}

impl<M: Machine> Root<M> {
    /// An empty root for guest `id`.
    pub(crate) fn new(
        mm: &'static Mm<M>,
        mover: &'static Mover,
        id: VmId,
        bytes: u64,
    ) -> Result<Self, OutOfMemory> {
        let (order, place) =
            (order_for::<M>(bytes), TableWord { vm: id.number(), level: 0, index: 0 });
        let pfn = mm.alloc_movable(order, mover, place.encode())?;
        // SAFETY: the extent was allocated for this root, and its owner refuses to move it until the guest has tables.
        unsafe { clear(mm, pfn, order) };
        Ok(Self { mm, mover, at: RootAddress::new(M::address(pfn).get()), order, tag: id.tag() })
    }

    /// Its address.
    fn at(&self) -> PhysAddr {
        PhysAddr::new(self.at.get())
    }

    /// The space with the root at `at`, which it is, or was until all CPUs had left.
    fn space_at(&self, at: PhysAddr) -> GuestSpace {
        // SAFETY: the leaves are those that `GuestTables` has, extents of the guest's owner, each of which is freed
        // after it was cleared and flushed; the tag is the guest's, and `tables` dropped what was cached with it.
        unsafe { GuestSpace::new(at, self.tag) }
    }

    fn space(&self) -> GuestSpace {
        self.space_at(self.at())
    }

    /// The space, for a CPU that has entered the guest; `None` while the root moves.
    fn enter(&self) -> Option<GuestSpace> {
        self.at.enter().map(|at| self.space_at(PhysAddr::new(at)))
    }

    /// The tables of this root.
    pub(crate) fn tables<P: Platform>(
        self: &Arc<Self>,
        mm: &'static Mm<M>,
        residences: &Arc<[Residence]>,
    ) -> Result<GuestTables<M, P>, NotFlushed> {
        let tlb = SpaceTlb {
            mm,
            root: Arc::clone(self),
            residences: Arc::clone(residences),
            platform: PhantomData,
        };
        tlb.flush(&[GuestRange::new(GuestAddr::new(0), u64::MAX).unwrap_or_default()])?;
        // SAFETY: the root is zeroed, this is the only value for it, and its TLB keeps it allocated; the lock of
        // `Space` excludes calls at the same time. The machine reaches all memory that the manager allocates. No
        // Rust object lies in a guest's memory.
        Ok(unsafe { Tables::new(self.at(), mm.machine(), tlb) })
    }
}

impl<M: Machine> Drop for Root<M> {
    fn drop(&mut self) {
        let pfn = M::pfn(self.at());
        // SAFETY: the tables and all virtual CPUs that used it are gone. Without them its owner refuses to move it.
        unsafe { clear(self.mm, pfn, self.order) };
        if let Err(error) = self.mm.free_movable(pfn, self.mover) {
            log::error!("a root of a guest is lost: {error}");
        }
    }
}

/// Moves the root of `tables` to the frame `to`, while no CPU is in the guest.
///
/// # Errors
///
/// [`NotFlushed`] if a CPU does not leave the guest; the frame is unused.
pub(crate) fn relocate_root<M: Machine, P: Platform>(
    tables: &mut GuestTables<M, P>,
    root: &Root<M>,
    to: TableFrame,
) -> Result<(), NotFlushed> {
    root.at.close();
    if let Err(cpu) = tables.tlb().vacate() {
        root.at.open(tables.root().get());
        let _unused = to.into_raw();
        return Err(cpu);
    }
    // SAFETY: the frame has the size of a root, as its maker says. No CPU is in the guest, and each that enters reads the
    // address of the root after it has been opened again. `vacate` dropped all that was cached.
    unsafe { tables.relocate_root(to) };
    root.at.open(tables.root().get());
    Ok(())
}

/// The translations of a guest that CPUs cache.
pub(crate) struct SpaceTlb<M: Machine + 'static, P> {
    mm: &'static Mm<M>,
    root: Arc<Root<M>>,
    residences: Arc<[Residence]>,
    platform: PhantomData<fn() -> P>,
}

impl<M: Machine, P: Platform> SpaceTlb<M, P> {
    /// Waits until the CPUs that are in the guest have left it.
    fn expel(&self) -> Result<(), NotFlushed> {
        residence::expel(&self.residences, P::kick, || self.mm.machine().relax())
    }

    /// Waits until no CPU is in the guest, which is closed, and drops all of its translations.
    fn vacate(&self) -> Result<(), NotFlushed> {
        self.expel()?;
        let all = GuestRange::new(GuestAddr::new(0), u64::MAX).unwrap_or_default();
        P::Guests::drop_guest_translations(&self.root.space(), &[all]);
        Ok(())
    }
}

impl<M: Machine, P> fmt::Debug for SpaceTlb<M, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SpaceTlb").field("tag", &self.root.tag).finish_non_exhaustive()
    }
}

// SAFETY: the architecture drops the cached translations on this CPU, and on all others if it can; if not, each CPU
// that is in the guest leaves it before the flush ends, and drops them before it enters again, by the contract of
// `Guests`. Each virtual CPU of the guest has one of the residences.
unsafe impl<M: Machine, P: Platform> Tlb<Guest> for SpaceTlb<M, P> {
    fn publish(&self) {
        P::Guests::publish_guest_entries();
    }

    fn flush(&self, ranges: &[GuestRange]) -> Result<(), NotFlushed> {
        P::Guests::drop_guest_translations(&self.root.space(), ranges);
        if P::Guests::GUEST_FLUSH_REACHES_ALL {
            return Ok(());
        }
        self.expel()
    }
}

/// A value whose bytes are cleared when it is dropped: registers of a guest, whose place in the heap is used again.
#[derive(Debug)]
struct Secret<T>(Option<T>);

impl<T> Secret<T> {
    /// Drops the value, and clears its bytes.
    fn clear(&mut self) {
        drop(self.0.take());
        let place = &raw mut self.0;
        let first = place.cast::<u8>();
        for at in 0..size_of::<Option<T>>() {
            // SAFETY: the byte is one of the place, which is borrowed for writing and was emptied. The write is volatile:
            // though nothing reads the byte, it is made.
            unsafe { first.wrapping_add(at).write_volatile(0) };
        }
        // SAFETY: the place is as above; from here on it holds a valid value again.
        unsafe { place.write(None) };
    }
}

impl<T> Drop for Secret<T> {
    fn drop(&mut self) {
        self.clear();
    }
}

/// A virtual CPU, with the memory of its state and the root that it runs on.
#[derive(Debug)]
pub(crate) struct OwnVcpu<M: Machine + 'static, P: Platform> {
    number: usize,
    /// Empty before it begins. Dropped before its state.
    vcpu: Secret<PlatformVcpu<P>>,
    state: StatePages<M>,
    root: Arc<Root<M>>,
    residences: Arc<[Residence]>,
    pub(crate) devices: Arc<GuestDevices<M, P>>,
    pub(crate) stops: Stops,
}

impl<M: Machine, P: Platform> OwnVcpu<M, P> {
    /// The CPU `number` of a guest, off, in the tables of `root`.
    pub(crate) fn new(
        mm: &'static Mm<M>,
        root: &Arc<Root<M>>,
        residences: &Arc<[Residence]>,
        devices: &Arc<GuestDevices<M, P>>,
        number: usize,
    ) -> Result<Self, OutOfMemory> {
        let bytes = PlatformVcpu::<P>::STATE_BYTES;
        let state = StatePages::new(mm, (bytes != 0).then(|| order_for::<M>(bytes)))?;
        let (root, residences) = (Arc::clone(root), Arc::clone(residences));
        let (devices, stops) = (Arc::clone(devices), Stops::default());
        Ok(Self { number, vcpu: Secret(None), state, root, residences, devices, stops })
    }

    /// Has it begin, with the registers of a CPU that was off.
    pub(crate) fn begin(&mut self, mm: &Mm<M>, begin: &Begin) {
        self.vcpu.clear();
        self.state.clear();
        self.stops = Stops::default();
        // SAFETY: the pages were just cleared, and no virtual CPU uses them; they are freed when this value is dropped,
        // and the virtual CPU before them.
        let state = unsafe { state(mm.machine(), self.state.pages()) };
        self.vcpu.0 = Some(match begin {
            Begin::Payload(entry, arguments) => PlatformVcpu::<P>::new(state, *entry, *arguments),
            Begin::Linux(start) => PlatformVcpu::<P>::linux(state, start),
            Begin::Own(start) => PlatformVcpu::<P>::own(state, start),
            Begin::Started(start, has_board) => {
                PlatformVcpu::<P>::started(state, self.number, start, *has_board)
            }
        });
    }

    /// Runs it until an exit; `None` if the root of its tables moves just now. Interrupts are off during the call, and on
    /// afterwards.
    pub(crate) fn run(&mut self, now: impl Fn() -> Moment, _: &EnabledHere) -> Option<GuestExit> {
        let (Some(vcpu), Some(residence)) = (&mut self.vcpu.0, self.residences.get(self.number))
        else {
            return Some(GuestExit::Stopped("its CPU never began", self.number as u64));
        };
        P::disable_interrupts();
        residence.enter(self.root.mm.machine().cpu());
        self.stops.enter(now());
        // SAFETY: `EnabledHere` proves that this CPU is enabled; the root lives as long as this value, and stays where it is
        // until this CPU has left. The rest of the space's contract is kept by `Root::space_at`.
        let exit = self.root.enter().map(|space| unsafe { vcpu.run(&space, &*self.devices) });
        self.stops.leave(exit.as_ref(), now());
        residence.leave();
        P::enable_interrupts();
        exit
    }

    /// The CPUs of its guest that it called since the last call.
    pub(crate) fn take_called(&mut self) -> CpuSet {
        self.vcpu.0.as_mut().map_or(CpuSet::of_bits(0), Vcpu::take_called)
    }

    /// Returns a value from the guest's last call.
    pub(crate) fn reply(&mut self, value: u64) {
        if let Some(vcpu) = &mut self.vcpu.0 {
            vcpu.reply(value);
        }
    }

    /// Returns the reply to the guest's last request about its CPUs.
    pub(crate) fn reply_to_request(&mut self, reply: CpuReply) {
        if let Some(vcpu) = &mut self.vcpu.0 {
            vcpu.reply_to_request(reply);
        }
    }

    /// Its registers, once it has begun.
    pub(crate) const fn registers(&self) -> Option<&impl fmt::Display> {
        self.vcpu.0.as_ref()
    }
}

/// An extent of a guest's memory that has no leaf yet: its owner refuses to move it.
#[derive(Debug)]
pub(crate) struct Fresh {
    pub(crate) pfn: Pfn,
    pub(crate) order: Order,
}

impl Fresh {
    /// A zeroed extent with the owner's word `word`.
    pub(crate) fn new<M: Machine>(
        mm: &Mm<M>,
        request: Request,
        order: Order,
        mover: &Mover,
        word: u64,
    ) -> Result<Self, OutOfMemory> {
        let pfn = mm.alloc_movable(request, mover, word)?;
        // SAFETY: the extent was allocated for the guest, which has no translation for it yet, and its owner refuses
        // to move it.
        unsafe { clear(mm, pfn, order) };
        Ok(Self { pfn, order })
    }

    /// Frees it.
    pub(crate) fn free<M: Machine>(self, mm: &Mm<M>, mover: &Mover) {
        if let Err(error) = mm.free_movable(self.pfn, mover) {
            log::error!("{} is lost: {error}", self.pfn);
        }
    }
}

/// Writes `bytes` to the memory of a guest that has not run yet, from `at` on. Returns whether all of it is its memory;
/// if not, a part may be written.
pub(crate) fn write<M: Machine, P: Platform>(
    mm: &Mm<M>,
    tables: &mut GuestTables<M, P>,
    mut at: GuestAddr,
    mut bytes: &[u8],
) -> bool {
    while !bytes.is_empty() {
        let Some(leaf) = tables.translate(at) else { return false };
        let to_page_end = M::PAGE_BYTES - at.get() % M::PAGE_BYTES;
        let (now, later) = bytes.split_at(bytes.len().min(to_page_end as usize));
        let to = leaf.target(at);
        // SAFETY: a leaf shows memory of this guest, which no CPU runs; its owner moves it only with the tables,
        // which are borrowed here. The bytes end with their page at the latest, and the linear map reaches all of it.
        unsafe {
            core::ptr::copy_nonoverlapping(
                now.as_ptr(),
                mm.machine().pointer(to).as_ptr(),
                now.len(),
            )
        };
        // Instructions are fetched from memory, not from this CPU's data cache.
        let written = mm.machine().linear_base().add(to.get());
        mm.machine().clean(VirtRange::new(written, now.len() as u64).unwrap_or_default());
        let Some(next) = at.checked_add(now.len() as u64) else { return later.is_empty() };
        (at, bytes) = (next, later);
    }
    true
}

/// The byte at `at` of a guest that does not run.
#[cfg(test)]
pub(crate) fn byte<M: Machine, P: Platform>(
    mm: &Mm<M>,
    tables: &GuestTables<M, P>,
    at: u64,
) -> Option<u8> {
    let at = GuestAddr::new(at);
    let from = mm.machine().pointer(tables.translate(at)?.target(at));
    // SAFETY: a leaf shows memory of this guest, which no CPU runs.
    Some(unsafe { from.read() })
}

/// Clears an extent. Pages of zeroes are read only: a machine that is itself a guest has memory as it writes it.
///
/// # Safety
///
/// The extent is memory of one of the owners of guests, and nothing else uses it: no table has a leaf for it, or
/// links it.
unsafe fn clear<M: Machine>(mm: &Mm<M>, pfn: Pfn, order: Order) {
    let words = M::PAGE_BYTES as usize / size_of::<u64>();
    for page in PfnRange::new(pfn, order.pages()).iter() {
        let first = mm.machine().pointer(M::address(page)).cast::<u64>();
        // SAFETY: the machine's pointer reaches all of the page, aligned to it; by the contract nothing else uses it.
        let content = unsafe { core::slice::from_raw_parts_mut(first.as_ptr(), words) };
        let is_zero = |chunk: &[u64]| chunk.iter().fold(0, |all, word| all | word) == 0;
        if !content.chunks(16).all(is_zero) {
            content.fill(0);
        }
    }
}

/// Clears what a move leaves unused: the extent, unless its memory is bad, or the target if the move was refused.
pub(crate) fn clear_unused<M: Machine>(mm: &Mm<M>, one: &Move) {
    let extent = one.from();
    let unused = if one.is_refused() { one.to() } else { extent.pfn };
    if unused == extent.pfn && one.is_bad() {
        return;
    }
    // SAFETY: the manager made the move, and frees this extent next. Its owner calls this after the new leaves and
    // links, so no table names it; what was cached of it was dropped before the copy.
    unsafe { clear(mm, unused, extent.order) };
}

/// Clears a table that no other links any more, and frees it.
pub(crate) fn free_table<M: Machine>(
    mm: &Mm<M>,
    frame: TableFrame,
    mover: &Mover,
    scrub: bool,
) -> Result<(), FreeError> {
    let (order, pfn) = (order_for::<M>(frame.bytes()), M::pfn(frame.into_raw()));
    clear_and_free(mm, &Fresh { pfn, order }, mover, scrub)
}

/// Clears an extent of a guest whose leaves were cleared and flushed, and frees it.
pub(crate) fn clear_and_free<M: Machine>(
    mm: &Mm<M>,
    extent: &Fresh,
    mover: &Mover,
    scrub: bool,
) -> Result<(), FreeError> {
    if scrub {
        // SAFETY: the mover proves that the extent is a guest's; `kill.rs` unmaps it before, and an extent without a
        // leaf is not moved. A table was given back after the flush: nothing walks it, and it was allocated for one.
        unsafe { clear(mm, extent.pfn, extent.order) };
    }
    mm.free_movable(extent.pfn, mover)
}

/// Copies an extent that its owner isolated to its target.
pub(crate) fn copy<M: Machine, P: Platform>(mm: &Mm<M>, one: &Move) {
    // The machine's pointers reach the end of a page.
    (0..one.from().order.pages()).for_each(|page| copy_page::<M, P>(mm, one, page));
}

/// Copies a page of an extent, by its number there, to the target. The guest may store to it meanwhile.
pub(crate) fn copy_page<M: Machine, P: Platform>(mm: &Mm<M>, one: &Move, page: u64) {
    if page >= one.from().order.pages() {
        return;
    }
    let machine = mm.machine();
    let from = machine.pointer(M::address(one.from().pfn.add(page)));
    let to = machine.pointer(M::address(one.to().add(page)));
    // SAFETY: the manager made the move: both extents belong to the owner, are different, and have that page; it frees
    // the first after the move only. The kernel does not access them otherwise, and the guest has no translation for the
    // second yet.
    unsafe { P::Guests::copy_guest_memory(from, to, M::PAGE_BYTES as usize) };
}

/// Clears a page that an extent left when it moved, by its number there.
pub(crate) fn clear_behind<M: Machine>(mm: &Mm<M>, one: &Move, page: u64) {
    if page < one.from().order.pages() {
        // SAFETY: the manager made the move, and frees this extent when it is clear. No table names it since the move.
        unsafe { clear(mm, one.from().pfn.add(page), Order::ZERO) };
    }
}

/// The frame of a table that the manager moves: memory of the owner that has no use yet.
pub(crate) fn frame_of_target<M: Machine>(one: &Move, bytes: u64) -> TableFrame {
    // SAFETY: the manager allocated the target for the table's owner, in whole pages, and only for this move.
    unsafe { TableFrame::new(M::address(one.to()), bytes) }
}

/// A frame for a table, from movable memory of `mover`.
pub(crate) fn frame<M: Machine>(
    mm: &Mm<M>,
    mover: &Mover,
    word: u64,
    bytes: u64,
) -> Result<TableFrame, OutOfMemory> {
    let pfn = mm.alloc_movable(order_for::<M>(bytes), mover, word)?;
    // SAFETY: the extent was allocated for this table alone, naturally aligned; its owner moves it by `relocate`
    // only, which returns the frame that is free then.
    Ok(unsafe { TableFrame::new(M::address(pfn), bytes) })
}
