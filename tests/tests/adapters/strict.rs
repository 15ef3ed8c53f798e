//! A lock that fails a test where a kernel would hang.

// UNSAFETY: vouches for the exclusion.
#![expect(unsafe_code)]

use hotmem::lock::lock_api::{GuardNoSend, RawMutex};
use std::sync::atomic::{AtomicBool, Ordering};

/// A lock for one thread: taking it twice panics.
#[derive(Debug)]
pub(crate) struct Strict(AtomicBool);

// SAFETY: the flag is set by one holder at a time.
unsafe impl RawMutex for Strict {
    const INIT: Self = Self(AtomicBool::new(false));

    type GuardMarker = GuardNoSend;

    fn lock(&self) {
        assert!(self.try_lock(), "the mapper is called from inside itself");
    }

    fn try_lock(&self) -> bool {
        !self.0.swap(true, Ordering::Acquire)
    }

    unsafe fn unlock(&self) {
        self.0.store(false, Ordering::Release);
    }
}
