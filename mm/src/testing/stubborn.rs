//! An owner of pages that refuses every migration.

use crate::addr::Pfn;
use crate::alloc::migrate::{Extent, MovableOps, NotNow};

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

    fn isolate(&self, _: &Extent) -> Result<(), NotNow> {
        Err(NotNow)
    }

    fn migrate(&self, _: &Extent, _: Pfn) -> Result<(), NotNow> {
        Err(NotNow)
    }

    fn putback(&self, _: &Extent) {}
}
