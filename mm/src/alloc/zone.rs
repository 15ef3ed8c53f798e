//! Zones: the free extents of a node's online blocks, by order, and their counts.

use crate::addr::{Order, Pfn, PfnRange};
use crate::memmap::page::Owner;
use core::ops::Range;

pub use crate::memmap::home::{PageCounts, ZoneKind};

/// The share of a system zone that new movable allocations leave free: 1/32 of what it manages.
///
/// Only page tables, section nodes, memmaps and the kernel may use the rest, so that movable allocations cannot keep
/// memory from being added. It holds the boot-placed memmap of as much memory as the zone has (64 bytes for 4 KiB
/// are 1/64), and as much again for tables and the kernel.
pub const SYSTEM_FLOOR_SHARE: u64 = 32;

/// A zone: list heads of its free extents and its counts. The lists' links are in the descriptors.
#[derive(Debug)]
pub(crate) struct Zone {
    /// The first extent of each list, as its number + 1; 0 for none.
    heads: [u64; Order::COUNT],
    /// Extents on each list.
    extents: [u64; Order::COUNT],
    /// A bit for each order whose list has an extent.
    nonempty: u32,
    /// Its pages; isolated pages do not count as free here, though they do in their block.
    pub(super) counts: PageCounts,
    /// The free pages that were published to watches.
    published: u64,
    /// From its first block to its last: see [`crate::alloc::span`].
    pub(super) span: PfnRange,
    /// The range that is being emptied: an extent freed there is isolated, and not allocated.
    pub(super) isolating: PfnRange,
    /// Isolated pages.
    pub(super) isolated: u64,
    /// The extent in the range being emptied that its owner is asked to divide.
    pub(super) dividing: Option<Pfn>,
}

impl Zone {
    pub(crate) const fn new() -> Self {
        let counts = PageCounts { present: 0, managed: 0, memmap: 0, free: 0 };
        Self {
            heads: [0; Order::COUNT],
            extents: [0; Order::COUNT],
            nonempty: 0,
            counts,
            published: 0,
            span: PfnRange::EMPTY,
            isolating: PfnRange::EMPTY,
            isolated: 0,
            dividing: None,
        }
    }

    /// Its pages; isolated pages do not count as free here, though they do in their block.
    pub(crate) const fn counts(&self) -> PageCounts {
        self.counts
    }

    /// From its first block to its last.
    pub(crate) const fn span(&self) -> PfnRange {
        self.span
    }

    /// The range that is being emptied.
    pub(crate) const fn isolating(&self) -> PfnRange {
        self.isolating
    }

    /// Isolated pages.
    pub(crate) const fn isolated(&self) -> u64 {
        self.isolated
    }

    /// Adds the counts of pages that come online.
    pub(crate) fn add(&mut self, counts: PageCounts) {
        self.counts = self.counts.plus(counts);
    }

    /// Extends the span over a block that comes online.
    pub(crate) fn widen(&mut self, block: PfnRange) {
        self.span = self.span.hull(block);
    }

    /// Subtracts the pages of a block that was emptied, and ends its isolation. `span` is the one without the block.
    pub(crate) fn retire(&mut self, counts: PageCounts, span: PfnRange) {
        self.counts = self.counts.minus(counts);
        (self.span, self.isolating, self.isolated) = (span, PfnRange::EMPTY, 0);
    }

    /// Subtracts the pages of a part of a block, which is offline and is removed.
    pub(crate) fn withdraw(&mut self, counts: PageCounts) {
        self.counts = self.counts.minus(counts);
    }

    /// Counts managed pages as memmap.
    pub(crate) fn make_memmap(&mut self, pages: u64) {
        self.counts.managed -= pages;
        self.counts.memmap += pages;
    }

    /// Counts pages of memmap as managed, and in use.
    pub(crate) fn make_managed(&mut self, pages: u64) {
        self.counts.managed += pages;
        self.counts.memmap -= pages;
    }

    /// Counts managed pages as free.
    pub(crate) fn make_free(&mut self, pages: u64) {
        self.counts.free += pages;
    }

    /// The change of its free pages (wrapping) since the last call, if there is one.
    #[inline]
    pub(super) fn unpublished(&mut self) -> Option<u64> {
        let before = core::mem::replace(&mut self.published, self.counts.free);
        let change = self.counts.free.wrapping_sub(before);
        (change != 0).then_some(change)
    }

    /// Its counts, its span and the range being emptied, for tests that make them wrong.
    #[cfg(test)]
    pub(crate) fn parts(&mut self) -> (&mut PageCounts, &mut PfnRange, &mut PfnRange) {
        (&mut self.counts, &mut self.span, &mut self.isolating)
    }

    /// The first free extent of `order`.
    pub(crate) fn first(&self, order: Order) -> Option<Pfn> {
        self.heads[order.get() as usize].checked_sub(1).map(Pfn::new)
    }

    /// Makes `head` the first free extent of `order`.
    pub(crate) fn set_first(&mut self, order: Order, head: Option<Pfn>) {
        self.heads[order.get() as usize] = head.map_or(0, |head| head.get() + 1);
        match head {
            Some(_) => self.nonempty |= 1 << order.get(),
            None => self.nonempty &= !(1 << order.get()),
        }
    }

    /// Free extents by order.
    pub(crate) fn all_extents(&self) -> [u64; Order::COUNT] {
        self.extents
    }

    /// Whether there are free extents of these orders, with fewer than `pages` in all.
    #[inline]
    pub(crate) fn has_few_in(&self, orders: Range<Order>, pages: u64) -> bool {
        let below = |order: Order| (1_u32 << order.get()) - 1;
        let there = self.nonempty & below(orders.end) & !below(orders.start) != 0;
        there && self.pages_in(orders) < pages
    }

    fn pages_in(&self, orders: Range<Order>) -> u64 {
        let orders = orders.start.get()..orders.end.get();
        orders.map(|order| self.extents[order as usize] << order).sum()
    }

    /// Counts an extent that is added to the list of `order`.
    pub(crate) fn count_extent(&mut self, order: Order) {
        self.extents[order.get() as usize] += 1;
    }

    /// Counts an extent that is removed from the list of `order`.
    pub(crate) fn uncount_extent(&mut self, order: Order) {
        self.extents[order.get() as usize] -= 1;
    }

    /// Whether a new extent of `order` for `owner` leaves the floor of a zone of `kind` free.
    pub(crate) fn keeps_floor(&self, kind: ZoneKind, order: Order, owner: Owner) -> bool {
        let floored = kind == ZoneKind::System && matches!(owner, Owner::Movable(_));
        let floor = self.counts.managed / SYSTEM_FLOOR_SHARE;
        !floored || self.counts.free >= floor.saturating_add(order.pages())
    }

    /// The smallest order from `order` up that has a free extent.
    pub(crate) fn smallest_from(&self, order: Order) -> Option<Order> {
        let candidates = self.nonempty >> order.get() << order.get();
        Order::new(candidates.trailing_zeros() as u8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_sufficient_order_is_found_and_an_emptied_list_is_not() {
        let order = |raw| Order::new(raw).unwrap();
        let mut zone = Zone::new();
        assert_eq!(zone.smallest_from(order(0)), None);
        zone.set_first(order(3), Some(Pfn::new(8)));
        zone.set_first(order(19), Some(Pfn::new(0)));
        assert_eq!(zone.smallest_from(order(0)), Some(order(3)));
        assert_eq!(zone.smallest_from(order(4)), Some(order(19)));
        zone.set_first(order(19), None);
        assert_eq!(zone.smallest_from(order(4)), None);
    }
}
