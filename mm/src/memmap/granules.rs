//! Granules: the 32 equal parts of a memory block, and a bit in the block's word for each that may hold data.
//!
//! ```text
//!   block      [........|########|........|##......| ... ]     #: allocated since the block was scrubbed last
//!   dirty       0        1        0        1
//! ```
//!
//! Memory is scrubbed before its device goes: see [`Mm::scrub`](crate::Mm::scrub). An extent that leaves a free list is
//! marked, which costs a load if its granule is marked. Subsections that are initialised are marked when the block goes
//! offline ([`fold`]): descriptors were written there, even if no extent was allocated.

use crate::addr::{Order, Pfn, PfnRange};
use crate::machine::Machine;
use crate::memmap::record::Record;
use crate::memmap::seen::Seen;

/// Granules of a block.
pub(crate) const GRANULES: u64 = 32;

impl<M: Machine> Seen<'_, M> {
    /// Marks the granules of an extent that is allocated, whatever the bitmaps of its section say.
    #[inline]
    pub(crate) fn soil(self, block: Record<'_>, pfn: Pfn, order: Order) {
        block.soil(mask(self.block_size().order::<M>(), PfnRange::new(pfn, order.pages())));
    }

    /// The granules in which subsections of a record are initialised, of a block that goes offline; `index` is the
    /// record's number among the `records` of the block.
    #[inline]
    pub(crate) fn soiled_parts(self, record: Record<'_>, index: u64, records: u64) -> u32 {
        fold(record.initialised().bits(), index, records)
    }
}

/// The bits of the granules that `pfns`, in one block of `size`, touch.
#[inline]
fn mask(size: Order, pfns: PfnRange) -> u32 {
    // No division: pages for users are marked, too.
    let granule = |pfn: u64| (pfn >> (u32::from(size.get()) - GRANULES.ilog2())) % GRANULES;
    let (first, last) = (granule(pfns.start.get()), granule(pfns.end.get() - 1));
    (u32::MAX >> (31 - last)) & (u32::MAX << first)
}

/// The bits of the granules that subsections of record `index`, of `records` in the block, touch. `records` is a power
/// of two.
#[inline]
fn fold(parts: u64, index: u64, records: u64) -> u32 {
    if records == 1 {
        return halve(parts) as u32;
    }
    // Log2 of the subsections in a granule, and the record's granules, of which it has a part of one at least.
    let width = records.trailing_zeros() + 1;
    let (first, count) = ((index * 64) >> width, (GRANULES / records).max(1));
    if parts == u64::MAX {
        // All of it was used, as is usual.
        return (u32::MAX >> (GRANULES - count)) << first;
    }
    let granules = (0..count).filter(|granule| {
        let from = parts >> (granule << width);
        from << (64 - (64 / count)) != 0
    });
    granules.fold(0, |bits, granule| bits | 1 << (first + granule))
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
        for size in [6, 8, 15].map(|raw| Order::new(raw).unwrap()) {
            let pages = size.pages();
            let granule = pages / GRANULES;
            for first in 0..GRANULES {
                for count in 1..=GRANULES - first {
                    let start = Pfn::new(7 * pages + first * granule);
                    let found = mask(size, PfnRange::new(start, count * granule));
                    let wanted = (first..first + count).fold(0, |bits, at| bits | 1 << at);
                    assert_eq!(found, wanted);
                }
            }
            let inside = PfnRange::new(Pfn::new(pages + granule + granule / 2), 1);
            assert_eq!(mask(size, inside), 2);
        }
    }
}
