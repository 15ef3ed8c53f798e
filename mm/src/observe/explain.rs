//! Predicts whether memory can be removed, without changing it.
//!
//! The prediction is the outcome of a remove of the range now, after its online blocks go offline: it holds as long
//! as no page is allocated or freed. Listeners are not called, since a call may have side effects; an owner that is
//! busy at the moment counts as willing to migrate.
//!
//! Whether there is room is decided by counting. A migration target is always the smallest free extent that fits, so
//! no large extent is split while a small one suffices; then the extents to migrate fit, in any order, exactly if
//! they fit largest first. Those that their owner divides migrate last, and fit if as many pages are left.

use crate::addr::{Order, Pfn, PfnRange, PhysRange};
use crate::alloc::batch::Cached;
use crate::alloc::buddy::since;
use crate::alloc::evacuate::extent;
use crate::alloc::migrate::Extent;
use crate::alloc::zone::ZoneKind;
use crate::machine::Machine;
use crate::memmap::block::{BlockId, BlockState};
use crate::memmap::page::{MoverId, Owner, PageState};
use crate::memmap::seen::Seen;
use crate::observe::View;
use crate::operations::RemoveError;
use crate::operations::remove::check_removable;
use core::fmt;

/// Whether memory can be removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removability {
    /// At once: no page is in use.
    Now,
    /// After these migrations.
    AfterMoving {
        /// Extents to migrate; one that must be divided counts once.
        extents: u64,
        /// Their pages.
        pages: u64,
    },
    /// Not in the present state.
    Blocked(Obstacle),
}

/// The reason why memory cannot be removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Obstacle {
    /// The range cannot be removed in this way, whatever its contents.
    Range(RemoveError),
    /// A block is system memory.
    SystemMemory(BlockId),
    /// A page is unmovable, or its owner declares it pinned.
    InUse {
        /// The first page of the extent.
        pfn: Pfn,
        /// Its block.
        block: BlockId,
        /// Its owner.
        owner: Owner,
        /// The owner's name: a movable owner's or a user's own, or the kind of owner.
        by: &'static str,
        /// The value of [`Machine::stamp`] when it was allocated.
        since: u64,
    },
    /// There is no room elsewhere for the extents to migrate.
    NoRoom {
        /// The size with too few free extents.
        order: Order,
    },
}

impl fmt::Display for Removability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Now => f.write_str("removable now"),
            Self::AfterMoving { extents, pages } => {
                write!(f, "removable after {extents} migrations of {pages} pages")
            }
            Self::Blocked(obstacle) => write!(f, "blocked: {obstacle}"),
        }
    }
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Range(error) => error.fmt(f),
            Self::SystemMemory(id) => write!(f, "{id} is system memory"),
            Self::InUse { pfn, block, by, since, .. } => {
                write!(f, "{pfn} of {block} is held by {by} since {since}")
            }
            Self::NoRoom { order } => {
                write!(f, "too few free extents of {} pages elsewhere", order.pages())
            }
        }
    }
}

/// Extents by order: those to migrate, and those that are free elsewhere.
#[derive(Default)]
struct Balance {
    needed: [u64; Order::COUNT],
    /// Those among them that are not divided.
    whole: [u64; Order::COUNT],
    free: [u64; Order::COUNT],
}

impl Balance {
    /// The largest order with too few free extents; the rest of a larger extent serves smaller ones.
    fn shortage(&self) -> Option<Order> {
        let mut free: u64 = 0;
        (0..Order::COUNT as u8).rev().filter_map(Order::new).find(|order| {
            let index = order.get() as usize;
            free = free.saturating_mul(2).saturating_add(self.free[index]);
            let short = self.whole[index] > free;
            free = free.saturating_sub(self.whole[index]);
            short
        })
    }

    /// Whether there are too few free pages for all extents.
    fn is_short(&self) -> bool {
        pages_of(&self.needed) > pages_of(&self.free)
    }

    fn verdict(&self) -> Removability {
        if let Some(order) = self.shortage() {
            return Removability::Blocked(Obstacle::NoRoom { order });
        }
        if self.is_short() {
            return Removability::Blocked(Obstacle::NoRoom { order: Order::ZERO });
        }
        match self.needed.iter().sum() {
            0 => Removability::Now,
            extents => Removability::AfterMoving { extents, pages: pages_of(&self.needed) },
        }
    }
}

/// The pages of extents that are counted by order.
fn pages_of(extents: &[u64; Order::COUNT]) -> u64 {
    (0_u32..).zip(extents).map(|(order, count)| count << order).sum()
}

