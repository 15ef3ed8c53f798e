//! The altmap: the frames at the head of a hot-added range, or of each of its blocks, that back the
//! memmap of that range or block.
//!
//! ```text
//!   PerRange  [M M M M|. . . . . . .|. . . . . . .|. . . . . . .]   one group: blocks 0..4
//!   PerBlock  [M|. . .|M|. . . . . .|M|. . . . . .|M|. . . . . .]   a group for each block
//! ```
//!
//! The group's first page is its head; its descriptor counts the sections and pages of the group. Its descriptor and
//! those of the pages after it hold the records of the group's sections, in order: a range has at least as many memmap
//! pages as it touches records. Memory that shares a record with other memory uses that one.

use crate::addr::{Pfn, PfnRange};
use crate::geometry::BlockSize;
use crate::machine::Machine;
use crate::memmap::block::pieces;
use crate::memmap::page::PageState;
use crate::memmap::placement::Placement;
use crate::memmap::section::{section_of, sections_touched};
use crate::memmap::seen::Seen;

/// The place of one group's memmap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Altmap {
    /// The frames that it describes.
    pub(crate) described: PfnRange,
    /// The frames at their head that back the descriptors.
    pub(crate) memmap: PfnRange,
}

impl Altmap {
    /// The altmap that describes `described`, whole units of presence.
    pub(crate) fn new<M: Machine>(described: PfnRange) -> Self {
        let memmap = PfnRange::new(described.start, M::memmap_pages(described.pages()));
        Self { described, memmap }
    }

    /// The group that `memmap` backs.
    pub(crate) fn of_memmap<M: Machine>(memmap: PfnRange) -> Self {
        let described = PfnRange::new(memmap.start, M::described_pages(memmap.pages()));
        Self { described, memmap }
    }

    /// Sections of the group, those that it shares included.
    pub(crate) fn sections<M: Machine>(self) -> u64 {
        let sections = sections_touched::<M>(self.described);
        sections.end() - sections.start() + 1
    }

    /// The state of the group's head.
    pub(crate) fn head_state<M: Machine>(self) -> PageState {
        PageState::MemmapHead { sections: self.sections::<M>() as u32, pages: self.memmap.pages() }
    }

    /// The frame whose descriptor holds the record of `section`, of the group, unless that shares another's.
    pub(crate) fn record<M: Machine>(self, section: u64) -> Pfn {
        let first = self.described.start.get() / M::RECORD_PAGES;
        self.memmap.start.add(section / M::RECORD_SECTIONS - first)
    }

    /// The frames whose descriptors may hold records of the group.
    pub(crate) fn records<M: Machine>(self) -> PfnRange {
        let last = self.record::<M>(*sections_touched::<M>(self.described).end());
        PfnRange { start: self.memmap.start, end: last.add(1) }
    }

    /// The groups of `range` that is added with a self-hosted `placement`; blocks are of size `block`.
    pub(crate) fn all_of<M: Machine>(
        range: PfnRange,
        placement: Placement,
        block: BlockSize,
    ) -> impl Iterator<Item = Self> + use<M> {
        let pages = match placement {
            Placement::PerRange => 1 << 63,
            _ => block.pages::<M>(),
        };
        pieces(range, pages).map(Self::new::<M>)
    }

    /// The groups of `range`, which is hidden and no longer described: by the words of its sections, and by the records
    /// that other memory has. Only the first may begin inside a record.
    pub(crate) fn of_words<M: Machine>(
        memmap: Seen<'_, M>,
        range: PfnRange,
    ) -> impl Iterator<Item = Self> {
        let mut start = range.start;
        core::iter::from_fn(move || {
            (start < range.end).then(|| {
                let described = PfnRange { start, ..range };
                let next = first_sections_after::<M>(described)
                    .find(|&number| !is_of_group(memmap, number, described));
                let end = next.map_or(range.end, |number| Pfn::new(number * M::SECTION_PAGES));
                start = end;
                Self::new::<M>(PfnRange { end, ..described })
            })
        })
    }
}

/// The first section of each record of `pfns` but the first record.
fn first_sections_after<M: Machine>(pfns: PfnRange) -> impl Iterator<Item = u64> {
    let sections = sections_touched::<M>(pfns);
    let next = sections.start() / M::RECORD_SECTIONS + 1;
    (next * M::RECORD_SECTIONS..sections.end() + 1).step_by(M::RECORD_SECTIONS as usize)
}

/// Whether the memory at the beginning of the record of section `number`, which is hidden, is in the group at the start
/// of `described`.
fn is_of_group<M: Machine>(memmap: Seen<'_, M>, number: u64, described: PfnRange) -> bool {
    // A record that other memory shares is in that memory's memmap, and says it. The words of its sections do not.
    if let Some(section) = memmap.section_of_record(number) {
        return section.group_head(Pfn::new(number * M::SECTION_PAGES)) == Some(described.start);
    }
    let word = memmap.sections().word(memmap.machine(), number);
    let first = section_of::<M>(described.start) / M::RECORD_SECTIONS;
    word.record() == described.start.add(number / M::RECORD_SECTIONS - first)
}

#[cfg(test)]
mod tests;
