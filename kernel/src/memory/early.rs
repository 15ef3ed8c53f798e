//! The allocator the kernel boots with: RAM minus what is reserved, given out from the top.
//!
//! Low memory is left for last: the image lies there, and devices that can reach little want it. What
//! is still free when the memory manager takes over is its to give out.

// UNSAFETY: vouches for the frames that it gives away.
#![expect(unsafe_code)]

use hotmem::EarlyFrames;
use hotmem::addr::{PhysAddr, PhysRange};
use hotmem_boot::RangeList;

/// Free RAM at boot.
#[derive(Debug)]
pub struct EarlyMemory {
    free: RangeList,
    /// Nothing at or above this is given out yet: what maps it is not there.
    limit: PhysAddr,
    /// What is at or above this is given out only when there is nothing below.
    preferred: PhysAddr,
}

impl EarlyMemory {
    /// All of `ram` but the bytes of `taken`, giving out only what lies below `limit` at first.
    pub fn new(ram: &RangeList, taken: &[PhysRange], limit: PhysAddr) -> Self {
        let mut free = *ram;
        taken.iter().for_each(|&range| free.remove(range));
        Self { free, limit, preferred: PhysAddr::new(u64::MAX) }
    }

    /// Leaves what is at or above `end` for last: blocks there shall stay whole.
    pub fn prefer(&mut self, end: PhysAddr) {
        self.preferred = end;
    }

    /// Everything can be reached now.
    pub fn lift_limit(&mut self) {
        self.limit = PhysAddr::new(u64::MAX);
    }

    /// Adds RAM that is no longer used. What the list has no room for stays used.
    pub fn give(&mut self, range: PhysRange) {
        self.free.insert(range);
    }

    /// Bytes still free.
    pub fn bytes(&self) -> u64 {
        self.free.bytes()
    }
}

/// The highest aligned place for `bytes` in `range`, below `limit`.
fn place(range: PhysRange, bytes: u64, align: u64, limit: u64) -> Option<PhysAddr> {
    let end = range.start().get().saturating_add(range.len()).min(limit);
    let start = end.checked_sub(bytes)? & !(align - 1);
    (start >= range.start().get()).then_some(PhysAddr::new(start))
}

// SAFETY: what is taken leaves the free ranges for good, and those are RAM that nothing else uses.
unsafe impl EarlyFrames for EarlyMemory {
    fn take(&mut self, bytes: u64, align: u64) -> Option<PhysAddr> {
        let below = |limit: PhysAddr| {
            self.free.iter().rev().find_map(|range| place(range, bytes, align, limit.get()))
        };
        let start = below(self.limit.min(self.preferred)).or_else(|| below(self.limit))?;
        self.free.remove(PhysRange::new(start, bytes)?);
        Some(start)
    }

    fn free_ranges(&self, each: &mut dyn FnMut(PhysRange)) {
        self.free.iter().for_each(each);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(start: u64, end: u64) -> PhysRange {
        PhysRange::new(PhysAddr::new(start), end - start).unwrap()
    }

    fn ram(ranges: &[PhysRange]) -> RangeList {
        let mut list = RangeList::new();
        ranges.iter().for_each(|&range| list.insert(range));
        list
    }

    const ALL: PhysAddr = PhysAddr::new(u64::MAX);

    #[test]
    fn memory_is_given_out_from_the_top_and_aligned() {
        let ram = ram(&[range(0x1000, 0x9000), range(0x10_0000, 0x20_5000)]);
        let mut early = EarlyMemory::new(&ram, &[range(0x10_0000, 0x11_0000)], ALL);
        assert_eq!(early.take(0x1000, 0x1000), Some(PhysAddr::new(0x20_4000)));
        assert_eq!(early.take(0x8_0000, 0x8_0000), Some(PhysAddr::new(0x18_0000)));
        // The hole that alignment left is used before anything lower.
        assert_eq!(early.take(0x1000, 0x1000), Some(PhysAddr::new(0x20_3000)));
        assert_eq!(early.take(0x20_0000, 0x1000), None);
    }

    #[test]
    fn nothing_above_the_limit_is_given_out_until_it_is_lifted() {
        let ram = ram(&[range(0x1000, 0x4000), range(1 << 32, 2 << 32)]);
        let mut early = EarlyMemory::new(&ram, &[], PhysAddr::new(1 << 32));
        assert_eq!(early.take(0x1000, 0x1000), Some(PhysAddr::new(0x3000)));
        assert_eq!(early.take(0x4000, 0x1000), None);
        early.lift_limit();
        assert_eq!(early.take(0x4000, 0x4000), Some(PhysAddr::new((2 << 32) - 0x4000)));
    }

    #[test]
    fn what_is_preferred_is_given_out_first() {
        let ram = ram(&[range(0x1000, 0x9000)]);
        let mut early = EarlyMemory::new(&ram, &[], ALL);
        early.prefer(PhysAddr::new(0x3000));
        assert_eq!(early.take(0x1000, 0x1000), Some(PhysAddr::new(0x2000)));
        assert_eq!(early.take(0x2000, 0x1000), Some(PhysAddr::new(0x7000)));
        assert_eq!(early.take(0x1000, 0x1000), Some(PhysAddr::new(0x1000)));
        assert_eq!(early.take(0x1000, 0x1000), Some(PhysAddr::new(0x6000)));
    }

    #[test]
    fn no_byte_is_given_out_twice_and_all_come_back() {
        let ram = ram(&[range(0x1000, 0x40_0000)]);
        let mut early = EarlyMemory::new(&ram, &[], ALL);
        let before = early.bytes();
        let mut taken = RangeList::new();
        let mut pieces = Vec::new();
        for step in 0..300u64 {
            let bytes = 0x1000 << (step % 4);
            let Some(at) = early.take(bytes, bytes) else { continue };
            let piece = range(at.get(), at.get() + bytes);
            assert!(at.is_aligned(bytes) && !taken.overlaps(piece));
            taken.insert(piece);
            pieces.push(piece);
        }
        assert_eq!(early.bytes() + taken.bytes(), before);
        pieces.into_iter().for_each(|piece| early.give(piece));
        assert_eq!(early.bytes(), before);
    }
}
