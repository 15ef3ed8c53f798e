//! An extent for a request, off the free lists of one zone.
//!
//! ```text
//!   zone locked    unlink, split --> used, or held if it is not ready yet
//!   unlocked       held: metadata of many pages, zeroes --> used
//! ```

use crate::addr::{Order, Pfn};
use crate::alloc::Allocator;
use crate::alloc::cache::HomeTag;
use crate::alloc::lists::FreeLists;
use crate::alloc::metas::{Metas, PRIVATE, SINCE, fill};
use crate::alloc::node::NodeId;
use crate::alloc::request::Request;
use crate::alloc::zone::{Zone, ZoneKind};
use crate::machine::Machine;
use crate::memmap::page::{Owner, PageState};
use crate::memmap::section::Section;
use crate::memmap::seen::Seen;
use core::sync::atomic::Ordering;

/// The largest extent whose pages get their metadata while the zone is locked: other CPUs wait for the lock.
const LARGEST_FILLED: Order = match Order::new(3) {
    Some(order) => order,
    None => Order::ZERO,
};

/// A request to one zone.
#[derive(Debug)]
pub(super) struct Take<'a, M: Machine> {
    pub(super) allocator: &'a Allocator<M>,
    pub(super) node: NodeId,
    pub(super) kind: ZoneKind,
    pub(super) request: Request,
    pub(super) owner: Owner,
}

impl<M: Machine> Take<'_, M> {
    /// Allocates.
    pub(super) fn run(&self) -> Option<Pfn> {
        let pfn = self.take()?;
        self.finish(pfn);
        Some(pfn)
    }

    /// Does what is done with the zone unlocked.
    #[inline]
    pub(super) fn finish(&self, pfn: Pfn) {
        if self.is_held_first() {
            // The extent is held: it is not freed or migrated, so its block stays online.
            let look_up = self.allocator.memmap.read(pfn);
            fill::<M>((0..covered(&self.request)).map_while(|index| look_up.page_after(index)));
            // The zeroes of such a request are written first.
            if !self.request.zeroed
                && let Some(here) = look_up.here()
            {
                here.page().release(self.request.order, self.owner);
            }
        }
    }

    /// Takes the extent off the lists of the zone.
    fn take(&self) -> Option<Pfn> {
        let Request { order, align, uses_floor, below, .. } = self.request;
        let mut guard = self.allocator.nodes.lock(self.node, self.kind);
        let (zone, memmap) = self.allocator.locked(&mut guard);
        if !uses_floor && !zone.keeps_floor(self.kind, order, self.owner) {
            return None;
        }
        let below = below.filter(|&below| below < zone.span().end);
        if let Some(below) = below {
            drop(guard);
            return self.take_below(below);
        }
        // An extent is aligned to its size, and its first part is used.
        let found = FreeLists::of(memmap).pick(zone, align)?;
        self.take_listed(memmap, zone, found)
    }

    /// Takes a free extent of `size` off its list; its first part is used.
    pub(super) fn take_listed(
        &self,
        memmap: Seen<'_, M>,
        zone: &mut Zone,
        found: (Order, Pfn),
    ) -> Option<Pfn> {
        let (order, pfn) = (self.request.order, found.1);
        let section = FreeLists::of(memmap).take_piece(zone, found, order, order)?;
        self.begin(memmap, section, pfn, self.allocator.machine().stamp());
        Some(pfn)
    }

    /// Makes an extent without a state, whose owner has it since `since`. The zone is locked.
    #[inline]
    pub(super) fn begin(&self, memmap: Seen<'_, M>, section: Section<'_, M>, pfn: Pfn, since: u64) {
        let (request, order, owner) = (&self.request, self.request.order, self.owner);
        let tag = HomeTag::new(self.node, self.kind).get();
        begin_use(memmap, pfn, request, since, tag);
        let later = self.is_held_first();
        if !later {
            Metas::of(memmap).fill(pfn, covered(request));
        }
        if later || request.zeroed {
            // As soon as the zone is unlocked, an operation could ask the owner to migrate it, and it is not ready yet.
            section.set_head(pfn, order, PageState::Cached { order });
            section.page(pfn).set_held(order, owner);
        } else {
            section.set_head(pfn, order, PageState::Used { order, owner });
        }
    }

    /// Whether the extent has more metadata than is written with the zone locked.
    #[inline]
    fn is_held_first(&self) -> bool {
        let Request { meta_of_each, order, .. } = self.request;
        size_of::<M::Meta>() > 0 && meta_of_each && order > LARGEST_FILLED
    }
}

/// Fills in the head of an extent that will be used, with the zone that `tag` names.
#[inline]
pub(super) fn begin_use<M: Machine>(
    memmap: Seen<'_, M>,
    pfn: Pfn,
    request: &Request,
    since: u64,
    tag: u64,
) {
    let page = memmap.page(pfn);
    page.payload()[PRIVATE].store(request.private, Ordering::Relaxed);
    page.payload()[SINCE].store(since, Ordering::Relaxed);
    Metas::of(memmap).cover(pfn, covered(request), tag);
}

/// The number of pages that have the kernel's metadata.
#[inline]
pub(super) fn covered(request: &Request) -> u64 {
    if request.meta_of_each { request.order.pages() } else { 1 }
}
