//! What caches may not have: a CPU that caches and an operation that empties a range agree on it.
//!
//! ```text
//!   operation   close        which caches are used? -> lock each, drain it
//!   CPU         lock its cache, note that it is used; is it closed? -> keep it, or not; unlock
//! ```
//!
//! Who locks a cache after the operation did sees what is closed. Who locked it before has kept what the operation
//! drains, if the operation sees that the cache is used: it does, or the CPU sees what is closed.

use crate::addr::{Order, Pfn, PfnRange};
use crate::sync::{AtomicU64, AtomicUsize, Ordering, array, constant, fence};
use core::ops::Range;

/// Which caches are used, and what is closed to all of them.
#[derive(Debug)]
pub(crate) struct Closing {
    /// One past the last CPU whose cache was ever used.
    used: AtomicUsize,
    /// First frame and end of what is not cached: it is being emptied, or its descriptors move.
    closed: [AtomicU64; 2],
}

impl Closing {
    constant! {
        pub(crate) fn new() -> Self {
            Self { used: AtomicUsize::new(0), closed: array![AtomicU64::new(0); 2] }
        }
    }

    /// The CPUs whose caches may hold something.
    pub(crate) fn used(&self) -> Range<usize> {
        0..self.used.load(Ordering::Relaxed)
    }

    /// Notes, with the cache of `cpu` locked, that it is used from now on.
    pub(crate) fn note_used(&self, cpu: usize) {
        self.used.fetch_max(cpu + 1, Ordering::Relaxed);
        // With the one in `close`: either that sees this CPU, or this CPU sees what is closed.
        fence(Ordering::SeqCst);
    }

    /// From now on no page of `pfns` enters a cache whose lock is taken after this. Returns the range closed before.
    pub(crate) fn close(&self, pfns: PfnRange) -> PfnRange {
        let before = self.closed();
        self.closed[0].store(pfns.start.get(), Ordering::Relaxed);
        self.closed[1].store(pfns.end.get(), Ordering::Relaxed);
        fence(Ordering::SeqCst);
        before
    }

    /// Closes `pfns`, and has every cache drained that is used. `drain` locks it.
    pub(crate) fn close_and_drain(&self, pfns: PfnRange, drain: impl FnMut(usize)) {
        self.close(pfns);
        self.used().for_each(drain);
    }

    /// Goes back to what was closed `before`. `pass` locks each of the caches and unlocks it: who finds a page open that
    /// was closed has locked its cache after that, so it sees what the operation did to the page.
    pub(crate) fn reopen(&self, before: PfnRange, cpus: Range<usize>, pass: impl FnMut(usize)) {
        cpus.for_each(pass);
        self.close(before);
    }

    /// What is not cached.
    pub(crate) fn closed(&self) -> PfnRange {
        let [start, end] = &self.closed;
        let [start, end] = [start, end].map(|word| Pfn::new(word.load(Ordering::Relaxed)));
        PfnRange { start, end }
    }

    /// Whether an extent has a page that is not cached. Asked with the cache locked that it would go to: who closed a
    /// range takes that lock afterwards, so what this CPU did not see yet is drained.
    #[inline]
    pub(crate) fn is_closed(&self, pfn: Pfn, order: Order) -> bool {
        // A range that is closed does not end at frame 0.
        self.closed[1].load(Ordering::Relaxed) != 0 && self.is_in_closed(pfn, order)
    }

    #[cold]
    fn is_in_closed(&self, pfn: Pfn, order: Order) -> bool {
        let closed = self.closed();
        pfn < closed.end && pfn.add(order.pages()) > closed.start
    }
}
