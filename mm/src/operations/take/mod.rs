//! Takes boot memory out of the linear map, for a device or a tracer that needs it exclusively.
//!
//! ```text
//!   by name    offline blocks          --take-->  cleared, cleaned out of the caches,
//!   by size    a run of online blocks  --empty->  marked, out of the linear map, flushed
//!                                      <--release--  mapped, cleared, unmarked
//! ```
//!
//! While memory is mapped a CPU may prefetch from it, whatever the software does; on some machines that breaks the
//! use that the memory is taken for. So the mark comes before the unmapping: from then on the content must not be
//! read, and a crash dump omits it.
//!
//! Only boot memory is taken. Added memory belongs to a device that may be unplugged at any time.

// UNSAFETY: clears memory that is not in use.
#![expect(unsafe_code)]

mod contig;
mod list;

pub use contig::ContigError;
pub use list::{ListError, MAX_PIECES, Piece, TakeList};

use crate::addr::{PfnRange, VirtAddr};
use crate::alloc::Allocator;
use crate::alloc::isolate::Area;
use crate::alloc::node::NodeId;
use crate::alloc::zeroed::clear_page;
use crate::machine::Machine;
use crate::memmap::block::{Block, BlockId, BlockState, BlockWord};
use crate::memmap::page::Owner;
use crate::memmap::section::section_of;
use crate::memmap::whole::Whole;
use crate::operations::Operations;
use crate::paging::{MapError, Translation, UnmapError};
use crate::turn::Operation;

hotmem_paging::errors! {
    /// The reason why blocks were not taken. Nothing was changed.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    #[non_exhaustive]
    pub enum TakeError {
        /// An operation is running.
        Busy => ("{}", crate::turn::BUSY),
        /// A block is not present.
        NoSuchBlock(id: BlockId) => "{id} is not there",
        /// A block is on another node than in the list.
        OtherNode(id: BlockId, node: NodeId) => "{id} is on {node}",
        /// A block was added: it belongs to its device.
        NotBootMemory(id: BlockId) => "{id} was added, it is its device's",
        /// A block is taken already.
        AlreadyTaken(id: BlockId) => "{id} is taken already",
        /// A block is online.
        NotOffline(id: BlockId) => "{id} is online",
        /// A block has bad memory.
        Poisoned(id: BlockId) => "{id} has bad memory",
        /// A block is in the list twice.
        Twice(id: BlockId) => "{id} is named twice",
        /// A block is mapped by a leaf that is larger than the block, and live leaves are never split.
        CutsLeaf {
            /// The block.
            block: BlockId,
            /// The first virtual address of that leaf.
            at: VirtAddr,
            /// Its bytes.
            len: u64,
        } => "{block} is mapped by the leaf of {len:#x} bytes at {at}, larger than it",
        /// The page tables cannot unmap a block.
        Unmap(id: BlockId, error: UnmapError) => "{id} stays mapped: {error}",
    }

    /// The reason why nothing was released. Nothing was changed.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    #[non_exhaustive]
    pub enum ReleaseError {
        /// An operation is running.
        Busy => ("{}", crate::turn::BUSY),
        /// The linear map of a block could not be restored. Its tables were kept, so this is an error of the mapper.
        Map(id: BlockId, error: MapError) => "{id} cannot be mapped again: {error}",
    }
}

impl<M: Machine> Operations<M> {
    /// See [`Mm::take`](crate::Mm::take).
    pub(crate) fn take(&self, pieces: &[Piece]) -> Result<u64, TakeError> {
        let operation = self.allocator.operation().ok_or(TakeError::Busy)?;
        let carveout = Carveout::of(&self.allocator, &operation);
        for (index, piece) in pieces.iter().enumerate() {
            let mut before = pieces.iter().take(index);
            if let Some(other) = before.find(|other| other.overlaps(*piece)) {
                return Err(TakeError::Twice(piece.first.max(other.first)));
            }
            piece.blocks().try_for_each(|id| carveout.check_take(id, piece.node))?;
        }
        let blocks = || pieces.iter().flat_map(|piece| piece.blocks());
        carveout.take_all_out(blocks).map_err(|(id, error)| TakeError::Unmap(id, error))
    }

    /// See [`Mm::release`](crate::Mm::release).
    pub(crate) fn release(&self) -> Result<u64, ReleaseError> {
        let operation = self.allocator.operation().ok_or(ReleaseError::Busy)?;
        let carveout = Carveout::of(&self.allocator, &operation);
        let taken = || self.allocator.memmap.blocks().filter(|block| block.taken);
        for (done, block) in taken().enumerate() {
            if let Err(error) = carveout.map_taken(block.id) {
                taken().take(done).for_each(|block| carveout.unmap_taken(block.id));
                return Err(ReleaseError::Map(block.id, error));
            }
        }
        let count = taken().count();
        taken().for_each(|block| carveout.put_back(&block));
        Ok(count as u64)
    }
}

