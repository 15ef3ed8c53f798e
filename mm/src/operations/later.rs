//! Bad pages that are queued when they cannot be handled at once.
//!
//! The handler of a machine check may have interrupted any code, so a slot is claimed by one compare-exchange,
//! without any wait.

use crate::addr::Pfn;
use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};

/// Pages that can be queued at a time.
pub(super) const SLOTS: usize = 32;

/// Queued pages: a number plus one, or 0.
#[derive(Debug)]
pub(crate) struct Later([AtomicU64; SLOTS]);

/// The queue is full until some pages are handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueFull(
    /// The page that was not queued.
    pub Pfn,
);

impl fmt::Display for QueueFull {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SLOTS} bad pages are queued already, no room for {}", self.0)
    }
}

impl core::error::Error for QueueFull {}

impl Later {
    pub(crate) const fn new() -> Self {
        Self([const { AtomicU64::new(0) }; SLOTS])
    }

    /// Queues a page, once.
    pub(super) fn put(&self, pfn: Pfn) -> Result<(), QueueFull> {
        let word = pfn.get().checked_add(1).ok_or(QueueFull(pfn))?;
        if self.0.iter().any(|slot| slot.load(Ordering::Relaxed) == word) {
            return Ok(());
        }
        // Relaxed: a slot orders no other memory.
        let claims = |slot: &AtomicU64| {
            slot.compare_exchange(0, word, Ordering::Relaxed, Ordering::Relaxed).is_ok()
        };
        if self.0.iter().any(claims) { Ok(()) } else { Err(QueueFull(pfn)) }
    }

    /// The queued pages.
    pub(super) fn iter(&self) -> impl Iterator<Item = Noted<'_>> {
        self.0.iter().filter_map(|slot| {
            let word = slot.load(Ordering::Relaxed);
            word.checked_sub(1).map(|pfn| Noted { slot, pfn: Pfn::new(pfn) })
        })
    }
}

/// A page that was queued when the queue was read.
pub(super) struct Noted<'l> {
    slot: &'l AtomicU64,
    pub(super) pfn: Pfn,
}

impl Noted<'_> {
    /// Removes the page. Returns whether it was still queued: another CPU may have handled it, too, and the slot may
    /// hold another page now.
    pub(super) fn forget(self) -> bool {
        let word = self.pfn.get() + 1;
        self.slot.compare_exchange(word, 0, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}
