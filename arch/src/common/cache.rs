//! The cache lines of a range.

use hotmem_paging::addr::{VirtAddr, VirtRange};

/// Calls `each` with where each line of `line` bytes, a power of two, begins that holds a byte of `range`, which need
/// not begin with one.
#[inline(always)]
pub(crate) fn each_line(range: VirtRange, line: u64, mut each: impl FnMut(VirtAddr)) {
    if range.is_empty() {
        return;
    }
    // By its beginning: the last line may end where the address space does.
    let last = range.start().add(range.len() - 1).align_down(line);
    let mut at = range.start().align_down(line);
    each(at);
    while at != last {
        at = at.add(line);
        each(at);
    }
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
            let mut lines = Vec::new();
            each_line(range, 64, |line| lines.push(line.get()));
            lines
        };
        assert_eq!(of(0x1000, 0), []);
        assert_eq!(of(0x1010, 0), []);
        assert_eq!(of(0x1000, 64), [0x1000]);
        assert_eq!(of(0x103c, 8), [0x1000, 0x1040], "it begins in the middle of a line");
        assert_eq!(of(0x103c, 100), [0x1000, 0x1040, 0x1080]);
        assert_eq!(of(u64::MAX - 0x7f, 0x80), [u64::MAX - 0x7f, u64::MAX - 0x3f]);
    }
}
