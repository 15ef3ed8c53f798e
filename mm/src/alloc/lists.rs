//! Free lists: the free extents of a zone, a list for each order.
//!
//! They are doubly linked through the payload of the extents' heads. The zone is locked whenever they are read or
//! changed.

// UNSAFETY: vouches for the extents in a locked zone.
#![expect(unsafe_code)]

use crate::addr::{Order, Pfn, PfnRange};
use crate::alloc::Allocator;
use crate::alloc::node::ZoneGuard;
use crate::alloc::zone::Zone;
use crate::machine::Machine;
use crate::memmap::page::{Owner, PageState};
use crate::memmap::record::Record;
use crate::memmap::section::Section;
use crate::memmap::seen::Seen;
use core::sync::atomic::Ordering;

/// Payload words of a free extent's head: the list links, as pfn + 1, 0 for none.
const NEXT: usize = 0;
const PREVIOUS: usize = 1;

/// The lists of a locked zone, with the memmap that holds their links.
#[derive(Debug)]
pub(crate) struct FreeLists<'m, M: Machine>(pub(super) Seen<'m, M>);

impl<M: Machine> Allocator<M> {
    /// Locks a zone, with the memmap of the extents on its lists.
    pub(crate) fn locked<'z>(
        &'z self,
        guard: &'z mut ZoneGuard<'_, M::Lock>,
    ) -> (&'z mut Zone, Seen<'z, M>) {
        // SAFETY: the guard is borrowed for as long, so the zone stays locked, and the extents on its lists stay on
        // them or belong to the caller. A block goes offline only after all its extents are off the lists, and so
        // does a block whose memmap is moved.
        (guard, unsafe { Seen::vouched(&self.memmap) })
    }
}

impl<'m, M: Machine> FreeLists<'m, M> {
    /// The lists of the zones whose memory `memmap` shows.
    pub(crate) const fn of(memmap: Seen<'m, M>) -> Self {
        Self(memmap)
    }

    /// Frees an extent, merged with its free buddies up to the block's order.
    pub(crate) fn merge(&self, zone: &mut Zone, section: Section<'_, M>, pfn: Pfn, order: Order) {
        let largest = self.0.block_size().order::<M>();
        let (mut section, mut pfn, mut order) = (section, pfn, order);
        while order < largest {
            let buddy = Pfn::new(pfn.get() ^ order.pages());
            let Some(double) = order.double() else { break };
            let Some(buddy_section) = self.0.section_at(buddy) else {
                break;
            };
            if !buddy_section.is_free_head(buddy, order) {
                break;
            }
            self.unlink(zone, buddy, order);
            // Neither stays a head of this order; the lower one becomes the head of the next order.
            buddy_section.clear_head(buddy, order);
            section.clear_head(pfn, order);
            if buddy < pfn {
                (section, pfn) = (buddy_section, buddy);
            }
            order = double;
        }
        self.insert_free_in(zone, section, pfn, order);
    }

    /// Puts a free extent on its list.
    pub(crate) fn insert_free(&self, zone: &mut Zone, pfn: Pfn, order: Order) {
        if let Some(section) = self.0.known_section(pfn) {
            self.insert_free_in(zone, section, pfn, order);
        }
    }

    fn insert_free_in(&self, zone: &mut Zone, section: Section<'_, M>, pfn: Pfn, order: Order) {
        let page = section.page(pfn);
        let next = zone.first(order);
        page.payload()[NEXT].store(next.map_or(0, |next| next.get() + 1), Ordering::Relaxed);
        page.payload()[PREVIOUS].store(0, Ordering::Relaxed);
        if let Some(next) = next {
            self.0.page(next).payload()[PREVIOUS].store(pfn.get() + 1, Ordering::Relaxed);
        }
        zone.set_first(order, Some(pfn));
        zone.count_extent(order);
        section.set_head(pfn, order, PageState::Free { order });
    }

    /// Takes a free extent off its list. The caller changes its state.
    pub(crate) fn unlink(&self, zone: &mut Zone, pfn: Pfn, order: Order) {
        let link = |word: u64| word.checked_sub(1).map(Pfn::new);
        let payload = self.0.page(pfn).payload();
        let next = payload[NEXT].load(Ordering::Relaxed);
        let previous = payload[PREVIOUS].load(Ordering::Relaxed);
        if let Some(next) = link(next) {
            self.0.page(next).payload()[PREVIOUS].store(previous, Ordering::Relaxed);
        }
        match link(previous) {
            Some(previous) => self.0.page(previous).payload()[NEXT].store(next, Ordering::Relaxed),
            None => zone.set_first(order, link(next)),
        }
        zone.uncount_extent(order);
    }

