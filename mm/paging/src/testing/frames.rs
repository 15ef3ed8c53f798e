//! Frames for page tables out of a range of fake RAM; every misuse panics.

// UNSAFETY: vouches for the frames that it allocates.
#![expect(unsafe_code)]

use super::std::collections::BTreeMap;
use super::std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use super::std::vec::Vec;
use super::{FaultPlan, SoftMmu};
use crate::addr::{PhysAddr, PhysRange};
use crate::{OutOfFrames, PteFormat, TableFrame, TableFrames};

use core::fmt;

/// The content of a freed frame: an empty slot in no format.
const POISON: u8 = 0xa5;

/// A source of table frames over a range of a machine's RAM.
pub struct FakeTables<F: PteFormat> {
    mmu: Arc<SoftMmu<F>>,
    plan: Arc<FaultPlan>,
    range: PhysRange,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// First byte never allocated, from the range's start.
    next: u64,
    /// Freed frames, by size; the latest is allocated first, so that early reuse is detected.
    free: BTreeMap<u64, Vec<PhysAddr>>,
    /// Frames in use, with their sizes.
    used: BTreeMap<PhysAddr, u64>,
}

impl<F: PteFormat> FakeTables<F> {
    /// Allocates frames of `range`, except where `plan` makes an allocation fail.
    pub fn new(mmu: &Arc<SoftMmu<F>>, range: PhysRange, plan: &Arc<FaultPlan>) -> Self {
        Self { mmu: Arc::clone(mmu), plan: Arc::clone(plan), range, state: Mutex::default() }
    }

    /// Frames in use, with their bytes, sorted.
    pub fn used(&self) -> Vec<(PhysAddr, u64)> {
        let state = self.lock();
        state.used.iter().map(|(at, bytes)| (*at, *bytes)).collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn poison(&self, frame: PhysAddr, bytes: u64) {
        for offset in (0..bytes).step_by(8) {
            self.mmu.fill_word(frame.add(offset), POISON);
        }
    }
}

impl<F: PteFormat> TableFrames for FakeTables<F> {
    fn take(&self, bytes: u64) -> Result<TableFrame, OutOfFrames> {
        let out = OutOfFrames { bytes };
        if !self.plan.allows() {
            return Err(out);
        }
        let mut state = self.lock();
        let again = state.free.entry(bytes).or_default().pop();
        let frame = match again {
            Some(frame) => frame,
            None => {
                let start = self.range.start().get() + state.next;
                let frame = start.next_multiple_of(bytes);
                let next = frame + bytes - self.range.start().get();
                if next > self.range.len() {
                    return Err(out);
                }
                state.next = next;
                PhysAddr::new(frame)
            }
        };
        self.poison(frame, bytes);
        state.used.insert(frame, bytes);
        // SAFETY: frames come from a range of fake RAM that belongs to this allocator, each once until it is freed.
        Ok(unsafe { TableFrame::new(frame, bytes) })
    }

    fn give_back(&self, frame: TableFrame) {
        let (bytes, frame) = (frame.bytes(), frame.into_raw());
        let mut state = self.lock();
        assert_eq!(
            state.used.remove(&frame),
            Some(bytes),
            "{frame} freed, but not in use as a table of {bytes} bytes"
        );
        self.poison(frame, bytes);
        state.free.entry(bytes).or_default().push(frame);
    }
}

impl<F: PteFormat> fmt::Debug for FakeTables<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FakeTables")
            .field("range", &self.range)
            .field("used", &self.used().len())
            .finish_non_exhaustive()
    }
}
