//! Firmware's memory where a loader has mapped it.

// UNSAFETY: makes slices of memory on the word of its creator.
#![expect(unsafe_code)]

use crate::addr::{PhysRange, VirtAddr};
use crate::seam::{ReadPhys, pointer_to};

/// Physical memory that a loader has mapped at an offset, read as bytes.
#[derive(Clone, Copy, Debug)]
pub struct MappedBytes {
    base: VirtAddr,
    range: PhysRange,
}

impl MappedBytes {
    /// The memory of `range`, which is mapped at `base` + physical address.
    ///
    /// # Safety
    ///
    /// All of it is mapped there, for as long as the value and what it returned are used. What is read of it, firmware's
    /// tables, is not written meanwhile.
    pub const unsafe fn new(base: VirtAddr, range: PhysRange) -> Self {
        Self { base, range }
    }
}

impl ReadPhys for MappedBytes {
    fn bytes(&self, range: PhysRange) -> Option<&[u8]> {
        let len = usize::try_from(range.len()).ok().filter(|&len| isize::try_from(len).is_ok())?;
        if !self.range.covers(range) {
            return None;
        }
        let first = pointer_to::<u8>(self.base.add(range.start().get()));
        // SAFETY: by the contract of `new` the bytes are mapped, and are not written.
        Some(unsafe { core::slice::from_raw_parts(first.as_ptr(), len) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::PhysAddr;

    #[test]
    fn bytes_are_those_at_the_offset_and_none_outside_the_range() {
        let table = [1_u8, 2, 3, 4];
        let base = VirtAddr::new(table.as_ptr().expose_provenance() as u64 - 0x1000);
        let range = |at, len| PhysRange::new(PhysAddr::new(at), len).unwrap();
        // SAFETY: the array is there, and is not written.
        let memory = unsafe { MappedBytes::new(base, range(0x1000, 4)) };
        assert_eq!(memory.bytes(range(0x1001, 2)), Some(&table[1..3]));
        assert_eq!(memory.bytes(range(0x1002, 3)), None);
        assert_eq!(memory.bytes(range(0xfff, 2)), None);
    }
}
