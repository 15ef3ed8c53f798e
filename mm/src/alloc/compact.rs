//! Compaction: creates one large free extent by migrating the pages between small ones.
//!
//! ```text
//!   [u . . u|. . u .|M M M M|. . . .]   the aligned run with the fewest pages to migrate is emptied;
//!       ^ this one                      a run with memmap, or with unmovable pages, is never touched
//! ```

use crate::addr::{Order, Pfn, PfnRange};
use crate::alloc::Allocator;
use crate::alloc::evacuate::{Evacuation, Stuck};
use crate::alloc::isolate::Area;
use crate::alloc::node::NodeId;
use crate::alloc::zone::ZoneKind;
use crate::machine::Machine;
use crate::memmap::block::{Block, BlockState};
use crate::memmap::page::{Owner, PageState};
use crate::memmap::seen::Seen;

hotmem_paging::errors! {
    /// The reason why no free extent of the order was created.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    #[non_exhaustive]
    pub enum CompactError {
        /// An operation is running.
        Busy => ("{}", crate::turn::BUSY),
        /// No block is that large.
        TooLarge(order: Order) => ("no block has {} pages", order.pages()),
        /// Every run of the size holds memmap or unmovable pages.
        Immovable(order: Order) => ("every run of {} pages holds unmovable pages", order.pages()),
        /// An owner, whose name is the last field, did not release an extent.
        InUse(pfn: Pfn, _: Owner, by: &'static str) => "{pfn}, held by {by}, cannot be migrated",
        /// An extent of the run, of this order, needs a free one elsewhere to migrate to, and memory lacks it.
        NoRoom(order: Order) => ("no free extent of {} pages elsewhere", order.pages()),
    }
}

impl<M: Machine> Allocator<M> {
    /// See [`Mm::compact`](crate::Mm::compact).
    pub(crate) fn compact(
        &self,
        node: NodeId,
        kind: ZoneKind,
        order: Order,
    ) -> Result<PfnRange, CompactError> {
        let operation = self.operation().ok_or(CompactError::Busy)?;
        let memmap = *operation.seen();
        if order > self.memmap.block_size().order::<M>() {
            return Err(CompactError::TooLarge(order));
        }
        let blocks = self.memmap.blocks();
        let blocks = blocks.filter(|b| (b.node, b.state) == (node, BlockState::Online(kind)));
        let best = blocks.filter_map(|block| cheapest_run(memmap, &block, order)).min();
        let (_, run) = best.ok_or(CompactError::Immovable(order))?;
        let area = Area::among(memmap, run).ok_or(CompactError::Immovable(order))?;
        let emptied = Evacuation::begin(self, area).run(self, memmap);
        let area = emptied.map_err(|stuck| match stuck {
            Stuck::Held(pfn, owner) => CompactError::InUse(pfn, owner, self.owners.name(owner)),
            Stuck::NoRoom(order) => CompactError::NoRoom(order),
        })?;
        area.end_isolation(self, memmap);
        Ok(run)
    }
}

/// The aligned run of a block with the fewest used pages, and their number, if a run can be emptied.
fn cheapest_run<M: Machine>(
    memmap: Seen<'_, M>,
    block: &Block,
    order: Order,
) -> Option<(u64, PfnRange)> {
    let pages = order.pages();
    let count = block.pfns.pages() / pages;
    let runs = (0..count).map(|i| PfnRange::new(block.pfns.start.add(i * pages), pages));
    runs.filter_map(|run| Some((cost(memmap, run)?, run))).min()
}

/// Pages in use that must be migrated for `run` to be free; `None` if some cannot be.
fn cost<M: Machine>(memmap: Seen<'_, M>, run: PfnRange) -> Option<u64> {
    let mut cost = 0;
    let mut at = run.start;
    while at < run.end {
        let (head, state) = memmap.extent_of(at)?;
        match state {
            PageState::Used { owner: Owner::Movable(_), order } => cost += order.pages(),
            PageState::Free { .. } | PageState::Cached { .. } => {}
            _ => return None,
        }
        at = head.add(state.extent_pages());
    }
    Some(cost)
}
