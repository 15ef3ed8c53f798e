//! Read guards: lookups take no lock, and removal waits for those that are under way.
//!
//! Each reader counts itself in one of two sets of per-CPU counters, the one the current epoch names.
//! Draining flips the epoch and waits until the old set is empty: readers that come later count in the
//! other set, so they cannot hold it up. Where what they would read must not be looked at for a moment,
//! a closed [`Gate`] holds them off as well.

use core::hint;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

const SHARDS: usize = 16;

/// How often `drain` looks before it gives up: far beyond any reader that makes progress. In this
/// crate's own tests a reader stays on purpose, and is not waited for that long.
const PATIENCE: usize = if cfg!(test) { 1 << 10 } else { 1 << 26 };

/// How often `try_enter` counts anew when the epoch changes under it.
const TRIES: usize = 16;

/// One CPU's counters, a cache line of its own.
#[derive(Debug)]
#[repr(align(64))]
struct Shard([AtomicUsize; 2]);

/// The readers under way.
#[derive(Debug)]
pub(crate) struct Readers {
    epoch: AtomicUsize,
    closed: AtomicBool,
    shards: [Shard; SHARDS],
}

/// No reader is under way, and none gets in, until this is dropped.
#[derive(Debug)]
#[must_use = "readers are held off only while the gate lives"]
pub(crate) struct Gate<'m>(&'m AtomicBool);

impl Drop for Gate<'_> {
    fn drop(&mut self) {
        // SeqCst: with the load in `enter`; who gets in sees what was done behind the gate.
        self.0.store(false, Ordering::SeqCst);
    }
}

/// A lookup under way: what it found stays mapped until this is dropped.
#[derive(Debug)]
#[must_use = "the lookup is protected only while the guard lives"]
pub(crate) struct ReadGuard<'m> {
    count: &'m AtomicUsize,
}

impl Drop for ReadGuard<'_> {
    fn drop(&mut self) {
        // Release: partner of the Acquire side of the load in `drain`; what was read is done with.
        self.count.fetch_sub(1, Ordering::Release);
    }
}

impl Readers {
    pub(crate) const fn new() -> Self {
        Self {
            epoch: AtomicUsize::new(0),
            closed: AtomicBool::new(false),
            shards: [const { Shard([AtomicUsize::new(0), AtomicUsize::new(0)]) }; SHARDS],
        }
    }

    /// Counts a reader on `cpu`.
    pub(crate) fn enter(&self, cpu: usize) -> ReadGuard<'_> {
        let shard = &self.shards[cpu % SHARDS].0;
        loop {
            while self.is_closed() {
                hint::spin_loop();
            }
            if let Some(guard) = self.try_count(shard) {
                return guard;
            }
        }
    }

    /// As [`enter`](Self::enter), and never waits: `None` while readers are held off, or if removals
    /// drain them again and again.
    pub(crate) fn try_enter(&self, cpu: usize) -> Option<ReadGuard<'_>> {
        let shard = &self.shards[cpu % SHARDS].0;
        (0..TRIES).find_map(|_| self.try_count(shard))
    }

    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    /// Counts a reader in the set of the current epoch, unless that changes just then.
    fn try_count<'m>(&'m self, shard: &'m [AtomicUsize; 2]) -> Option<ReadGuard<'m>> {
        let epoch = self.epoch.load(Ordering::SeqCst);
        let count = &shard[epoch & 1];
        count.fetch_add(1, Ordering::SeqCst);
        let guard = ReadGuard { count };
        // SeqCst on both sides: either these loads see the flip or the closing, and the reader
        // counts again, or they came later, and `drain` sees the count.
        let open = !self.is_closed();
        (open && self.epoch.load(Ordering::SeqCst) == epoch).then_some(guard)
    }

    /// Waits until every reader that entered before the call has left. Answers false if one stays
    /// for so long that it must be stuck; nothing may be freed then.
    ///
    /// Called by an operation, so that one drain runs at a time.
    pub(crate) fn drain(&self) -> bool {
        let current = self.epoch.load(Ordering::SeqCst) & 1;
        // A drain that gave up left its readers in the other set: they entered before this call too.
        self.wait_empty(current ^ 1) && {
            self.epoch.fetch_add(1, Ordering::SeqCst);
            self.wait_empty(current)
        }
    }

    /// Waits until no reader is under way, and holds off those that come; `None` if one stays.
    ///
    /// Called by an operation that holds no zone's lock: a reader may be waiting for one.
    pub(crate) fn exclude(&self) -> Option<Gate<'_>> {
        self.closed.store(true, Ordering::SeqCst);
        let gate = Gate(&self.closed);
        self.drain().then_some(gate)
    }

    fn wait_empty(&self, set: usize) -> bool {
        let empty = || self.shards.iter().all(|shard| shard.0[set].load(Ordering::SeqCst) == 0);
        (0..PATIENCE).any(|_| {
            let done = empty();
            if !done {
                hint::spin_loop();
            }
            done
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draining_without_readers_returns_at_once() {
        assert!(Readers::new().drain());
    }

    #[test]
    fn behind_a_closed_gate_nobody_reads_and_afterwards_everybody_can() {
        let readers = Readers::new();
        let gate = readers.exclude();
        assert!(gate.is_some() && readers.try_enter(0).is_none());
        drop(gate);
        let guard = readers.enter(0);
        assert!(readers.exclude().is_none());
        drop((guard, readers.try_enter(0).unwrap()));
        drop(readers.enter(0));
    }

    #[test]
    fn a_reader_that_entered_after_a_drain_does_not_block_it_but_the_next() {
        let readers = Readers::new();
        assert!(readers.drain());
        let guard = readers.enter(3);
        assert_eq!(guard.count.load(Ordering::Relaxed), 1);
        drop(guard);
        assert!(readers.drain());
    }
}
