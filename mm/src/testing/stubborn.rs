//! An owner of pages that refuses every migration.

use crate::alloc::migrate::{Extent, MovableOps, Move};

/// Refuses every migration: the caller keeps page numbers, which must stay valid.
#[derive(Debug)]
pub struct Stubborn;

impl MovableOps for Stubborn {
    fn name(&self) -> &'static str {
        "stubborn"
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
