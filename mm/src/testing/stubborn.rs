//! An owner of pages that lets none go.

use crate::addr::Pfn;
use crate::alloc::migrate::{Extent, MovableOps, NotNow};

/// Holds on to every page: whoever keeps page numbers by hand wants them to stay right.
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