impl<M: Machine> View<'_, M> {
    /// See [`Mm::check_remove`](crate::Mm::check_remove).
    pub(crate) fn check_remove(&self, range: PhysRange) -> Result<(), RemoveError> {
        self.look(|memmap| check_removable(memmap, range)).map(drop)
    }

    /// See [`Mm::explain_remove`](crate::Mm::explain_remove).
    pub(crate) fn explain_remove(&self, range: PhysRange) -> Removability {
        if let Err(error) = self.check_remove(range) {
            return Removability::Blocked(Obstacle::Range(error));
        }
        // Memory of others in the same blocks goes offline, too.
        let ids = self.allocator.memmap.blocks_in(range);
        self.explain(
            ids.fold(PfnRange::EMPTY, |all, id| all.hull(self.allocator.memmap.block_pfns(id))),
        )
    }

    /// See [`Mm::explain_offline`](crate::Mm::explain_offline).
    pub(crate) fn explain_offline(&self, id: BlockId) -> Removability {
        if self.allocator.memmap.block(id).is_none() {
            return Removability::Blocked(Obstacle::Range(RemoveError::NoSuchBlock(id)));
        }
        self.explain(self.allocator.memmap.block_pfns(id))
    }

    /// Whether the blocks of `pfns` that are online could all go offline.
    fn explain(&self, pfns: PfnRange) -> Removability {
        // Cached pages are free, and merge.
        Cached::of(self.allocator).drain_caches();
        let mut balance = Balance::default();
        for zone in self.zones() {
            balance.free.iter_mut().zip(zone.extents).for_each(|(sum, count)| *sum += count);
        }
        let mut rest = pfns;
        loop {
            // The owner is called after the look, since it may look, too.
            match self.look(|memmap| self.weigh(*memmap, &mut rest, &mut balance)) {
                Err(obstacle) => return Removability::Blocked(obstacle),
                Ok(None) => return balance.verdict(),
                Ok(Some((extent, mover, obstacle))) => {
                    if self.allocator.is_pinned(&extent, mover) {
                        return Removability::Blocked(obstacle);
                    }
                    let index = extent.order.get() as usize;
                    balance.needed[index] += 1;
                    balance.whole[index] += u64::from(!self.allocator.owners.splits(mover));
                }
            }
        }
    }

    /// Counts the free extents of `rest` up to the first movable extent, which is returned with the obstacle to
    /// report if it is pinned. `rest` is then the remainder.
    fn weigh(
        &self,
        memmap: Seen<'_, M>,
        rest: &mut PfnRange,
        balance: &mut Balance,
    ) -> Result<Option<(Extent, MoverId, Obstacle)>, Obstacle> {
        while rest.start < rest.end {
            let id = self.allocator.memmap.block_at(M::address(rest.start));
            let end = self.allocator.memmap.block_pfns(id).end;
            let state = memmap.describe_block(id).map(|block| block.state);
            if state == Some(BlockState::Online(ZoneKind::System)) {
                return Err(Obstacle::SystemMemory(id));
            }
            let online = state.is_some_and(|state| state != BlockState::Offline);
            let here = PfnRange { start: rest.start, end: if online { end } else { rest.start } };
            for (pfn, pages, state) in memmap.extents(here) {
                rest.start = pfn.add(pages);
                match state {
                    // Pages freed in the meantime may not have been counted.
                    PageState::Free { order } => {
                        let free = &mut balance.free[order.get() as usize];
                        *free = free.saturating_sub(1);
                    }
                    PageState::Used { owner: Owner::Poison, .. } => {}
                    PageState::Used { order, owner } => {
                        let (by, since) =
                            (self.allocator.owners.name(owner), since(memmap.page(pfn)));
                        let obstacle = Obstacle::InUse { pfn, block: id, owner, by, since };
                        let Owner::Movable(mover) = owner else { return Err(obstacle) };
                        return Ok(Some((extent(memmap, pfn, order), mover, obstacle)));
                    }
                    _ => {}
                }
            }
            rest.start = end;
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(raw: u8) -> Order {
        Order::new(raw).unwrap()
    }

    #[test]
    fn larger_free_extents_serve_smaller_needs_but_not_the_reverse() {
        let mut balance = Balance::default();
        balance.free[3] = 1;
        (balance.needed[0], balance.whole[0]) = (8, 8);
        assert_eq!(balance.verdict(), Removability::AfterMoving { extents: 8, pages: 8 });
        (balance.needed[0], balance.whole[0]) = (9, 9);
        assert_eq!(balance.shortage(), Some(order(0)));
        let mut balance = Balance::default();
        balance.free[0] = 100;
        (balance.needed[1], balance.whole[1]) = (1, 1);
        assert_eq!(balance.shortage(), Some(order(1)));
    }

    #[test]
    fn the_largest_shortage_is_named() {
        let mut balance = Balance::default();
        (balance.needed[0], balance.whole[0]) = (1, 1);
        (balance.needed[7], balance.whole[7]) = (1, 1);
        assert_eq!(balance.shortage(), Some(order(7)));
        balance.free[8] = 1;
        assert_eq!(balance.verdict(), Removability::AfterMoving { extents: 2, pages: 129 });
    }

    #[test]
    fn extents_that_are_divided_fit_if_as_many_pages_are_left() {
        let mut balance = Balance::default();
        balance.needed[4] = 2;
        balance.free[0] = 31;
        assert_eq!(balance.verdict(), Removability::Blocked(Obstacle::NoRoom { order: order(0) }));
        balance.free[0] = 32;
        assert_eq!(balance.verdict(), Removability::AfterMoving { extents: 2, pages: 32 });
        (balance.needed[3], balance.whole[3]) = (1, 1);
        assert_eq!(balance.shortage(), Some(order(3)));
        balance.free[3] = 1;
        assert_eq!(balance.verdict(), Removability::AfterMoving { extents: 3, pages: 40 });
    }
}
