//! The interface to the machine: the functions that the memory manager calls in its kernel.
//!
//! Clocks, interrupts and firmware are not part of it. A kernel implements [`Sizes`](crate::Sizes), [`PhysMem`]
//! (access to a frame), and a [`Mapper`] (page tables: its own, or [`crate::paging::Tables`] over a
//! [`crate::paging::PteFormat`]); [`Machine`] combines them and gives the place of descriptors.
//!
//! # Callbacks, and their context
//!
//! *Turn*: an operation is under way, every other one returns `Busy`; no CPU spins on it. *Spun on*: other CPUs wait
//! for it with a spin lock or the gate of looks, so it must be short.
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
//! | [`Meta::moved`], closures of `with_meta`, `split_movable` | offline, compact, convert; any caller | a zone's lock, or none; spun on | no | nothing |
//! | [`PhysMem`], [`descriptor`](Machine::descriptor), [`stamp`](Machine::stamp), [`cpu`](Machine::cpu), [`node`](Machine::node), [`distance`](Machine::distance) | everything | locks of a cache and a zone, maybe; spun on | no | nothing |
//! | [`Pressure::crossed`](crate::Pressure::crossed) | all that allocates, frees or operates, [`watch`](crate::Mm::watch) | any lock but that of a zone, maybe; spun on | no | [`free_of`](crate::Mm::free_of) |
//! | the sink of `log` | everything | any of these | no | nothing |
//!
//! [`Tlb::flush`](crate::paging::Tlb::flush) is called with the turn taken and looks kept out, by `convert` also with
//! look-ups in a block held off and with a lock of its own, and never with one that other CPUs wait for: see the crate's section on
//! flushes.
//!
//! A mapper may be behind a lock: no object that it is given calls it again. It is in use while it calls
//! [`PhysMem`], `TableFrames` and `EarlyFrames`, and while the manager requests descriptors, so none of these may
//! call it either.
//!
//! The policy is a value that the kernel reads; it has no callbacks.
//!
//! # The contexts in which the manager may be called
//!
//! | functions | interrupts off | handlers of faults | handlers of interrupts |
//! |---|---|---|---|
//! | without locks and waits: [`poison_later`](crate::Mm::poison_later), [`try_dump`](crate::Mm::try_dump), [`free_of`](crate::Mm::free_of), [`offlining`](crate::Mm::offlining), [`auto_online`](crate::Mm::auto_online) and [`self_hosting`](crate::Mm::self_hosting) and what sets them | yes | yes | yes |
//! | allocation and free: [`alloc`](crate::Mm::alloc), [`alloc_movable`](crate::Mm::alloc_movable), [`free_movable`](crate::Mm::free_movable), [`Pages`](crate::Pages), [`with_meta`](crate::Mm::with_meta), [`drain_caches`](crate::Mm::drain_caches), [`zero_ahead`](crate::Mm::zero_ahead), [`watch`](crate::Mm::watch) | yes | if the code that faulted holds no lock of the manager | if [`Machine::Lock`] masks interrupts |
//! | look-ups: [`page_info`](crate::Mm::page_info), [`block`](crate::Mm::block), [`blocks`](crate::Mm::blocks), [`zones`](crate::Mm::zones), [`stats`](crate::Mm::stats), [`zone_of`](crate::Mm::zone_of) | yes | the same | the same |
//! | looks: [`verify`](crate::Mm::verify), [`dump`](crate::Mm::dump), [`snapshot`](crate::Mm::snapshot), [`explain_remove`](crate::Mm::explain_remove), [`check_remove`](crate::Mm::check_remove), [`walk`](crate::Mm::walk) | no | no | no |
//! | operations: all that may return `Busy`, [`OfflineOp`](crate::OfflineOp), [`poison_queued`](crate::Mm::poison_queued), [`compact`](crate::Mm::compact), [`listen`](crate::Mm::listen), [`map_own`](crate::Mm::map_own) | no | no | no |
//!
//! A handler that calls a look or an operation may wait for the code that it interrupts. If the machine reports
//! handlers ([`Machine::in_handler`]), such calls are reported in debug builds.
//!
//! Code can fault with a lock of the manager held only in the functions that the manager calls (the table above),
//! and in a conversion. With a lock that masks interrupts, [`convert`](crate::Mm::convert) keeps them off on its CPU
//! for as long as it holds off look-ups in a block, which is the time in which the descriptors of the block are copied.

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

