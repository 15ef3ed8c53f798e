//! The spin locks of the manager, whose kind the kernel chooses: see [`Machine::Lock`](crate::Machine::Lock).
//!
//! They are held for short times, and never while a listener, an owner of pages or the closure of a dump is called:
//! see [`crate::machine`]. The turn is not such a lock: it marks an operation under way, is held while other code
//! runs, and is the manager's own.
//!
//! A [`TicketLock`] is granted in the order of requests, so each wait is bounded by those before it. All CPUs that wait
//! read one word, which each release writes. In a queue each CPU waits for a word of its own (MCS); this crate has
//! none, because few CPUs wait at a time: a CPU locks a zone once for a batch of pages, and its own cache otherwise.
//! A kernel for which that is not so brings its own. [`lock_api::RawMutex`] has no place for a queue's node, and a
//! queue needs none but on the stacks of CPUs that wait: `tests/hosted/tests/queue.rs` of the repository is such a
//! lock, with which storms of threads run. A kernel's own lock calls the kernel's hook while it waits, as [`Relax`]
//! describes.

// UNSAFETY: vouches for the exclusion of the ticket lock.
#![expect(unsafe_code)]

use core::fmt;
use core::marker::PhantomData;
use core::sync::atomic::{AtomicU32, Ordering};

pub use lock_api;

/// A kind of lock: an implementation of [`lock_api::RawMutex`], such as [`SpinLock`], or the kernel's own that is
/// fair, or that masks interrupts while it is held.
pub trait RawLock: lock_api::RawMutex + Send + Sync + fmt::Debug + 'static {}

impl<L: lock_api::RawMutex + Send + Sync + fmt::Debug + 'static> RawLock for L {}

/// A lock that only spins.
pub type SpinLock = spin::Mutex<()>;

/// The work of a CPU while it waits for a lock.
pub trait Relax: Send + Sync + fmt::Debug + 'static {
    /// One iteration of the wait: the CPU's own hint (`pause`, `yield`), and the acknowledgement of another CPU's
    /// flush request ([`Machine::relax`](crate::Machine::relax)).
    fn relax();
}

/// A lock that is granted in the order of requests, with the kernel's wait.
#[derive(Debug)]
pub struct TicketLock<R: Relax> {
    /// The next ticket, and the ticket of the holder.
    next: AtomicU32,
    serving: AtomicU32,
    relax: PhantomData<fn() -> R>,
}

// SAFETY: each ticket is drawn once, and the lock is held from the moment that `serving` is its ticket until
// `unlock` sets the next one; there are never 2^32 CPUs that wait at once. `unlock` releases what `lock` and
// `try_lock` acquire.
unsafe impl<R: Relax> lock_api::RawMutex for TicketLock<R> {
    const INIT: Self =
        Self { next: AtomicU32::new(0), serving: AtomicU32::new(0), relax: PhantomData };

    type GuardMarker = lock_api::GuardNoSend;

    fn lock(&self) {
        let ticket = self.next.fetch_add(1, Ordering::Relaxed);
        while self.serving.load(Ordering::Acquire) != ticket {
            R::relax();
        }
    }

    fn try_lock(&self) -> bool {
        let serving = self.serving.load(Ordering::Acquire);
        let drawn = serving.wrapping_add(1);
        self.next.compare_exchange(serving, drawn, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    unsafe fn unlock(&self) {
        // Only the holder changes it.
        let serving = self.serving.load(Ordering::Relaxed);
        self.serving.store(serving.wrapping_add(1), Ordering::Release);
    }
}

pub(crate) use lock_api::{Mutex, MutexGuard};

/// One iteration of a wait. On a host it yields to another thread: the thread that this one waits for may have no
/// CPU.
pub(crate) fn relax() {
    #[cfg(any(test, feature = "testing"))]
    {
        extern crate std;
        std::thread::yield_now();
    }
    core::hint::spin_loop();
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use core::sync::atomic::AtomicU64;
    use std::thread;

    static WAITS: AtomicU64 = AtomicU64::new(0);

    #[derive(Debug)]
    struct Waits;

    impl Relax for Waits {
        fn relax() {
            WAITS.fetch_add(1, Ordering::Relaxed);
            thread::yield_now();
        }
    }

    #[test]
    fn a_ticket_lock_excludes_serves_in_order_and_waits_by_the_kernels_hook() {
        let lock = Mutex::<TicketLock<Waits>, _>::new(std::vec::Vec::new());
        let mut held = lock.lock();
        assert!(lock.try_lock().is_none());
        thread::scope(|scope| {
            // SAFETY: the lock is only read: `next` is the number of tickets drawn.
            let come = || unsafe { lock.raw() }.next.load(Ordering::Relaxed);
            for number in 0..3 {
                let lock = &lock;
                scope.spawn(move || lock.lock().push(number));
                while come() != number + 2 {
                    thread::yield_now();
                }
            }
            while WAITS.load(Ordering::Relaxed) == 0 {
                thread::yield_now();
            }
            held.push(9);
            drop(held);
        });
        assert_eq!(*lock.lock(), [9, 0, 1, 2]);
        assert!(lock.try_lock().is_some());
    }
}
