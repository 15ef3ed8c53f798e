//! A source of table frames that checks a mapper's use of them.

// UNSAFETY: vouches for the frames that it allocates.
#![expect(unsafe_code)]

use super::super::std::collections::{BTreeMap, BTreeSet};
use super::super::std::sync::{Mutex, MutexGuard, PoisonError};
use super::super::std::vec::Vec;
use super::super::{FaultPlan, std};
use super::speculation::Hooks;
use crate::addr::{PhysAddr, PhysRange};
use crate::{OutOfFrames, TableFrame, TableFrames};

/// Frames out of a range of RAM.
pub(super) struct Frames<'r> {
    /// The allocations that fail.
    pub(super) plan: FaultPlan,
    range: PhysRange,
    hooks: &'r dyn Hooks,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Bytes allocated from the range's start.
    next: u64,
    /// Freed frames, by size; the latest is allocated first, so that early reuse is detected.
    free: BTreeMap<u64, Vec<PhysAddr>>,
    used: BTreeMap<PhysAddr, u64>,
    /// Tables that stay though they are empty.
    kept: BTreeSet<PhysAddr>,
}

impl<'r> Frames<'r> {
    pub(super) fn new(range: PhysRange, hooks: &'r dyn Hooks) -> Self {
        Self { plan: FaultPlan::never(), range, hooks, state: Mutex::default() }
    }

    /// Frames in use, with their bytes, sorted.
    pub(super) fn used(&self) -> Vec<(PhysAddr, u64)> {
        self.state().used.iter().map(|(&at, &bytes)| (at, bytes)).collect()
    }

    /// Makes all tables in use stay though they are empty, or none.
    pub(super) fn keep_all(&self, keep: bool) {
        let mut state = self.state();
        state.kept = state.used.keys().copied().filter(|_| keep).collect();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TableFrames for Frames<'_> {
    fn take(&self, bytes: u64) -> Result<TableFrame, OutOfFrames> {
        let out = OutOfFrames { bytes };
        self.hooks.taken();
        if !self.plan.allows() {
            return Err(out);
        }
        assert!(bytes.is_power_of_two(), "a table of {bytes} bytes was requested");
        let mut state = self.state();
        let again = state.free.entry(bytes).or_default().pop();
        let frame = match again {
            Some(frame) => frame,
            None => {
                let frame = self.range.start().add(state.next).align_down(bytes);
                let skip = if frame < self.range.start().add(state.next) { bytes } else { 0 };
                let frame = frame.add(skip);
                let next = frame.offset_from(self.range.start()) + bytes;
                assert!(next <= self.range.len(), "the rig's table RAM is too small");
                state.next = next;
                frame
            }
        };
        self.hooks.spoil(frame, bytes);
        state.used.insert(frame, bytes);
        // SAFETY: frames come from RAM that the rig vouches for, each once until it is freed.
        Ok(unsafe { TableFrame::new(frame, bytes) })
    }

    fn give_back(&self, frame: TableFrame) {
        let (bytes, frame) = (frame.bytes(), frame.into_raw());
        self.hooks.freed(frame);
        let mut state = self.state();
        let known = state.used.remove(&frame);
        if std::thread::panicking() {
            return;
        }
        assert_eq!(known, Some(bytes), "{frame} freed, but not in use as a table of {bytes} bytes");
        assert!(!state.kept.contains(&frame), "the table at {frame}, which is kept, is freed");
        self.hooks.spoil(frame, bytes);
        state.free.entry(bytes).or_default().push(frame);
    }

    fn keeps(&self, frame: PhysAddr) -> bool {
        self.state().kept.contains(&frame)
    }
}
