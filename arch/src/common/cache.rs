//! The cache lines of a range.

use hotmem_paging::addr::{VirtAddr, VirtRange};

/// Where each line of `line` bytes, a power of two, begins that holds a byte of `range`, which need not begin with one.
pub(crate) fn lines(range: VirtRange, line: u64) -> impl Iterator<Item = VirtAddr> {
    let first = range.start().align_down(line);
    let count = if range.is_empty() { 0 } else { range.end().offset_from(first).div_ceil(line) };
    (0..count).map(move |index| first.add(index * line))
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use std::vec::Vec;

    #[test]
    fn every_line_with_a_byte_of_the_range_is_there_once() {
        let of = |start, len| -> Vec<u64> {
            let range = VirtRange::new(VirtAddr::new(start), len).unwrap();
            lines(range, 64).map(VirtAddr::get).collect()
        };
        assert_eq!(of(0x1000, 0), []);
        assert_eq!(of(0x1010, 0), []);
        assert_eq!(of(0x1000, 64), [0x1000]);
        assert_eq!(of(0x103c, 8), [0x1000, 0x1040], "it begins in the middle of a line");
        assert_eq!(of(0x103c, 100), [0x1000, 0x1040, 0x1080]);
        assert_eq!(of(u64::MAX - 0x7f, 0x80), [u64::MAX - 0x7f, u64::MAX - 0x3f]);
    }
}
