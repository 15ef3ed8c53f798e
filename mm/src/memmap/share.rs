//! Shares: the parts of a memory block that were added apart.
//!
//! ```text
//!   block   [ . . . . M a a a a a a M b b b b b . . . . ]     M: memmap at the head, .: no memory
//!                     <-- share --> <- share ->
//! ```
//!
//! A block that is completely there has one share, and so has one of boot memory without holes. A share is contiguous,
//! and leaves as it came: whole.

use crate::addr::{Pfn, PfnRange};
use crate::machine::Machine;
use crate::memmap::Memmap;
use crate::memmap::block::{Block, BlockId, Group};
use crate::memmap::record::Record;
use crate::memmap::section::{Section, SectionWord, record_pfns, section_of, sections_touched};
use crate::memmap::seen::Seen;

/// A part of a memory block: what one add brought to it. In boot memory, what lies between two holes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// Its pages.
    pub pfns: PfnRange,
    /// The memmap that describes it, and maybe other blocks of the range that was added (self-hosted memmap only).
    pub group: Option<Group>,
}

impl Share {
    /// Its pages that hold descriptors: the first ones.
    pub fn memmap(&self) -> PfnRange {
        let own = self.group.and_then(|group| group.pfns.intersection(self.pfns));
        own.unwrap_or(PfnRange::new(self.pfns.start, 0))
    }
}

/// A share, without the rest of its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lot {
    /// Its first page.
    pub(crate) start: Pfn,
    /// Its pages that hold no descriptors: the last ones.
    pub(crate) usable: PfnRange,
}

impl Lot {
    /// A share of these pages.
    fn of(pfns: PfnRange, group: Option<Group>) -> Self {
        // A group describes what follows it.
        let head = group.map_or(pfns.start, |group| group.pfns.end.clamp(pfns.start, pfns.end));
        Self { start: pfns.start, usable: PfnRange { start: head, ..pfns } }
    }

    /// Its pages.
    pub(crate) fn pages(&self) -> u64 {
        self.usable.end.offset_from(self.start)
    }
}

/// The usable pages of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Usable {
    /// From the first one to the last, including all between them.
    pub(crate) hull: PfnRange,
    /// Their number.
    pub(crate) pages: u64,
}

impl<M: Machine> Memmap<M> {
    /// The shares of a block, ascending, each as it is when it is returned.
    pub(crate) fn shares_of(&self, id: BlockId) -> impl Iterator<Item = Share> + '_ {
        let mut from = Pfn::new(0);
        core::iter::from_fn(move || {
            // `None` for a number whose block would lie past the end of the address space.
            self.block_range(id)?;
            let share = self.read(self.block_pfns(id).start).share_from(from)?;
            from = share.pfns.end;
            Some(share)
        })
    }
}

impl<'g, M: Machine> Seen<'g, M> {
    /// The first share of a block: without a search if it was added at once. Then it has no other.
    #[inline]
    pub(crate) fn first_lot(self, block: &Block) -> Lot {
        if block.whole {
            let group = block.group.and_then(|head| self.group_at(head));
            return Lot::of(block.pfns, group);
        }
        searched_lot(self, block.id)
    }