/// The distance of a node from its own CPUs.
pub const LOCAL_DISTANCE: u8 = 10;
/// The distance of a node from the CPUs of others, if firmware does not say.
pub const REMOTE_DISTANCE: u8 = 20;

/// A machine that the memory manager can run on.
///
/// # Safety
///
/// For every pfn of a section whose memmap is mapped, [`descriptor`](Self::descriptor) returns a pointer to that
/// pfn's 64 bytes in it, aligned to 64. [`mapper`](Self::mapper) returns the tables by which the CPUs that run the
/// kernel translate both windows, and only the manager changes the mappings there.
pub unsafe trait Machine: Geometry + PhysMem {
    /// The kernel's page tables.
    type Mapper: Mapper;

    /// Storage for its nodes: [`NodeTable<1>`](crate::NodeTable) for a machine without NUMA.
    type Nodes: NodeStorage<Lock = Self::Lock>;

    /// Storage for the pages that its CPUs keep for their next allocation: [`CpuCaches<1>`](crate::CpuCaches) for a
    /// machine with one CPU, `CpuCaches<0>` to keep none.
    type Caches: CacheStorage<Lock = Self::Lock>;

    /// The locks of zones, of caches and of the table reserve: [`SpinLock`](crate::SpinLock), or the kernel's own.
    /// With one that masks interrupts while it is held, handlers may allocate, free and look up, too. Locks are
    /// released in the reverse order, so that each of them can store whether interrupts were on before it was taken.
    type Lock: RawLock;

    /// The kernel's own metadata in the descriptors of pages that it allocates: `()` for none.
    type Meta: Meta;

    /// The address of the descriptor of pfn 0: a multiple of 64. The window from there on, 64 bytes for each page
    /// below [`phys_limit`](Self::phys_limit), belongs to the manager alone.
    fn vmemmap_base(&self) -> VirtAddr;

    /// One past the highest physical address that fits the linear map and the memmap's window.
    fn phys_limit(&self) -> PhysAddr;

    /// The page tables that hold the linear map and the virtual memmap.
    ///
    /// # Safety
    ///
    /// For the manager, which excludes its own calls from each other. Other code only uses
    /// [`Mm::walk`](crate::Mm::walk), [`Mm::map_own`](crate::Mm::map_own) and
    /// [`Mm::unmap_own`](crate::Mm::unmap_own), which take the manager's locks; except a kernel that has not called
    /// [`Mm::boot`](crate::Mm::boot) yet, or has stopped all other CPUs. Safe code reaches neither the tables, nor
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

    /// The descriptor of `pfn`, as a pointer. The default is the address in the memmap's window; a machine whose
    /// virtual addresses are not this program's overrides it.
    #[inline]
    fn descriptor(&self, pfn: Pfn) -> NonNull<Page> {
        let at = self.vmemmap_base().add(pfn.get().wrapping_mul(DESCRIPTOR_BYTES));
        hotmem_paging::pointer_to(at)
    }

    /// Whether the linear map covers all of the window from the start, as many loaders leave it, and never changes.
    /// Then `add` only checks that the range is mapped to itself there, and `remove` leaves it mapped. By default
    /// the manager maps memory when it is added, and unmaps it when it is removed.
    fn linear_map_is_complete(&self) -> bool {
        false
    }

