//! The reasons why a range is not converted.

use crate::addr::{Order, Pfn, PfnRange, PhysAddr};
use crate::memmap::block::{BlockId, NotWholeSubsections};
use crate::memmap::page::Owner;
use crate::memmap::placement::Placement;
use crate::paging::{MapError, UnmapError};

hotmem_paging::errors! {
    /// The reason why a range was not converted. Nothing was changed, except that migrated pages are not moved back; and by the last
    /// three, which name the block where the conversion ended: the blocks above it are converted, and what is up to its end is one
    /// range, as before.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    #[non_exhaustive]
    pub enum ConvertError {
        /// Another operation is running.
        Busy => ("{}", crate::turn::BUSY),
        /// The range is not whole, aligned subsections.
        NotWholeSubsections(error: NotWholeSubsections) => "{error}",
        /// A block is not present.
        NoSuchBlock(id: BlockId) => "{id} is not there",
        /// The beginning of the range, this address, is a hole.
        Hole(at: PhysAddr) => "there is no memory at {at}",
        /// What a block has of the range has its memmap elsewhere already.
        NotPerRange(id: BlockId, placement: Placement) =>
            "{id} has placement {placement}: it can be removed alone already",
        /// The range is not what was added in one piece; that is.
        NotOnePiece(whole: PfnRange) => "{whole} share one memmap: all of it, or nothing",
        /// What an online block has of the range is offline: see [`Mm::offline_part`](crate::Mm::offline_part).
        OfflinePart(id: BlockId, part: PfnRange) => "{part} are offline, and {id} is online",
        /// A block has bad memory at an unknown place, or where descriptors may be.
        Poisoned(id: BlockId) => "{id} has bad memory, maybe where descriptors are",
        /// The head of a block holds a page that stays; the last field is its owner's name.
        InUse(id: BlockId, pfn: Pfn, _: Owner, by: &'static str) =>
            "{pfn} at the head of {id} is held by {by}",
        /// An extent at the head of a block needs a free one elsewhere, and memory lacks it.
        NoRoom(id: BlockId, order: Order) =>
            ("the head of {id} holds {} pages that fit nowhere else", order.pages()),
        /// A look-up under way in a block does not end, as [`RemoveError::ReadersStay`](crate::RemoveError::ReadersStay); the last field is
        /// its CPU.
        ReadersStay(id: BlockId, cpu: usize) =>
            "a reader on CPU {cpu} does not leave {id}; blocks above it are converted",
        /// The descriptors of a block cannot be unmapped: a leaf holds those of other blocks, too, and nothing was changed. Or the
        /// mapper broke its word, or a CPU does not acknowledge the flush.
        Unmap(id: BlockId, error: UnmapError) => { f => match error {
            UnmapError::CutsLeaf { .. } => write!(f, "the descriptors of {id} stay: {error}"),
            _ => write!(f, "the descriptors of {id} stay: {error}; blocks above it are converted"),
        } },
        /// The mapper broke its word: it does not map the descriptors of a block at its head.
        Map(id: BlockId, error: MapError) =>
            "the descriptors of {id} stay: {error}; blocks above it are converted",
    }
}
