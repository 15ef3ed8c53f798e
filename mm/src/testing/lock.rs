//! A lock of a kernel's own: it knows how many of its kind the thread holds, as one would that masks interrupts.

// UNSAFETY: vouches for the exclusion, which is the spin lock's inside.
#![expect(unsafe_code)]

use super::std::cell::{Cell, RefCell};
use super::std::thread_local;
use super::std::vec::Vec;
use crate::lock::SpinLock;
use crate::lock::lock_api::{GuardNoSend, RawMutex};

thread_local! {
    /// The locks that this thread holds, in the order in which it took them.
    static HELD: RefCell<Vec<*const WatchedLock>> = const { RefCell::new(Vec::new()) };
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
    HELD.with_borrow(Vec::len)
}

/// Fails if this thread holds one of the manager's locks, as at a flush: a CPU that waits for that with interrupts off
/// might be of a kernel whose locks serve nothing. A conversion holds one that no other CPU waits for, to keep handlers
/// out.
pub(super) fn assert_free() {
    // A gather that is dropped by a panic flushes: to fail once more would end the program.
    assert!(locks_held() <= 1 || super::std::thread::panicking(), "a flush with a lock held");
}

/// A spin lock that counts, and is to be released in the reverse order: one that masks interrupts has the state of
/// before.
#[derive(Debug)]
pub struct WatchedLock(SpinLock);

impl WatchedLock {
    fn note(&self) {
        HELD.with_borrow_mut(|held| held.push(self));
    }
}

// SAFETY: the lock inside excludes; counting changes nothing of that.
unsafe impl RawMutex for WatchedLock {
    const INIT: Self = Self(<SpinLock as RawMutex>::INIT);

    type GuardMarker = GuardNoSend;

    fn lock(&self) {
        while !RawMutex::try_lock(&self.0) {
            wait();
        }
        self.note();
    }

    fn try_lock(&self) -> bool {
        let locked = RawMutex::try_lock(&self.0);
        if locked {
            self.note();
        }
        locked
    }

    unsafe fn unlock(&self) {
        let last = HELD.with_borrow_mut(Vec::pop);
        let own = core::ptr::from_ref(self);
        assert!(last == Some(own) || super::std::thread::panicking(), "not the last lock taken");
        // SAFETY: the caller's promise: it is held by this thread.
        unsafe { RawMutex::unlock(&self.0) };
    }
}
