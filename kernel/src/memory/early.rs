//! The boot allocator: RAM minus reserved memory, allocated from the top.
//!
//! Low memory is allocated last: the image lies there, and devices with short addresses need it. The memory that is
//! still free when the memory manager takes over becomes the manager's.

// UNSAFETY: vouches for the frames that it allocates.
#![expect(unsafe_code)]

use hotmem::EarlyFrames;
use hotmem::addr::{PhysAddr, PhysRange};
use hotmem_boot::RangeList;

/// Free RAM at boot.
#[derive(Debug)]
pub struct EarlyMemory {
    free: RangeList,
    /// Memory at or above this is not allocated yet, since it is not mapped.
    limit: PhysAddr,
    /// Memory at or above this is allocated only when there is none below.
    preferred: PhysAddr,
}

impl EarlyMemory {
    /// All of `ram` except the bytes of `taken`; at first only memory below `limit` is allocated.
    pub fn new(ram: &RangeList, taken: &[PhysRange], limit: PhysAddr) -> Self {
        let mut free = *ram;
        taken.iter().for_each(|&range| free.remove(range));
        Self { free, limit, preferred: PhysAddr::new(u64::MAX) }
    }

    /// Allocates memory at or above `end` last, so that blocks there stay whole.
    pub fn prefer(&mut self, end: PhysAddr) {
        self.preferred = end;
    }

    /// Lifts the limit: all memory is mapped now.
    pub fn lift_limit(&mut self) {
        self.limit = PhysAddr::new(u64::MAX);
    }

    /// Adds RAM that is no longer used. Ranges that do not fit the list stay in use.
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

// SAFETY: memory that is taken leaves the free ranges for ever, and those are RAM of no other use.
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
    fn memory_is_allocated_from_the_top_and_aligned() {
        let ram = ram(&[range(0x1000, 0x9000), range(0x10_0000, 0x20_5000)]);
        let mut early = EarlyMemory::new(&ram, &[range(0x10_0000, 0x11_0000)], ALL);
        assert_eq!(early.take(0x1000, 0x1000), Some(PhysAddr::new(0x20_4000)));
        assert_eq!(early.take(0x8_0000, 0x8_0000), Some(PhysAddr::new(0x18_0000)));
        // The gap from an alignment is used before lower memory.
        assert_eq!(early.take(0x1000, 0x1000), Some(PhysAddr::new(0x20_3000)));
        assert_eq!(early.take(0x20_0000, 0x1000), None);
    }

    #[test]
    fn memory_above_the_limit_is_not_allocated_until_the_limit_is_lifted() {
        let ram = ram(&[range(0x1000, 0x4000), range(1 << 32, 2 << 32)]);
        let mut early = EarlyMemory::new(&ram, &[], PhysAddr::new(1 << 32));
        assert_eq!(early.take(0x1000, 0x1000), Some(PhysAddr::new(0x3000)));
        assert_eq!(early.take(0x4000, 0x1000), None);
        early.lift_limit();
        assert_eq!(early.take(0x4000, 0x4000), Some(PhysAddr::new((2 << 32) - 0x4000)));
    }

    #[test]
    fn preferred_memory_is_allocated_first() {
        let ram = ram(&[range(0x1000, 0x9000)]);
        let mut early = EarlyMemory::new(&ram, &[], ALL);
        early.prefer(PhysAddr::new(0x3000));
        assert_eq!(early.take(0x1000, 0x1000), Some(PhysAddr::new(0x2000)));
        assert_eq!(early.take(0x2000, 0x1000), Some(PhysAddr::new(0x7000)));
        assert_eq!(early.take(0x1000, 0x1000), Some(PhysAddr::new(0x1000)));
        assert_eq!(early.take(0x1000, 0x1000), Some(PhysAddr::new(0x6000)));
    }

    #[test]
    fn no_byte_is_allocated_twice_and_all_can_be_freed() {
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
