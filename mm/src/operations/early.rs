//! An early allocator, for kernels that know their RAM as a list of ranges.

// UNSAFETY: vouches for memory on the word of its creator.
#![expect(unsafe_code)]

use crate::addr::{PhysAddr, PhysRange};
use crate::alloc::node::NodeId;
use crate::operations::boot::EarlyFrames;

/// Ranges of RAM that are kept at most. Any others stay unused.
const RANGES: usize = 32;
/// No allocation is less aligned.
const PAGE: u64 = 4096;

/// [`EarlyFrames`] out of a list of ranges: an allocation is the start of the first one that has room.
#[derive(Clone, Debug)]
pub struct EarlyRanges {
    /// What is free of each, ascending.
    free: [PhysRange; RANGES],
    count: usize,
}

impl EarlyRanges {
    /// The parts of `ram`, which is [ascending](crate::BootMemory::ram), from `first_free` on. All below is in use: the
    /// kernel's image, its page tables, its heap.
    ///
    /// # Safety
    ///
    /// These parts are RAM of the linear map, and no other code uses them, for ever.
    pub unsafe fn new(ram: &[(PhysRange, NodeId)], first_free: PhysAddr) -> Self {
        let (mut free, mut count) = ([PhysRange::EMPTY; RANGES], 0);
        for part in ram.iter().filter_map(|&(range, _)| part_from(range, first_free)) {
            if let Some(slot) = free.get_mut(count) {
                *slot = part;
                count += 1;
            }
        }
        Self { free, count }
    }
}

/// The whole pages of `range` from `first` on, if there are any.
fn part_from(range: PhysRange, first: PhysAddr) -> Option<PhysRange> {
    let start = range.start().max(first).checked_add(PAGE - 1)?.align_down(PAGE);
    let end = range.end().align_down(PAGE);
    PhysRange::new(start, end.get().checked_sub(start.get())?).filter(|part| !part.is_empty())
}

// SAFETY: by the contract of `new`, the ranges are RAM of no other use; each byte is returned once.
unsafe impl EarlyFrames for EarlyRanges {
    fn take(&mut self, bytes: u64, align: u64) -> Option<PhysAddr> {
        let bytes = bytes.checked_next_multiple_of(PAGE)?;
        self.free.iter_mut().take(self.count).find_map(|free| {
            let start = free.start().checked_add(align - 1)?.align_down(align);
            let skipped = start.offset_from(free.start()).checked_add(bytes)?;
            let rest = free.len().checked_sub(skipped)?;
            *free = PhysRange::new(start.add(bytes), rest)?;
            Some(start)
        })
    }

    fn free_ranges(&self, each: &mut dyn FnMut(PhysRange)) {
        let free = self.free.iter().take(self.count).copied();
        free.filter(|range| !range.is_empty()).for_each(each);
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use std::vec::Vec;

    fn range(start: u64, len: u64) -> PhysRange {
        PhysRange::new(PhysAddr::new(start), len).unwrap()
    }

    fn early(ram: &[(u64, u64)], first: u64) -> EarlyRanges {
        let ram: Vec<_> = ram.iter().map(|&(at, len)| (range(at, len), NodeId::ZERO)).collect();
        // SAFETY: the caller does not use what it returns.
        unsafe { EarlyRanges::new(&ram, PhysAddr::new(first)) }
    }

    fn free(early: &EarlyRanges) -> Vec<PhysRange> {
        let mut free = Vec::new();
        early.free_ranges(&mut |range| free.push(range));
        free
    }

    #[test]
    fn only_whole_pages_above_what_is_in_use_are_free() {
        let early = early(&[(0, 0x9fc00), (0x10_0000, 0x10_0000), (0x30_0800, 0x900)], 0x18_0001);
        assert_eq!(free(&early), [range(0x18_1000, 0x7_f000)]);
    }

    #[test]
    fn a_request_takes_the_first_range_with_room_and_the_rest_stays_free() {
        let mut early = early(&[(0x1000, 0x2000), (0x10_0000, 0x10_0000)], 0);
        assert_eq!(early.take(0x3000, 0x1000), Some(PhysAddr::new(0x10_0000)));
        assert_eq!(early.take(1, 0x2000), Some(PhysAddr::new(0x2000)));
        assert_eq!(early.take(0x1000, 0x8000), Some(PhysAddr::new(0x10_8000)));
        assert_eq!(free(&early), [range(0x10_9000, 0xf_7000)]);
        assert_eq!(early.take(0x10_0000, 0x1000), None);
        assert_eq!(early.take(u64::MAX, 0x1000), None);
    }

    #[test]
    fn ranges_past_those_that_are_kept_stay_unused() {
        let many: Vec<_> = (0..40).map(|n| (n * 0x10_0000, 0x1000)).collect();
        assert_eq!(free(&early(&many, 0)).len(), RANGES);
    }
}