    /// Splits an extent of `size` that is on no list, and still has the state of a free one, down to `order`: the
    /// rest is freed.
    pub(super) fn split(
        &self,
        zone: &mut Zone,
        section: Section<'_, M>,
        pfn: Pfn,
        size: Order,
        order: Order,
    ) {
        let mut size = size;
        while size > order
            && let Some(half) = size.half()
        {
            if size == M::PART_ORDER {
                section.clear_head(pfn, size);
                self.0.initialise_part(section, Section::<M>::part(pfn));
            }
            self.insert_free(zone, pfn.add(half.pages()), half);
            size = half;
        }
    }

    /// Takes a free extent of `size` off its list. Its first `piece` becomes extents of `order` that the caller gives
    /// their states, the rest is freed.
    #[inline]
    pub(super) fn take_piece(
        &self,
        zone: &mut Zone,
        (size, pfn): (Order, Pfn),
        piece: Order,
        order: Order,
    ) -> Option<Section<'m, M>> {
        let section = self.0.known_section(pfn)?;
        let block = self.0.known_block_record(section.number())?;
        self.unlink(zone, pfn, size);
        self.split(zone, section, pfn, size, piece);
        self.0.soil(block, pfn, piece);
        if piece != order && piece == M::PART_ORDER {
            section.clear_head(pfn, piece);
            self.0.initialise_part(section, Section::<M>::part(pfn));
        }
        count_free(zone, block, piece.pages().wrapping_neg());
        Some(section)
    }

    /// Frees `pfns`, of a block that comes online in `zone`, to the allocator.
    pub(crate) fn insert_range(&self, zone: &mut Zone, pfns: PfnRange) {
        let mut last = None;
        for (pfn, order) in self.0.cut(pfns) {
            last = self.0.section_after(last, pfn).or_else(|| self.0.known_section(pfn));
            let Some(section) = last else { continue };
            if order < M::PART_ORDER {
                self.0.initialise_part(section, Section::<M>::part(pfn));
            }
            self.insert_free_in(zone, section, pfn, order);
        }
    }

    /// The same for pages that may have free neighbours, in another part of the block.
    pub(crate) fn merge_range(&self, zone: &mut Zone, pfns: PfnRange) {
        for (pfn, order) in self.0.cut(pfns) {
            let Some(section) = self.0.known_section(pfn) else { continue };
            if order < M::PART_ORDER {
                self.0.initialise_part(section, Section::<M>::part(pfn));
            }
            self.merge(zone, section, pfn, order);
        }
    }

    /// Gives pages of a used extent to `to`, and leaves the rest to its owner. Called with the zone locked.
    pub(super) fn hand_over(
        &self,
        (head, order, owner): (Pfn, Order, Owner),
        pages: PfnRange,
        to: Owner,
    ) {
        let Some(section) = self.0.known_section(head) else { return };
        let whole = PfnRange::new(head, order.pages());
        section.clear_head(head, order);
        for rest in [PfnRange { end: pages.start, ..whole }, PfnRange { start: pages.end, ..whole }]
        {
            self.give_heads(rest, |order| PageState::Used { order, owner });
        }
        self.give_heads(pages, |order| PageState::Used { order, owner: to });
    }

    /// The extent before the free extent `pfn` on its list. Called with the zone locked.
    pub(crate) fn previous(&self, pfn: Pfn) -> Option<Pfn> {
        self.0.page(pfn).payload()[PREVIOUS].load(Ordering::Relaxed).checked_sub(1).map(Pfn::new)
    }

    /// The free extents of a list. Called with the zone locked.
    #[cfg(test)]
    pub(crate) fn list(&self, zone: &Zone, order: Order) -> impl Iterator<Item = Pfn> {
        core::iter::successors(zone.first(order), |&pfn| self.next(pfn))
    }

    /// The extent behind the free extent `pfn` on its list. Called with the zone locked.
    pub(crate) fn next(&self, pfn: Pfn) -> Option<Pfn> {
        self.0.page(pfn).payload()[NEXT].load(Ordering::Relaxed).checked_sub(1).map(Pfn::new)
    }

    /// The first of the smallest free extents of at least `least`.
    #[inline]
    pub(super) fn pick(&self, zone: &Zone, least: Order) -> Option<(Order, Pfn)> {
        let size = zone.smallest_from(least)?;
        Some((size, zone.first(size)?))
    }
}

/// Adds `pages` (wrapping: may be negative) to the free counts of a zone and of a block in it.
pub(super) fn count_free(zone: &mut Zone, block: Record<'_>, pages: u64) {
    zone.counts.free = zone.counts.free.wrapping_add(pages);
    block.free().add(pages);
}

/// Frees an extent that is on no list; the part of it that is being emptied is isolated.
pub(super) fn free_extent<M: Machine>(
    memmap: Seen<'_, M>,
    zone: &mut Zone,
    section: Section<'_, M>,
    block: Record<'_>,
    pfn: Pfn,
    order: Order,
) {
    count_free(zone, block, order.pages());
    let lists = FreeLists::of(memmap);
    if zone.isolating.intersection(PfnRange::new(pfn, order.pages())).is_some() {
        lists.release_isolated(zone, section, pfn, order);
    } else {
        lists.merge(zone, section, pfn, order);
    }
}