    /// The shares of a block, ascending.
    pub(crate) fn lots(self, id: BlockId) -> impl Iterator<Item = Lot> + use<'g, M> {
        self.shares(id).map(|share| Lot::of(share.pfns, share.group))
    }

    /// The shares of a block, ascending, with their groups.
    pub(crate) fn shares(self, id: BlockId) -> impl Iterator<Item = Share> + use<'g, M> {
        let mut rest = self.block_pfns(id);
        core::iter::from_fn(move || {
            let pfns = self.first_share(rest)?;
            rest.start = pfns.end;
            let section = self.section_at(pfns.start);
            let group = section.and_then(|section| self.group_of(section, pfns.start));
            Some(Share { pfns, group })
        })
    }

    /// The pages of the first share of `rest`, the end of a block.
    #[cold]
    #[inline(never)]
    fn first_share(self, rest: PfnRange) -> Option<PfnRange> {
        let (mut at, mut start) = (rest.start, None);
        while at < rest.end {
            let (present, starts) = self.parts_around(at);
            let from = Section::<M>::part(at).number();
            let parts = record_pfns::<M>(section_of::<M>(at));
            let place =
                |bits: u64| parts.start.add(u64::from(bits.trailing_zeros()) * M::PART_PAGES);
            // Below the search, and behind a start that was found.
            let mut ahead = u64::MAX << from;
            if start.is_none() {
                let here = present & ahead;
                if here == 0 {
                    at = parts.end;
                    continue;
                }
                start = Some(place(here));
                // Without the lowest bit, that of the share's own start.
                ahead &= u64::MAX << here.trailing_zeros() << 1;
            }
            let ends = (!present | starts) & ahead;
            if ends != 0 {
                return start.map(|start| PfnRange { start, end: place(ends) });
            }
            at = parts.end;
        }
        start.map(|start| PfnRange { start, end: rest.end })
    }

    /// The present subsections of the record around `pfn`, and those where memory begins.
    fn parts_around(self, pfn: Pfn) -> (u64, u64) {
        let section = self.section_of_record(section_of::<M>(pfn));
        section.map_or((0, 0), |section| {
            let record = section.record();
            // In this order: the starts of memory are there before it is shown.
            let present = record.present().bits();
            (present, record.starts().bits())
        })
    }

    /// A present section of the record of section `number`.
    pub(crate) fn section_of_record(self, number: u64) -> Option<Section<'g, M>> {
        let first = number / M::RECORD_SECTIONS * M::RECORD_SECTIONS;
        (first..first + M::RECORD_SECTIONS).find_map(|number| self.section(number))
    }

    /// The pages of a block that hold no descriptors.
    #[cold]
    #[inline(never)]
    pub(crate) fn usable(self, id: BlockId) -> Usable {
        let mut all = Usable { hull: PfnRange::new(self.block_pfns(id).start, 0), pages: 0 };
        for Lot { usable, .. } in self.lots(id) {
            if all.pages == 0 {
                all.hull = usable;
            } else if usable.pages() != 0 {
                all.hull.end = usable.end;
            }
            all.pages += usable.pages();
        }
        all
    }

    /// The blocks of `pfns`, which is not there yet, that have other memory, and a section of each with some: only the
    /// first and the last can.
    pub(crate) fn shared_blocks(
        self,
        pfns: PfnRange,
    ) -> impl Iterator<Item = (BlockId, Section<'g, M>)> {
        let block = self.block_size().pages::<M>();
        let (first, last) = (pfns.start.get() / block, (pfns.end.get() - 1) / block);
        let starts = !pfns.start.get().is_multiple_of(block);
        let ends = !pfns.end.get().is_multiple_of(block);
        let first = (starts || ends && first == last).then_some(first);
        let last = Some(last).filter(|&last| ends && first != Some(last));
        let ids = first.into_iter().chain(last).map(BlockId::new);
        ids.filter_map(move |id| Some((id, self.sections_of_block(id).next()?)))
    }

    /// Pages of a block that are there, as far as subsections tell.
    #[cold]
    #[inline(never)]
    pub(crate) fn present_pages(self, id: BlockId) -> u64 {
        let records = (self.block_size().pages::<M>() / M::RECORD_PAGES) as usize;
        let pfns = self.block_pfns(id);
        let starts = (0..records as u64).map(|index| pfns.start.add(index * M::RECORD_PAGES));
        let parts = starts.map(|start| u64::from(self.parts_around(start).0.count_ones()));
        parts.sum::<u64>() * M::PART_PAGES
    }
}

/// The first share of a block that is not known to be whole.
#[cold]
#[inline(never)]
fn searched_lot<M: Machine>(memmap: Seen<'_, M>, id: BlockId) -> Lot {
    let nothing = PfnRange::new(memmap.block_pfns(id).start, 0);
    memmap.lots(id).next().unwrap_or(Lot::of(nothing, None))
}

/// Moves the record that section `first` shares to the descriptor of `to`, a memmap page, and returns it there.
pub(crate) fn move_record<M: Machine>(memmap: Seen<'_, M>, first: u64, to: Pfn) -> Record<'_> {
    let (sections, machine) = (memmap.memmap().sections(), memmap.memmap().machine());
    let word = sections.word(machine, first);
    let record = memmap.hidden_section(first, word.with_record(to)).record();
    record.copy(memmap.hidden_section(first, word).record());
    for number in sections_touched::<M>(record_pfns::<M>(first)) {
        let word = sections.word(machine, number);
        if word != SectionWord::ABSENT {
            sections.set_word(machine, number, word.with_record(to));
        }
    }
    record
}
