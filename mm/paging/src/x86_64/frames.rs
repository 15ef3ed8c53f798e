//! Frames for the tables of one mapping, taken before it begins: then a missing frame leaves nothing to undo.

// UNSAFETY: vouches for the frames that it passes on, and clears them.
#![expect(unsafe_code)]

use super::access::TableAccess;
use super::slot::{LAST, TABLE_BYTES};
use crate::{OutOfFrames, TableFrame, TableFrames};

use ::x86_64::PhysAddr;
use ::x86_64::structures::paging::{FrameAllocator, PhysFrame, Size4KiB};

/// Empty tables for `map_to`; those that it does not take are freed.
pub(super) struct NewTables<'f, S: TableFrames> {
    frames: &'f S,
    ready: [Option<TableFrame>; LAST],
}

impl<'f, S: TableFrames> NewTables<'f, S> {
    /// Takes `count` frames, three at most.
    pub(super) fn take<T: TableAccess>(
        tree: &T,
        frames: &'f S,
        count: usize,
    ) -> Result<Self, OutOfFrames> {
        let mut new = Self { frames, ready: [const { None }; LAST] };
        for slot in new.ready.iter_mut().take(count) {
            let frame = frames.take(TABLE_BYTES)?;
            if let Some(table) = physical(&frame).and_then(|at| tree.new_table(at)) {
                // SAFETY: the frame is RAM of a table's size without another use, and not in the tree, so the
                // pointer is valid, by the contract of `TableAccess`.
                unsafe { table.write_bytes(0, 1) };
            }
            *slot = Some(frame);
        }
        Ok(new)
    }
}

fn physical(frame: &TableFrame) -> Option<PhysFrame> {
    let at = PhysAddr::try_new(frame.at().get()).ok()?;
    PhysFrame::from_start_address(at).ok()
}

// SAFETY: each frame was taken from its source, has no other use, and is passed on once.
unsafe impl<S: TableFrames> FrameAllocator<Size4KiB> for NewTables<'_, S> {
    fn allocate_frame(&mut self) -> Option<PhysFrame> {
        let frame = self.ready.iter_mut().find_map(Option::take)?;
        let at = physical(&frame);
        match at {
            Some(_) => _ = frame.into_raw(),
            None => self.frames.give_back(frame),
        }
        at
    }
}

impl<S: TableFrames> Drop for NewTables<'_, S> {
    fn drop(&mut self) {
        for frame in self.ready.iter_mut().filter_map(Option::take) {
            self.frames.give_back(frame);
        }
    }
}
