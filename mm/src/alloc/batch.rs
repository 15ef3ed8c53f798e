//! Moves batches of pages between a zone and a cache.

// UNSAFETY: vouches for the pages in a locked cache.
#![expect(unsafe_code)]

use crate::addr::{Order, Pfn, PfnRange};
use crate::alloc::Allocator;
use crate::alloc::cache::{Cache, CacheGuard};
use crate::alloc::class::{Class, MAX_BATCH};
use crate::alloc::list::{List, Taken};
use crate::alloc::lists::{FreeLists, free_extent};
use crate::alloc::node::NodeId;
use crate::alloc::zone::{Zone, ZoneKind};
use crate::impossible::impossible;
use crate::machine::Machine;
use crate::memmap::page::PageState;
use crate::memmap::seen::Seen;
use core::ops::Deref;

/// A batch takes at most this fraction of a zone's free pages, so that a CPU leaves pages for others.
const SHARE: u64 = 8;
/// Extents that are taken or freed while the zone is locked once, and those of a run that has begun: other CPUs wait for
/// the lock, and each extent may be split from, or merge up to, the size of a block.
const EXTENTS_PER_LOCK: u64 = 4;

/// The caching side of an allocator: batches, draining, the path of a page to a user and back.
#[derive(Debug)]
pub(crate) struct Cached<'m, M: Machine>(pub(super) &'m Allocator<M>);

impl<M: Machine> Deref for Cached<'_, M> {
    type Target = Allocator<M>;

    #[inline]
    fn deref(&self) -> &Allocator<M> {
        self.0
    }
}

impl<'m, M: Machine> Cached<'m, M> {
    #[inline]
    pub(crate) const fn of(allocator: &'m Allocator<M>) -> Self {
        Self(allocator)
    }

