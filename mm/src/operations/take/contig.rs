//! Takes memory by size: so many contiguous bytes of a node, found and emptied here.

use super::Carveout;
use crate::addr::{PhysRange, VirtAddr};
use crate::alloc::evacuate::{Evacuation, Stuck};
use crate::alloc::isolate::Area;
use crate::alloc::node::NodeId;
use crate::alloc::zone::ZoneKind;
use crate::machine::Machine;
use crate::memmap::block::{Block, BlockId, BlockState};
use crate::memmap::page::Owner;
use crate::operations::Operations;
use crate::paging::UnmapError;
use crate::turn::Operation;

hotmem_paging::errors! {
    /// The reason why no memory was taken. Nothing was changed, except that pages already migrated are not moved back.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    #[non_exhaustive]
    pub enum ContigError {
        /// An operation is running.
        Busy => ("{}", crate::turn::BUSY),
        /// The size is zero, or not a whole number of memory blocks.
        NotWholeBlocks {
            /// The requested bytes.
            bytes: u64,
            /// Bytes of a memory block.
            block: u64,
        } => "{bytes:#x} bytes are not whole memory blocks of {block:#x} bytes",
        /// The node has no such run of adjacent online boot blocks in one zone that can be emptied; this is the last
        /// block that could not, if there was one.
        NoRun(block: Option<BlockId>) => { f => match block {
            None => f.write_str("no run of movable boot blocks is as long"),
            Some(id) => write!(f, "{id} cannot be emptied"),
        } },
        /// The only runs that can be emptied are mapped by leaves larger than a memory block, and live leaves are never
        /// split. This is one of their blocks.
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
}

impl<M: Machine> Operations<M> {
    /// See [`Mm::take_contig`](crate::Mm::take_contig).
    pub(crate) fn take_contig(&self, node: NodeId, bytes: u64) -> Result<PhysRange, ContigError> {
        let operation = self.allocator.operation().ok_or(ContigError::Busy)?;
        Carveout::of(&self.allocator, &operation).contig(node, bytes, &operation)
    }
}

impl<M: Machine> Carveout<'_, M> {
    fn contig(
        &self,
        node: NodeId,
        bytes: u64,
        operation: &Operation<'_, M>,
    ) -> Result<PhysRange, ContigError> {
        let block = self.memmap.block_size().bytes();
        if bytes == 0 || !bytes.is_multiple_of(block) {
            return Err(ContigError::NotWholeBlocks { bytes, block });
        }
        let count = bytes / block;
        let mut failed = ContigError::NoRun(None);
        let firsts = self.memmap.blocks().filter(|first| first.node == node);
        for first in firsts {
            let Some(kind) = self.run_kind(&first, count) else { continue };
            let cut = run(first.id, count).find_map(|id| Some((id, self.larger_leaf(id)?)));
            if let Some((block, leaf)) = cut {
                failed = ContigError::CutsLeaf { block, at: leaf.virt, len: leaf.len };
                continue;
            }
            match self.claim_run(first.id, count, node, kind) {
                Ok(()) if operation.alone() => return self.take_run(first.id, count, node, kind),
                Ok(()) => {
                    self.unclaim_run(first.id, count, node, kind);
                    return Err(ContigError::Busy);
                }
                Err(id) => failed = ContigError::NoRun(Some(id)),
            }
        }
        Err(failed)
    }

    /// Takes a run of claimed blocks out of the linear map.
    fn take_run(
        &self,
        first: BlockId,
        count: u64,
        node: NodeId,
        kind: ZoneKind,
    ) -> Result<PhysRange, ContigError> {
        if let Err((id, error)) = self.take_all_out(|| run(first, count)) {
            self.unclaim_run(first, count, node, kind);
            return Err(ContigError::Unmap(id, error));
        }
        let bytes = count * self.memmap.block_size().bytes();
        let start = self.memmap.block_range(first).map(PhysRange::start);
        let range = start.and_then(|start| PhysRange::new(start, bytes));
        range.ok_or(ContigError::NoRun(None))
    }

    /// Frees a run of claimed blocks.
    fn unclaim_run(&self, first: BlockId, count: u64, node: NodeId, kind: ZoneKind) {
        for id in run(first, count) {
            let area = Area::whole(self.memmap.block_pfns(id), node, kind);
            area.unclaim(self.allocator, *self.memmap, Owner::Taken);
        }
    }

    /// The zone of `count` blocks from `first` on, if they are boot memory and online in the same zone.
    fn run_kind(&self, first: &Block, count: u64) -> Option<ZoneKind> {
        let BlockState::Online(kind) = first.state else { return None };
        let fits = |id| {
            self.memmap.describe_block(id).is_some_and(|block| {
                (block.node, block.state) == (first.node, first.state)
                    && block.boot
                    && !block.taken
                    && !block.poisoned
            })
        };
        (kind != ZoneKind::System && run(first.id, count).all(fits)).then_some(kind)
    }

    /// Empties and claims a run of blocks; on failure none is claimed, and the block that cannot be emptied is
    /// named.
    fn claim_run(
        &self,
        first: BlockId,
        count: u64,
        node: NodeId,
        kind: ZoneKind,
    ) -> Result<(), BlockId> {
        for (done, id) in run(first, count).enumerate() {
            let area = Area::whole(self.memmap.block_pfns(id), node, kind);
            let emptied: Result<Area, Stuck> =
                Evacuation::begin(self.allocator, area).run(self.allocator, *self.memmap);
            match emptied {
                Ok(area) => area.claim(self.allocator, *self.memmap, Owner::Taken),
                Err(_) => {
                    self.unclaim_run(first, done as u64, node, kind);
                    return Err(id);
                }
            }
        }
        Ok(())
    }
}

/// `count` blocks from `first` on.
fn run(first: BlockId, count: u64) -> impl Iterator<Item = BlockId> {
    (first.get()..first.get().saturating_add(count)).map(BlockId::new)
}
