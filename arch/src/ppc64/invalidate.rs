//! What `tlbie` is told, so that stale translations go (Power ISA 3.0B, book III, 5.9.3.3).
//!
//! ```text
//!   RB  by address   | effective page number            | IS = 0 |  0  |  AP |   0   |
//!       by process   |                0                 | IS = 1 |        0          |
//!                     0                               51 52    53 54 55 56 58 59  63
//!   RS  process number (0: the kernel's) | partition number, which a guest leaves 0
//! ```
//!
//! A page is dropped for one size only, AP. A short range has base pages alone in it, since the next
//! larger leaf is longer than that; of a long one nothing is known, and everything goes.

use hotmem::addr::{VirtAddr, VirtRange};

/// RB: everything of the process.
pub const BY_PROCESS: u64 = 0b01 << 10;
/// Pages of a short range, at the most.
const FEW: u64 = 16;
/// Bytes of the smallest leaf that is no base page.
const SMALLEST_LARGE_LEAF: u64 = 2 << 20;

const _: () = assert!(FEW << 16 < SMALLEST_LARGE_LEAF);

/// What has to be dropped for a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stale {
    /// Each of these pages, and what is cached of the tables on the way to them.
    Pages {
        /// Where the first begins.
        first: VirtAddr,
        /// How many.
        count: u64,
    },
    /// All of the process.
    Process,
}

/// What has to be dropped for `range`, with base pages of 2^`shift` bytes.
pub const fn stale(range: VirtRange, shift: u32) -> Stale {
    let first = range.start().align_down(1 << shift);
    let count = range.end().offset_from(first).div_ceil(1 << shift);
    if count <= FEW { Stale::Pages { first, count } } else { Stale::Process }
}

/// RB for the page at `address`, of 2^`shift` bytes: 12 or 16.
pub const fn by_address(address: VirtAddr, shift: u32) -> u64 {
    // POWER9 and POWER10 User's Manual, "ibm,processor-radix-AP-encodings" as firmware tells them: 0 is
    // 4 KiB, 5 is 64 KiB.
    let size = if shift == 16 { 5 } else { 0 };
    address.align_down(1 << shift).get() | size << 5
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(start: u64, len: u64) -> VirtRange {
        VirtRange::new(VirtAddr::new(start), len).unwrap()
    }

    // Bits 52 and 53 are IS, 56 to 58 are AP.
    #[test]
    fn operands_are_as_the_manual_draws_them() {
        let page = VirtAddr::new(0xc000_0000_1234_5678);
        assert_eq!(by_address(page, 12), 0xc000_0000_1234_5000);
        assert_eq!(by_address(page, 16), 0xc000_0000_1234_00a0);
        assert_eq!(BY_PROCESS, 0x400);
    }

    #[test]
    fn a_short_range_is_its_pages_even_where_it_begins_inside_one() {
        let first = VirtAddr::new(0xc00c_0000_0001_0000);
        let pages = |count| Stale::Pages { first, count };
        assert_eq!(stale(range(0xc00c_0000_0001_0000, 0x1000), 12), pages(1));
        assert_eq!(stale(range(0xc00c_0000_0001_0fff, 2), 12), pages(2));
        assert_eq!(stale(range(0xc00c_0000_0001_0040, 0x1_0000), 16), pages(2));
        assert_eq!(stale(range(0xc00c_0000_0001_0000, 0x1_0000), 12), pages(16));
    }

    #[test]
    fn a_range_that_may_hold_a_larger_leaf_is_the_whole_process() {
        assert_eq!(stale(range(0xc000_0000_0001_0000, 0x1_1000), 12), Stale::Process);
        assert_eq!(stale(range(0xc000_0000_4000_0000, 2 << 20), 12), Stale::Process);
        assert_eq!(stale(range(0xc000_0000_4000_0000, 2 << 20), 16), Stale::Process);
    }
}
