//! Whether memory was ever written to, as far as samples of it say.
//!
//! ```text
//!   [ 128 KiB | . . . | page | . . . | page | . . . | 128 KiB ]      a page at each 16th
//! ```
//!
//! What file systems, partition tables, and the drivers of block devices on persistent memory begin with is at one of the ends.
//! Whatever is there that is not zero counts: a list of formats would never be complete.

use hotmem::{PhysAddr, PhysRange};

/// Bytes that are looked at from each end.
const END: u64 = 128 << 10;
/// What is looked at is multiples of this.
const PAGE: u64 = 4096;
const PARTS: u64 = 16;

/// The places that are looked at, in whole pages.
pub(super) fn samples(range: PhysRange) -> impl Iterator<Item = PhysRange> {
    let (start, last) = (range.start().get(), range.end().get() / PAGE * PAGE);
    let first = start.checked_next_multiple_of(PAGE).unwrap_or(last);
    let bytes = last.saturating_sub(first);
    let piece = move |offset: u64, len: u64| {
        PhysRange::new(PhysAddr::new(first + offset), len.min(bytes - offset))
    };
    let ends = [0, bytes.saturating_sub(END)].map(|offset| piece(offset, END));
    let between = (1..PARTS).map(move |part| piece(bytes / PARTS * part / PAGE * PAGE, PAGE));
    ends.into_iter().chain(between).flatten().filter(|piece| !piece.is_empty())
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;

    fn of(start: u64, len: u64) -> Vec<(u64, u64)> {
        let range = PhysRange::new(PhysAddr::new(start), len).unwrap();
        let all: Vec<_> = samples(range).collect();
        assert!(all.iter().all(|piece| range.covers(*piece)));
        all.iter().map(|piece| (piece.start().get(), piece.len())).collect()
    }

    #[test]
    fn both_ends_and_a_page_of_each_part_are_looked_at() {
        let (start, gib) = (1 << 32, 1 << 30);
        let all = of(start, gib);
        assert_eq!(all[..3], [(start, END), (start + gib - END, END), (start + gib / 16, PAGE)]);
        assert_eq!((all.len(), all[16]), (17, (start + gib / 16 * 15, PAGE)));
    }

    #[test]
    fn nothing_outside_of_a_small_or_odd_range_is_looked_at() {
        assert_eq!(of(0x1000, 0x3000)[..2], [(0x1000, 0x3000), (0x1000, 0x3000)]);
        assert_eq!(of(0x1001, 0x1fff), [(0x2000, 0x1000); 17]);
        assert_eq!(of(0x1001, 0x1ffe), []);
        assert_eq!(of(0, 0), []);
        assert_eq!(of(u64::MAX, 0), []);
    }
}
