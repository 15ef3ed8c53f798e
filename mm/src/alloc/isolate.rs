//! Isolation: free extents of a range that is being emptied, which the allocator must not allocate.
//!
//! ```text
//!   zone.isolating   [........................)   extents freed in here are isolated
//!   free  ---isolate--->  isolated  ---claim--->  used (a memmap, a taken range)
//!     <---unisolate------/       |--- the block goes offline: dropped
//!                                \--- a part of the block goes offline: used, held offline
//! ```
//!
//! One range at a time, within one block: the isolating operation has the turn. Isolated pages stay in their block's
//! count of free pages, and leave their zone's. Before the first extent is isolated the range is closed to the
//! caches of CPUs, and they are drained. Offline, contiguous reservation and compaction all empty ranges with this
//! code; memmap pages are not in extents, so they are never met.

use crate::addr::{Order, Pfn, PfnRange};
use crate::alloc::Allocator;
use crate::alloc::batch::Cached;
use crate::alloc::buddy::set_owners_word;
use crate::alloc::lists::{FreeLists, free_extent};
use crate::alloc::migrate::{Extent, Move};
use crate::alloc::node::{NodeId, ZoneGuard};
use crate::alloc::zone::{Zone, ZoneKind};
use crate::machine::Machine;
use crate::memmap::block::{Block, BlockState};
use crate::memmap::page::{Owner, PageState};
use crate::memmap::section::{Section, section_of};
use crate::memmap::seen::Seen;
use crate::memmap::share::Usable;
use crate::memmap::state::StateWord;

/// Extents that are isolated while the zone is locked once: other CPUs wait for the lock.
const EXTENTS_PER_LOCK: u64 = 16;

/// The progress of isolating some extents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Isolated {
    /// The start of the next extent.
    pub(crate) next: Pfn,
    /// Extents that were examined.
    pub(crate) extents: u64,
    /// Pages that were free, and are isolated now.
    pub(crate) pages: u64,
}

/// An area to empty: usable pages of one online block, and the zone that the block is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Area {
    /// From its first page to its last. Between them may be holes and memmap, if it is all of its block.
    pub(crate) pfns: PfnRange,
    /// Its pages: fewer than 2^32, which a block has at most.
    pub(crate) pages: u32,
    pub(crate) node: NodeId,
    pub(crate) kind: ZoneKind,
}

impl Area {
    /// The usable pages of a block, if it is online: all but its memmap.
    pub(crate) fn of<M: Machine>(memmap: Seen<'_, M>, block: &Block) -> Option<Self> {
        let BlockState::Online(kind) = block.state else { return None };
        if block.whole {
            let start = block.pfns.start.add(block.counts.memmap);
            return Some(Self::whole(PfnRange { start, ..block.pfns }, block.node, kind));
        }
        let Usable { hull: pfns, pages } = memmap.usable(block.id);
        Some(Self { pfns, pages: pages as u32, node: block.node, kind })
    }

    /// The usable pages of a block among `pfns`, if it is online: all but its memmap. The caller passes `pfns` without
    /// holes, and with memmap before the usable pages only.
    pub(crate) fn among<M: Machine>(memmap: Seen<'_, M>, pfns: PfnRange) -> Option<Self> {
        let id = memmap.block_at(M::address(pfns.start));
        let block = memmap.describe_block(id)?;
        let BlockState::Online(kind) = block.state else { return None };
        let lots = memmap.lots(block.id);
        let mut own = lots.filter_map(|lot| lot.usable.intersection(pfns));
        let pfns = own.next().unwrap_or(PfnRange::new(pfns.start, 0));
        let pfns = own.last().map_or(pfns, |last| PfnRange { end: last.end, ..pfns });
        Some(Self::whole(pfns, block.node, kind))
    }

    /// Pages of a block without a hole or memmap between them.
    pub(crate) const fn whole(pfns: PfnRange, node: NodeId, kind: ZoneKind) -> Self {
        Self { pfns, pages: pfns.pages() as u32, node, kind }
    }

