//! Memory that leaves, beside memory that stays in the same sections and blocks.
//!
//! ```text
//!   section   [ a a a a a a a b b b b b b b ]  a leaves, b stays: its subsections are not present any more
//!   record      ^ in a's memmap   ^ now in b's
//! ```
//!
//! A section of which nothing stays becomes `Leaving`. Of one that keeps other memory the subsections are hidden, and
//! its record, if that is in the memmap that leaves, moves to the memmap of what stays; so do the words of a block whose
//! record leaves. All blocks are offline, so that nothing but the operation under way changes a record.

use crate::addr::{Pfn, PfnRange};
use crate::machine::Machine;
use crate::memmap::altmap::Altmap;
use crate::memmap::bad;
use crate::memmap::block::BlockId;
use crate::memmap::page::PageState;
use crate::memmap::record::{Part, Record};
use crate::memmap::section::{
    Section, SectionState, SectionWord, parts_touched, record_pfns, section_pfns, sections_touched,
};
use crate::memmap::whole::Whole;
use crate::operations::ranges::records_of;
use crate::paging::Mapper;

/// Whole shares of offline blocks, which leave.
pub(super) struct Leaving<'m, M: Machine> {
    memmap: Whole<'m, M>,
    pfns: PfnRange,
    /// Where the records of the first and of the last section were, if they moved.
    moved: [Option<Pfn>; 2],
    /// Subsections of these records, of which nothing stays, that hold other memory which is hidden for ever.
    lost: [u64; 2],
}

impl<'m, M: Machine> Leaving<'m, M> {
    pub(super) const fn of(memmap: Whole<'m, M>, pfns: PfnRange) -> Self {
        Self { memmap, pfns, moved: [None; 2], lost: [0; 2] }
    }

    /// Hides it, the last section first: a look-up finds a block's words in one of its first sections, and so finds the
    /// whole block or none.
    pub(super) fn hide(&mut self) {
        if self.is_alone() {
            for number in sections_touched::<M>(self.pfns).rev() {
                let hide = |word: SectionWord| word.with_state(SectionState::Leaving);
                self.memmap.sections().change_word(self.memmap.machine(), number, hide);
            }
            return;
        }
        self.hand_on_blocks();
        for first in records_of::<M>(self.pfns).rev() {
            self.hide_record(first);
        }
    }

    /// Whether it is whole blocks, so that nothing stays in them.
    fn is_alone(&self) -> bool {
        let pages = self.memmap.block_size().pages::<M>();
        self.pfns.start.get().is_multiple_of(pages) && self.pfns.end.get().is_multiple_of(pages)
    }

    /// Shows it again, the first section first.
    pub(super) fn show(&self) {
        for first in records_of::<M>(self.pfns) {
            let parts = parts_touched::<M>(first, self.pfns);
            let shared = self.memmap.section_of_record(first);
            if let Some(section) = shared {
                let back = self.moved[self.end_of(first)];
                back.into_iter().for_each(|to| self.move_record(first, section.record(), to));
            }
            let record = self.record_of(first);
            // In system memory the bits of a record that left were those of a list.
            let others = shared.map_or(0, |_| record.present().bits());
            record.present().set(others | parts);
            self.each_hidden(first, SectionState::Present);
        }
    }

    /// Notes that it stays hidden for ever, since it cannot be mapped again: nothing is added over it. Its sections stay
    /// `Leaving`; of those that it shares it is where memory begins that is not present.
    pub(super) fn stay_hidden(&self) {
        if self.is_alone() {
            return;
        }
        for first in ends_of::<M>(self.pfns) {
            if let Some(section) = self.memmap.section_of_record(first) {
                let starts = section.record().starts();
                starts.set(starts.bits() | parts_touched::<M>(first, self.pfns));
            }
        }
    }

    /// Forgets what was unmapped.
    pub(super) fn forget(self) {
        if self.is_alone() {
            let sections = sections_touched::<M>(self.pfns);
            let numbers = *sections.start()..sections.end() + 1;
            return self.memmap.sections().forget(self.memmap.machine(), numbers);
        }
        for first in ends_of::<M>(self.pfns) {
            let parts = parts_touched::<M>(first, self.pfns);
            if let Some(section) = self.memmap.section_of_record(first) {
                let starts = section.record().starts();
                starts.set(starts.bits() & !parts);
                if !record_pfns::<M>(first).contains(self.pfns.start) {
                    section.record().set_group(None);
                }
            }
        }
        for number in sections_touched::<M>(self.pfns) {
            let own = parts_touched::<M>(number, section_pfns::<M>(number));
            let is_lost = self.lost_of(number) & own != 0;
            if self.word(number).state() == SectionState::Leaving && !is_lost {
                self.set_word(number, SectionWord::ABSENT);
            }
        }
        self.end_blocks().into_iter().for_each(|id| bad::forget(*self.memmap, id));
    }

    /// The blocks of the first and of the last page.
    fn end_blocks(&self) -> [BlockId; 2] {
        let ends = [self.pfns.start, Pfn::new(self.pfns.end.get() - 1)];
        ends.map(|pfn| self.memmap.block_at(M::address(pfn)))
    }

