//! A whole fake machine: RAM, MMU and page tables behind the interface of the memory manager.

// UNSAFETY: passes on the guarantees of the software MMU, and finds descriptors through it.
#![expect(unsafe_code)]

use super::std::sync::{Arc, Mutex, OnceLock, PoisonError};
use super::std::vec::Vec;
use super::{
    FakeRam, FaultPlan, GranulePte, LockedMapper, OddPte, SoftMmu, Tag, TinyPte, WatchedLock,
};
use crate::addr::{Pfn, PhysAddr, PhysRange, VirtAddr, VirtRange};
use crate::alloc::cache::CpuCaches;
use crate::alloc::node::{MAX_NODES, NodeId, NodeTable};
use crate::geometry::{DESCRIPTOR_BYTES, Geometry, Sizes};
use crate::machine::{Machine, PhysMem};
use crate::memmap::page::Page;
use crate::operations::boot::{EarlyFrames, EarlyTables};
use crate::paging::{Attr, Level, Mapper, Mapping, PteFormat, Tables};

use core::fmt;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicBool, Ordering};

/// CPUs that have a cache of pages; a CPU with a higher number has none.
pub const CPUS: usize = 3;

/// The contents of RAM when it is plugged: garbage, as in a real DIMM.
const GARBAGE: u8 = 0xff;

/// The kind of a fake machine.
pub trait Shape: 'static {
    /// Its page-table format; the last level's entries span its base page.
    type Format: PteFormat;
    /// Log2 of a section's bytes.
    const SECTION_SHIFT: u32;
    /// The address of physical address 0 in the linear map.
    const LINEAR_BASE: VirtAddr;
    /// The address of the descriptor of pfn 0.
    const VMEMMAP_BASE: VirtAddr;
    /// One past the highest physical address.
    const PHYS_LIMIT: PhysAddr;
    /// Whether the linear map covers all of it from the start.
    const LINEAR_MAP_IS_COMPLETE: bool = false;
    /// Whether address spaces share the root entries of the windows.
    const SHARES_ROOT_ENTRIES: bool = false;
    /// Whether accesses to memory take no lock, and order nothing, so that a sanitizer sees what the manager orders. Such a
    /// machine finds no stale translations: it caches none.
    const FLAT: bool = false;
}

/// For storms: 4 KiB pages, 1 MiB sections of 256 pages, 2 GiB of physical address space.
#[derive(Clone, Copy, Debug)]
pub struct Tiny;

impl Shape for Tiny {
    type Format = TinyPte;
    const SECTION_SHIFT: u32 = 20;
    const LINEAR_BASE: VirtAddr = VirtAddr::new(0);
    const VMEMMAP_BASE: VirtAddr = VirtAddr::new(0x8000_0000);
    const PHYS_LIMIT: PhysAddr = PhysAddr::new(0x8000_0000);
}

/// As [`Tiny`], but [flat](Shape::FLAT).
#[derive(Clone, Copy, Debug)]
pub struct Flat;

impl Shape for Flat {
    type Format = <Tiny as Shape>::Format;
    const SECTION_SHIFT: u32 = Tiny::SECTION_SHIFT;
    const LINEAR_BASE: VirtAddr = Tiny::LINEAR_BASE;
    const VMEMMAP_BASE: VirtAddr = Tiny::VMEMMAP_BASE;
    const PHYS_LIMIT: PhysAddr = Tiny::PHYS_LIMIT;
    const FLAT: bool = true;
}

/// As [`Tiny`], but with sections of 16 pages: four share a memmap page and eight a record, as on POWER
/// with 64 KiB pages.
#[derive(Clone, Copy, Debug)]
pub struct TinyShared;

impl Shape for TinyShared {
    const SECTION_SHIFT: u32 = 16;
    type Format = <Tiny as Shape>::Format;
    const LINEAR_BASE: VirtAddr = Tiny::LINEAR_BASE;
    const VMEMMAP_BASE: VirtAddr = Tiny::VMEMMAP_BASE;
    const PHYS_LIMIT: PhysAddr = Tiny::PHYS_LIMIT;
}

/// The sizes of arm64 with 16 KiB pages: sections of 128 MiB, subsections of 128 pages, and a memmap of 32 pages for
/// each section, so that memmap pages and usable ones share a subsection.
#[derive(Clone, Copy, Debug)]
pub struct Granule16;

impl Shape for Granule16 {
    type Format = GranulePte;
    const SECTION_SHIFT: u32 = 27;
    const LINEAR_BASE: VirtAddr = VirtAddr::new(0);
    const VMEMMAP_BASE: VirtAddr = VirtAddr::new(1 << 42);
    const PHYS_LIMIT: PhysAddr = PhysAddr::new(1 << 40);
}