    /// Locks the zone.
    #[track_caller]
    fn lock<'m, M: Machine>(&self, allocator: &'m Allocator<M>) -> ZoneGuard<'m, M::Lock> {
        allocator.nodes.lock(self.node, self.kind)
    }

    /// From now on pages that are freed in the area are isolated, and do not return to the allocator.
    pub(crate) fn begin_isolation<M: Machine>(&self, allocator: &Allocator<M>) {
        self.lock(allocator).isolating = self.pfns;
        Cached::of(allocator).close_caches(self.pfns);
    }

    /// Isolates the free ones of the next extents from `at` on, an address in the area, as far as they are in the
    /// area: `budget` of them, or as many as the zone may be locked for.
    pub(crate) fn isolate_from<M: Machine>(
        &self,
        allocator: &Allocator<M>,
        memmap: Seen<'_, M>,
        at: Pfn,
        budget: u64,
    ) -> Isolated {
        let mut zone = self.lock(allocator);
        let before = zone.isolated;
        let mut done = Isolated { next: at, extents: 0, pages: 0 };
        let mut last = None;
        while done.next < self.pfns.end && done.extents < budget.min(EXTENTS_PER_LOCK) {
            last = memmap.section_after(last, done.next);
            done.next = FreeLists::of(memmap).isolate_at(&mut zone, last, done.next);
            done.extents += 1;
        }
        done.pages = zone.isolated - before;
        done
    }

    /// Isolates all free extents of the area, and those freed there later: until [`put_on_lists`](Self::put_on_lists),
    /// no list refers to its descriptors.
    pub(crate) fn take_off_lists<M: Machine>(&self, allocator: &Allocator<M>, memmap: Seen<'_, M>) {
        self.lock(allocator).isolating = self.pfns;
        let mut at = self.pfns.start;
        while at < self.pfns.end {
            at = self.isolate_from(allocator, memmap, at, u64::MAX).next;
        }
    }

    /// Returns every isolated extent of the area to the allocator.
    pub(crate) fn end_isolation<M: Machine>(&self, allocator: &Allocator<M>, memmap: Seen<'_, M>) {
        self.put_on_lists(allocator, memmap);
        Cached::of(allocator).open_caches();
    }

    /// As [`end_isolation`](Self::end_isolation), without a change to caches.
    pub(crate) fn put_on_lists<M: Machine>(&self, allocator: &Allocator<M>, memmap: Seen<'_, M>) {
        self.lock(allocator).isolating = PfnRange::EMPTY;
        self.each_isolated(allocator, memmap, |zone, section, head, order| {
            zone.isolated -= order.pages();
            zone.counts.free += order.pages();
            FreeLists::of(memmap).merge(zone, section, head, order);
        });
    }

    /// Ends the isolation of an area that is empty, and gives all of it to `owner`.
    pub(crate) fn claim<M: Machine>(
        &self,
        allocator: &Allocator<M>,
        memmap: Seen<'_, M>,
        owner: Owner,
    ) {
        self.each_isolated(allocator, memmap, |_, section, head, order| {
            section.clear_head(head, order);
        });
        let mut zone = self.lock(allocator);
        FreeLists::of(memmap).give_heads(self.pfns, |order| PageState::Used { order, owner });
        zone.isolating = PfnRange::EMPTY;
        Cached::of(allocator).open_caches();
        zone.isolated -= self.pfns.pages();
        if let Some(block) = memmap.known_block_record(section_of::<M>(self.pfns.start)) {
            block.free().sub(self.pfns.pages());
        }
    }

    /// Ends the isolation of an area that is empty, and takes it offline: its isolated extents are [`Owner::Offline`]'s
    /// from now on. What is out of use in it stays so.
    pub(crate) fn put_offline<M: Machine>(&self, allocator: &Allocator<M>, memmap: Seen<'_, M>) {
        self.each_isolated(allocator, memmap, |zone, section, head, order| {
            set_owners_word(memmap, head, 0);
            section.page(head).set_state(PageState::Used { order, owner: Owner::Offline });
            zone.isolated -= order.pages();
            if let Some(block) = memmap.known_record_of(head) {
                block.free().sub(order.pages());
            }
        });
        self.lock(allocator).isolating = PfnRange::EMPTY;
        Cached::of(allocator).open_caches();
    }

    /// Visits each isolated extent of the area, ascending. The zone is locked once for each extent.
    fn each_isolated<M: Machine>(
        &self,
        allocator: &Allocator<M>,
        memmap: Seen<'_, M>,
        mut visit: impl FnMut(&mut Zone, Section<'_, M>, Pfn, Order),
    ) {
        let mut at = self.pfns.start;
        while at < self.pfns.end {
            let mut zone = self.lock(allocator);
            let Some((head, state)) = memmap.extent_of(at) else {
                at = memmap.skip(at);
                continue;
            };
            if let PageState::Isolated { order } = state
                && let Some(section) = memmap.known_section(head)
            {
                visit(&mut zone, section, head, order);
            }
            at = head.add(state.extent_pages());
        }
    }

    /// Frees the first of `moves`, which begin in the area: some, while the zone is locked once, and not those from one on
    /// that was refused, or that its owner has not got, or that is held. Returns how many.
    pub(super) fn free_some<M: Machine>(
        &self,
        allocator: &Allocator<M>,
        memmap: Seen<'_, M>,
        moves: &[Move],
    ) -> usize {
        let mut zone = self.lock(allocator);
        let Some(block) = memmap.known_record_of(self.pfns.start) else { return 0 };
        let mut freed = 0;
        for one in moves.iter().take(EXTENTS_PER_LOCK as usize) {
            let Extent { pfn, order, .. } = *one.from();
            let page = memmap.page(pfn);
            if one.is_refused() || !page.claim(order, Owner::Movable(one.mover())) {
                break;
            }
            if self.pfns.covers(PfnRange::new(pfn, order.pages())) {
                page.set_state(PageState::Isolated { order });
                zone.isolated += order.pages();
                block.free().add(order.pages());
            } else if let Some(section) = memmap.known_section(pfn) {
                free_extent(memmap, &mut zone, section, block, pfn, order);
            }
            freed += 1;
        }
        freed
    }

    /// Frees what is `owner`'s: what was claimed for it, or put offline.
    pub(crate) fn unclaim<M: Machine>(
        &self,
        allocator: &Allocator<M>,
        memmap: Seen<'_, M>,
        owner: Owner,
    ) {
        let mut rest = self.pfns;
        while let Some((pfn, pages)) = next_used(memmap, rest, owner) {
            rest.start = pfn.add(pages);
            if let Err(error) = allocator.free_of(pfn, |holder| holder == owner) {
                log::error!("an extent is not its owner's: {error}");
            }
        }
    }
}

