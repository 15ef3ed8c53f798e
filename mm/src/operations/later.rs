//! Bad pages that are noted where nothing else can be done with them.
//!
//! The handler of a machine check may have interrupted anything, so a slot is claimed by one compare-exchange
//! and nothing is ever waited for.

use crate::addr::Pfn;
use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};

/// Pages that can be noted at a time.
pub(super) const SLOTS: usize = 32;

/// Noted pages: a number plus one, or 0.
#[derive(Debug)]
pub(crate) struct Later([AtomicU64; SLOTS]);

/// No more bad pages can be noted before some are dealt with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueFull(
    /// The page that was not noted.
    pub Pfn,
);

impl fmt::Display for QueueFull {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SLOTS} bad pages are noted already, {} is not", self.0)
    }
}

impl core::error::Error for QueueFull {}

impl Later {
    pub(crate) const fn new() -> Self {
        Self([const { AtomicU64::new(0) }; SLOTS])
    }

    /// Notes a page, once.
    pub(super) fn put(&self, pfn: Pfn) -> Result<(), QueueFull> {
        let word = pfn.get().checked_add(1).ok_or(QueueFull(pfn))?;
        if self.0.iter().any(|slot| slot.load(Ordering::Relaxed) == word) {
            return Ok(());
        }
        // Relaxed: a slot says nothing of other memory.
        let claims = |slot: &AtomicU64| {
            slot.compare_exchange(0, word, Ordering::Relaxed, Ordering::Relaxed).is_ok()
        };
        if self.0.iter().any(claims) { Ok(()) } else { Err(QueueFull(pfn)) }
    }

    /// The pages that are noted.
    pub(super) fn iter(&self) -> impl Iterator<Item = Noted<'_>> {
        self.0.iter().filter_map(|slot| {
            let word = slot.load(Ordering::Relaxed);
            word.checked_sub(1).map(|pfn| Noted { slot, pfn: Pfn::new(pfn) })
        })
    }
}

/// A page that was noted when it was looked at.
pub(super) struct Noted<'l> {
    slot: &'l AtomicU64,
    pub(super) pfn: Pfn,
}

impl Noted<'_> {
    /// Forgets the page. Returns whether it was noted until now: another CPU may have dealt with it, too, and
    /// the slot may hold another page by now.
    pub(super) fn forget(self) -> bool {
        let word = self.pfn.get() + 1;
        self.slot.compare_exchange(word, 0, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}