    /// Locks a cache, together with the memmap of its pages.
    #[inline]
    pub(super) fn opened<'c>(
        &'c self,
        guard: &'c mut CacheGuard<'_, M::Lock>,
    ) -> (&'c mut Cache, Seen<'c, M>) {
        // SAFETY: the guard is borrowed for as long, so the cache stays locked: its pages stay in it, and the blocks
        // of cached pages stay online.
        (guard, unsafe { Seen::vouched(&self.memmap) })
    }

    /// Takes a batch from a zone into an empty list, or as much of it as the zone can spare: at least one extent, if
    /// the zone has one that may be cached. If it has only small ones, the zone is locked again after some of them; the
    /// cache is locked all the time.
    pub(super) fn refill(&self, cache: &mut Cache, node: NodeId, kind: ZoneKind, class: Class) {
        let order = class.order::<M>();
        let mut left = None;
        loop {
            let mut guard = self.nodes.lock(node, kind);
            let (zone, memmap) = self.locked(&mut guard);
            let spare = zone.counts().free / SHARE / order.pages();
            let mut wanted = left.unwrap_or_else(|| spare.clamp(1, class.batch()));
            for _ in 0..EXTENTS_PER_LOCK {
                let list = cache.list(kind, class);
                let taken = self.take_some(memmap, zone, list, order, wanted);
                if taken == 0 {
                    return;
                }
                cache.count_came(class, taken);
                wanted -= taken;
                if wanted == 0 {
                    return;
                }
            }
            left = Some(wanted);
        }
    }

    /// Takes an extent, up to `wanted` extents of `order`: the smallest, if small ones make up a whole batch, or else the
    /// smallest that is as large as the pieces of a batch are. Were small ones taken first each time, a larger one would be split for the
    /// rest, its remains would begin the next batch, and so on: no batch would be one extent. Returns their number.
    fn take_some(
        &self,
        memmap: Seen<'_, M>,
        zone: &mut Zone,
        list: &mut List,
        order: Order,
        wanted: u64,
    ) -> u64 {
        let lists = FreeLists::of(memmap);
        let largest = largest_piece::<M>(order, wanted);
        let few = zone.has_few_in(order..largest, wanted << order.get());
        let whole = if few { lists.pick(zone, largest) } else { None };
        let Some((size, pfn)) = whole.or_else(|| lists.pick(zone, order)) else { return 0 };
        let piece = largest.min(size);
        if self.caches.closing.is_closed(pfn, piece) {
            return 0;
        }
        let Some(section) = lists.take_piece(zone, (size, pfn), piece, order) else { return 0 };
        let count = piece.pages() / order.pages();
        if count == 1 {
            section.set_head(pfn, order, PageState::Cached { order });
            list.push(memmap, pfn);
        } else {
            list.push_run(memmap, PfnRange::new(pfn, piece.pages()), order);
        }
        count
    }

    /// Returns a list that was taken out of a cache to its zone: neighbours in one piece, so that a batch that came
    /// from one extent costs little more than that extent.
    pub(super) fn give_back(
        &self,
        memmap: Seen<'_, M>,
        taken: &Taken,
        node: NodeId,
        kind: ZoneKind,
        class: Class,
    ) {
        let (mut pfns, mut count) = ([0; MAX_BATCH], 0);
        for (slot, pfn) in pfns.iter_mut().zip(taken.iter(memmap)) {
            *slot = pfn.get();
            count += 1;
        }
        let pfns = &mut pfns[..count];
        pfns.sort_unstable();
        let pages = class.order::<M>().pages();
        let mut rest = &*pfns;
        while !rest.is_empty() {
            let mut guard = self.nodes.lock(node, kind);
            let (zone, memmap) = self.locked(&mut guard);
            let mut freed = 0;
            while let Some(&first) = rest.first()
                && freed < EXTENTS_PER_LOCK
            {
                let next = rest.windows(2).take_while(|pair| pair[1] == pair[0] + pages);
                let count = 1 + next.count();
                let run = PfnRange::new(Pfn::new(first), count as u64 * pages);
                freed += self.free_run(memmap, zone, run, class.order::<M>());
                rest = &rest[count..];
            }
        }
    }

    /// Frees adjacent extents of `order` that are on no list, as few large ones as possible within a subsection.
    /// Returns their number.
    fn free_run(&self, memmap: Seen<'_, M>, zone: &mut Zone, run: PfnRange, order: Order) -> u64 {
        let (mut at, mut freed) = (run.start, 0);
        while at < run.end {
            let rest = PfnRange { start: at, end: run.end };
            let size = largest_at::<M>(rest).max(order);
            // Only the first is still a head: it becomes the head of a free extent.
            for index in 1..size.pages() >> order.get() {
                memmap.page(at.add(index << order.get())).set_state(PageState::Tail);
            }
            if let (Some(section), Some(block)) =
                (memmap.known_section(at), memmap.known_record_of(at))
            {
                if order < M::PART_ORDER && size == M::PART_ORDER {
                    // An extent of a subsection: the first page was the head of a smaller one.
                    section.set_head(at, size, PageState::Cached { order: size });
                }
                free_extent(memmap, zone, section, block, at, size);
            }
            at = at.add(size.pages());
            freed += 1;
        }
        freed
    }

    /// Empties one non-empty list of a cache into its zone; returns `false` if all are empty.
    pub(super) fn drain_list(&self, memmap: Seen<'_, M>, cache: &mut Cache) -> bool {
        let Some((kind, class, taken)) = cache.stocked() else { return false };
        match cache.node() {
            Some(node) => self.give_back(memmap, &taken, node, kind, class),
            None => impossible("a cache without a node holds pages", 0),
        }
        true
    }
}

/// The largest piece for at most `wanted` extents of `order`: one of them, or several within a subsection, all of whose
/// descriptors then hold a state.
pub(super) fn largest_piece<M: Machine>(order: Order, wanted: u64) -> Order {
    let several = Order::new(order.get() + wanted.ilog2() as u8).unwrap_or(Order::MAX);
    several.min(M::PART_ORDER).max(order)
}

/// The largest extent at the start of `pfns` within a subsection: all its descriptors hold a state.
fn largest_at<M: Machine>(pfns: PfnRange) -> Order {
    let aligned = Order::new(pfns.start.get().trailing_zeros() as u8).unwrap_or(Order::MAX);
    Order::fitting(pfns.pages()).min(aligned).min(M::PART_ORDER)
}
