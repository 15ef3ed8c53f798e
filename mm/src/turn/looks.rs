//! The gate between operations and looks: a look (`explain_*`, `verify`, `dump`, `snapshot`) never sees an operation
//! half done, and an operation never fails or starves because of looks.
//!
//! ```text
//!   operation    [ changes ]  listener, owner of pages  [ changes ]
//!   gate     open|  shut   |          open             |  shut   |open
//!   looks      ==|         |===    ===========      ===|         |====
//! ```
//!
//! The crate does not know threads, so it cannot know whether a look comes from inside an operation or from another
//! CPU. Two rules make that unnecessary:
//!
//! 1. *No code outside the manager is called while the gate is held*, by a look or by an operation. A look drops its
//!    [`Look`](super::Look) before it calls the closure of `dump` or `snapshot`, or
//!    [`pinned`](crate::MovableOps::pinned); an operation opens the gate around each call of a listener and of an owner of pages ([`Looks::call`]). So whatever
//!    that code does, there is no look under way and no shut gate below it on its own stack: a look or an operation
//!    that it begins waits for others only, never for itself.
//! 2. *Each waits for a bounded part of the other.* An operation that arrives raises a bit; a look that arrives later
//!    counts itself, and waits until that bit is lowered. The operation waits for the looks that were counted before,
//!    so new ones do not delay it; and the next operation waits for the looks that waited for this one, so operations
//!    in a row do not delay a look. (This is the phase-fair lock of Brandenburg and Anderson, with one writer.)
//!
//! Proof that a look and a change never overlap. `arrived` is changed by read-modify-write only, so arrivals and the
//! raising of the bit have one order. Looks before the raising are in the number that the operation waits for `left` to
//! reach; looks after it see the bit, and wait until it is lowered or belongs to another operation. In the latter case
//! that operation raised its bit later, and waits for them. In both directions the one that proceeds acquires what the
//! other released: the operation by its load of `left`, the look by its load of `arrived`.
//!
//! A look that enters during a callback sees the section map, the descriptors and the page tables as an operation may
//! leave them, since operations call out only before their first change of those, or after the last one; no memmap is
//! being moved, unmapped or freed, so all memory that a look can reach stays mapped until it returns. Zones are as at
//! any time when pages are allocated and freed; free pages of the range that is being emptied are isolated.
//! `Operation::alone` returns whether the gate could be shut again: an operation that changes those three after a
//! callback checks it.
//!
//! No wait is unbounded: an operation gives up after [`PATIENCE`] polls, and no look takes that long if its CPU runs. A
//! look waits for one stretch of one operation, whose length the operation's range bounds. Each poll of these waits
//! serves flushes ([`wait`]): the operation that a look waits for may be in one.

use crate::wait;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Set in `arrived` while the gate is shut, or about to be.
const SHUT: u64 = 0x80;
/// Distinguishes a shut gate from the previous one: a look that missed the moment between them enters.
const PHASE: u64 = 0x7f;
/// One look.
const ONE: u64 = 0x100;

/// Polls in an operation's wait for looks before it gives up: seconds. In this crate's own tests a look stays on
/// purpose, and is not waited for that long.
pub(crate) const PATIENCE: u64 = if cfg!(test) { 1 << 14 } else { 1 << 26 };

/// The gate.
#[derive(Debug)]
pub(crate) struct Looks {
    /// Looks that have entered, in units of [`ONE`], and [`SHUT`] and [`PHASE`].
    arrived: AtomicU64,
    /// Looks that have ended, in units of [`ONE`].
    left: AtomicU64,
    /// The number of times that the gate was shut. Changed by the operation under way.
    phase: AtomicU64,
    /// Whether an operation keeps looks out.
    alone: AtomicBool,
    /// Whether an operation is calling code outside the manager.
    calling: AtomicBool,
}

/// A look that has passed the gate, until it is dropped. No code outside the manager is called meanwhile.
#[must_use = "operations are held off only while the look lives"]
pub(super) struct Passed<'l>(&'l Looks);