/// The first extent of `rest`, in an online block, that `owner` has, and its pages.
pub(crate) fn next_used<M: Machine>(
    memmap: Seen<'_, M>,
    rest: PfnRange,
    owner: Owner,
) -> Option<(Pfn, u64)> {
    let mut extents = memmap.extents(rest);
    extents.find_map(|(pfn, pages, state)| match state {
        PageState::Used { owner: holder, .. } if holder == owner => Some((pfn, pages)),
        _ => None,
    })
}

impl<M: Machine> FreeLists<'_, M> {
    /// Isolates the extent that contains `at`, a page of `section`, if it is free, as far as it is in the area being
    /// emptied. Returns the start of the next extent.
    #[inline]
    fn isolate_at(&self, zone: &mut Zone, section: Option<Section<'_, M>>, at: Pfn) -> Pfn {
        // Each extent begins where the previous one ends.
        if let Some(section) = section
            && let Some(state) = section.believed(at).and_then(StateWord::of_head)
        {
            let Some(order) = state.free_order() else { return at.add(state.extent_pages()) };
            self.isolate_free(zone, section, at, order);
            return at.add(order.pages());
        }
        self.isolate_around(zone, at)
    }

    /// The same for a page at which no extent begins.
    #[inline(never)]
    fn isolate_around(&self, zone: &mut Zone, at: Pfn) -> Pfn {
        let Some((head, state)) = self.0.extent_of(at) else { return self.0.skip(at) };
        if let PageState::Free { order } = state
            && let Some(section) = self.0.section_at(head)
        {
            self.isolate_free(zone, section, head, order);
        }
        head.add(state.extent_pages())
    }

    /// Isolates a free extent, as far as it is in the area being emptied.
    fn isolate_free(&self, zone: &mut Zone, section: Section<'_, M>, head: Pfn, order: Order) {
        self.unlink(zone, head, order);
        zone.counts.free -= order.pages();
        self.set_isolated(zone, section, head, order);
    }

    /// Frees the part of a used extent outside of the area being emptied, and isolates the part inside. All of it
    /// counts as free in its block and zone already.
    pub(crate) fn release_isolated(
        &self,
        zone: &mut Zone,
        section: Section<'_, M>,
        pfn: Pfn,
        order: Order,
    ) {
        zone.counts.free -= order.pages();
        self.set_isolated(zone, section, pfn, order);
    }

    /// Isolates an extent that is on no list, as far as it is in the area being emptied.
    fn set_isolated(&self, zone: &mut Zone, section: Section<'_, M>, head: Pfn, order: Order) {
        let pfns = PfnRange::new(head, order.pages());
        if zone.isolating.covers(pfns) {
            section.page(head).set_state(PageState::Isolated { order });
            zone.isolated += order.pages();
        } else {
            section.clear_head(head, order);
            self.split_isolated(zone, pfns);
        }
    }

    /// Turns `pfns`, an extent without a head, into isolated extents inside the area being emptied and free ones
    /// outside.
    #[cold]
    fn split_isolated(&self, zone: &mut Zone, pfns: PfnRange) {
        let Some(inside) = zone.isolating.intersection(pfns) else { return };
        self.give_heads(inside, |order| PageState::Isolated { order });
        zone.isolated += inside.pages();
        for outside in [
            PfnRange { start: pfns.start, end: inside.start },
            PfnRange { start: inside.end, end: pfns.end },
        ] {
            self.insert_range(zone, outside);
            zone.counts.free += outside.pages();
        }
    }

    /// Divides `pfns`, which are in no extent, into extents.
    pub(crate) fn give_heads(&self, pfns: PfnRange, state: impl Fn(Order) -> PageState) {
        for (pfn, order) in self.0.cut(pfns) {
            let Some(section) = self.0.known_section(pfn) else { continue };
            if order < M::PART_ORDER {
                self.0.initialise_part(section, Section::<M>::part(pfn));
            }
            section.set_head(pfn, order, state(order));
        }
    }
}
