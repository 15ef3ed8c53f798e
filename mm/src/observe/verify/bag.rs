//! Sets of pages, compared without memory for them.

use crate::addr::{Pfn, PfnRange};

/// A multiset of pages, compared by a sum of hashes: two different ones are equal once in 2^64 times, and the
/// comparison needs no memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Bag {
    pub(super) pages: u64,
    sum: u64,
}

impl Bag {
    pub(super) fn insert(&mut self, pfns: PfnRange) {
        self.pages += pfns.pages();
        self.sum = pfns.iter().fold(self.sum, |sum, pfn| sum.wrapping_add(mix(pfn)));
    }

    pub(super) fn remove(&mut self, pfn: Pfn) {
        self.pages = self.pages.wrapping_sub(1);
        self.sum = self.sum.wrapping_sub(mix(pfn));
    }
}

/// The output step of splitmix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators").
fn mix(pfn: Pfn) -> u64 {
    let word = pfn.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
    let word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ word >> 31
}