/// The sizes of POWER with 64 KiB pages: 16 MiB sections, four of which share a memmap page, memory
/// blocks of 256 MiB, and tables of 64 KiB, 4 KiB and 256 bytes.
#[derive(Clone, Copy, Debug)]
pub struct Lmb;

impl Shape for Lmb {
    type Format = OddPte;
    const SECTION_SHIFT: u32 = 24;
    const LINEAR_BASE: VirtAddr = VirtAddr::new(0xc000_0000_0000_0000);
    const VMEMMAP_BASE: VirtAddr = VirtAddr::new(0xc008_0000_0000_0000);
    const PHYS_LIMIT: PhysAddr = PhysAddr::new(1 << 46);
}

type Mmu<S> = Arc<SoftMmu<<S as Shape>::Format>>;

/// The nodes of CPUs, and their distances.
struct Places {
    node: fn(usize) -> NodeId,
    distance: fn(usize, NodeId) -> u8,
}

/// A machine of shape `S`, with only its RAM mapped, linearly. Its page tables are behind a lock.
pub struct FakeMachine<S: Shape> {
    mmu: Mmu<S>,
    tables: <Self as Machine>::Mapper,
    plan: FaultPlan,
    busy: FaultPlan,
    keeps: FaultPlan,
    self_hosting: AtomicBool,
    protected: OnceLock<PhysRange>,
    places: OnceLock<Places>,
    /// The ranges that were cleaned, in order.
    cleaned: Mutex<Vec<VirtRange>>,
}

impl<S: Shape> FakeMachine<S> {
    /// A machine with RAM in `ram` (ascending), mapped with leaves up to `max_leaf` bytes, and the early allocator
    /// over the RAM that the tables left.
    ///
    /// # Panics
    ///
    /// If the RAM is too small for its tables.
    pub fn start(ram: &[PhysRange], max_leaf: u64) -> (Self, FakeEarly) {
        let plugged = if S::FLAT { FakeRam::flat(S::PHYS_LIMIT) } else { FakeRam::new() };
        for &range in ram {
            plugged.plug(range, Some(GARBAGE));
        }
        let mut early = FakeEarly { free: ram.to_vec(), page: Self::PAGE_BYTES };
        let bytes = S::Format::LEVELS[0].table_bytes();
        let Some(root) = early.take(bytes, bytes) else {
            panic!("no RAM for the root table");
        };
        let mmu = if S::FLAT {
            SoftMmu::flat(plugged, root, windows::<S>())
        } else {
            SoftMmu::new(plugged, root)
        };
        mmu.clear(root, bytes);
        mmu.before_flush(|ranges| super::lock::check_flush(ranges, is_memmap::<S>));
        let machine = Self {
            tables: LockedMapper::new(mmu.tables()),
            mmu,
            plan: FaultPlan::never(),
            busy: FaultPlan::never(),
            keeps: FaultPlan::never(),
            self_hosting: AtomicBool::new(true),
            protected: OnceLock::new(),
            places: OnceLock::new(),
            cleaned: Mutex::new(Vec::new()),
        };
        let witness = Arc::clone(&machine.mmu);
        machine.tables.on_map(move |at, len| witness.note_mapped(VirtAddr::new(at), len));
        machine.map_ram(ram, max_leaf, &mut early);
        (machine, early)
    }

    /// The MMU, to load, store, speculate and check through.
    pub fn mmu(&self) -> &SoftMmu<S::Format> {
        &self.mmu
    }

    /// The MMU, for an owner of pages that outlives a borrow.
    pub(super) fn share_mmu(&self) -> Arc<SoftMmu<S::Format>> {
        Arc::clone(&self.mmu)
    }

    /// The allocations that fail.
    pub fn plan(&self) -> &FaultPlan {
        &self.plan
    }

    /// The operations that are refused as busy.
    pub fn busy(&self) -> &FaultPlan {
        &self.busy
    }

    /// The writes back from the caches to pages of unknown memory that are lost: loads read all ones then.
    pub fn keeps(&self) -> &FaultPlan {
        &self.keeps
    }

    /// Plugs a DIMM full of garbage.
    ///
    /// # Panics
    ///
    /// If some of it is plugged already.
    pub fn plug(&self, range: PhysRange) {
        self.mmu.ram().plug(range, Some(GARBAGE));
    }

