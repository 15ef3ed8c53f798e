//! The reasons why memory is not added.

use crate::addr::{PhysAddr, PhysRange};
use crate::alloc::node::NodeId;
use crate::memmap::block::{BlockId, NotWholeSubsections};
use crate::operations::notify::Veto;
use crate::paging::MapError;

hotmem_paging::errors! {
    /// The reason why a range was not added. Nothing was changed; but with [`MapError::NotFlushed`] a CPU may still
    /// reach the range, which must stay plugged, and the tables that led to it are stranded
    /// ([`Owner::Stranded`](crate::Owner::Stranded)).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    #[non_exhaustive]
    pub enum AddError {
        /// Another operation is running.
        Busy => ("{}", crate::turn::BUSY),
        /// The machine has no room for the node: see [`Machine::Nodes`](crate::Machine::Nodes).
        NoSuchNode(node: NodeId) => "no room for {node}",
        /// The range is not whole, aligned subsections.
        NotWholeSubsections(error: NotWholeSubsections) => "{error}",
        /// The range is not whole, aligned memory blocks, and [only those](crate::Mm::set_whole_blocks) are wanted.
        NotWholeBlocks {
            /// The range.
            range: PhysRange,
            /// Bytes of a memory block.
            block: u64,
        } => ("{range} ({:#x} bytes) is not whole aligned memory blocks of {block:#x} bytes", range.len()),
        /// The range is in the same memory block as memory that the machine was started with, which never goes.
        BesideBootMemory {
            /// The range.
            range: PhysRange,
            /// The block.
            block: BlockId,
        } => "{range} is in {block} with memory the machine was started with, which never goes",
        /// A block of the range is online, and a listener objects to more memory in it.
        Vetoed(id: BlockId, veto: Veto) => "{id} gets no more memory: {veto}",
        /// The range extends past the memory that the machine can address, map or keep in its section map.
        BeyondLimit {
            /// The range.
            range: PhysRange,
            /// One past the highest usable address.
            limit: PhysAddr,
        } => "{range} goes past {limit}, the end of what can be mapped",
        /// A part of the range is present already.
        Overlaps {
            /// The range.
            range: PhysRange,
            /// Its first block that is present.
            block: BlockId,
        } => "{range} overlaps {block}, which is present already",
        /// Mapping the range or its memmap failed, usually for lack of memory for tables.
        Map(error: MapError) => "{error}",
        /// System memory cannot hold the memmap of a boot placement.
        NoRoomForMemmap {
            /// The range.
            range: PhysRange,
            /// Bytes of its memmap.
            bytes: u64,
        } => "out of memory: {range} needs {bytes:#x} bytes of system memory for its memmap",
        /// No memory for a node of the section map, for this range.
        OutOfMemory(range: PhysRange) => "out of memory for the section map of {range}",
        /// The range's memory does not keep a written value: there may be no memory. This is the address that was probed.
        NoMemory(at: PhysAddr) => "memory at {at} does not hold what is written",
        /// The machine declares its linear map complete, and does not map the range there as writable memory, from this
        /// address on.
        NotInLinearMap(at: PhysAddr) => "the linear map does not map {at}",
    }
}

impl From<MapError> for AddError {
    fn from(error: MapError) -> Self {
        Self::Map(error)
    }
}
