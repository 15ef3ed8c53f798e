//! A lock of a kernel's own: it knows how many of its kind the thread holds, as one would that masks interrupts.

// UNSAFETY: vouches for the exclusion, which is the spin lock's inside.
#![expect(unsafe_code)]

use super::std::cell::Cell;
use super::std::thread_local;
use crate::lock::SpinLock;
use crate::lock::lock_api::{GuardNoSend, RawMutex};

thread_local! {
    static HELD: Cell<usize> = const { Cell::new(0) };
    static WAITS: Cell<Option<&'static dyn Fn()>> = const { Cell::new(None) };
}

/// Has this thread call `turn` whenever it waits in the manager, as a CPU with interrupts off that serves others
/// meanwhile.
pub fn on_wait(turn: &'static dyn Fn()) {
    WAITS.set(Some(turn));
}

/// One turn of a wait.
pub(super) fn wait() {
    WAITS.get().into_iter().for_each(|turn| turn());
    crate::lock::relax();
}

/// How many of the manager's locks this thread holds.
pub fn locks_held() -> usize {
    HELD.get()
}

/// Fails if this thread holds one of the manager's locks, as at a flush: a CPU that waits for that with interrupts off
/// might be of a kernel whose locks serve nothing.
pub(super) fn assert_free() {
    // A gather that is dropped by a panic flushes: to fail once more would end the program.
    assert!(locks_held() == 0 || super::std::thread::panicking(), "a flush with a lock held");
}

/// A spin lock that counts.
#[derive(Debug)]
pub struct WatchedLock(SpinLock);

// SAFETY: the lock inside excludes; counting changes nothing of that.
unsafe impl RawMutex for WatchedLock {
    const INIT: Self = Self(<SpinLock as RawMutex>::INIT);

    type GuardMarker = GuardNoSend;

    fn lock(&self) {
        while !RawMutex::try_lock(&self.0) {
            wait();
        }
        HELD.set(HELD.get() + 1);
    }

    fn try_lock(&self) -> bool {
        let locked = RawMutex::try_lock(&self.0);
        if locked {
            HELD.set(HELD.get() + 1);
        }
        locked
    }

    unsafe fn unlock(&self) {
        HELD.set(HELD.get() - 1);
        // SAFETY: the caller's promise: it is held by this thread.
        unsafe { RawMutex::unlock(&self.0) };
    }
}
