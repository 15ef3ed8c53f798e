//! Translation caches that only record their calls, for rigs.

// UNSAFETY: vouches for caches that hold nothing.
#![expect(unsafe_code)]

use super::super::std::sync::{Mutex, MutexGuard, PoisonError};
use super::super::std::vec::Vec;
use crate::addr::{AddressRange, Space, Virtual};
use crate::{NotFlushed, Tlb};

use core::mem;

/// A [`Tlb`] for a rig whose tables no CPU walks: it records the calls of the mapper, and
/// [`MapperRig::tlb_calls`](super::MapperRig::tlb_calls) passes them on.
#[derive(Debug)]
pub struct RecordingTlb<I: Space = Virtual>(Mutex<TlbCalls<I>>);

/// The calls that a [`Tlb`] received.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlbCalls<I: Space = Virtual> {
    /// The number of [`publish`](Tlb::publish).
    pub published: usize,
    /// The ranges of every [`flush`](Tlb::flush).
    pub flushed: Vec<AddressRange<I>>,
}

impl<I: Space> Default for RecordingTlb<I> {
    fn default() -> Self {
        Self(Mutex::new(TlbCalls { published: 0, flushed: Vec::new() }))
    }
}

impl<I: Space> RecordingTlb<I> {
    /// The calls since the last time.
    pub fn take(&self) -> TlbCalls<I> {
        let mut calls = self.calls();
        TlbCalls {
            published: mem::take(&mut calls.published),
            flushed: mem::take(&mut calls.flushed),
        }
    }

    fn calls(&self) -> MutexGuard<'_, TlbCalls<I>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// SAFETY: no CPU translates by the tables of a rig.
unsafe impl<I: Space> Tlb<I> for RecordingTlb<I> {
    fn publish(&self) {
        self.calls().published += 1;
    }

    fn flush(&self, ranges: &[AddressRange<I>]) -> Result<(), NotFlushed> {
        self.calls().flushed.extend_from_slice(ranges);
        Ok(())
    }
}
