//! Caches emptied: before memory is counted, when there is too little, and where a range is not to be cached.

use crate::addr::{Pfn, PfnRange};
use crate::alloc::Allocator;
use crate::alloc::batch::Cached;
use crate::machine::Machine;
use core::fmt;

/// What is closed to caches for as long as this lives; afterwards what was before is.
#[must_use = "the range is closed only while this lives"]
pub(crate) struct Closed<'m, M: Machine> {
    allocator: &'m Allocator<M>,
    before: PfnRange,
}

impl<M: Machine> Drop for Closed<'_, M> {
    fn drop(&mut self) {
        self.allocator.caches.close(self.before);
    }
}

impl<M: Machine> fmt::Debug for Closed<'_, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Closed").field("before", &self.before).finish_non_exhaustive()
    }
}

impl<'m, M: Machine> Cached<'m, M> {
    /// Gives every cached page back to its zone. What other CPUs cache meanwhile may stay.
    pub(crate) fn drain_caches(&self) {
        self.caches.used().for_each(|cpu| self.drain_cpu(cpu));
    }

    /// List by list, so that nobody waits for longer than one takes.
    fn drain_cpu(&self, cpu: usize) {
        while let Some(mut guard) = self.caches.lock(cpu) {
            let (cache, memmap) = self.opened(&mut guard);
            if !self.drain_list(memmap, cache) {
                return;
            }
        }
    }

    /// Keeps `pfns` out of all caches: nothing of it is in one when this returns, nor gets there until
    /// [`open_caches`](Self::open_caches). For an operation, one range at a time.
    pub(crate) fn close_caches(&self, pfns: PfnRange) {
        self.caches.close(pfns);
        self.drain_caches();
    }

    /// Lets caches have everything again.
    pub(crate) fn open_caches(&self) {
        self.caches.close(PfnRange::EMPTY);
    }

    /// As [`close_caches`](Self::close_caches), beside what is closed already and until the value is dropped.
    pub(crate) fn close_caches_to(&self, pfns: PfnRange) -> Closed<'m, M> {
        let before = self.caches.closed();
        let all = if before.pages() == 0 { pfns } else { before.hull(pfns) };
        self.close_caches(all);
        Closed { allocator: self.0, before }
    }

    /// Keeps everything out of all caches, until the value is dropped: no CPU looks at a descriptor with nothing but
    /// the lock of its cache held.
    pub(crate) fn pause_caches(&self) -> Closed<'m, M> {
        let everything = PfnRange { start: Pfn::new(0), end: Pfn::new(u64::MAX) };
        let before = self.caches.close(everything);
        // Those too that were never used: their CPUs may be about to look.
        self.caches.all().for_each(|cpu| self.drain_cpu(cpu));
        Closed { allocator: self.0, before }
    }
}