/// A call of code outside the manager.
struct Call<'l, W: Fn()>(&'l Looks, &'l W);

impl Looks {
    pub(crate) const fn new() -> Self {
        Self {
            arrived: AtomicU64::new(0),
            left: AtomicU64::new(0),
            phase: AtomicU64::new(0),
            alone: AtomicBool::new(false),
            calling: AtomicBool::new(false),
        }
    }

    /// Begins a look. Waits with `relax` while an operation makes changes.
    pub(super) fn enter(&self, relax: &impl Fn()) -> Passed<'_> {
        let gate = |arrived: u64| arrived & (SHUT | PHASE);
        // Acquire: partner of the Release in `open`; the operation's changes are visible.
        let found = gate(self.arrived.fetch_add(ONE, Ordering::Acquire));
        if found != 0 {
            // This wait ends with `lower`, at the end of the operation's stretch.
            wait::until(relax, || gate(self.arrived.load(Ordering::Acquire)) != found);
        }
        Passed(self)
    }

    /// Shuts the gate and waits for the looks under way, for at most `turns` polls with `relax`; returns `false`,
    /// with the gate open, if a look does not end. For the operation under way.
    pub(crate) fn shut(&self, turns: u64, relax: &impl Fn()) -> bool {
        let phase = self.phase.load(Ordering::Relaxed);
        self.phase.store(phase.wrapping_add(1), Ordering::Relaxed);
        let shut = SHUT | phase & PHASE;
        let before = self.arrived.fetch_add(shut, Ordering::Relaxed) & !(SHUT | PHASE);
        // Acquire: partner of the Release in `Passed::drop`; those looks have finished reading.
        let alone = wait::within(turns, relax, || self.left.load(Ordering::Acquire) == before);
        if alone {
            self.alone.store(true, Ordering::Relaxed);
        } else {
            self.lower();
        }
        alone
    }

    /// Opens the gate to looks. For the operation under way.
    pub(crate) fn open(&self) {
        if self.is_alone() {
            self.alone.store(false, Ordering::Relaxed);
            self.lower();
        }
    }

    fn lower(&self) {
        // Release: partner of the Acquire in `enter`.
        self.arrived.fetch_and(!(SHUT | PHASE), Ordering::Release);
    }

    /// Whether the operation under way keeps looks out.
    pub(crate) fn is_alone(&self) -> bool {
        self.alone.load(Ordering::Relaxed)
    }

    /// Whether an operation under way is calling code outside the manager. That does not change during a look.
    pub(crate) fn is_calling(&self) -> bool {
        self.calling.load(Ordering::Relaxed)
    }

    /// Calls `outside`, code outside the manager, with the gate open; afterwards the gate is as before. For the
    /// operation under way, while none of the data that looks rely on is half changed. Waits with `relax`.
    pub(crate) fn call<R>(&self, relax: &impl Fn(), outside: impl FnOnce() -> R) -> R {
        if !self.is_alone() {
            return outside();
        }
        self.calling.store(true, Ordering::Relaxed);
        self.open();
        let call = Call(self, relax);
        let result = outside();
        drop(call);
        result
    }
}

impl Drop for Passed<'_> {
    fn drop(&mut self) {
        // Release: partner of the Acquire in `shut`.
        self.0.left.fetch_add(ONE, Ordering::Release);
    }
}