/// Takes blocks out of the linear map, and restores them.
struct Carveout<'m, M: Machine> {
    allocator: &'m Allocator<M>,
    memmap: Whole<'m, M>,
}

impl<'m, M: Machine> Carveout<'m, M> {
    fn of(allocator: &'m Allocator<M>, operation: &'m Operation<'_, M>) -> Self {
        Self { allocator, memmap: operation.seen() }
    }

    /// Maps a block that was taken, in tables that were kept.
    fn map_taken(&self, id: BlockId) -> Result<(), MapError> {
        self.memmap.block_range(id).map_or(Ok(()), |range| {
            self.allocator.map(self.memmap, &self.memmap.windows().linear_mapping(range))
        })
    }

    /// Unmaps a block that was mapped again, before that is visible.
    fn unmap_taken(&self, id: BlockId) {
        let Some(range) = self.memmap.block_range(id) else { return };
        let mut gather = self.allocator.gather_keeping_tables(self.memmap);
        let unmapped = self.memmap.unmap(self.memmap.windows().linear_virt(range), &mut gather);
        if let Err(error) = gather.conclude(unmapped) {
            log::error!("{id} is taken and may still be reached: {error}");
        }
    }

    fn check_take(&self, id: BlockId, node: NodeId) -> Result<(), TakeError> {
        let block = self.memmap.describe_block(id).ok_or(TakeError::NoSuchBlock(id))?;
        match block {
            Block { boot: false, .. } => Err(TakeError::NotBootMemory(id)),
            _ if block.node != node => Err(TakeError::OtherNode(id, block.node)),
            Block { taken: true, .. } => Err(TakeError::AlreadyTaken(id)),
            Block { poisoned: true, .. } => Err(TakeError::Poisoned(id)),
            _ if block.state != BlockState::Offline => Err(TakeError::NotOffline(id)),
            _ => match self.larger_leaf(id) {
                Some(Translation { virt: at, len, .. }) => {
                    Err(TakeError::CutsLeaf { block: id, at, len })
                }
                None => Ok(()),
            },
        }
    }

    /// The leaf of the linear map that extends past the block, if there is one.
    fn larger_leaf(&self, id: BlockId) -> Option<Translation> {
        self.memmap
            .block_range(id)
            .and_then(|range| self.memmap.cut_leaf(self.memmap.windows().linear_virt(range)))
    }

    /// Takes unused blocks out of the linear map, all of them or none; returns their number, or the block that could
    /// not be taken.
    fn take_all_out<I: Iterator<Item = BlockId>>(
        &self,
        blocks: impl Fn() -> I,
    ) -> Result<u64, (BlockId, UnmapError)> {
        for (done, id) in blocks().enumerate() {
            if let Err(error) = self.take_out(id) {
                for earlier in blocks().take(done) {
                    self.map_back(earlier);
                }
                return Err((id, error));
            }
        }
        Ok(blocks().count() as u64)
    }

    /// Maps a block again that was just taken out.
    fn map_back(&self, id: BlockId) {
        match self.map_taken(id) {
            Ok(()) => self.mark_taken(id, false),
            Err(error) => log::error!("{id} stays taken: {error}"),
        }
    }

    /// Takes an unused block out of the linear map.
    fn take_out(&self, id: BlockId) -> Result<(), UnmapError> {
        let Some(range) = self.memmap.block_range(id) else { return Ok(()) };
        self.clear_pages(self.memmap.block_pfns(id));
        self.memmap.machine().clean(self.memmap.windows().linear_virt(range));
        self.mark_taken(id, true);
        let mut gather = self.allocator.gather_keeping_tables(self.memmap);
        let unmapped = self.memmap.unmap(self.memmap.windows().linear_virt(range), &mut gather);
        gather.conclude(unmapped).inspect_err(|error| match error {
            UnmapError::NotFlushed(_) => self.map_back(id),
            _ => self.mark_taken(id, false),
        })
    }

    /// Returns a taken block, which is mapped again, to its previous owner, after clearing it.
    fn put_back(&self, block: &Block) {
        if !block.poisoned {
            self.clear_pages(block.pfns);
        }
        self.mark_taken(block.id, false);
        if let BlockState::Online(kind) = block.state {
            let area = Area::whole(block.pfns, block.node, kind);
            area.unclaim(self.allocator, *self.memmap, Owner::Taken);
        }
    }

    /// Clears pages of a block that is entirely boot memory, mapped, and not in use.
    fn clear_pages(&self, pfns: PfnRange) {
        for pfn in pfns.iter() {
            // SAFETY: the page is mapped RAM; its block is offline, or every page of it was claimed to be taken, and
            // this is the operation under way: no other code refers to any byte of it.
            unsafe { clear_page(self.memmap.machine(), pfn) };
        }
    }

    fn mark_taken(&self, id: BlockId, taken: bool) {
        let first = self.memmap.block_pfns(id).start;
        if let Some(record) = self.memmap.known_block_record(section_of::<M>(first)) {
            record.change_block(|word| BlockWord { taken, ..word });
        }
    }
}
