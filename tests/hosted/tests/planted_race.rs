//! A data race on purpose, which `cargo xtask ci --full` requires ThreadSanitizer to find: a sanitizer that does not
//! find it would not find another.

// UNSAFETY: a lock that excludes, but orders nothing.
#![expect(unsafe_code)]

mod storm;

use hotmem::lock::lock_api::{GuardNoSend, RawMutex};
use std::sync::atomic::{AtomicBool, Ordering, compiler_fence};

/// A lock without `Acquire` and `Release`. The fences of the compiler make it work on x86, so that the storm ends
/// as others do; they order nothing for the memory model, or for ThreadSanitizer.
#[derive(Debug)]
struct Unordered(AtomicBool);

// SAFETY: one thread at a time holds it. It does not order their accesses, which is unsound: this is the planted race.
unsafe impl RawMutex for Unordered {
    const INIT: Self = Self(AtomicBool::new(false));

    type GuardMarker = GuardNoSend;

    fn lock(&self) {
        while !self.try_lock() {
            std::thread::yield_now();
        }
    }

    fn try_lock(&self) -> bool {
        let (free, held) = (false, true);
        let taken =
            self.0.compare_exchange(free, held, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        compiler_fence(Ordering::SeqCst);
        taken
    }

    unsafe fn unlock(&self) {
        compiler_fence(Ordering::SeqCst);
        self.0.store(false, Ordering::Relaxed);
    }
}

#[test]
#[ignore = "a data race on purpose: for `cargo xtask ci --full`"]
fn planted_race() {
    storm::storm::<Unordered>();
}
