//! Makes the n-th allocation fail.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// The allocation that fails, counted from 1 since the plan was armed.
///
/// A test runs an operation with n = 1, 2, 3 ... and compares before with after, until a run meets no fault
/// ([`fired`](Self::fired) returns `false`): then each allocation of the operation has failed once.
///
/// It orders nothing: threads must not depend on what a test counts.
#[derive(Debug, Default)]
pub struct FaultPlan {
    seen: AtomicU64,
    fails_at: AtomicU64,
    fired: AtomicBool,
}

impl FaultPlan {
    /// Nothing fails.
    pub const fn never() -> Self {
        Self { seen: AtomicU64::new(0), fails_at: AtomicU64::new(0), fired: AtomicBool::new(false) }
    }

    /// The `n`-th allocation from now on fails, once; 0 for none.
    pub fn arm(&self, n: u64) {
        self.seen.store(0, Ordering::Relaxed);
        self.fired.store(false, Ordering::Relaxed);
        self.fails_at.store(n, Ordering::Relaxed);
    }

    /// Nothing fails from now on.
    pub fn disarm(&self) {
        self.fails_at.store(0, Ordering::Relaxed);
    }

    /// Counts one allocation; returns whether it may succeed.
    pub fn allows(&self) -> bool {
        let nth = self.seen.fetch_add(1, Ordering::Relaxed) + 1;
        let fails = nth == self.fails_at.load(Ordering::Relaxed);
        if fails {
            self.fired.store(true, Ordering::Relaxed);
        }
        !fails
    }

    /// Whether the planned failure has happened.
    pub fn fired(&self) -> bool {
        self.fired.load(Ordering::Relaxed)
    }

    /// Allocations counted since the plan was armed.
    pub fn seen(&self) -> u64 {
        self.seen.load(Ordering::Relaxed)
    }
}
