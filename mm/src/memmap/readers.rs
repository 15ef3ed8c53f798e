//! Read guards: lookups take no lock, and removal waits for those that are under way.
//!
//! Each reader counts itself in one of two sets of per-CPU counters, the one the current epoch names.
//! Draining flips the epoch and waits until the old set is empty: readers that come later count in the
//! other set, so they cannot hold it up. A closed [`Gate`] also holds off the readers of one memory block that come
//! later: the descriptors of that block must not be read until the gate is dropped.
//!
//! The epoch and whether a gate is closed are one word, the *phase*. A reader loads it, counts itself, and has entered if
//! it loads the same phase again, and if no gate is closed or the gate is another block's. A reader that waits at a gate
//! is not counted during the wait: it has seen nothing, and no drain waits for it.

use crate::sync::{AtomicU64, AtomicUsize, Ordering, array, constant};
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

/// How often `exclude` looks with the gate closed before it opens it again, and how often it closes it.
const CLOSED_PATIENCE: u64 = if cfg!(loom) {
    1
} else if cfg!(test) {
    1 << 6
} else {
    1 << 16
};
const CLOSED_TRIES: u64 = if cfg!(loom) {
    1
} else if cfg!(test) {
    1 << 6
} else {
    1 << 10
};

/// How often `try_enter` counts anew when the epoch changes under it.
const TRIES: usize = if cfg!(loom) { 2 } else { 16 };

/// Set in a phase while a gate is closed.
const CLOSED: usize = 1;
/// An epoch, in a phase.
const EPOCH: usize = 2;

/// The set that readers count in if they enter in `phase`.
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
    /// The block whose gate is closed, while [`CLOSED`] is set.
    held_off: AtomicU64,
    shards: [Shard; SHARDS],
}

/// A reader that stays: the number of its CPU, modulo [`SHARDS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stays(pub(crate) usize);

/// No reader of a block is under way, and none enters, until this is dropped; then `H` is dropped.
#[derive(Debug)]
#[must_use = "readers are held off only while the gate lives"]
pub(crate) struct Gate<'m, H> {
    phase: &'m AtomicUsize,
    block: u64,
    _held: H,
}

impl<H> Gate<'_, H> {
    /// The block whose readers are held off.
    pub(crate) const fn block(&self) -> u64 {
        self.block
    }
}

impl<H> Drop for Gate<'_, H> {
    fn drop(&mut self) {
        // SeqCst: partner of the second load in `try_count`; a reader that enters sees all changes made until now.
        self.phase.fetch_and(!CLOSED, Ordering::SeqCst);
    }
}

/// A lookup under way in one block: the block's descriptors and records stay mapped, and are not moved, until this is
/// dropped. So does the head of the block's group, which may lie in another block: a removal takes whole groups, and a
/// conversion does not move the descriptor of a head.
#[derive(Debug)]
#[must_use = "the lookup is protected only while the guard lives"]
pub(crate) struct ReadGuard<'m> {
    count: &'m AtomicUsize,
}

impl Drop for ReadGuard<'_> {
    fn drop(&mut self) {
        // Release: partner of the load in `wait_empty`, so that all reads of this look-up come before the unmapping.
        self.count.fetch_sub(1, Ordering::Release);
    }
}

impl Readers {
    constant! {
        pub(crate) fn new() -> Self {
            let shards = array![Shard([AtomicUsize::new(0), AtomicUsize::new(0)]); SHARDS];
            Self { phase: AtomicUsize::new(0), held_off: AtomicU64::new(0), shards }
        }
    }

