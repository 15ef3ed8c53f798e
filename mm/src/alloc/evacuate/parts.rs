//! An extent that moves in parts: copied ahead while its owner uses it, moved, cleared behind.
//!
//! ```text
//!   Ahead: copy_ahead, ... --last--> isolate, migrate --> Behind: clear_behind, ... --last--> freed
//! ```
//!
//! One extent at a time, of the operation under way, or of the offline between whose steps other code runs.

use super::Evacuation;
use crate::alloc::Allocator;
use crate::alloc::Waits;
use crate::alloc::budget::Budget;
use crate::alloc::in_parts::{InParts, Stage};
use crate::alloc::migrate::{MOST_AHEAD, MovableOps, Move, Part};
use crate::alloc::moves::{give_back, migrate};
use crate::machine::Machine;
use crate::memmap::page::Owner;
use crate::memmap::seen::Seen;

/// How a part ended.
enum Ended {
    /// There is more to do.
    More(InParts),
    /// The extent was moved, or is free.
    Moved(Move),
    /// The owner refused.
    Refused(Move),
}

impl InParts {
    /// Does a part, of about as many pages as are left of a budget.
    fn part<M: Machine>(
        self,
        allocator: &Allocator<M>,
        memmap: Seen<'_, M>,
        budget: &mut Budget,
    ) -> Ended {
        let Some(ops) = allocator.owners.mover(self.one.mover()) else {
            return self.refused(allocator);
        };
        match self.stage {
            Stage::Ahead => self.ahead(allocator, memmap, ops, budget),
            Stage::Behind => self.behind(allocator, ops, budget),
        }
    }

    fn ahead<M: Machine>(
        mut self,
        allocator: &Allocator<M>,
        memmap: Seen<'_, M>,
        ops: &dyn MovableOps,
        budget: &mut Budget,
    ) -> Ended {
        let pages = self.one.from().order.pages();
        let part = ops.copy_ahead(&self.one, budget.left());
        self.copied += part.pages.max(u64::from(!part.last));
        if self.one.is_refused() {
            budget.spend(part.pages.max(1));
            return self.refused(allocator);
        }
        if !part.last && self.copied < MOST_AHEAD * pages {
            budget.spend(part.pages.max(1));
            return Ended::More(self);
        }
        migrate(allocator, memmap, ops, core::slice::from_mut(&mut self.one));
        // What was not copied ahead is copied now.
        budget.spend(if self.copied == 0 { pages } else { part.pages.max(1) });
        if self.one.is_refused() {
            self.refused(allocator)
        } else if self.copied == 0 {
            self.moved(allocator)
        } else {
            self.stage = Stage::Behind;
            Ended::More(self)
        }
    }

    fn behind<M: Machine>(
        mut self,
        allocator: &Allocator<M>,
        ops: &dyn MovableOps,
        budget: &mut Budget,
    ) -> Ended {
        let Part { pages, last } = ops.clear_behind(&self.one, budget.left());
        budget.spend(pages.max(1));
        self.cleared += pages.max(1);
        let over = self.cleared >= MOST_AHEAD * self.one.from().order.pages();
        if last || over { self.moved(allocator) } else { Ended::More(self) }
    }

    fn moved<M: Machine>(self, allocator: &Allocator<M>) -> Ended {
        give_back(allocator, &self.one, self.one.from().pfn);
        Ended::Moved(self.one)
    }

    fn refused<M: Machine>(self, allocator: &Allocator<M>) -> Ended {
        give_back(allocator, &self.one, self.one.to());
        Ended::Refused(self.one)
    }

    /// Ends it early: the extent stays in use where it is, or where it has moved to.
    fn give_up<M: Machine>(self, allocator: &Allocator<M>) {
        let ops = allocator.owners.mover(self.one.mover());
        match self.stage {
            Stage::Ahead => {
                ops.into_iter().for_each(|ops| ops.abandon(&self.one));
                _ = self.refused(allocator);
            }
            Stage::Behind => {
                ops.into_iter().for_each(|ops| _ = ops.clear_behind(&self.one, u64::MAX));
                _ = self.moved(allocator);
            }
        }
    }
}

impl Evacuation {
    /// Does a part of the move that is under way.
    #[inline(never)]
    pub(super) fn go_on<M: Machine>(
        &mut self,
        allocator: &Allocator<M>,
        memmap: Seen<'_, M>,
        budget: &mut Budget,
    ) {
        let under_way = allocator.in_parts.lock().take();
        self.in_parts = false;
        let Some(under_way) = under_way else { return };
        match Waits::of(allocator).call(|| under_way.part(allocator, memmap, budget)) {
            Ended::More(under_way) => {
                *allocator.in_parts.lock() = Some(under_way);
                self.in_parts = true;
            }
            Ended::Moved(one) => self.moved += one.from().order.pages(),
            Ended::Refused(one) => self.note_held(one.from().pfn, Owner::Movable(one.mover())),
        }
    }
}

/// Ends the move in parts that is under way, if there is one: its operation ends early.
pub(crate) fn give_up<M: Machine>(allocator: &Allocator<M>) {
    let under_way = allocator.in_parts.lock().take();
    if let Some(under_way) = under_way {
        Waits::of(allocator).call(|| under_way.give_up(allocator));
    }
}

#[cfg(test)]
mod tests;
