//! A lock like a kernel's own: it counts those of its kind that the thread holds, as one that masks interrupts
//! would.

// UNSAFETY: vouches for the exclusion, which the spin lock inside provides.
#![expect(unsafe_code)]

use super::std::cell::{Cell, RefCell};
use super::std::thread_local;
use super::std::vec::Vec;
use crate::lock::SpinLock;
use crate::lock::lock_api::{GuardNoSend, RawMutex};

thread_local! {
    /// The locks that this thread holds, in the order of locking.
    static HELD: RefCell<Vec<*const WatchedLock>> = const { RefCell::new(Vec::new()) };
    static WAITS: Cell<Option<&'static dyn Fn()>> = const { Cell::new(None) };
}

/// Has this thread call `turn` whenever it waits in the manager, as a CPU with interrupts off that serves flush
/// requests during the wait.
pub fn on_wait(turn: &'static dyn Fn()) {
    WAITS.set(Some(turn));
}

/// One iteration of a wait.
pub(super) fn wait() {
    WAITS.get().into_iter().for_each(|turn| turn());
    crate::lock::relax();
}

/// The number of the manager's locks that this thread holds.
pub fn locks_held() -> usize {
    HELD.with_borrow(Vec::len)
}

/// Fails if this thread holds one of the manager's locks, as at a flush: a CPU that waits for it with interrupts off
/// may run a kernel whose locks serve no flushes. A conversion holds one that no other CPU waits for, to keep
/// handlers out.
pub(super) fn assert_free() {
    // A gather that is dropped by a panic flushes: a second failure would abort the program.
    assert!(locks_held() <= 1 || super::std::thread::panicking(), "a flush with a lock held");
}

/// A spin lock that counts, and must be released in the reverse order: one that masks interrupts restores the
/// previous state.
#[derive(Debug)]
pub struct WatchedLock(SpinLock);

impl WatchedLock {
    fn note(&self) {
        HELD.with_borrow_mut(|held| held.push(self));
    }
}

// SAFETY: the lock inside excludes; counting does not affect that.
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
        // SAFETY: by the contract of this function this thread holds the lock.
        unsafe { RawMutex::unlock(&self.0) };
    }
}
