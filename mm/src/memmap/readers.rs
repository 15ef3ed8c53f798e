//! Read guards: lookups take no lock, and removal waits for those that are under way.
//!
//! Each reader counts itself in one of two sets of per-CPU counters, the one the current epoch names.
//! Draining flips the epoch and waits until the old set is empty: readers that come later count in the
//! other set, so they cannot hold it up. Where what they would read must not be looked at for a moment,
//! a closed [`Gate`] holds them off as well.
//!
//! The epoch and whether the gate is closed are one word, the *phase*. A reader loads it, counts itself, and is in if
//! it loads the same phase again.

// UNSAFETY: vouches for what a read guard keeps.
#![expect(unsafe_code)]

use crate::memmap::keeps::Keeps;
use crate::sync::{AtomicUsize, Ordering, array, constant};
use crate::wait;

/// Sets of counters. A model has two CPUs, and looks and tries once (`mm/tests/loom`).
const SHARDS: usize = if cfg!(loom) { 2 } else { 16 };

/// How often `drain` looks before it gives up: far beyond any reader that makes progress. In this
/// crate's own tests a reader stays on purpose, and is not waited for that long.
const PATIENCE: u64 = if cfg!(loom) {
    1
} else if cfg!(test) {
    1 << 10
} else {
    1 << 26
};

/// How often `exclude` looks with the gate shut before it opens it again, and how often it shuts it.
const SHUT_PATIENCE: u64 = if cfg!(loom) {
    1
} else if cfg!(test) {
    1 << 6
} else {
    1 << 16
};
const SHUT_TRIES: u64 = if cfg!(loom) {
    1
} else if cfg!(test) {
    1 << 6
} else {
    1 << 10
};

/// How often `try_enter` counts anew when the epoch changes under it.
const TRIES: usize = if cfg!(loom) { 2 } else { 16 };

/// Set in a phase while the gate is closed.
const CLOSED: usize = 1;
/// An epoch, in a phase.
const EPOCH: usize = 2;

/// The set that readers count in who enter in `phase`.
const fn set_of(phase: usize) -> usize {
    phase / EPOCH % 2
}

/// One CPU's counters, a cache line of its own.
#[derive(Debug)]
#[repr(align(64))]
struct Shard([AtomicUsize; 2]);

/// The readers under way.
#[derive(Debug)]
pub(crate) struct Readers {
    /// [`CLOSED`], and the epoch in units of [`EPOCH`]. Changed by operations.
    phase: AtomicUsize,
    shards: [Shard; SHARDS],
}

/// A reader that stays: the number of its CPU, modulo [`SHARDS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stays(pub(crate) usize);

/// No reader is under way, and none gets in, until this is dropped; what it holds goes after that.
#[derive(Debug)]
#[must_use = "readers are held off only while the gate lives"]
pub(crate) struct Gate<'m, H> {
    phase: &'m AtomicUsize,
    _held: H,
}

impl<H> Drop for Gate<'_, H> {
    fn drop(&mut self) {
        // SeqCst: partner of the second load in `try_count`; who gets in sees what was done behind the gate.
        self.phase.fetch_and(!CLOSED, Ordering::SeqCst);
    }
}

/// A lookup under way: what it found stays mapped until this is dropped.
#[derive(Debug)]
#[must_use = "the lookup is protected only while the guard lives"]
pub(crate) struct ReadGuard<'m> {
    count: &'m AtomicUsize,
}

// SAFETY: a removal or a conversion waits for those who were counted before it hides a section, and unmaps nothing
// before.
unsafe impl Keeps for ReadGuard<'_> {}

impl Drop for ReadGuard<'_> {
    fn drop(&mut self) {
        // Release: partner of the Acquire side of the load in `drain`; what was read is done with.
        self.count.fetch_sub(1, Ordering::Release);
    }
}

impl Readers {
    constant! {
        pub(crate) fn new() -> Self {
            let shards = array![Shard([AtomicUsize::new(0), AtomicUsize::new(0)]); SHARDS];
            Self { phase: AtomicUsize::new(0), shards }
        }
    }

