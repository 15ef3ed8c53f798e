//! The seam to the machine: what the memory manager may ask of the kernel it runs in.
//!
//! Clocks, interrupts and firmware are not in it. A kernel implements [`Sizes`](crate::Sizes),
//! [`PhysMem`] (how to reach a frame), and a [`Mapper`] (page tables: its own, or
//! [`crate::paging::Tables`] over a [`crate::paging::PteFormat`]); [`Machine`] ties them together
//! and says where descriptors are.
//!
//! # Who is called when
//!
//! *Turn*: an operation is under way, every other is refused as busy; nobody spins on it. *Spun on*: other
//! CPUs wait for it with a spin lock or the gate of looks, so it must be short.
//!
//! | called | by | held | may sleep, call out | may call the manager |
//! |---|---|---|---|---|
//! | [`Listen::notify`](crate::Listen::notify) | online, offline | turn | if its caller may | allocate, free, look up, look; operations are refused |
//! | [`Listen::heard`](crate::Listen::heard) | add, remove, convert | turn | if its caller may | the same |
//! | the same, of a bad page | poison | nothing | if its caller may | all but `listen`, `unlisten` |
//! | [`MovableOps`](crate::MovableOps) | offline, compact, convert, poison, take_contig | turn | if its caller may | allocate, free, look up, look; operations are refused |
//! | [`MovableOps::pinned`](crate::MovableOps::pinned) | explain, too | nothing | if its caller may | everything |
//! | closures of `dump`, `snapshot`, `poison_queued`, `try_dump` | | nothing | if its caller may | everything |
//! | [`Mapper`], [`Tlb`](crate::paging::Tlb), [`clean`](Machine::clean), [`allows_operation`](Machine::allows_operation), [`allows_allocation`](Machine::allows_allocation) | operations, looks | turn, spun on | no | only the [`TableFrames`](crate::paging::TableFrames) that it is given |
//! | [`EarlyFrames`](crate::EarlyFrames) | boot | turn, spun on | no | nothing |
//! | [`Meta::moved`], closures of `with_meta` | offline, compact, convert; anybody | a zone's lock, or none; spun on | no | nothing |
//! | [`PhysMem`], [`descriptor`](Machine::descriptor), [`stamp`](Machine::stamp), [`cpu`](Machine::cpu), [`node`](Machine::node), [`distance`](Machine::distance) | everything | locks of a cache and a zone, maybe; spun on | no | nothing |
//! | the sink of `log` | everything | any of these | no | nothing |
//!
//! [`Tlb::flush`](crate::paging::Tlb::flush) is called with the turn taken and looks kept out, by `convert` also with
//! look-ups held off and with a lock of its own, and never with one that other CPUs wait for: see the crate's section on
//! flushes.
//!
//! A mapper may be behind a lock: nothing that it is given calls it again. It is at work while it calls
//! [`PhysMem`], `TableFrames` and `EarlyFrames`, and while the manager asks for descriptors, so none of these may
//! call it either.
//!
//! The policy is a value that the kernel reads; it has no callbacks.
//!
//! # From where the manager may be called
//!
//! | functions | interrupts off | handlers of faults | handlers of interrupts |
//! |---|---|---|---|
//! | that take no lock and wait for nothing: [`poison_later`](crate::Mm::poison_later), [`try_dump`](crate::Mm::try_dump), [`offlining`](crate::Mm::offlining), [`auto_online`](crate::Mm::auto_online) and [`self_hosting`](crate::Mm::self_hosting) and what sets them | yes | yes | yes |
//! | allocation and free: [`alloc`](crate::Mm::alloc), [`alloc_movable`](crate::Mm::alloc_movable), [`free_movable`](crate::Mm::free_movable), [`Pages`](crate::Pages), [`with_meta`](crate::Mm::with_meta), [`drain_caches`](crate::Mm::drain_caches), [`zero_ahead`](crate::Mm::zero_ahead) | yes | if the code that faulted holds no lock of the manager | if [`Machine::Lock`] masks interrupts |
//! | look-ups: [`page_info`](crate::Mm::page_info), [`block`](crate::Mm::block), [`blocks`](crate::Mm::blocks), [`zones`](crate::Mm::zones), [`stats`](crate::Mm::stats), [`zone_of`](crate::Mm::zone_of) | yes | the same | the same |
//! | looks: [`verify`](crate::Mm::verify), [`dump`](crate::Mm::dump), [`snapshot`](crate::Mm::snapshot), [`explain_remove`](crate::Mm::explain_remove), [`check_remove`](crate::Mm::check_remove), [`walk`](crate::Mm::walk) | no | no | no |
//! | operations: all that may return `Busy`, [`OfflineOp`](crate::OfflineOp), [`poison_queued`](crate::Mm::poison_queued), [`compact`](crate::Mm::compact), [`listen`](crate::Mm::listen), [`map_own`](crate::Mm::map_own) | no | no | no |
//!
//! A handler that calls a look or an operation may wait for what it interrupts. Where the machine says that this is one
//! ([`Machine::in_handler`]), that is reported in debug builds.
//!
//! Code faults with a lock of the manager held only in what the manager calls (the table above), and in a conversion.
//! With a lock that masks, [`convert`](crate::Mm::convert) keeps interrupts out of its CPU for as long as it holds
//! look-ups off, which is the time in which descriptors are copied.

