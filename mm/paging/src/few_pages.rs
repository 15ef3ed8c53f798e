//! The choice between dropping translations page by page and dropping all at once.

use crate::addr::{VirtAddr, VirtRange};

/// With more pages than this it is cheaper to drop everything.
const MAX_PAGES: u64 = 32;

/// The pages of `page` bytes that `ranges` touch, or `None` if there are so many that dropping everything is
/// cheaper. For implementations of [`Tlb`](crate::Tlb).
pub fn few_pages(ranges: &[VirtRange], page: u64) -> Option<impl Iterator<Item = VirtAddr> + '_> {
    let split = move |range: &VirtRange| {
        let first = range.start().align_down(page);
        (first, range.end().offset_from(first).div_ceil(page))
    };
    let few = ranges.iter().try_fold(0_u64, |sum, range| {
        let (_, pages) = split(range);
        sum.checked_add(pages).filter(|sum| *sum <= MAX_PAGES)
    });
    few?;
    Some(ranges.iter().flat_map(move |range| {
        let (first, pages) = split(range);
        (0..pages).map(move |index| first.add(index * page))
    }))
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use std::vec::Vec;

    fn pages(ranges: &[(u64, u64)]) -> Option<Vec<u64>> {
        let range = |&(start, len): &(u64, u64)| VirtRange::new(VirtAddr::new(start), len).unwrap();
        let ranges: Vec<_> = ranges.iter().map(range).collect();
        few_pages(&ranges, 0x1000).map(|pages| pages.map(VirtAddr::get).collect())
    }

    #[test]
    fn a_few_pages_of_all_ranges_are_named_and_more_are_dropped_at_once() {
        let cut = pages(&[(0x1800, 0x1000), (0x8000, 0x1000)]);
        assert_eq!(cut, Some([0x1000, 0x2000, 0x8000].into()));
        assert_eq!(pages(&[(0, 16 << 12), (1 << 40, 16 << 12)]).map(|pages| pages.len()), Some(32));
        assert_eq!(pages(&[(0, 16 << 12), (1 << 40, 17 << 12)]), None);
        assert_eq!(pages(&[(0, u64::MAX), (0, u64::MAX)]), None);
        assert_eq!(pages(&[]), Some(Vec::new()));
    }
}
