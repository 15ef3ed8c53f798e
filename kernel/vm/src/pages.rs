//! The owner of the pages of guests. What a move leaves behind is cleared after the guests go on.

use crate::Shared;
use crate::host::Host;
use crate::platform::Platform;
use crate::space::Space;
use crate::switch;
use crate::word::PageWord;
use hotmem::{MovableOps, Move};

/// The owner.
#[derive(Debug)]
pub(crate) struct PageOwner<M: Shared, P: Platform>(pub(crate) &'static Host<M, P>);

/// The guest that the extent of a move belongs to.
fn guest(one: &Move) -> u16 {
    PageWord::decode(one.from().private).vm
}

impl<M: Shared, P: Platform> PageOwner<M, P> {
    /// Calls `each` for every guest that has an extent in `moves`, with its number. The extents of a guest that does
    /// not exist are refused.
    fn for_each_guest(&self, moves: &[Move], each: impl Fn(&mut Space<M, P>, u16)) {
        for (at, one) in moves.iter().enumerate() {
            let number = guest(one);
            let before = moves.get(..at).unwrap_or_default();
            if before.iter().any(|one| guest(one) == number) {
                continue;
            }
            let found = self.0.with_space(number, |space| each(space, number));
            if found.is_none() {
                of(moves, number).for_each(Move::refuse);
            }
        }
    }
}

/// The extents of a guest that were not refused.
fn of(moves: &[Move], number: u16) -> impl Iterator<Item = &Move> + Clone {
    moves.iter().filter(move |one| guest(one) == number && !one.is_refused())
}

impl<M: Shared, P: Platform> MovableOps for PageOwner<M, P> {
    fn name(&self) -> &'static str {
        "guest"
    }

    fn isolate(&self, moves: &[Move]) {
        self.0.count_batch();
        self.for_each_guest(moves, |space, number| space.break_batch(of(moves, number)));
        if moves.iter().all(Move::is_refused) {
            // Nothing is migrated.
            self.0.count_batch();
        }
    }

    fn migrate(&self, moves: &[Move]) {
        // Without a lock: no guest has a translation for the extents or their targets.
        for one in moves.iter().filter(|one| !one.is_refused()) {
            switch::copy::<M, P>(self.0.mm, one);
        }
        self.for_each_guest(moves, |space, number| space.map_batch(of(moves, number)));
        // The guests go on.
        self.0.count_batch();
        if self.0.scrubs() {
            moves.iter().for_each(|one| switch::clear_unused(self.0.mm, one));
        }
    }
}