// UNSAFETY: declares the unsafe trait by which the machine vouches for its descriptors.
#![expect(unsafe_code)]

use crate::addr::{Pfn, PhysAddr, PhysRange, VirtAddr, VirtRange};
use crate::alloc::cache::CacheStorage;
use crate::alloc::node::{NodeId, NodeStorage};
use crate::geometry::{DESCRIPTOR_BYTES, Geometry};
use crate::lock::RawLock;
use crate::memmap::meta::Meta;
use crate::memmap::page::Page;
use crate::paging::Mapper;

use core::ptr::NonNull;

pub use hotmem_paging::PhysMem;

/// A machine the memory manager can run on.
///
/// # Safety
///
/// For every pfn of a section whose memmap is mapped, [`descriptor`](Self::descriptor) returns a pointer
/// to that pfn's 64 bytes in it, aligned to 64. [`mapper`](Self::mapper) returns the tables by which the CPUs that
/// run the kernel translate both windows, and nobody but the manager changes what is mapped there.
pub unsafe trait Machine: Geometry + PhysMem {
    /// The kernel's page tables.
    type Mapper: Mapper;

    /// Room for its nodes: [`NodeTable<1>`](crate::NodeTable) for a machine without NUMA.
    type Nodes: NodeStorage<Lock = Self::Lock>;

    /// Room for the pages that its CPUs keep for their next allocation: [`CpuCaches<1>`](crate::CpuCaches) for a
    /// machine with one, `CpuCaches<0>` to keep none.
    type Caches: CacheStorage<Lock = Self::Lock>;

    /// The locks of zones, of caches and of the table reserve: [`SpinLock`](crate::SpinLock), or the kernel's own. With
    /// one that masks interrupts while it is held, handlers may allocate, free and look up, too. They are released in the
    /// reverse order, so that each of them can keep whether interrupts were on before it was taken.
    type Lock: RawLock;

    /// What the kernel keeps of its own in the descriptors of pages that it allocates: `()` for nothing.
    type Meta: Meta;

    /// Where the descriptor of pfn 0 is: a multiple of 64. The window from there on, 64 bytes for each page
    /// below [`phys_limit`](Self::phys_limit), is the manager's alone.
    fn vmemmap_base(&self) -> VirtAddr;

    /// One past the highest physical address that the linear map and the memmap's window have room for.
    fn phys_limit(&self) -> PhysAddr;

    /// The page tables that hold the linear map and the virtual memmap.
    ///
    /// # Safety
    ///
    /// For the manager, which excludes its own calls from each other. Anybody else keeps to what
    /// [`Mm::walk`](crate::Mm::walk), [`Mm::map_own`](crate::Mm::map_own) and
    /// [`Mm::unmap_own`](crate::Mm::unmap_own) do under the manager's locks, but for a kernel that has not
    /// called [`Mm::boot`](crate::Mm::boot) yet, or stopped all other CPUs. Safe code reaches neither the tables, nor
    /// the frames that they come from:
    ///
    /// ```compile_fail,E0133
    /// fn tables<M: hotmem::Machine>(mm: &hotmem::Mm<M>) -> &M::Mapper {
    ///     mm.machine().mapper()
    /// }
    /// ```
    ///
    /// ```compile_fail,E0277
    /// fn give_back(mm: impl hotmem::paging::TableFrames) {}
    /// fn gives_back<M: hotmem::Machine>(mm: hotmem::Mm<M>) {
    ///     give_back(mm)
    /// }
    /// ```
    unsafe fn mapper(&self) -> &Self::Mapper;