    /// For kernels whose address spaces have root tables of their own: the bytes that an entry of the root
    /// translates, a power of two (512 GiB on x86_64 with four levels).
    ///
    /// [`Mm::boot`](crate::Mm::boot) then creates a table for each root entry of the linear map and of the memmap's
    /// window, up to [`phys_limit`](Self::phys_limit), and the manager never changes these entries again, nor frees
    /// their tables. So an address space copies them when it is created, at any time after boot, and sees all memory
    /// that is added later, and no memory that was removed. This costs a table for each entry, 512 KiB for 64 TiB on
    /// x86_64. `Tlb::flush` must reach the cached translations of every address space: leaves of the windows are
    /// global, or it drops them for all.
    ///
    /// By default root entries change with the memory, which is right for one root table.
    fn root_entry_bytes(&self) -> Option<u64> {
        None
    }

    /// Whether hot-added memory can hold its own memmap.
    ///
    /// A machine whose added memory is inaccessible until it is online returns `false`; the add then takes the
    /// memmap from system memory.
    fn allows_self_hosting(&self) -> bool {
        true
    }

    /// Memory that must not be writable: the kernel's text and read-only data.
    fn protected(&self) -> &[PhysRange] {
        &[]
    }

    /// Called before each allocation of an operation. A test machine returns `false` to test the undo.
    fn allows_allocation(&self) -> bool {
        true
    }

    /// Called before each operation begins. A test machine returns `false` to have it refused as busy.
    fn allows_operation(&self) -> bool {
        true
    }

    /// A stamp of the time of an allocation, for people: for example a clock's reading, of which 63 bits are kept.
    /// The manager only passes it on.
    fn stamp(&self) -> u64 {
        0
    }

    /// Cleans and invalidates the caches for `range`, which is mapped: memory holds the values written last, and the
    /// next load comes from memory. Called for whole pages that are about to leave the linear map, and for single
    /// words of a memory probe.
    ///
    /// The default does nothing, which is right if caches are coherent with every reader of memory, and missing
    /// memory reads differently from the written values; so on most x86 machines.
    fn clean(&self, range: VirtRange) {
        let _ = range;
    }

    /// Whether a load of the byte at `at`, in one of the manager's windows, is safe: it neither faults nor reads where
    /// there is no memory. [`verify`](crate::Mm::verify) asks before it follows what may be damaged: page-table
    /// entries, links and section words. The mapper may be locked meanwhile.
    ///
    /// The default assumes so. A kernel that can survive a load that faults makes one.
    fn can_load(&self, at: VirtAddr) -> bool {
        let _ = at;
        true
    }

    /// The number of the CPU that runs this, so that readers on different CPUs use different counters, and each CPU
    /// has a cache of pages: the one with this number, if there is [storage](Self::Caches) for it.
    ///
    /// If a thread moves to another CPU during a call, the only effect is that two CPUs wait for each other.
    fn cpu(&self) -> usize {
        0
    }

    /// The node of `cpu`. Its cache keeps memory of this node, or of the nearest that has memory. The default is node 0.
    fn node(&self, cpu: usize) -> NodeId {
        let _ = cpu;
        NodeId::ZERO
    }

    /// The distance of node `to` from `cpu`, as in firmware's distance table (ACPI's SLIT): [`LOCAL_DISTANCE`] for its
    /// own, more for others. Allocations take the nearest memory first. By default all other nodes have the same
    /// distance.
    fn distance(&self, cpu: usize, to: NodeId) -> u8 {
        if self.node(cpu) == to { LOCAL_DISTANCE } else { REMOTE_DISTANCE }
    }

    /// Whether this CPU is in the handler of an exception or an interrupt. A kernel that implements this gets
    /// reports of calls that handlers must not make (see [the module](self)): by a panic, in builds with debug
    /// assertions.
    fn in_handler(&self) -> bool {
        false
    }

    /// One iteration of a wait for another CPU, in an operation, a look or a look-up. Waits for locks are those of
    /// [`Lock`](Self::Lock) ([`TicketLock`](crate::lock::TicketLock)).
    ///
    /// If a flush needs an acknowledgement from every CPU, both serve it
    /// ([`Shootdown::serve`](crate::paging::shootdown::Shootdown::serve)): the manager may be called with interrupts
    /// off.
    fn relax(&self) {
        crate::lock::relax();
    }
}
