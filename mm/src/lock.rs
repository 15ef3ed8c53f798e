//! The locks that CPUs spin on, whose kind is the kernel's choice: see [`Machine::Lock`](crate::Machine::Lock).
//!
//! They are held for a short time, and never while a listener, an owner of pages or the closure of a dump is called: see
//! [`crate::machine`]. The turn is not such a lock: it marks that an operation is under way, is held while others'
//! code runs, and stays the manager's own.

use core::fmt;

pub use lock_api;

/// A kind of lock: what implements [`lock_api::RawMutex`], [`SpinLock`] for one, or the kernel's own that is fair,
/// or that masks interrupts while it is held.
pub trait RawLock: lock_api::RawMutex + Send + Sync + fmt::Debug + 'static {}

impl<L: lock_api::RawMutex + Send + Sync + fmt::Debug + 'static> RawLock for L {}

/// A lock that spins and does nothing else.
pub type SpinLock = spin::Mutex<()>;

pub(crate) use lock_api::{Mutex, MutexGuard};

/// One turn of a wait. On a host it lets another thread run: the one that this one waits for may have no CPU.
pub(crate) fn relax() {
    #[cfg(any(test, feature = "testing"))]
    {
        extern crate std;
        std::thread::yield_now();
    }
    core::hint::spin_loop();
}