    /// Where the descriptor of `pfn` is, as a pointer. The default is the address in the memmap's window; a
    /// machine whose virtual addresses are not this program's has another.
    #[inline]
    fn descriptor(&self, pfn: Pfn) -> NonNull<Page> {
        let at = self.vmemmap_base().add(pfn.get().wrapping_mul(DESCRIPTOR_BYTES));
        hotmem_paging::pointer_to(at)
    }

    /// Whether the linear map shows all of the window from the start, as many loaders leave it, and stays so
    /// for good. Then `add` only looks whether the range is mapped to itself there, and `remove` leaves it
    /// mapped. By default the manager maps memory when it is added, and unmaps it when it is removed.
    fn linear_map_is_complete(&self) -> bool {
        false
    }

    /// For kernels whose address spaces have root tables of their own: the bytes that an entry of the root
    /// translates, a power of two (512 GiB on x86_64 with four levels).
    ///
    /// [`Mm::boot`](crate::Mm::boot) then makes a table behind each root entry of the linear map and of the
    /// memmap's window, up to [`phys_limit`](Self::phys_limit), and the manager never changes these entries again,
    /// nor frees the tables behind them. So an address space copies them when it is made, at any time after boot,
    /// and sees all memory that is added later; and what was removed is gone from it, too. That costs a table
    /// for each entry, 512 KiB for 64 TiB on x86_64. `Tlb::flush` has to reach what every address space
    /// cached: leaves of the windows are global, or it drops them for all.
    ///
    /// By default root entries come and go as memory does, which is right for one root table.
    fn root_entry_bytes(&self) -> Option<u64> {
        None
    }

    /// Whether hot-added memory can hold its own memmap.
    ///
    /// A machine whose added memory is inaccessible until it is online says no; the add then takes
    /// the memmap from system memory.
    fn allows_self_hosting(&self) -> bool {
        true
    }

    /// Memory that nothing may be able to write: the kernel's text and read-only data.
    fn protected(&self) -> &[PhysRange] {
        &[]
    }

    /// Asked before each allocation an operation makes. A test machine answers no to see the undo.
    fn allows_allocation(&self) -> bool {
        true
    }

    /// Asked before each operation begins. A test machine answers no to have it refused as busy.
    fn allows_operation(&self) -> bool {
        true
    }

    /// What an allocation remembers of when it was made, for people: a clock's reading, say, of which 63
    /// bits are kept. The manager hands it on and looks at it no further.
    fn stamp(&self) -> u64 {
        0
    }

    /// Writes back and forgets what the caches hold of `range`, which is mapped: memory holds what was
    /// written last, and the next load comes from there. Called for whole pages that are about to leave
    /// the linear map, and for single words by which memory is tried.
    ///
    /// The default does nothing, which is right where caches are coherent with all that reads memory, and
    /// memory that is not there reads as something else than was written; so on most x86 machines.
    fn clean(&self, range: VirtRange) {
        let _ = range;
    }

    /// A number for the CPU this runs on, so that readers on different CPUs count apart, and each CPU has a cache of
    /// pages: the one of this number, if there is [room](Self::Caches) for it.
    ///
    /// A thread that moves to another CPU meanwhile does no harm but that two CPUs wait for each other.
    fn cpu(&self) -> usize {
        0
    }

    /// The node whose memory `cpu` has its cache from: its own, or the nearest that has memory. The default is node 0.
    fn node(&self, cpu: usize) -> NodeId {
        let _ = cpu;
        NodeId::ZERO
    }

    /// How far memory of node `to` is for `cpu`, as firmware's table of distances (ACPI's SLIT) says it: 10 for its
    /// own, more for others. Allocations take the nearest memory first. By default all nodes but its own are as far.
    fn distance(&self, cpu: usize, to: NodeId) -> u8 {
        if self.node(cpu) == to { 10 } else { 20 }
    }

    /// Whether this CPU is in the handler of an exception or an interrupt. A kernel that says so has the calls reported
    /// that handlers may not make (see [the module](self)): by a panic, where assertions of debug builds are compiled in.
    fn in_handler(&self) -> bool {
        false
    }

    /// One turn of a wait for another CPU, of an operation, a look or a look-up. Waits for locks are those of
    /// [`Lock`](Self::Lock) ([`TicketLock`](crate::lock::TicketLock)).
    ///
    /// Where a flush needs an acknowledgement from every CPU, both serve it
    /// ([`Shootdown::serve`](crate::paging::shootdown::Shootdown::serve)): the manager may be called with interrupts off.
    fn relax(&self) {
        crate::lock::relax();
    }
}