impl<W: Fn()> Drop for Call<'_, W> {
    fn drop(&mut self) {
        self.0.shut(PATIENCE, self.1);
        self.0.calling.store(false, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use crate::lock::relax;
    use spin::Mutex;
    use std::thread;
    use std::vec::Vec;

    fn arrived(looks: &Looks) -> u64 {
        looks.arrived.load(Ordering::Relaxed)
    }

    /// Waits until `holds`, which depends on another thread.
    fn until(holds: impl Fn() -> bool) {
        while !holds() {
            thread::yield_now();
        }
    }

    #[test]
    fn looks_are_together_and_an_operation_is_alone() {
        let looks = Looks::new();
        let (first, second) = (looks.enter(&relax), looks.enter(&relax));
        assert!(!looks.shut(10, &relax) && !looks.is_alone());
        drop(first);
        assert!(!looks.shut(10, &relax));
        // After it gave up the gate is open.
        drop((second, looks.enter(&relax)));
        assert!(looks.shut(10, &relax) && looks.is_alone());
        looks.call(&relax, || {
            assert!(looks.is_calling());
            drop(looks.enter(&relax));
        });
        assert!(looks.is_alone() && !looks.is_calling());
        looks.open();
        drop(looks.enter(&relax));
    }

    #[test]
    fn a_look_that_comes_after_an_operation_waits_for_it_and_the_next_operation_waits_for_the_look()
    {
        let (looks, order) = (Looks::new(), Mutex::new(Vec::new()));
        let first = looks.enter(&relax);
        thread::scope(|scope| {
            scope.spawn(|| {
                assert!(looks.shut(u64::MAX, &relax));
                // The second look has arrived, and this operation holds it off.
                until(|| arrived(&looks) >= 2 * ONE);
                order.lock().push("operation");
                looks.open();
                assert!(looks.shut(u64::MAX, &relax));
                order.lock().push("next operation");
                looks.open();
            });
            until(|| arrived(&looks) & SHUT != 0);
            scope.spawn(|| {
                let look = looks.enter(&relax);
                order.lock().push("look");
                drop(look);
            });
            until(|| arrived(&looks) >= 2 * ONE);
            drop(first);
        });
        assert_eq!(*order.lock(), ["operation", "look", "next operation"]);
    }

    #[test]
    fn an_operation_that_calls_out_is_alone_again_only_after_the_looks_that_came_meanwhile() {
        let (looks, order) = (Looks::new(), Mutex::new(Vec::new()));
        thread::scope(|scope| {
            assert!(looks.shut(10, &relax));
            looks.call(&relax, || {
                scope.spawn(|| {
                    let look = looks.enter(&relax);
                    until(|| arrived(&looks) & SHUT != 0);
                    order.lock().push("look");
                    drop(look);
                });
                until(|| arrived(&looks) >= ONE);
            });
            assert!(looks.is_alone());
            order.lock().push("operation");
            looks.open();
        });
        assert_eq!(*order.lock(), ["look", "operation"]);
    }

    /// Two words that an operation changes one after the other, and looks compare.
    #[derive(Default)]
    struct Pair(AtomicU64, AtomicU64);

    #[test]
    fn looks_from_many_threads_never_see_a_change_half_done_nor_keep_operations_out() {
        const OPERATIONS: u64 = 200;
        let (looks, pair, over) = (Looks::new(), Pair::default(), AtomicBool::new(false));
        let seen: u64 = thread::scope(|scope| {
            let look = || {
                let mut count = 0;
                while !over.load(Ordering::Relaxed) {
                    let look = looks.enter(&relax);
                    let (a, b) = (&pair.0, &pair.1);
                    assert_eq!(a.load(Ordering::Relaxed), b.load(Ordering::Relaxed));
                    drop(look);
                    count += 1;
                }
                count
            };
            let threads: Vec<_> = (0..3).map(|_| scope.spawn(look)).collect();
            for turn in 0..OPERATIONS {
                // Without a limit: the host may preempt a thread that looks for longer. If looks kept operations out,
                // the test would not end.
                assert!(looks.shut(u64::MAX, &relax));
                pair.0.store(turn, Ordering::Relaxed);
                thread::yield_now();
                pair.1.store(turn, Ordering::Relaxed);
                looks.call(&relax, thread::yield_now);
                looks.open();
            }
            over.store(true, Ordering::Relaxed);
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        // Each of them waits for at most one operation.
        assert!(seen >= 3, "{seen}");
    }
}
