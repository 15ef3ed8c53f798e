//! Memory that ends by a frame, for devices that address little.
//!
//! Free lists are sorted by size and not by place, and are read with their zone locked. So the extent is searched in
//! the descriptors of the memory that may be taken, without a lock, and the zone is locked only to take it.

use crate::addr::{Order, Pfn, PfnRange};
use crate::alloc::Allocator;
use crate::alloc::node::NodeId;
use crate::alloc::request::Request;
use crate::alloc::zone::ZoneKind;
use crate::machine::Machine;
use crate::memmap::block::{BlockId, BlockState};
use crate::memmap::page::{Owner, PageState};
use crate::memmap::section::section_of;
use crate::memmap::seen::Seen;

/// Extents that are tried: each that another CPU takes first is found again elsewhere, or not at all.
const TRIES: usize = 16;

/// The zone to search, and the frame to end by.
#[derive(Clone, Copy, Debug)]
struct Wanted {
    node: NodeId,
    kind: ZoneKind,
    align: Order,
    order: Order,
    below: Pfn,
}

impl Wanted {
    /// Whether an extent of `size` at `pfn` has room for the request.
    fn fits(&self, pfn: Pfn, size: Order) -> bool {
        size >= self.align && pfn.add(self.order.pages()) <= self.below
    }
}

impl<M: Machine> Allocator<M> {
    /// Allocates memory of a zone that ends by `below`.
    pub(super) fn alloc_below(
        &self,
        (node, kind): (NodeId, ZoneKind),
        request: &Request,
        owner: Owner,
        below: Pfn,
    ) -> Option<Pfn> {
        let Request { order, align, .. } = *request;
        let wanted = Wanted { node, kind, align, order, below };
        (0..TRIES).find_map(|_| {
            let Some((size, pfn)) = self.find_below(&wanted) else { return Some(None) };
            self.take_found(&wanted, (size, pfn), request, owner).map(Some)
        })?
    }

    /// The lowest of the smallest free extents that suffice. Another CPU may take it at any time.
    fn find_below(&self, wanted: &Wanted) -> Option<(Order, Pfn)> {
        let span = self.nodes.lock(wanted.node, wanted.kind).span();
        let rest = PfnRange { end: span.end.min(wanted.below), ..span };
        let first = self.memmap.block_at(M::address(rest.start)).get();
        let mut best = None;
        for id in (first..).map(BlockId::new) {
            let block = self.memmap.block_pfns(id);
            let Some(here) = block.intersection(rest) else { break };
            let look_up = self.memmap.read(here.start);
            for found in self.free_in(self.memmap.seen(&look_up), here, wanted) {
                best = Some(best.map_or(found, |best| found.min(best)));
                if found.0 == wanted.align {
                    return best;
                }
            }
        }
        best
    }

    /// The free extents of a part of a block that suffice, if the block is in the zone.
    fn free_in<'g>(
        &self,
        memmap: Seen<'g, M>,
        here: PfnRange,
        wanted: &Wanted,
    ) -> impl Iterator<Item = (Order, Pfn)> + use<'g, M> {
        let there = is_home(memmap, here.start, wanted);
        let here = if there { here } else { PfnRange::new(here.start, 0) };
        let wanted = *wanted;
        memmap.extents(here).filter_map(move |(pfn, _, state)| match state {
            PageState::Free { order } if wanted.fits(pfn, order) => Some((order, pfn)),
            _ => None,
        })
    }

    /// Takes an extent that was found, if it is still free.
    fn take_found(
        &self,
        wanted: &Wanted,
        (size, pfn): (Order, Pfn),
        request: &Request,
        owner: Owner,
    ) -> Option<Pfn> {
        let look_up = self.memmap.read(pfn);
        let memmap = self.memmap.seen(&look_up);
        let mut guard = self.nodes.lock(wanted.node, wanted.kind);
        let section = memmap.section_at(pfn)?;
        if !is_home(memmap, pfn, wanted) || !section.is_free_head(pfn, size) {
            return None;
        }
        let (zone, listed) = self.locked(&mut guard);
        self.take_listed(listed, zone, (wanted.node, wanted.kind), (size, pfn), request, owner)
    }
}

/// Whether the block of `pfn` is online in the zone.
fn is_home<M: Machine>(memmap: Seen<'_, M>, pfn: Pfn, wanted: &Wanted) -> bool {
    memmap.block_record(section_of::<M>(pfn)).is_some_and(|record| {
        let word = record.block();
        (word.node, word.state) == (wanted.node, BlockState::Online(wanted.kind))
    })
}
