//! The inputs of a manager's boot: RAM as the kernel describes it, and an early allocator.

// UNSAFETY: declares the contract of an early allocator, and vouches for its frames.
#![expect(unsafe_code)]

use crate::addr::{PfnRange, PhysAddr, PhysRange, VirtAddr};
use crate::alloc::node::NodeId;
use crate::geometry::{BlockSize, GeometryError};
use crate::machine::Machine;
use crate::paging::{MapError, OutOfFrames, TableFrame, TableFrames, Translation};
use core::cell::RefCell;
use core::fmt;

/// The highest share of boot RAM that the table reserve may take: 1/64.
pub const RESERVE_SHARE: u64 = 64;

/// The allocator that the kernel boots with.
///
/// # Safety
///
/// The memory that [`take`](Self::take) returns is RAM of the linear map, of no other use, for ever; and so is the
/// memory that [`free_ranges`](Self::free_ranges) returns when boot has ended.
pub unsafe trait EarlyFrames {
    /// Takes `bytes` of RAM aligned to `align` (a power of two), contents unspecified.
    fn take(&mut self, bytes: u64, align: u64) -> Option<PhysAddr>;

    /// Calls `each` with the ranges that are still free, ascending.
    fn free_ranges(&self, each: &mut dyn FnMut(PhysRange));
}

/// The early allocator as a source of table frames: for boot, and for a kernel that maps its memory before it.
///
/// A kernel stops after a mapping that failed, so nothing is kept for later.
///
/// A linear map of the kernel's own, for a loader that mapped more than RAM:
///
/// ```
/// use hotmem::paging::{Attr, MapError, Mapper, Mapping};
/// use hotmem::{EarlyFrames, EarlyTables, PhysRange, VirtAddr};
///
/// /// Maps `ram` from `linear` on, where nothing is mapped. The tables come from `early`.
/// fn map_ram(
///     tables: &impl Mapper,
///     early: &mut dyn EarlyFrames,
///     ram: impl IntoIterator<Item = PhysRange>,
///     linear: VirtAddr,
/// ) -> Result<(), MapError> {
///     for range in ram {
///         let (phys, len) = (range.start(), range.len());
///         let virt = linear.add(phys.get());
///         let mapping = Mapping { virt, phys, len, attr: Attr::WRITE, max_leaf: 2 << 20 };
///         tables.map(&mapping, &EarlyTables::new(early))?;
///     }
///     Ok(())
/// }
/// ```
pub struct EarlyTables<'e>(RefCell<&'e mut dyn EarlyFrames>);

impl fmt::Debug for EarlyTables<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EarlyTables(..)")
    }
}

impl<'e> EarlyTables<'e> {
    /// Frames of `early`.
    pub const fn new(early: &'e mut dyn EarlyFrames) -> Self {
        Self(RefCell::new(early))
    }
}

impl TableFrames for EarlyTables<'_> {
    fn take(&self, bytes: u64) -> Result<TableFrame, OutOfFrames> {
        let taken = self.0.borrow_mut().take(bytes, bytes);
        // SAFETY: an early allocator returns RAM of the linear map, of no other use, for ever.
        taken.map(|at| unsafe { TableFrame::new(at, bytes) }).ok_or(OutOfFrames { bytes })
    }

    fn give_back(&self, frame: TableFrame) {
        let _unused = frame.into_raw();
    }
}

/// The kernel's description of its memory at boot.
#[derive(Clone, Copy, Debug)]
pub struct BootMemory<'b> {
    /// RAM and the node it is on: ascending, without overlap, all in the linear map already. A memory
    /// block that holds RAM of several nodes counts for the node of its first page.
    pub ram: &'b [(PhysRange, NodeId)],
    /// The size of a memory block.
    pub block_size: BlockSize,
    /// The ranges where firmware may hot-add memory; tables for them are reserved now.
    pub window: &'b [PhysRange],
    /// The amount of RAM, from the lowest on, that is system memory; blocks above without allocations, which are
    /// entirely RAM of one node, are movable: they can go offline. `None`: all RAM.
    pub kernelcore: Option<u64>,
}

hotmem_paging::errors! {
    /// The reason why the boot memory could not be taken over.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    #[non_exhaustive]
    pub enum BootError {
        /// The block size does not fit the geometry.
        Geometry(error: GeometryError) => "{error}",
        /// The RAM ranges are not ascending and disjoint.
        Unsorted(range: PhysRange) => "RAM range {range} is not above the one before it",
        /// The machine has no room for a node that has RAM: see [`Machine::Nodes`].
        NoSuchNode(node: NodeId) => "no room for {node}",
        /// RAM lies past the end of the section map or of the linear map.
        BeyondLimit(range: PhysRange) => "RAM range {range} is past what can be mapped",
        /// The early allocator has no memory for nodes or descriptors.
        OutOfMemory => "too little boot memory for its own descriptors",
        /// The memmap could not be mapped.
        Map(error: MapError) => "mapping the boot memmap: {error}",
        /// The linear map and the memmap's window overlap, or one has no room for all memory below
        /// [`Machine::phys_limit`]: their bases, and that limit.
        Windows {
            /// The linear map's.
            linear: VirtAddr,
            /// The memmap window's.
            vmemmap: VirtAddr,
            /// The limit.
            limit: PhysAddr,
        } => "the linear map at {linear} and the memmap at {vmemmap} have no room for memory up to {limit}",
        /// There is a mapping in the address range of memory that may be added (see [`Machine::linear_map_is_complete`]), or
        /// of the memmap of such memory or of RAM.
        WindowMapped(leaf: Translation) =>
            ("{} is mapped already, by a leaf of {:#x} bytes to {}", leaf.virt, leaf.len, leaf.phys),
        /// The entry of the root table for this address cannot be [shared](Machine::root_entry_bytes), since it does not
        /// point to a table.
        RootEntry(at: VirtAddr) =>
            "the root entry for {at} has no table of its own, and cannot be shared",
        /// The manager has its memory already.
        AlreadyBooted => "boot memory was taken over before",
    }
}

impl From<MapError> for BootError {
    fn from(error: MapError) -> Self {
        Self::Map(error)
    }
}

/// The whole pages inside `range`.
pub(super) fn inner<M: Machine>(range: PhysRange) -> PhysRange {
    let start = range.start().get().next_multiple_of(M::PAGE_BYTES);
    let end = range.start().get().saturating_add(range.len()) & !(M::PAGE_BYTES - 1);
    PhysRange::new(PhysAddr::new(start), end.saturating_sub(start)).unwrap_or_default()
}

/// The whole pages of each RAM range that contains any, and their node.
pub(super) fn whole_pages<M: Machine>(
    ram: &[(PhysRange, NodeId)],
) -> impl Iterator<Item = (PfnRange, NodeId)> + '_ {
    let pages = ram.iter().map(|&(range, node)| (M::pfns(inner::<M>(range)), node));
    pages.filter(|(pfns, _)| pfns.pages() != 0)
}
