//! Granules: the 32 equal parts of a memory block, and a bit in the block's word for each that may hold data.
//!
//! ```text
//!   block      [........|########|........|##......| ... ]     #: allocated since the block was scrubbed last
//!   dirty       0        1        0        1
//! ```
//!
//! Memory is scrubbed before its device goes: see [`Mm::scrub`](crate::Mm::scrub). No allocation of a page costs
//! anything for that. An extent of less than a subsection has initialised its subsection, so [`fold`] finds it when
//! the block goes offline; only larger extents are marked when they are allocated.

use crate::addr::{Order, Pfn, PfnRange};
use crate::machine::Machine;
use crate::memmap::record::Record;
use crate::memmap::seen::Seen;

/// Granules of a block.
pub(crate) const GRANULES: u64 = 32;

impl<M: Machine> Seen<'_, M> {
    /// Marks the granules of an extent that is allocated, unless its subsection shows that it is.
    #[inline]
    pub(crate) fn soil(self, block: Record<'_>, pfn: Pfn, order: Order) {
        if order >= M::PART_ORDER {
            block.soil(mask(self.block_size().pages::<M>(), PfnRange::new(pfn, order.pages())));
        }
    }

    /// Marks the granules in which subsections of a record are initialised, for a block that goes offline; `index` is
    /// the record's number in the block. Returns their bits.
    pub(crate) fn soiled_parts(self, record: Record<'_>, index: u64) -> u32 {
        let records = self.block_size().pages::<M>() / M::RECORD_PAGES;
        fold(record.initialised().bits(), index, records)
    }
}

/// The bits of the granules that `pfns`, in one block of `pages`, touch.
fn mask(pages: u64, pfns: PfnRange) -> u32 {
    let granule = pages / GRANULES;
    let first = pfns.start.get() % pages / granule;
    let last = (pfns.end.get() - 1) % pages / granule;
    (u32::MAX >> (31 - last)) & (u32::MAX << first)
}

/// The bits of the granules that subsections of record `index`, of `records` in the block, touch.
#[inline]
fn fold(parts: u64, index: u64, records: u64) -> u32 {
    if parts == 0 || records == 1 {
        return halve(parts) as u32;
    }
    fold_many(parts, index, records)
}

/// The same, if the block has several records.
#[inline(never)]
fn fold_many(parts: u64, index: u64, records: u64) -> u32 {
    let granules = GRANULES / records;
    if granules == 0 {
        return 1 << (index * GRANULES / records);
    }
    // Subsections of a granule, and their bits.
    let width = 64 / granules;
    let mask = u64::MAX >> (64 - width);
    let (mut rest, mut bits) = (parts, 0);
    for granule in 0..granules {
        bits |= u32::from(rest & mask != 0) << granule;
        rest = rest.checked_shr(width as u32).unwrap_or(0);
    }
    bits << (index * granules)
}

/// A bit for each pair of bits: whether one of them is set.
const fn halve(bits: u64) -> u64 {
    let pairs = (bits | bits >> 1) & 0x5555_5555_5555_5555;
    let bits = (pairs | pairs >> 1) & 0x3333_3333_3333_3333;
    let bits = (bits | bits >> 2) & 0x0f0f_0f0f_0f0f_0f0f;
    let bits = (bits | bits >> 4) & 0x00ff_00ff_00ff_00ff;
    let bits = (bits | bits >> 8) & 0x0000_ffff_0000_ffff;
    (bits | bits >> 16) & 0xffff_ffff
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    /// The same, subsection by subsection.
    fn slowly(parts: u64, index: u64, records: u64) -> u32 {
        let per_granule = records * 64;
        let set = (0..64).filter(|&part| parts >> part & 1 != 0);
        set.map(|part| 1 << ((index * 64 + part) * GRANULES / per_granule)).fold(0, |a, b| a | b)
    }

    #[test]
    fn subsections_fold_into_the_granules_that_they_are_in() {
        let mut random = crate::testing::Random::new(3);
        for shift in 0..10 {
            let records = 1 << shift;
            for _ in 0..400 {
                let (parts, index) = (random.bits() & random.bits(), random.below(records));
                let sparse = parts & random.bits() & random.bits();
                for parts in [0, 1, 1 << 63, u64::MAX, parts, sparse] {
                    assert_eq!(fold(parts, index, records), slowly(parts, index, records));
                }
            }
        }
    }

    #[test]
    fn an_extent_marks_the_granules_that_it_touches_and_no_others() {
        for pages in [64, 256, 32 * 1024] {
            let granule = pages / GRANULES;
            for first in 0..GRANULES {
                for count in 1..=GRANULES - first {
                    let start = Pfn::new(7 * pages + first * granule);
                    let found = mask(pages, PfnRange::new(start, count * granule));
                    let wanted = (first..first + count).fold(0, |bits, at| bits | 1 << at);
                    assert_eq!(found, wanted);
                }
            }
            let inside = PfnRange::new(Pfn::new(pages + granule + granule / 2), 1);
            assert_eq!(mask(pages, inside), 2);
        }
    }
}
