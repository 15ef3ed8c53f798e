//! What the pages of a block are in use for.

use crate::addr::PfnRange;
use crate::alloc::evacuate::extent;
use crate::alloc::migrate::Extent;
use crate::machine::Machine;
use crate::memmap::block::{BlockId, BlockState};
use crate::memmap::page::{MoverId, Owner, PageState};
use crate::memmap::seen::Seen;
use crate::observe::View;

/// Pages of an online block by what prevents their removal; descriptors are in none of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shares {
    /// In no use, caches of CPUs included.
    pub free: u64,
    /// In use by an owner that moves them.
    pub movable: u64,
    /// In use by such an owner, which declares them pinned now.
    pub pinned: u64,
    /// In use by an owner that does not move them, or by nobody for ever.
    pub unmovable: u64,
    /// Offline, as a part of the block.
    pub offline: u64,
}

impl<M: Machine> View<'_, M> {
    /// See [`Mm::shares`](crate::Mm::shares).
    pub(crate) fn shares(&self, id: BlockId) -> Shares {
        let mut shares = Shares::default();
        if self.allocator.memmap.block(id).is_none() {
            return shares;
        }
        let mut rest = self.allocator.memmap.block_pfns(id);
        // The owner is called after the look, since it may look, too.
        while let Some((extent, mover)) =
            self.look(|memmap| count(*memmap, id, &mut rest, &mut shares))
        {
            let pages = extent.order.pages();
            if self.allocator.is_pinned(&extent, mover) {
                shares.pinned += pages;
            } else {
                shares.movable += pages;
            }
        }
        shares
    }
}

/// Counts the pages of `rest` up to the first movable extent, which is returned. `rest` is then the remainder.
fn count<M: Machine>(
    memmap: Seen<'_, M>,
    id: BlockId,
    rest: &mut PfnRange,
    shares: &mut Shares,
) -> Option<(Extent, MoverId)> {
    memmap.describe_block(id).filter(|block| block.state != BlockState::Offline)?;
    for (pfn, pages, state) in memmap.extents(*rest) {
        rest.start = pfn.add(pages);
        match state {
            PageState::Free { .. } | PageState::Isolated { .. } | PageState::Cached { .. } => {
                shares.free += pages;
            }
            PageState::Used { order, owner: Owner::Movable(mover) } => {
                return Some((extent(memmap, pfn, order), mover));
            }
            PageState::Used { owner: Owner::Offline, .. } => shares.offline += pages,
            PageState::Used { .. } => shares.unmovable += pages,
            _ => {}
        }
    }
    rest.start = rest.end;
    None
}
