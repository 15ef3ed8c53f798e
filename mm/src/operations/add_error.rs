//! The reasons why memory is not added.

use crate::addr::{PhysAddr, PhysRange};
use crate::alloc::node::NodeId;
use crate::memmap::block::BlockId;
use crate::operations::notify::Veto;
use crate::paging::MapError;
use core::fmt;

/// The reason why a range was not added. Nothing was changed; but with [`MapError::NotFlushed`] a CPU may still
/// reach the range, which must stay plugged, and the tables that led to it are stranded
/// ([`Owner::Stranded`](crate::Owner::Stranded)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AddError {
    /// Another operation is running.
    Busy,
    /// The machine has no room for the node: see [`Machine::Nodes`](crate::Machine::Nodes).
    NoSuchNode(NodeId),
    /// The range is not whole, aligned subsections.
    NotWholeSubsections {
        /// The range.
        range: PhysRange,
        /// Bytes of the unit of presence: see [`Mm::subsection`](crate::Mm::subsection).
        subsection: u64,
    },
    /// The range is not whole, aligned memory blocks, and [only those](crate::Mm::set_whole_blocks) are wanted.
    NotWholeBlocks {
        /// The range.
        range: PhysRange,
        /// Bytes of a memory block.
        block: u64,
    },
    /// The range is in the same memory block as memory that the machine was started with, which never goes.
    BesideBootMemory {
        /// The range.
        range: PhysRange,
        /// The block.
        block: BlockId,
    },
    /// A block of the range is online, and a listener objects to more memory in it.
    Vetoed(BlockId, Veto),
    /// The range extends past the memory that the machine can address, map or keep in its section map.
    BeyondLimit {
        /// The range.
        range: PhysRange,
        /// One past the highest usable address.
        limit: PhysAddr,
    },
    /// A part of the range is present already.
    Overlaps {
        /// The range.
        range: PhysRange,
        /// Its first block that is present.
        block: BlockId,
    },
    /// Mapping the range or its memmap failed, usually for lack of memory for tables.
    Map(MapError),
    /// System memory cannot hold the memmap of a boot placement.
    NoRoomForMemmap {
        /// The range.
        range: PhysRange,
        /// Bytes of its memmap.
        bytes: u64,
    },
    /// No memory for a node of the section map.
    OutOfMemory {
        /// The range.
        range: PhysRange,
    },
    /// The range's memory does not keep a written value: there may be no memory.
    NoMemory {
        /// The address that was probed.
        at: PhysAddr,
    },
    /// The machine declares its linear map complete, and does not map the range there as writable memory.
    NotInLinearMap {
        /// The first address that is not mapped.
        at: PhysAddr,
    },
}

impl fmt::Display for AddError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Busy => f.write_str(crate::turn::BUSY),
            Self::NoSuchNode(node) => write!(f, "no room for {node}"),
            Self::NotWholeBlocks { range, block } => write!(
                f,
                "{range} ({:#x} bytes) is not whole aligned memory blocks of {block:#x} bytes",
                range.len()
            ),
            Self::NotWholeSubsections { range, subsection } => write!(
                f,
                "{range} ({:#x} bytes) is not whole aligned subsections of {subsection:#x} bytes",
                range.len()
            ),
            Self::BesideBootMemory { range, block } => write!(
                f,
                "{range} is in {block} with memory the machine was started with, which never goes"
            ),
            Self::Vetoed(id, veto) => write!(f, "{id} gets no more memory: {veto}"),
            Self::BeyondLimit { range, limit } => {
                write!(f, "{range} goes past {limit}, the end of what can be mapped")
            }
            Self::Overlaps { range, block } => {
                write!(f, "{range} overlaps {block}, which is present already")
            }
            Self::Map(error) => error.fmt(f),
            Self::NoRoomForMemmap { range, bytes } => write!(
                f,
                "out of memory: {range} needs {bytes:#x} bytes of system memory for its memmap"
            ),
            Self::OutOfMemory { range } => {
                write!(f, "out of memory for the section map of {range}")
            }
            Self::NotInLinearMap { at } => write!(f, "the linear map does not map {at}"),
            Self::NoMemory { at } => write!(f, "memory at {at} does not hold what is written"),
        }
    }
}

impl core::error::Error for AddError {}

impl From<MapError> for AddError {
    fn from(error: MapError) -> Self {
        Self::Map(error)
    }
}
