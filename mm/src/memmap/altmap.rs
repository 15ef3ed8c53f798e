//! The altmap: the frames at the head of a hot-added range, or of each of its blocks, that back the
//! memmap of that range or block.
//!
//! ```text
//!   PerRange  [M M M M|. . . . . . .|. . . . . . .|. . . . . . .]   one group: blocks 0..4
//!   PerBlock  [M|. . .|M|. . . . . .|M|. . . . . .|M|. . . . . .]   a group for each block
//! ```
//!
//! The group's first page is its head; its descriptor counts the sections and pages of the group. The descriptors of
//! the pages after it hold the records of the group's sections, in order; there are at least two memmap pages per
//! record.

use crate::addr::{Pfn, PfnRange};
use crate::geometry::BlockSize;
use crate::machine::Machine;
use crate::memmap::Memmap;
use crate::memmap::placement::Placement;
use crate::memmap::section::section_of;

/// The place of one group's memmap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Altmap {
    /// The frames that it describes.
    pub(crate) described: PfnRange,
    /// The frames at their head that back the descriptors.
    pub(crate) memmap: PfnRange,
}

impl Altmap {
    /// The altmap that describes `described`, whole blocks.
    pub(crate) fn new<M: Machine>(described: PfnRange) -> Self {
        let memmap = PfnRange::new(described.start, M::memmap_pages(described.pages()));
        Self { described, memmap }
    }

    /// The group that `memmap` backs.
    pub(crate) fn of_memmap<M: Machine>(memmap: PfnRange) -> Self {
        let described = PfnRange::new(memmap.start, M::described_pages(memmap.pages()));
        Self { described, memmap }
    }

    /// Sections of the group.
    pub(crate) fn sections<M: Machine>(self) -> u64 {
        self.described.pages() / M::SECTION_PAGES
    }

    /// The frame whose descriptor holds the record of `section`, of the group.
    pub(crate) fn record<M: Machine>(self, section: u64) -> Pfn {
        let first = self.described.start.get() / M::RECORD_PAGES;
        self.memmap.start.add(1 + section / M::RECORD_SECTIONS - first)
    }

    /// The groups of `range`, whole blocks of `block`, that is added with a self-hosted `placement`.
    pub(crate) fn all_of<M: Machine>(
        range: PfnRange,
        placement: Placement,
        block: BlockSize,
    ) -> impl DoubleEndedIterator<Item = Self> + use<M> {
        let pages = match placement {
            Placement::PerRange => range.pages(),
            _ => block.pages::<M>(),
        };
        let count = range.pages() / pages;
        (0..count).map(move |i| Self::new::<M>(PfnRange::new(range.start.add(i * pages), pages)))
    }

    /// The groups of `range`, which is whole groups, by the words of their sections alone: no descriptor is read.
    pub(crate) fn of_words<M: Machine>(
        memmap: &Memmap<M>,
        range: PfnRange,
    ) -> impl Iterator<Item = Self> {
        let (mut start, end) = (range.start, section_of::<M>(range.end));
        // Records follow one another in a group, as its sections do.
        let shift = |number: u64| {
            let record = memmap.sections().word(memmap.machine(), number).record();
            record.get().wrapping_sub(number / M::RECORD_SECTIONS)
        };
        core::iter::from_fn(move || {
            let first = section_of::<M>(start);
            let sections = (first..end).take_while(|&number| shift(number) == shift(first)).count();
            let described = PfnRange::new(start, sections as u64 * M::SECTION_PAGES);
            start = described.end;
            (sections > 0).then(|| Self::new::<M>(described))
        })
    }
}