    /// Counts a reader on `cpu`, which waits by `relax` while readers are held off.
    #[inline]
    pub(crate) fn enter(&self, cpu: usize, relax: &impl Fn()) -> ReadGuard<'_> {
        let shard = &self.shards[cpu % SHARDS];
        self.try_count(shard).unwrap_or_else(|| self.enter_later(shard, relax))
    }

    #[cold]
    #[inline(never)]
    fn enter_later<'m>(&'m self, shard: &'m Shard, relax: &impl Fn()) -> ReadGuard<'m> {
        loop {
            // Ended when the gate is dropped, at the end of a conversion at the latest.
            wait::until(relax, || !self.is_closed());
            if let Some(guard) = self.try_count(shard) {
                return guard;
            }
        }
    }

    /// As [`enter`](Self::enter), and never waits: `None` while readers are held off, or if removals
    /// drain them again and again.
    pub(crate) fn try_enter(&self, cpu: usize) -> Option<ReadGuard<'_>> {
        let shard = &self.shards[cpu % SHARDS];
        (0..TRIES).find_map(|_| self.try_count(shard))
    }

    fn is_closed(&self) -> bool {
        self.phase.load(Ordering::SeqCst) & CLOSED != 0
    }

    /// Counts a reader in the set of the current epoch, unless readers are held off or the epoch changes just then.
    #[inline]
    fn try_count<'m>(&'m self, shard: &'m Shard) -> Option<ReadGuard<'m>> {
        // Relaxed: it chooses the set, and an old phase is not found again below.
        let phase = self.phase.load(Ordering::Relaxed);
        if phase & CLOSED != 0 {
            return None;
        }
        let count = &shard.0[set_of(phase)];
        count.fetch_add(1, Ordering::SeqCst);
        let guard = ReadGuard { count };
        // SeqCst on both sides: either this load sees the flip or the closing, and the reader
        // counts again, or it came earlier, and `drain` sees the count.
        (self.phase.load(Ordering::SeqCst) == phase).then_some(guard)
    }

    /// Waits until every reader that entered before the call has left. Fails if one stays for so long
    /// that its CPU stopped in it, or its thread was preempted; nothing may be freed then.
    ///
    /// Called by an operation, so that one drain runs at a time.
    pub(crate) fn drain(&self, relax: &impl Fn()) -> Result<(), Stays> {
        self.drain_within(PATIENCE, relax)
    }

    fn drain_within(&self, patience: u64, relax: &impl Fn()) -> Result<(), Stays> {
        // Relaxed: operations alone change it, one at a time.
        let current = set_of(self.phase.load(Ordering::Relaxed));
        // A drain that gave up left its readers in the other set: they entered before this call too.
        self.wait_empty(current ^ 1, patience, relax)?;
        self.phase.fetch_add(EPOCH, Ordering::SeqCst);
        self.wait_empty(current, patience, relax)
    }

    /// Waits until no reader is under way, and holds off those that come; fails if one stays. `hold` is held as long as
    /// that: a handler on this CPU that reads would wait for what it interrupts.
    ///
    /// Called by an operation that holds no zone's lock: a reader may be waiting for one. The long wait has the gate
    /// open, so that a reader whose thread was preempted holds up the caller and nobody else; what it is shut for ends
    /// soon, or is tried again.
    pub(crate) fn exclude<H>(
        &self,
        hold: impl Fn() -> H,
        relax: &impl Fn(),
    ) -> Result<Gate<'_, H>, Stays> {
        let mut tries = SHUT_TRIES;
        loop {
            self.drain_within(PATIENCE, relax)?;
            let held = hold();
            self.phase.fetch_or(CLOSED, Ordering::SeqCst);
            let gate = Gate { phase: &self.phase, _held: held };
            tries -= 1;
            match self.drain_within(SHUT_PATIENCE, relax) {
                Ok(()) => return Ok(gate),
                Err(stays) if tries == 0 => return Err(stays),
                Err(_) => drop(gate),
            }
        }
    }

    fn wait_empty(&self, set: usize, patience: u64, relax: &impl Fn()) -> Result<(), Stays> {
        let mut stays = None;
        let is_empty = || {
            let mut shards = self.shards.iter();
            stays = shards.position(|shard| shard.0[set].load(Ordering::SeqCst) != 0);
            stays.is_none()
        };
        wait::within(patience, relax, is_empty);
        stays.map_or(Ok(()), |cpu| Err(Stays(cpu)))
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::lock::relax;
    use core::cell::{Cell, RefCell};

    #[test]
    fn draining_without_readers_returns_at_once() {
        assert_eq!(Readers::new().drain(&relax), Ok(()));
    }

    #[test]
    fn a_reader_that_stays_is_named_and_holds_up_no_other_reader() {
        let readers = Readers::new();
        let guard = readers.enter(SHARDS + 3, &relax);
        assert_eq!(readers.drain(&relax), Err(Stays(3)));
        let (open, shut) = (Cell::new(0), Cell::new(0));
        let turn = || {
            let turns = if readers.is_closed() { &shut } else { &open };
            turns.set(turns.get() + 1);
            // Others come and go meanwhile.
            drop(readers.try_enter(5));
        };
        assert_eq!(readers.exclude(|| (), &turn).map(drop), Err(Stays(3)));
        assert_eq!((open.get(), shut.get()), (PATIENCE, 0));
        assert!(readers.try_enter(5).is_some());
        drop(guard);
        assert!(readers.exclude(|| (), &relax).is_ok());
    }

    #[test]
    fn a_reader_that_comes_between_the_waits_shuts_the_gate_for_a_short_time_only() {
        let readers = Readers::new();
        let shut = Cell::new(0);
        // Found by the wait with the gate shut alone: it enters while that waits for another.
        let first = RefCell::new(Some(readers.enter(1, &relax)));
        let late = RefCell::new(None);
        let turn = || {
            if readers.is_closed() {
                shut.set(shut.get() + 1);
            } else if late.borrow().is_none() {
                *late.borrow_mut() = readers.try_enter(2);
                drop(first.borrow_mut().take());
            }
        };
        assert_eq!(readers.exclude(|| (), &turn).map(drop), Err(Stays(2)));
        assert!(shut.get() <= SHUT_TRIES * SHUT_PATIENCE, "{}", shut.get());
        assert!(!readers.is_closed());
    }

    #[test]
    fn behind_a_closed_gate_nobody_reads_and_afterwards_everybody_can() {
        let readers = Readers::new();
        let gate = readers.exclude(|| (), &relax);
        assert!(gate.is_ok() && readers.try_enter(0).is_none());
        drop(gate);
        let guard = readers.enter(0, &relax);
        assert!(readers.exclude(|| (), &relax).is_err());
        drop((guard, readers.try_enter(0).unwrap()));
        drop(readers.enter(0, &relax));
    }

    #[test]
    fn a_reader_that_entered_after_a_drain_does_not_block_it_but_the_next() {
        let readers = Readers::new();
        assert_eq!(readers.drain(&relax), Ok(()));
        let guard = readers.enter(3, &relax);
        assert_eq!(guard.count.load(Ordering::Relaxed), 1);
        drop(guard);
        assert_eq!(readers.drain(&relax), Ok(()));
    }
}
