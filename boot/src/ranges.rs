//! A bounded set of physical ranges that can be used: sorted, disjoint, neighbours merged.
//!
//! The RAM of firmware's memory map and the early frame allocator are both sets of bytes. Keeping them in one
//! normal form makes an unsorted, overlapping or repeated map harmless: inserting bytes twice is inserting
//! them once, and removing bytes that are not in the set does nothing.
//!
//! A machine with more pieces of RAM than a list can hold still starts, with less RAM: a full list drops its
//! smallest range. A range that was removed never reappears.

use core::fmt;
use hotmem_paging::addr::{PhysAddr, PhysRange};

/// Ranges a list has room for.
pub const CAPACITY: usize = 128;

/// A set of physical addresses, kept as at most [`CAPACITY`] ranges in ascending order.
///
/// Holding one means: no two ranges overlap or touch, none is empty, each starts above the last.
#[derive(Clone, Copy)]
pub struct RangeList {
    /// One more than is kept: a change may split one range in two before the smallest is dropped.
    ranges: [PhysRange; CAPACITY + 1],
    len: usize,
    dropped: u64,
}

impl Default for RangeList {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for RangeList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.as_slice()).finish()
    }
}

/// Start and end of a range that is known not to pass 2^64.
fn bounds(range: PhysRange) -> (u64, u64) {
    let start = range.start().get();
    (start, start.saturating_add(range.len()))
}

fn range(start: u64, end: u64) -> PhysRange {
    PhysRange::new(PhysAddr::new(start), end.saturating_sub(start)).unwrap_or_default()
}

impl RangeList {
    /// The empty set.
    pub const fn new() -> Self {
        Self { ranges: [PhysRange::EMPTY; CAPACITY + 1], len: 0, dropped: 0 }
    }

    /// The ranges, ascending.
    pub fn as_slice(&self) -> &[PhysRange] {
        self.ranges.get(..self.len).unwrap_or(&[])
    }

    /// The ranges, ascending.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = PhysRange> + '_ {
        self.as_slice().iter().copied()
    }

    /// Bytes in the set.
    pub fn bytes(&self) -> u64 {
        self.iter().map(PhysRange::len).sum()
    }

    /// Bytes that were lost because the list was full.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Whether every byte of `range` is in the set.
    pub fn covers(&self, range: PhysRange) -> bool {
        range.is_empty() || self.iter().any(|have| have.covers(range))
    }

    /// Whether any byte of `range` is in the set.
    pub fn overlaps(&self, range: PhysRange) -> bool {
        self.iter().any(|have| have.overlaps(range))
    }

    /// Adds every byte of `new`. A full list loses its smallest range, which may be this one.
    pub fn insert(&mut self, new: PhysRange) {
        if new.is_empty() {
            return;
        }
        let (mut start, mut end) = bounds(new);
        let first = self.iter().take_while(|have| bounds(*have).1 < start).count();
        let mut last = first;
        while let Some((low, high)) = self.as_slice().get(last).copied().map(bounds) {
            if low > end {
                break;
            }
            start = start.min(low);
            end = end.max(high);
            last += 1;
        }
        self.splice(first, last, &[range(start, end)]);
    }

    /// Takes every byte of `gone` out of the set. Where that splits a range of a full list, the smallest is
    /// lost too.
    pub fn remove(&mut self, gone: PhysRange) {
        let (start, end) = bounds(gone);
        let first = self.iter().take_while(|have| bounds(*have).1 <= start).count();
        let touched = self.iter().skip(first).take_while(|have| bounds(*have).0 < end).count();
        let last = first + touched;
        if gone.is_empty() || touched == 0 {
            return;
        }

        let low = self.as_slice().get(first).map_or(start, |have| bounds(*have).0);
        let high = self.as_slice().get(last - 1).map_or(end, |have| bounds(*have).1);
        let left = (low < start).then(|| range(low, start));
        let right = (end < high).then(|| range(end, high));
        match (left, right) {
            (Some(left), Some(right)) => self.splice(first, last, &[left, right]),
            (Some(one), None) | (None, Some(one)) => self.splice(first, last, &[one]),
            (None, None) => self.splice(first, last, &[]),
        }
    }

    /// Replaces the ranges `first..last` by `new`, which are at most one more.
    fn splice(&mut self, first: usize, last: usize, new: &[PhysRange]) {
        let tail = self.len - last;
        self.ranges.copy_within(last..last + tail, first + new.len());
        for (slot, range) in self.ranges.iter_mut().skip(first).zip(new) {
            *slot = *range;
        }
        self.len = first + new.len() + tail;
        if self.len > CAPACITY {
            self.drop_smallest();
        }
    }

    /// Of ranges that are equally small, the highest goes: low memory is what devices can reach.
    fn drop_smallest(&mut self) {
        let ranges = self.as_slice().iter().copied().enumerate().rev();
        if let Some((index, range)) = ranges.min_by_key(|(_, range)| range.len()) {
            self.ranges.copy_within(index + 1..self.len, index);
            self.len -= 1;
            self.dropped = self.dropped.saturating_add(range.len());
        }
    }
}

