//! The use step as an owner of movable pages: it keeps their numbers, so they must not move while it runs.

use hotmem::{Extent, MovableOps, Move};

/// Pages that the use step is writing to.
#[derive(Debug)]
pub(super) struct Held;

impl MovableOps for Held {
    fn name(&self) -> &'static str {
        "use"
    }

    fn pinned(&self, _: &Extent) -> bool {
        true
    }

    fn isolate(&self, moves: &[Move]) {
        moves.iter().for_each(Move::refuse);
    }

    fn migrate(&self, moves: &[Move]) {
        moves.iter().for_each(Move::refuse);
    }
}
