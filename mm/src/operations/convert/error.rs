//! The reasons why a range is not converted.

use crate::addr::{Order, Pfn, PfnRange, PhysAddr, PhysRange};
use crate::memmap::block::BlockId;
use crate::memmap::page::Owner;
use crate::memmap::placement::Placement;
use crate::paging::{MapError, UnmapError};
use core::fmt;

/// The reason why a range was not converted. Nothing was changed, except that migrated pages are not moved back; and by the last
/// three, which name the block where the conversion ended: the blocks above it are converted, and what is up to its end is one
/// range, as before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConvertError {
    /// Another operation is running.
    Busy,
    /// The range is not whole, aligned subsections.
    NotWholeSubsections {
        /// The range.
        range: PhysRange,
        /// Bytes of a subsection.
        subsection: u64,
    },
    /// A block is not present.
    NoSuchBlock(BlockId),
    /// There is no memory at the beginning of the range.
    Hole {
        /// Its address.
        at: PhysAddr,
    },
    /// What a block has of the range has its memmap elsewhere already.
    NotPerRange(BlockId, Placement),
    /// The range is not what was added in one piece; that is.
    NotOnePiece(PfnRange),
    /// What an online block has of the range is offline: see [`Mm::offline_part`](crate::Mm::offline_part).
    OfflinePart(BlockId, PfnRange),
    /// A block has bad memory at an unknown place, or where descriptors may be.
    Poisoned(BlockId),
    /// The head of a block holds a page that stays; the last field is its owner's name.
    InUse(BlockId, Pfn, Owner, &'static str),
    /// There is no free extent elsewhere for an extent at the head of a block.
    NoRoom(BlockId, Order),
    /// A look-up under way in a block does not end, as [`RemoveError::ReadersStay`](crate::RemoveError::ReadersStay); the last field is
    /// its CPU.
    ReadersStay(BlockId, usize),
    /// The descriptors of a block cannot be unmapped: a leaf holds those of other blocks, too, and nothing was changed. Or the
    /// mapper broke its word, or a CPU does not acknowledge the flush.
    Unmap(BlockId, UnmapError),
    /// The mapper broke its word: it does not map the descriptors of a block at its head.
    Map(BlockId, MapError),
}

impl fmt::Display for ConvertError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Busy => f.write_str(crate::turn::BUSY),
            Self::NotWholeSubsections { range, subsection } => {
                write!(f, "{range} is not whole aligned subsections of {subsection:#x} bytes")
            }
            Self::NoSuchBlock(id) => write!(f, "{id} is not there"),
            Self::Hole { at } => write!(f, "there is no memory at {at}"),
            Self::NotPerRange(id, placement) => {
                write!(f, "{id} has placement {placement}: it can be removed alone already")
            }
            Self::NotOnePiece(whole) => {
                write!(f, "{whole} share one memmap: all of it, or nothing")
            }
            Self::OfflinePart(id, part) => write!(f, "{part} are offline, and {id} is online"),
            Self::Poisoned(id) => write!(f, "{id} has bad memory, maybe where descriptors are"),
            Self::InUse(id, pfn, _, by) => {
                write!(f, "{pfn} at the head of {id} is held by {by}")
            }
            Self::NoRoom(id, order) => {
                write!(f, "the head of {id} holds {} pages that fit nowhere else", order.pages())
            }
            Self::ReadersStay(id, cpu) => {
                write!(
                    f,
                    "a reader on CPU {cpu} does not leave {id}; blocks above it are converted"
                )
            }
            Self::Unmap(id, error @ UnmapError::CutsLeaf { .. }) => {
                write!(f, "the descriptors of {id} stay: {error}")
            }
            Self::Unmap(id, error) => {
                write!(f, "the descriptors of {id} stay: {error}; blocks above it are converted")
            }
            Self::Map(id, error) => {
                write!(f, "the descriptors of {id} stay: {error}; blocks above it are converted")
            }
        }
    }
}

impl core::error::Error for ConvertError {}
