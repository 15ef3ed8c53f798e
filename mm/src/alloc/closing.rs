//! The range that no cache may hold: a CPU that caches pages and an operation that empties a range agree on it.
//!
//! ```text
//!   operation   close        which caches are used? -> lock each, drain it
//!   CPU         lock its cache, note that it is used; is it closed? -> keep it, or not; unlock
//! ```
//!
//! A CPU that locks its cache after the operation did sees the closed range. What a CPU kept that locked its cache before,
//! the operation drains, if it sees that the cache is used. It does, or the CPU sees the closed range.
//!
//! A snapshot closes all memory, in addition: it takes its facts one after the other, and pages that enter a cache
//! meanwhile would be missing in those that come later.

use crate::addr::{Order, Pfn, PfnRange};
use crate::sync::{AtomicU64, AtomicUsize, Ordering, array, constant, fence};
use core::ops::Range;

/// The caches that are used, and the range that is closed to all of them.
#[derive(Debug)]
pub(crate) struct Closing {
    /// One past the last CPU whose cache was ever used.
    used: AtomicUsize,
    /// First frame and end of the closed range: it is being emptied, or its descriptors move.
    closed: [AtomicU64; 2],
    /// [`RANGE`] if that range has pages, and [`ALL`] for each snapshot under way.
    reasons: AtomicUsize,
}

/// A range is closed.
const RANGE: usize = 1;
/// All memory is closed, once.
const ALL: usize = 2;

impl Closing {
    constant! {
        pub(crate) fn new() -> Self {
            let closed = array![AtomicU64::new(0); 2];
            Self { used: AtomicUsize::new(0), closed, reasons: AtomicUsize::new(0) }
        }
    }

    /// The CPUs whose caches may hold something.
    pub(crate) fn used(&self) -> Range<usize> {
        0..self.used.load(Ordering::Relaxed)
    }

    /// Notes, with the cache of `cpu` locked, that it is used from now on.
    pub(crate) fn note_used(&self, cpu: usize) {
        self.used.fetch_max(cpu + 1, Ordering::Relaxed);
        // Partner of the fences in `close` and `close_all`: either that sees this CPU, or this CPU sees the closed range.
        fence(Ordering::SeqCst);
    }

    /// From now on no page of `pfns` enters a cache whose lock is taken after this. Returns the range closed before.
    pub(crate) fn close(&self, pfns: PfnRange) -> PfnRange {
        let before = self.closed();
        self.closed[0].store(pfns.start.get(), Ordering::Relaxed);
        self.closed[1].store(pfns.end.get(), Ordering::Relaxed);
        match pfns.pages() {
            0 => self.reasons.fetch_and(!RANGE, Ordering::Relaxed),
            _ => self.reasons.fetch_or(RANGE, Ordering::Relaxed),
        };
        fence(Ordering::SeqCst);
        before
    }

    /// Closes all memory, until [`open_all`](Self::open_all), in addition to any range.
    pub(crate) fn close_all(&self) {
        self.reasons.fetch_add(ALL, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// Ends one [`close_all`](Self::close_all).
    pub(crate) fn open_all(&self) {
        // Release: the snapshot has read its facts before a page enters a cache.
        self.reasons.fetch_sub(ALL, Ordering::Release);
    }

    /// Closes `pfns`, and calls `drain` for every cache that is used; `drain` locks it.
    pub(crate) fn close_and_drain(&self, pfns: PfnRange, drain: impl FnMut(usize)) {
        self.close(pfns);
        self.used().for_each(drain);
    }

    /// Closes the range that was closed `before`, and opens the rest. `pass` locks each of the caches and unlocks it: a
    /// CPU that finds a page open that was closed has locked its cache after that, so it sees what the operation did to
    /// the page.
    pub(crate) fn reopen(&self, before: PfnRange, cpus: Range<usize>, pass: impl FnMut(usize)) {
        cpus.for_each(pass);
        self.close(before);
    }

    /// The closed range.
    pub(crate) fn closed(&self) -> PfnRange {
        let [start, end] = &self.closed;
        let [start, end] = [start, end].map(|word| Pfn::new(word.load(Ordering::Relaxed)));
        PfnRange { start, end }
    }

    /// Whether a page of an extent is closed. Called with the cache locked that the extent would go to: an operation that
    /// closes a range takes that lock afterwards, and so drains what a CPU cached that did not see the range yet.
    #[inline]
    pub(crate) fn is_closed(&self, pfn: Pfn, order: Order) -> bool {
        let reasons = self.reasons.load(Ordering::Relaxed);
        reasons != 0 && (reasons >= ALL || self.is_in_closed(pfn, order))
    }

    /// Whether a page of an extent is in the closed range.
    #[cold]
    pub(crate) fn is_in_closed(&self, pfn: Pfn, order: Order) -> bool {
        let closed = self.closed();
        pfn < closed.end && pfn.add(order.pages()) > closed.start
    }
}