    /// Counts a reader on `cpu` that looks at one `block` only. Waits by `relax` while readers of that block are held off.
    #[inline]
    pub(crate) fn enter(
        &self,
        cpu: usize,
        block: impl Fn() -> u64,
        relax: &impl Fn(),
    ) -> ReadGuard<'_> {
        match self.enter_open(cpu) {
            Some(guard) => guard,
            None => self.enter_later(&self.shards[cpu % SHARDS], block(), relax),
        }
    }

    /// As [`enter`](Self::enter), where a gate is closed or the epoch changes.
    #[cold]
    #[inline(never)]
    fn enter_later<'m>(&'m self, shard: &'m Shard, block: u64, relax: &impl Fn()) -> ReadGuard<'m> {
        loop {
            let Ok((guard, phase)) = self.try_count(shard) else { continue };
            // Relaxed: it is the block of the gate that `phase` has closed. The number was stored before the phase, and
            // another is stored only after a drain that waits for this reader.
            if phase & CLOSED == 0 || self.held_off.load(Ordering::Relaxed) != block {
                return guard;
            }
            drop(guard);
            // Ends when the gate is dropped: after a copy and a flush, which are bounded.
            wait::until(relax, || self.phase.load(Ordering::SeqCst) != phase);
        }
    }

    /// Counts a reader that may look at all blocks, and never waits. Returns `None` while readers of a block are held
    /// off, or if removals drain readers again and again.
    pub(crate) fn try_enter(&self, cpu: usize) -> Option<ReadGuard<'_>> {
        let shard = &self.shards[cpu % SHARDS];
        let counted = (0..TRIES).find_map(|_| self.try_count(shard).ok());
        counted.filter(|&(_, phase)| phase & CLOSED == 0).map(|(guard, _)| guard)
    }

    /// Counts a reader on `cpu`; fails while a gate is closed, and if the epoch changes at that moment. One comparison
    /// tells both.
    #[inline]
    pub(crate) fn enter_open(&self, cpu: usize) -> Option<ReadGuard<'_>> {
        // The orderings of `try_count`.
        let open = self.phase.load(Ordering::Relaxed) & !CLOSED;
        let count = &self.shards[cpu % SHARDS].0[set_of(open)];
        count.fetch_add(1, Ordering::SeqCst);
        let guard = ReadGuard { count };
        (self.phase.load(Ordering::SeqCst) == open).then_some(guard)
    }

    /// Counts a reader in the set of the current epoch, and returns the phase, too; fails if the phase changes at that
    /// moment.
    #[inline]
    fn try_count<'m>(&'m self, shard: &'m Shard) -> Result<(ReadGuard<'m>, usize), ()> {
        // Relaxed: it chooses the set, and an old phase is not found again below.
        let phase = self.phase.load(Ordering::Relaxed);
        let count = &shard.0[set_of(phase)];
        count.fetch_add(1, Ordering::SeqCst);
        let guard = ReadGuard { count };
        // SeqCst on both sides: either this load sees the flip, and the reader counts again, or it came earlier, and
        // `drain` sees the count.
        if self.phase.load(Ordering::SeqCst) == phase { Ok((guard, phase)) } else { Err(()) }
    }

    /// Waits until every reader that entered before the call has left. Fails if one stays for so long
    /// that its CPU stopped in it, or its thread was preempted; nothing may be freed then.
    ///
    /// Called by an operation, so that one drain runs at a time.
    pub(crate) fn drain(&self, relax: &impl Fn()) -> Result<(), Stays> {
        self.drain_within(PATIENCE, 0, relax)
    }

    /// As [`drain`](Self::drain). Readers that enter after the flip find `gate` in the phase: [`CLOSED`], or 0.
    fn drain_within(&self, patience: u64, gate: usize, relax: &impl Fn()) -> Result<(), Stays> {
        // Relaxed: operations alone change it, one at a time.
        let current = set_of(self.phase.load(Ordering::Relaxed));
        // A drain that gave up left its readers in the other set: they entered before this call too.
        self.wait_empty(current ^ 1, patience, relax)?;
        self.phase.fetch_add(EPOCH + gate, Ordering::SeqCst);
        self.wait_empty(current, patience, relax)
    }

    /// Waits until no reader of `block` is under way, and holds off those that come; fails if one stays. The gate keeps
    /// the result of `hold`, which keeps handlers out: a reader in a handler on this CPU would wait for the code that it
    /// interrupts.
    ///
    /// Called by an operation that holds no zone's lock: a reader may be waiting for one. The gate is open during the
    /// long wait, so that a reader whose thread was preempted delays only the caller. The wait with the gate closed is
    /// short, and is tried again.
    pub(crate) fn exclude<H>(
        &self,
        block: u64,
        hold: impl Fn() -> H,
        relax: &impl Fn(),
    ) -> Result<Gate<'_, H>, Stays> {
        let mut tries = CLOSED_TRIES;
        loop {
            self.drain_within(PATIENCE, 0, relax)?;
            let gate = Gate { phase: &self.phase, block, _held: hold() };
            // Relaxed: no reader loads it before the phase that follows, which is SeqCst.
            self.held_off.store(block, Ordering::Relaxed);
            tries -= 1;
            match self.drain_within(CLOSED_PATIENCE, CLOSED, relax) {
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

    const BLOCK: u64 = 7;

    fn is_closed(readers: &Readers) -> bool {
        readers.phase.load(Ordering::SeqCst) & CLOSED != 0
    }

    fn counted(readers: &Readers) -> usize {
        let counts = readers.shards.iter().flat_map(|shard| &shard.0);
        counts.map(|count| count.load(Ordering::SeqCst)).sum()
    }

    #[test]
    fn draining_without_readers_returns_at_once() {
        assert_eq!(Readers::new().drain(&relax), Ok(()));
    }

    #[test]
    fn a_reader_that_stays_is_named_and_holds_up_no_other_reader() {
        let readers = Readers::new();
        let guard = readers.enter(SHARDS + 3, || 0, &relax);
        assert_eq!(readers.drain(&relax), Err(Stays(3)));
        let (open, closed) = (Cell::new(0), Cell::new(0));
        let turn = || {
            let turns = if is_closed(&readers) { &closed } else { &open };
            turns.set(turns.get() + 1);
            // Other readers come and go during the wait.
            drop(readers.try_enter(5));
        };
        assert_eq!(readers.exclude(BLOCK, || (), &turn).map(drop), Err(Stays(3)));
        assert_eq!((open.get(), closed.get()), (PATIENCE, 0));
        assert!(readers.try_enter(5).is_some());
        drop(guard);
        assert!(readers.exclude(BLOCK, || (), &relax).is_ok());
    }

    #[test]
    fn a_reader_that_comes_between_the_waits_closes_the_gate_for_a_short_time_only() {
        let readers = Readers::new();
        let closed = Cell::new(0);
        // Only the wait with the gate closed finds it: it enters while the wait before waits for another.
        let first = RefCell::new(Some(readers.enter(1, || BLOCK, &relax)));
        let late = RefCell::new(None);
        let turn = || {
            if is_closed(&readers) {
                closed.set(closed.get() + 1);
            } else if late.borrow().is_none() {
                *late.borrow_mut() = readers.try_enter(2);
                drop(first.borrow_mut().take());
            }
        };
        assert_eq!(readers.exclude(BLOCK, || (), &turn).map(drop), Err(Stays(2)));
        assert!(closed.get() <= CLOSED_TRIES * CLOSED_PATIENCE, "{}", closed.get());
        assert!(!is_closed(&readers));
    }

    #[test]
    fn while_a_gate_is_closed_no_reader_enters_the_block_and_afterwards_all_can() {
        let readers = Readers::new();
        let gate = readers.exclude(BLOCK, || (), &relax);
        assert!(gate.is_ok() && readers.try_enter(0).is_none());
        // Others come, stay, and keep the next gate from being closed.
        let other = readers.enter(0, || BLOCK + 1, &relax);
        let gate = RefCell::new(Some(gate));
        let turns = Cell::new(0);
        let turn = || {
            turns.set(turns.get() + 1);
            assert_eq!(counted(&readers), 1, "a reader that waits is counted");
            if turns.get() == 3 {
                gate.take();
            }
        };
        let guard = readers.enter(1, || BLOCK, &turn);
        assert_eq!((turns.get(), counted(&readers)), (3, 2));
        drop(guard);
        assert_eq!(readers.exclude(BLOCK + 2, || (), &relax).map(drop), Err(Stays(0)));
        drop((other, readers.try_enter(0).unwrap()));
        assert_eq!(counted(&readers), 0);
        drop(readers.enter(0, || BLOCK, &relax));
    }

    #[test]
    fn a_reader_that_entered_after_a_drain_does_not_block_it_but_the_next() {
        let readers = Readers::new();
        assert_eq!(readers.drain(&relax), Ok(()));
        let guard = readers.enter(3, || BLOCK, &relax);
        assert_eq!(guard.count.load(Ordering::Relaxed), 1);
        drop(guard);
        assert_eq!(readers.drain(&relax), Ok(()));
    }
}