impl From<PhysRange> for RangeList {
    fn from(range: PhysRange) -> Self {
        let mut list = Self::new();
        list.insert(range);
        list
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(ranges: &[(u64, u64)]) -> RangeList {
        let mut list = RangeList::new();
        for &(start, end) in ranges {
            list.insert(range(start, end));
        }
        list
    }

    fn pairs(list: &RangeList) -> impl Iterator<Item = (u64, u64)> + '_ {
        list.iter().map(bounds)
    }

    #[test]
    fn unsorted_overlapping_and_touching_ranges_become_one() {
        let list = list(&[(8, 10), (1, 3), (3, 5), (4, 8), (20, 21)]);
        assert!(pairs(&list).eq([(1, 10), (20, 21)]));
    }

    #[test]
    fn removing_from_the_middle_leaves_both_ends() {
        let mut list = list(&[(0, 10), (20, 30)]);
        list.remove(range(5, 25));
        assert!(pairs(&list).eq([(0, 5), (25, 30)]));
        list.remove(range(1, 2));
        assert!(pairs(&list).eq([(0, 1), (2, 5), (25, 30)]));
        list.remove(range(0, u64::MAX));
        assert!(list.as_slice().is_empty());
    }

    /// A list that is full of ranges of three bytes.
    fn full() -> RangeList {
        let mut list = RangeList::new();
        (0..CAPACITY as u64).for_each(|i| list.insert(range(i * 4, i * 4 + 3)));
        assert_eq!((list.as_slice().len(), list.dropped()), (CAPACITY, 0));
        list
    }

    #[test]
    fn a_full_list_loses_its_smallest_range_and_says_so() {
        let mut list = full();
        let before = list.bytes();
        // Larger than all: the highest of the small ones goes.
        list.insert(range(1 << 40, 1 << 41));
        assert!(list.covers(range(1 << 40, 1 << 41)) && list.covers(range(0, 3)));
        assert!(!list.overlaps(range(508, 511)));
        assert_eq!((list.bytes(), list.dropped()), (before - 3 + (1 << 40), 3));
        // Smaller than all: it goes itself.
        list.insert(range(1 << 50, (1 << 50) + 2));
        assert!(!list.overlaps(range(1 << 50, 1 << 51)));
        assert_eq!((list.as_slice().len(), list.dropped()), (CAPACITY, 5));
        // What fills a hole needs no room.
        list.insert(range(3, 4));
        assert_eq!((list.as_slice().len(), list.dropped()), (CAPACITY - 1, 5));
    }

    #[test]
    fn what_is_removed_from_a_full_list_is_gone_whatever_else_is_lost() {
        let mut list = full();
        for i in 0..CAPACITY as u64 {
            list.remove(range(i * 4 + 1, i * 4 + 2));
            assert!(!list.overlaps(range(i * 4 + 1, i * 4 + 2)), "{i}");
            assert_eq!(list.as_slice().len(), CAPACITY, "{i}");
        }
        let taken = CAPACITY as u64;
        assert_eq!(list.bytes() + list.dropped() + taken, 3 * CAPACITY as u64);
    }

    #[test]
    fn a_storm_of_inserts_and_removes_agrees_with_a_bitmap() {
        let mut seed = 7u64;
        let mut next = |limit: u64| {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (seed >> 33) % limit
        };
        let mut list = RangeList::new();
        let mut model = [false; 200];
        for _ in 0..20_000 {
            let start = next(200);
            let end = start + next(200 - start + 1);
            let insert = next(2) == 0;
            if insert {
                list.insert(range(start, end));
            } else {
                list.remove(range(start, end));
            }
            model[start as usize..end as usize].fill(insert);
            for (address, &there) in model.iter().enumerate() {
                assert_eq!(list.overlaps(range(address as u64, address as u64 + 1)), there);
            }
            let ordered =
                list.as_slice().windows(2).all(|pair| bounds(pair[0]).1 < bounds(pair[1]).0);
            assert!(ordered, "{list:?}");
        }
    }
}
