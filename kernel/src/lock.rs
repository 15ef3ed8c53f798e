//! The kernel's spin locks. A CPU that holds one keeps interrupts disabled, so that handlers may take locks, too. A
//! CPU that waits has its interrupts as before, lets the holder run, and serves flush requests of other CPUs.

// UNSAFETY: vouches for the exclusion of the lock.
#![expect(unsafe_code)]

use crate::memory::tlb;
use core::sync::atomic::{AtomicU8, Ordering};
use hotmem::lock::lock_api::{self, GuardNoSend, RawMutex};
use hotmem_arch::current::cpu;

/// Data that one CPU at a time can access. Locks are released in the reverse order, since releasing the last one
/// enables interrupts.
pub(crate) type Mutex<T> = lock_api::Mutex<MaskingLock, T>;

/// The locks of the memory manager.
#[cfg(not(feature = "holds"))]
pub(crate) type ManagersLock = MaskingLock;
/// The locks of the memory manager, which record how long they are held.
#[cfg(feature = "holds")]
pub(crate) type ManagersLock = crate::holds::TimedLock<MaskingLock>;

/// One iteration of a loop that waits for another CPU.
#[inline(always)]
pub(crate) fn relax() {
    cpu::relax();
    tlb::serve();
}

/// A lock that keeps interrupts disabled while it is held.
#[derive(Debug)]
pub struct MaskingLock(AtomicU8);

/// No CPU holds the lock.
const FREE: u8 = 0;
/// A CPU holds it, and had disabled interrupts before.
const HELD: u8 = 1;
/// The same with interrupts enabled before.
const HELD_FROM_ENABLED: u8 = 2;

impl MaskingLock {
    /// Takes the lock with interrupts disabled, if it is free.
    #[inline(always)]
    fn take(&self, were_on: bool) -> bool {
        let held = if were_on { HELD_FROM_ENABLED } else { HELD };
        self.0.compare_exchange(FREE, held, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    #[cold]
    fn wait(&self, were_on: bool) {
        cpu::restore_interrupts(were_on);
        while self.0.load(Ordering::Relaxed) != FREE {
            relax();
        }
        cpu::disable_interrupts();
    }
}

// SAFETY: the exchange in `take` succeeds for one CPU until `unlock` marks the lock as free; `unlock` releases what
// `take` acquires. No handler interrupts the holder, whose CPU would wait for itself.
unsafe impl RawMutex for MaskingLock {
    const INIT: Self = Self(AtomicU8::new(FREE));

    /// A guard is dropped on the CPU that took the lock, which then gets its interrupt state back.
    type GuardMarker = GuardNoSend;

    #[inline]
    fn lock(&self) {
        let were_on = cpu::mask_interrupts();
        while !self.take(were_on) {
            self.wait(were_on);
        }
    }

    #[inline]
    fn try_lock(&self) -> bool {
        let were_on = cpu::mask_interrupts();
        let taken = self.take(were_on);
        if !taken {
            cpu::restore_interrupts(were_on);
        }
        taken
    }

    #[inline]
    unsafe fn unlock(&self) {
        let held = self.0.load(Ordering::Relaxed);
        self.0.store(FREE, Ordering::Release);
        cpu::restore_interrupts(held & HELD_FROM_ENABLED != 0);
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use hotmem_arch::host::Machine;

    #[test]
    fn interrupts_are_off_while_locks_are_held_and_afterwards_as_before() {
        let (done, ended) = std::sync::mpsc::channel();
        Machine::new().power_on(move || {
            lock_and_release();
            done.send(()).unwrap();
        });
        ended.recv().expect("the CPU has not panicked");
    }

    fn lock_and_release() {
        let (outer, inner) = (Mutex::new(1), Mutex::new(2));
        let on = cpu::interrupts_are_enabled;
        cpu::enable_interrupts();
        let first = outer.lock();
        assert!(!on());
        let second = inner.lock();
        assert!(outer.try_lock().is_none() && !on());
        drop(second);
        assert!(!on(), "the first lock is still held");
        drop(first);
        assert!(on());
        cpu::disable_interrupts();
        drop(outer.lock());
        assert!(!on());
        cpu::enable_interrupts();
    }
}
