//! Drains caches: before memory is counted, when memory is short, and when a range must not be cached.

use crate::addr::PfnRange;
use crate::alloc::Allocator;
use crate::alloc::batch::Cached;
use crate::alloc::closing::Closing;
use crate::machine::Machine;
use core::fmt;

/// A range that is closed to caches as long as this value lives; its drop restores the previous range.
#[must_use = "the range is closed only while this lives"]
pub(crate) struct Closed<'m, M: Machine> {
    allocator: &'m Allocator<M>,
    before: PfnRange,
}

impl<M: Machine> Drop for Closed<'_, M> {
    fn drop(&mut self) {
        let caches = &self.allocator.caches;
        caches.closing.reopen(self.before, caches.all(), |cpu| drop(caches.lock(cpu)));
    }
}

impl<M: Machine> fmt::Debug for Closed<'_, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Closed").field("before", &self.before).finish_non_exhaustive()
    }
}

/// All memory is closed to caches as long as this value lives.
#[must_use = "memory is closed to caches only while this lives"]
pub(crate) struct AllClosed<'m>(&'m Closing);

impl Drop for AllClosed<'_> {
    fn drop(&mut self) {
        self.0.open_all();
    }
}

impl<'m, M: Machine> Cached<'m, M> {
    /// Returns every cached page to its zone. Pages that other CPUs cache during the call may stay.
    pub(crate) fn drain_caches(&self) {
        self.caches.closing.used().for_each(|cpu| self.drain_cpu(cpu));
    }

    /// List by list, so that a CPU waits at most for one list.
    fn drain_cpu(&self, cpu: usize) {
        while let Some(mut guard) = self.caches.lock(cpu) {
            let (cache, memmap) = self.opened(&mut guard);
            if !self.drain_list(memmap, cache) {
                return;
            }
        }
    }

    /// Returns every cached page to its zone, and keeps all pages out of caches until the value is dropped.
    pub(crate) fn close_all_caches(&self) -> AllClosed<'m> {
        let closing = &self.0.caches.closing;
        closing.close_all();
        self.drain_caches();
        AllClosed(closing)
    }

    /// Keeps `pfns` out of all caches: no page of the range is in a cache when this returns, nor enters one until
    /// [`open_caches`](Self::open_caches). For an operation, one range at a time.
    pub(crate) fn close_caches(&self, pfns: PfnRange) {
        self.caches.closing.close_and_drain(pfns, |cpu| self.drain_cpu(cpu));
    }

    /// Allows every page in caches again.
    pub(crate) fn open_caches(&self) {
        self.caches.closing.close(PfnRange::EMPTY);
    }

    /// As [`close_caches`](Self::close_caches), in addition to the range closed already and until the value is
    /// dropped.
    pub(crate) fn close_caches_to(&self, pfns: PfnRange) -> Closed<'m, M> {
        let before = self.caches.closing.closed();
        let all = if before.pages() == 0 { pfns } else { before.hull(pfns) };
        self.close_caches(all);
        Closed { allocator: self.0, before }
    }

    /// Keeps `pfns` out of all caches, until the value is dropped: no CPU accesses a descriptor of the range with only
    /// the lock of its cache held.
    pub(crate) fn pause_caches(&self, pfns: PfnRange) -> Closed<'m, M> {
        let before = self.caches.closing.close(pfns);
        // Those too that were never used: their CPUs may be about to look.
        self.caches.all().for_each(|cpu| self.drain_cpu(cpu));
        Closed { allocator: self.0, before }
    }
}
