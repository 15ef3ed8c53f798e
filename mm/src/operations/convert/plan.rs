//! What a conversion does, and whether it can be done.

use super::error::ConvertError;
use crate::addr::{PfnRange, PhysRange};
use crate::machine::Machine;
use crate::memmap::altmap::Altmap;
use crate::memmap::block::BlockState;
use crate::memmap::placement::Placement;
use crate::memmap::whole::Whole;
use crate::paging::UnmapError;

/// The blocks of a group, and how many memmap pages each has in it.
#[derive(Clone, Copy)]
pub(super) struct Plan {
    /// All that is described.
    pub(super) pfns: PfnRange,
    pub(super) block_pages: u64,
    pub(super) memmap_pages: u64,
}

impl Plan {
    pub(super) fn count(self) -> u64 {
        self.pfns.pages() / self.block_pages
    }

    /// The frames of block `index`.
    pub(super) fn block(self, index: u64) -> PfnRange {
        PfnRange::new(self.pfns.start.add(index * self.block_pages), self.block_pages)
    }

    /// Where its memmap shall be.
    pub(super) fn head(self, index: u64) -> PfnRange {
        PfnRange::new(self.block(index).start, self.memmap_pages)
    }

    /// Where its memmap is in the group's.
    pub(super) fn piece(self, index: u64) -> PfnRange {
        PfnRange::new(self.pfns.start.add(index * self.memmap_pages), self.memmap_pages)
    }
}

/// What converting `range` does, if it can be converted.
pub(super) fn plan_convert<M: Machine>(
    memmap: Whole<'_, M>,
    range: PhysRange,
) -> Result<Plan, ConvertError> {
    let block = memmap.block_size().bytes();
    let pfns = memmap.whole_blocks(range).ok_or(ConvertError::NotWholeBlocks { range, block })?;
    let id = memmap.block_at(range.start());
    let known = memmap.describe_block(id).ok_or(ConvertError::NoSuchBlock(id))?;
    if known.placement != Placement::PerRange {
        return Err(ConvertError::NotPerRange(id, known.placement));
    }
    let group = known.group.and_then(|head| memmap.group_at(head));
    let held = group.ok_or(ConvertError::NoSuchBlock(id))?.pfns;
    let whole = Altmap::of_memmap::<M>(held).described;
    if whole != pfns {
        return Err(ConvertError::NotOnePiece(whole));
    }
    let block_pages = memmap.block_size().pages::<M>();
    let memmap_pages = held.pages() / (pfns.pages() / block_pages);
    let plan = Plan { pfns, block_pages, memmap_pages };
    check_poison(memmap, plan, held)?;
    check_memmap_leaves(memmap, plan)?;
    Ok(plan)
}

/// Refuses where a leaf holds descriptors of several blocks: live leaves are never split.
fn check_memmap_leaves<M: Machine>(memmap: Whole<'_, M>, plan: Plan) -> Result<(), ConvertError> {
    for block in (0..plan.count()).map(|index| plan.block(index)) {
        if let Some(leaf) = memmap.cut_leaf(memmap.windows().memmap_virt(block)) {
            let id = memmap.block_at(M::address(block.start));
            let cut = UnmapError::CutsLeaf { at: leaf.virt, len: leaf.len };
            return Err(ConvertError::Unmap(id, cut));
        }
    }
    Ok(())
}

/// Refuses where a bad page could be given to the allocator, as one that held descriptors, or get
/// descriptors: only the bad pages that an online block's allocator had are known one by one.
fn check_poison<M: Machine>(
    memmap: Whole<'_, M>,
    plan: Plan,
    held: PfnRange,
) -> Result<(), ConvertError> {
    for index in 0..plan.count() {
        let id = memmap.block_at(M::address(plan.block(index).start));
        let block = memmap.describe_block(id).ok_or(ConvertError::NoSuchBlock(id))?;
        let holds = held.intersection(block.pfns).is_some();
        if block.poisoned && (holds || block.state == BlockState::Offline) {
            return Err(ConvertError::Poisoned(id));
        }
    }
    Ok(())
}
