//! The part of an evacuation that migrates extents: batches are gathered and carried out, and extents divided.

use super::{Evacuation, Phase, Stuck, extent};
use crate::addr::{Order, Pfn};
use crate::alloc::Allocator;
use crate::alloc::Waits;
use crate::alloc::budget::Budget;
use crate::alloc::in_parts::InParts;
use crate::alloc::migrate::Extent;
use crate::alloc::moves::Batch;
use crate::machine::Machine;
use crate::memmap::page::{MoverId, Owner, PageState};
use crate::memmap::seen::Seen;

/// What became of an extent at the cursor.
enum Found {
    /// It was examined, for this many pages of the budget.
    Examined(u64),
    /// It comes next time: the cursor is at it.
    Later,
}

impl Evacuation {
    /// Migrates a batch of extents of an order. Returns the number of extents that were examined.
    #[inline(never)]
    pub(super) fn move_some<M: Machine>(
        &mut self,
        allocator: &Allocator<M>,
        memmap: Seen<'_, M>,
        order: Order,
        budget: &mut Budget,
    ) -> Result<u64, Stuck> {
        let mut batch = Batch::new(self.bad);
        let steps = match self.gather(allocator, memmap, order, budget, &mut batch) {
            Ok(steps) => steps,
            Err(stuck) => {
                batch.give_up(allocator);
                return Err(stuck);
            }
        };
        if batch.moves().is_empty() {
            return Ok(steps);
        }
        if let Some(one) = batch.take_large::<M>() {
            *allocator.in_parts.lock() = Some(InParts::new(one));
            self.go_on(allocator, memmap, budget);
            return Ok(steps);
        }
        // Migration changes nothing that looks rely on: it allocates and frees, as any CPU may do at the same time.
        Waits::of(allocator).call(|| batch.carry_out(allocator, memmap));
        for one in batch.moves() {
            if one.is_refused() {
                self.note_held(one.from().pfn, Owner::Movable(one.mover()));
            } else {
                self.moved += order.pages();
            }
        }
        Ok(steps)
    }

    /// Fills a batch with the next movable extents of an order. Returns the number of extents that were examined.
    fn gather<M: Machine>(
        &mut self,
        allocator: &Allocator<M>,
        memmap: Seen<'_, M>,
        wanted: Order,
        budget: &mut Budget,
        batch: &mut Batch,
    ) -> Result<u64, Stuck> {
        let divides = matches!(self.phase, Phase::MoveDivisible(_));
        let mut steps = 0;
        while self.at < self.area.pfns.end && !budget.is_over() && batch.fits::<M>(wanted) {
            let at = self.at;
            let found = match self.next_extent(allocator, memmap) {
                Some((pfn, PageState::Used { order, owner: Owner::Movable(mover) }))
                    if order == wanted && allocator.owners.splits(mover) == divides =>
                {
                    let from = extent(memmap, pfn, order);
                    self.found(allocator, memmap, (from, mover), budget, batch)?
                }
                _ => Found::Examined(1),
            };
            let Found::Examined(pages) = found else {
                self.at = at;
                break;
            };
            budget.spend(pages);
            steps += 1;
        }
        Ok(steps)
    }

    /// Adds an extent to a batch, or has it divided if there is no room for it.
    fn found<M: Machine>(
        &mut self,
        allocator: &Allocator<M>,
        memmap: Seen<'_, M>,
        (from, mover): (Extent, MoverId),
        budget: &mut Budget,
        batch: &mut Batch,
    ) -> Result<Found, Stuck> {
        if !budget.allows(from.order.pages()) {
            return Ok(Found::Later);
        }
        if memmap.page(from.pfn).is_held() {
            self.note_held(from.pfn, Owner::Movable(mover));
            return Ok(Found::Examined(1));
        }
        if batch.add(allocator, memmap, self.area.node, from, mover) {
            // A large one costs as much as is done of it.
            let large = Batch::is_large::<M>(from.order);
            return Ok(Found::Examined(if large { 0 } else { from.order.pages() }));
        }
        if !allocator.owners.splits(mover) {
            return Err(Stuck::NoRoom(from.order));
        }
        if !batch.moves().is_empty() {
            // The others move first.
            return Ok(Found::Later);
        }
        let divided = self.divide(allocator, memmap, from, mover);
        if divided { Ok(Found::Examined(1)) } else { Err(Stuck::NoRoom(from.order)) }
    }

    /// Has an owner divide an extent. Returns whether it did.
    fn divide<M: Machine>(
        &mut self,
        allocator: &Allocator<M>,
        memmap: Seen<'_, M>,
        from: Extent,
        mover: MoverId,
    ) -> bool {
        let Some(ops) = allocator.owners.mover(mover) else { return false };
        let zone = || allocator.nodes.lock(self.area.node, self.area.kind);
        zone().dividing = Some(from.pfn);
        let agrees = Waits::of(allocator).call(|| ops.split(&from));
        let mut zone = zone();
        zone.dividing = None;
        let found = memmap.extent_of(from.pfn);
        let whole = found.is_some_and(
            |(_, state)| matches!(state, PageState::Used { order, .. } if order >= from.order),
        );
        // Parts have any smaller size.
        self.divisible |= (1 << from.order.get()) - 1;
        agrees && !whole
    }

    /// Notes an extent that was not released in this pass: the first counts.
    pub(super) fn note_held(&mut self, pfn: Pfn, owner: Owner) {
        self.held = self.held.filter(|&(first, _)| first <= pfn).or(Some((pfn, owner)));
    }
}
