//! Memory that ends by a frame, for devices that address little.
//!
//! Free lists are sorted by size and not by place, and are read with their zone locked. So the extent is searched in
//! the descriptors of the memory that may be taken, without a lock, and the zone is locked only to take it.

use crate::addr::{Order, Pfn, PfnRange};
use crate::alloc::take::Take;
use crate::machine::Machine;
use crate::memmap::block::{BlockId, BlockState};
use crate::memmap::lookup::LookUp;
use crate::memmap::page::PageState;

/// Extents that are tried: each that another CPU takes first is found again elsewhere, or not at all.
const TRIES: usize = 16;

impl<M: Machine> Take<'_, M> {
    /// Takes memory of the zone that ends by `below`.
    pub(super) fn take_below(&self, below: Pfn) -> Option<Pfn> {
        (0..TRIES).find_map(|_| {
            let Some(found) = self.find_below(below) else { return Some(None) };
            self.take_found(found).map(Some)
        })?
    }

    /// The lowest of the smallest free extents that suffice. Another CPU may take it at any time.
    fn find_below(&self, below: Pfn) -> Option<(Order, Pfn)> {
        let (memmap, align) = (&self.allocator.memmap, self.request.align);
        let span = self.allocator.nodes.lock(self.node, self.kind).span();
        let rest = PfnRange { end: span.end.min(below), ..span };
        let first = memmap.block_at(M::address(rest.start)).get();
        let mut best = None;
        for id in (first..).map(BlockId::new) {
            let block = memmap.block_pfns(id);
            let Some(here) = block.intersection(rest) else { break };
            let look_up = memmap.read(here.start);
            for found in self.free_in(&look_up, here, below) {
                best = Some(best.map_or(found, |best| found.min(best)));
                if found.0 == align {
                    return best;
                }
            }
        }
        best
    }

    /// The free extents of a part of a block that suffice, if the block is in the zone.
    fn free_in(
        &self,
        look_up: &LookUp<'_, M>,
        here: PfnRange,
        below: Pfn,
    ) -> impl Iterator<Item = (Order, Pfn)> {
        let here = if self.is_home(look_up) { here } else { PfnRange::new(here.start, 0) };
        let (align, pages) = (self.request.align, self.request.order.pages());
        look_up.extents(here).filter_map(move |(pfn, _, state)| match state {
            PageState::Free { order } if order >= align && pfn.add(pages) <= below => {
                Some((order, pfn))
            }
            _ => None,
        })
    }

    /// Takes an extent that was found, if it is still free.
    fn take_found(&self, (size, pfn): (Order, Pfn)) -> Option<Pfn> {
        let look_up = self.allocator.memmap.read(pfn);
        let mut guard = self.allocator.nodes.lock(self.node, self.kind);
        if !self.is_home(&look_up) || !look_up.here()?.is_free_head(size) {
            return None;
        }
        let (zone, listed) = self.allocator.locked(&mut guard);
        self.take_listed(listed, zone, (size, pfn))
    }

    /// Whether the block of the look-up is online in the zone.
    fn is_home(&self, look_up: &LookUp<'_, M>) -> bool {
        look_up.block_record().is_some_and(|record| {
            let word = record.block();
            (word.node, word.state) == (self.node, BlockState::Online(self.kind))
        })
    }
}
