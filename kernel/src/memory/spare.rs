//! A few frames reserved for the tables of windows: device registers and firmware's tables are mapped on demand,
//! before and after the memory manager has taken over.

// UNSAFETY: vouches for the frames that it allocates.
#![expect(unsafe_code)]

use crate::lock::Mutex;
use core::fmt;
use hotmem::paging::{OutOfFrames, TableFrame, TableFrames};
use hotmem::{EarlyFrames, PhysAddr};

/// Frames reserved: a window's page needs at most three tables, and its neighbours none.
const FRAMES: usize = 48;

/// A stack of frames of one size, each for one table, whatever the table's size.
pub struct SpareFrames {
    page: u64,
    free: Mutex<([PhysAddr; FRAMES], usize)>,
}

impl fmt::Debug for SpareFrames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SpareFrames").field("free", &self.free.lock().1).finish_non_exhaustive()
    }
}

impl SpareFrames {
    /// An empty stack of frames of `page` bytes.
    pub const fn new(page: u64) -> Self {
        Self { page, free: Mutex::new(([PhysAddr::new(0); FRAMES], 0)) }
    }

    /// Frames that are left.
    #[cfg(acpi)]
    pub fn left(&self) -> usize {
        self.free.lock().1
    }

    /// Fills the stack, as far as `early` has memory.
    pub fn fill(&self, early: &mut dyn EarlyFrames) {
        let (frames, count) = &mut *self.free.lock();
        while let Some(slot) = frames.get_mut(*count) {
            let Some(frame) = early.take(self.page, self.page) else { return };
            *slot = frame;
            *count += 1;
        }
    }
}

impl TableFrames for SpareFrames {
    fn take(&self, bytes: u64) -> Result<TableFrame, OutOfFrames> {
        let (frames, count) = &mut *self.free.lock();
        let index = count.checked_sub(1).filter(|_| bytes <= self.page);
        let (index, frame) = index
            .and_then(|index| frames.get(index).map(|&frame| (index, frame)))
            .ok_or(OutOfFrames { bytes })?;
        *count = index;
        // SAFETY: the frames were reserved with the early allocator, and each is in the list or allocated. They are
        // aligned to a page, so to less, too.
        Ok(unsafe { TableFrame::new(frame, bytes) })
    }

    fn give_back(&self, frame: TableFrame) {
        let frame = frame.into_raw();
        let (frames, count) = &mut *self.free.lock();
        // Only allocated frames are freed, so there is room.
        if let Some(slot) = frames.get_mut(*count) {
            *slot = frame;
            *count += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::early::EarlyMemory;
    use hotmem::PhysRange;
    use hotmem_boot::RangeList;

    #[test]
    fn frames_are_allocated_once_and_can_be_freed() {
        let mut ram = RangeList::new();
        ram.insert(PhysRange::new(PhysAddr::new(0x1000), 0x10_0000).unwrap());
        let mut early = EarlyMemory::new(&ram, &[], PhysAddr::new(u64::MAX));
        let spare = SpareFrames::new(4096);
        assert!(spare.take(4096).is_err());

        spare.fill(&mut early);
        assert!(spare.take(8192).is_err());
        let mut taken: Vec<_> = (0..FRAMES).map(|_| spare.take(4096).unwrap()).collect();
        assert!(spare.take(4096).is_err());
        taken.sort_by_key(TableFrame::at);
        assert!(taken.windows(2).all(|two| two[0].at() < two[1].at()));
        for frame in taken {
            spare.give_back(frame);
        }
        let frame = spare.take(256).unwrap();
        assert!(frame.at().is_aligned(4096) && frame.bytes() == 256);
        spare.give_back(frame);
        spare.give_back(spare.take(4096).unwrap());
    }
}
