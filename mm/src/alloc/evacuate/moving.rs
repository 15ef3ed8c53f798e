//! The part of an evacuation that migrates extents: batches are gathered and carried out, and extents divided.

use super::{Evacuation, Phase, Stuck, extent};
use crate::addr::{Order, Pfn, PfnRange};
use crate::alloc::Allocator;
use crate::alloc::Waits;
use crate::alloc::budget::Budget;
use crate::alloc::in_parts::InParts;
use crate::alloc::migrate::Extent;
use crate::alloc::moves::Batch;
use crate::machine::Machine;
use crate::memmap::page::{MoverId, Owner, PageState};
use crate::memmap::seen::Seen;

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
        Waits::of(allocator).call(|| batch.carry_out(allocator, memmap, &self.area));
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
        let mut steps = 0;
        while self.at < self.area.pfns.end && !budget.is_over() && batch.fits::<M>(wanted) {
            steps += self.collect(allocator, memmap, wanted, budget, batch);
            let Some((from, mover)) = batch.aim(allocator, memmap, self.area.node) else {
                continue;
            };
            // Those after it are examined again.
            let again = PfnRange { start: from.pfn, end: self.at };
            steps = steps.saturating_sub(memmap.extents(again).count() as u64);
            self.at = from.pfn;
            if !allocator.owners.splits(mover) {
                return Err(Stuck::NoRoom(from.order));
            }
            if !batch.moves().is_empty() {
                // The others move first.
                break;
            }
            if !self.divide(allocator, memmap, from, mover) {
                return Err(Stuck::NoRoom(from.order));
            }
            self.at = from.pfn.add(from.order.pages());
            steps += 1;
        }
        Ok(steps)
    }

    /// Adds some of the next extents to a batch, those of an order. Returns the number of extents that were examined.
    fn collect<M: Machine>(
        &mut self,
        allocator: &Allocator<M>,
        memmap: Seen<'_, M>,
        wanted: Order,
        budget: &mut Budget,
        batch: &mut Batch,
    ) -> u64 {
        let divides = matches!(self.phase, Phase::MoveDivisible(_));
        let (mut known, mut left) = (None, *budget);
        let mut look = self.look(allocator, memmap, u64::MAX);
        while let Some((pfn, state)) = look.peek() {
            let mover = match known {
                Some((same, mover)) if same == state => Some(mover),
                _ => match state.used() {
                    Some((order, Owner::Movable(mover)))
                        if order == wanted && allocator.owners.splits(mover) == divides =>
                    {
                        known = Some((state, mover));
                        Some(mover)
                    }
                    _ => None,
                },
            };
            if let Some(mover) = mover {
                if !batch.fits::<M>(wanted) || !left.allows(wanted.pages()) {
                    break;
                }
                if state.is_held() {
                    self.note_held(pfn, Owner::Movable(mover));
                    left.spend(1);
                } else {
                    batch.add(extent(memmap, pfn, wanted), mover);
                    // A large one costs as much as is done of it.
                    left.spend(if Batch::is_large::<M>(wanted) { 0 } else { wanted.pages() });
                }
            } else if left.is_over() {
                break;
            } else {
                left.spend(1);
            }
            look.pass();
        }
        *budget = left;
        self.looked(look)
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