    /// Makes `range` addresses that firmware describes as memory, without memory behind them.
    ///
    /// # Panics
    ///
    /// If some of it is plugged already.
    pub fn plug_hollow(&self, range: PhysRange) {
        self.mmu.ram().plug_hollow(range);
    }

    /// Unplugs a DIMM.
    ///
    /// # Panics
    ///
    /// Those of [`SoftMmu::unplug`].
    pub fn unplug(&self, range: PhysRange) {
        self.mmu.unplug(range);
    }

    /// Whether added memory can hold its own memmap (by default it can).
    pub fn allow_self_hosting(&self, allow: bool) {
        self.self_hosting.store(allow, Ordering::SeqCst);
    }

    /// The ranges cleaned in the caches since the last call.
    pub fn take_cleaned(&self) -> Vec<VirtRange> {
        core::mem::take(&mut *self.cleaned.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Makes `range` memory that must not be writable, from now on; only the first call counts.
    pub fn protect(&self, range: PhysRange) {
        self.protected.get_or_init(|| range);
    }

    /// Sets the node of each CPU, and the distances of nodes from it; only the first call counts.
    pub fn place_cpus(&self, node: fn(usize) -> NodeId, distance: fn(usize, NodeId) -> u8) {
        self.places.get_or_init(|| Places { node, distance });
    }

    /// The page tables.
    pub fn tables(&self) -> &<Self as Machine>::Mapper {
        &self.tables
    }

    /// Maps RAM; or, if the linear map is complete, everything, with the largest leaves.
    fn map_ram(&self, ram: &[PhysRange], max_leaf: u64, early: &mut FakeEarly) {
        let all = PhysRange::new(PhysAddr::new(0), S::PHYS_LIMIT.get()).unwrap_or_default();
        let complete = S::LINEAR_MAP_IS_COMPLETE;
        let (ram, max_leaf) = if complete { (&[all][..], u64::MAX) } else { (ram, max_leaf) };
        let frames = EarlyTables::new(early);
        for range in ram {
            let mapping = Mapping {
                virt: S::LINEAR_BASE.add(range.start().get()),
                phys: range.start(),
                len: range.len(),
                attr: Attr::WRITE,
                max_leaf,
            };
            if let Err(error) = self.tables.map(&mapping, &frames) {
                panic!("linear map of {range}: {error}");
            }
        }
        self.mmu.use_linear_map(S::LINEAR_BASE);
    }
}

impl<S: Shape> Sizes for FakeMachine<S> {
    const PAGE_SHIFT: u32 = last(S::Format::LEVELS).shift;
    const SECTION_SHIFT: u32 = S::SECTION_SHIFT;
}

/// Bytes of the memmap's window.
const fn memmap_bytes<S: Shape>() -> u64 {
    S::PHYS_LIMIT.get() / FakeMachine::<S>::PAGE_BYTES * DESCRIPTOR_BYTES
}

/// Whether `range` lies in the memmap's window.
fn is_memmap<S: Shape>(range: VirtRange) -> bool {
    let window = VirtRange::new(S::VMEMMAP_BASE, memmap_bytes::<S>());
    window.is_some_and(|window| window.covers(range))
}

/// The addresses from the start of the linear map to the end of the memmap's window.
fn windows<S: Shape>() -> VirtRange {
    let end = S::VMEMMAP_BASE.add(memmap_bytes::<S>());
    VirtRange::new(S::LINEAR_BASE, end.offset_from(S::LINEAR_BASE)).unwrap_or_default()
}

const fn last(levels: &[Level]) -> Level {
    levels[levels.len() - 1]
}

// SAFETY: every guarantee is the software MMU's own.
unsafe impl<S: Shape> PhysMem for FakeMachine<S> {
    fn linear_base(&self) -> VirtAddr {
        S::LINEAR_BASE
    }

    fn pointer(&self, at: PhysAddr) -> NonNull<u8> {
        super::lock::note_access();
        self.mmu.pointer(at)
    }
}

// SAFETY: the MMU's own walk of the window finds a descriptor, 64-byte aligned because the window's base
// and its pages are.
unsafe impl<S: Shape> Machine for FakeMachine<S> {
    type Mapper = LockedMapper<Tables<S::Format, Mmu<S>, Mmu<S>>>;
    type Nodes = NodeTable<MAX_NODES, WatchedLock>;
    type Caches = CpuCaches<CPUS, WatchedLock>;
    type Lock = WatchedLock;
    type Meta = Tag;

    fn vmemmap_base(&self) -> VirtAddr {
        S::VMEMMAP_BASE
    }

    fn phys_limit(&self) -> PhysAddr {
        S::PHYS_LIMIT
    }

    fn linear_map_is_complete(&self) -> bool {
        S::LINEAR_MAP_IS_COMPLETE
    }

    fn root_entry_bytes(&self) -> Option<u64> {
        S::SHARES_ROOT_ENTRIES.then_some(S::Format::LEVELS[0].span())
    }

    unsafe fn mapper(&self) -> &Self::Mapper {
        &self.tables
    }

    fn node(&self, cpu: usize) -> NodeId {
        self.places.get().map_or(NodeId::ZERO, |places| (places.node)(cpu))
    }

    fn distance(&self, cpu: usize, to: NodeId) -> u8 {
        self.places.get().map_or(10, |places| (places.distance)(cpu, to))
    }

    fn descriptor(&self, pfn: Pfn) -> NonNull<Page> {
        super::lock::note_access();
        let at = S::VMEMMAP_BASE.add(pfn.get().wrapping_mul(DESCRIPTOR_BYTES));
        let page = self.mmu.pointer_through(at).cast::<Page>();
        assert!(page.is_aligned(), "a descriptor at {page:?}");
        page
    }

    fn protected(&self) -> &[PhysRange] {
        self.protected.get().map_or(&[], core::slice::from_ref)
    }

    /// # Panics
    ///
    /// If a part of it is not mapped; or if whole pages are not zeroed, since those are about to leave the linear
    /// map. Pages of descriptors may keep records.
    fn clean(&self, range: VirtRange) {
        self.mmu.ram().clean(self.mmu.translate_through(range.start()));
        if range.len() < Self::PAGE_BYTES {
            if !self.keeps.allows() {
                let words = (0..range.len()).step_by(8).map(|at| range.start().add(at));
                words.for_each(|at| self.mmu.store(at, u64::MAX));
            }
            return;
        }
        let checked = if is_memmap::<S>(range) { 0 } else { range.len() };
        for at in (0..checked).step_by(Self::PAGE_BYTES as usize) {
            assert_eq!(self.mmu.load(range.start().add(at)), 0, "cleaned before it was cleared");
        }
        self.cleaned.lock().unwrap_or_else(PoisonError::into_inner).push(range);
    }

    /// In the linear map, an address is safe only if it has the right target.
    fn can_load(&self, at: VirtAddr) -> bool {
        let linear = VirtRange::new(S::LINEAR_BASE, S::PHYS_LIMIT.get()).unwrap_or_default();
        let offset = at.offset_from(S::LINEAR_BASE);
        let target = self.mmu.target(at);
        target.is_some_and(|target| !linear.contains(at) || target.get() == offset)
    }

    fn allows_self_hosting(&self) -> bool {
        self.self_hosting.load(Ordering::SeqCst)
    }

    fn allows_operation(&self) -> bool {
        self.busy.allows()
    }

    fn cpu(&self) -> usize {
        super::cpu()
    }

    fn in_handler(&self) -> bool {
        super::handler::is_handler()
    }

    fn relax(&self) {
        super::lock::wait_for_cpus();
    }

    /// Before an allocation fails the MMU caches every translation: the operation now undoes its changes, and a CPU
    /// may have seen them.
    fn allows_allocation(&self) -> bool {
        let allows = self.plan.allows();
        if !allows {
            self.mmu.speculate();
        }
        allows
    }
}

impl<S: Shape> fmt::Debug for FakeMachine<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FakeMachine")
            .field("mmu", &self.mmu)
            .field("plan", &self.plan)
            .finish_non_exhaustive()
    }
}

/// The allocator that a fake machine boots with: allocates from the bottom of the first range with room.
#[derive(Debug)]
pub struct FakeEarly {
    /// The free part of each range of RAM.
    free: Vec<PhysRange>,
    /// Only whole pages are allocated.
    page: u64,
}

// SAFETY: an allocation leaves the list of free ranges of fake RAM.
unsafe impl EarlyFrames for FakeEarly {
    fn take(&mut self, bytes: u64, align: u64) -> Option<PhysAddr> {
        let (bytes, align) = (bytes.next_multiple_of(self.page), align.max(self.page));
        for range in &mut self.free {
            let at = range.start().get().next_multiple_of(align);
            let skipped = at - range.start().get();
            if skipped + bytes <= range.len() {
                let at = PhysAddr::new(at);
                *range = PhysRange::new(at.add(bytes), range.len() - skipped - bytes)?;
                return Some(at);
            }
        }
        None
    }

    fn free_ranges(&self, each: &mut dyn FnMut(PhysRange)) {
        for &range in self.free.iter().filter(|range| !range.is_empty()) {
            each(range);
        }
    }
}

#[cfg(test)]
mod tests;