    /// Hides what leaves of the record of section `first`.
    fn hide_record(&mut self, first: u64) {
        let parts = parts_touched::<M>(first, self.pfns);
        let record = self.record_of(first);
        let present = record.present().bits();
        let stay = present & !parts;
        if stay == 0 {
            self.lost[self.end_of(first)] |= record.starts().bits() & !present;
        } else {
            let at = self.word(first).record();
            let first_pfn = record_pfns::<M>(first).start.max(self.pfns.start);
            if self.place_of_record(first_pfn) == Some(at)
                && let Some(to) = self.place_of_record(place::<M>(first, stay))
            {
                self.move_record(first, record, to);
                self.moved[self.end_of(first)] = Some(at);
            }
            self.record_of(first).hide_all_but(stay);
        }
        let here = record_pfns::<M>(first).intersection(self.pfns).unwrap_or(self.pfns);
        for number in sections_touched::<M>(here).rev() {
            if stay == 0 || stay & parts_touched::<M>(number, section_pfns::<M>(number)) == 0 {
                self.set_word(number, self.word(number).with_state(SectionState::Leaving));
            }
        }
    }

    /// Gives the words of each block that stays in part to a record that stays.
    fn hand_on_blocks(&self) {
        for id in self.end_blocks() {
            let stays = |section: &Section<'_, M>| {
                let parts = parts_touched::<M>(section.number(), self.pfns);
                section.record().present().bits() & !parts != 0
            };
            let mut staying = self.memmap.sections_of_block(id).filter(stays);
            if let (Some(section), Some(words)) = (staying.next(), self.memmap.block_record_of(id))
            {
                section.record().take_block(words);
            }
        }
    }

    /// Where the memmap that begins with the descriptor of `pfn`, in its record, has a place for that record.
    fn place_of_record(&self, pfn: Pfn) -> Option<Pfn> {
        let section = self.memmap.section_at(pfn)?;
        if let Some(group) = self.memmap.group_of(section, pfn) {
            return Some(Altmap::of_memmap::<M>(group.pfns).record::<M>(section.number()));
        }
        let virt = self.memmap.windows().descriptor_virt(pfn);
        let leaf = self.memmap.mapper().translate(virt)?;
        Some(M::pfn(leaf.target(virt)))
    }

    /// Moves the record that section `first` shares to the descriptor of `to`, a memmap page.
    fn move_record(&self, first: u64, record: Record<'_>, to: Pfn) {
        let word = self.word(first).with_record(to);
        let new = self.memmap.hidden_section(first, word);
        if let Some(section) = self.memmap.section_at(to)
            && let Some(group) = self.memmap.group_of(section, to)
            && group.pfns.contains(to)
            && group.pfns.start != to
        {
            let head = group.pfns.start;
            self.memmap.page(to).set_state(PageState::MemmapTail { head });
        }
        new.record().copy(record);
        for number in sections_touched::<M>(record_pfns::<M>(first)) {
            let word = self.word(number);
            if word != SectionWord::ABSENT {
                self.set_word(number, word.with_record(to));
            }
        }
    }

    /// Gives the sections of a record that were hidden a state.
    fn each_hidden(&self, first: u64, state: SectionState) {
        let here = record_pfns::<M>(first).intersection(self.pfns).unwrap_or(self.pfns);
        for number in sections_touched::<M>(here) {
            let word = self.word(number);
            if word.state() == SectionState::Leaving {
                self.set_word(number, word.with_state(state));
            }
        }
    }

    /// Which end of the range the record of section `first` is at: only records at an end are shared.
    fn end_of(&self, first: u64) -> usize {
        usize::from(!record_pfns::<M>(first).contains(self.pfns.start))
    }

    /// What is lost of the record of section `number`.
    fn lost_of(&self, number: u64) -> u64 {
        let (record, last) = (record_pfns::<M>(number), Pfn::new(self.pfns.end.get() - 1));
        let is_end = record.contains(self.pfns.start) || record.contains(last);
        if is_end { self.lost[self.end_of(number)] } else { 0 }
    }

    fn record_of(&self, first: u64) -> Record<'m> {
        self.memmap.hidden_section(first, self.word(first)).record()
    }

    fn word(&self, number: u64) -> SectionWord {
        self.memmap.sections().word(self.memmap.machine(), number)
    }

    fn set_word(&self, number: u64, word: SectionWord) {
        self.memmap.sections().set_word(self.memmap.machine(), number, word);
    }
}

/// The first sections of the first and of the last record of `pfns`.
fn ends_of<M: Machine>(pfns: PfnRange) -> impl Iterator<Item = u64> {
    let mut records = records_of::<M>(pfns);
    [records.next(), records.next_back()].into_iter().flatten()
}

/// The first page of the first of `parts`, of the record of section `number`.
fn place<M: Machine>(number: u64, parts: u64) -> Pfn {
    let part = Part::new(parts.trailing_zeros().into());
    record_pfns::<M>(number).start.add(part.number() * M::PART_PAGES)
}
