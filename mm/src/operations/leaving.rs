//! Memory that leaves, beside memory that stays in the same sections and blocks.
//!
//! ```text
//!   section   [ a a a a a a a b b b b b b b ]  a leaves, b stays: its subsections are not present any more
//!   record      ^ in a's memmap   ^ now in b's
//! ```
//!
//! A section of which nothing stays becomes `Leaving`. Of one that keeps other memory the subsections are hidden, and
//! its record, if that is in the memmap that leaves, moves to the memmap of what stays; so do the words of a block whose
//! record leaves. If the block is offline, nothing but the operation under way changes a record. If it is online, the
//! readers of the block are held off and its zone is locked meanwhile: each user of a record has one or the other.

use crate::addr::{Pfn, PfnRange};
use crate::alloc::Allocator;
use crate::alloc::node::NodeId;
use crate::alloc::zone::{PageCounts, ZoneKind};
use crate::machine::Machine;
use crate::memmap::altmap::Altmap;
use crate::memmap::bad;
use crate::memmap::block::{BlockId, BlockState};
use crate::memmap::page::PageState;
use crate::memmap::readers::Stays;
use crate::memmap::record::{Part, Record};
use crate::memmap::section::{
    Section, SectionState, SectionWord, parts_touched, record_pfns, section_pfns, sections_touched,
};
use crate::memmap::share::move_record;
use crate::memmap::whole::Whole;
use crate::operations::part::counts_of;
use crate::operations::ranges::records_of;
use crate::paging::Mapper;

/// Whole shares, which leave: of offline blocks, or offline parts of online ones.
pub(super) struct Leaving<'m, M: Machine> {
    allocator: &'m Allocator<M>,
    memmap: Whole<'m, M>,
    pfns: PfnRange,
    /// The online blocks at the ends of the range, what is left out of their counts.
    online: [Option<Beside>; 2],
    /// What the records of the first and of the last section noted of the descriptors of what leaves.
    noted: [Noted; 2],
    /// Where the records of the first and of the last section were, if they moved.
    moved: [Option<Pfn>; 2],
    /// Subsections of these records, of which nothing stays, that hold other memory which is hidden for ever.
    lost: [u64; 2],
}

/// A block that stays online, of which a part leaves.
#[derive(Clone, Copy)]
struct Beside {
    id: BlockId,
    node: NodeId,
    kind: ZoneKind,
    /// The pages of the part.
    counts: PageCounts,
}

/// Bits of a record, for subsections that leave.
#[derive(Clone, Copy, Default)]
struct Noted {
    initialised: u64,
    heads: u64,
}

impl<'m, M: Machine> Leaving<'m, M> {
    pub(super) fn of(allocator: &'m Allocator<M>, memmap: Whole<'m, M>, pfns: PfnRange) -> Self {
        let (online, noted, moved, lost) = ([None; 2], [Noted::default(); 2], [None; 2], [0; 2]);
        Self { allocator, memmap, pfns, online, noted, moved, lost }
    }

    /// Hides it, the last section first: a look-up finds a block's words in one of its first sections, and so finds the
    /// whole block or none. Fails, and may have hidden some of it, if a reader of an online block stays.
    pub(super) fn hide(&mut self) -> Result<(), Stays> {
        if self.is_alone() {
            for number in sections_touched::<M>(self.pfns).rev() {
                let hide = |word: SectionWord| word.with_state(SectionState::Leaving);
                self.memmap.sections().change_word(self.memmap.machine(), number, hide);
            }
            return Ok(());
        }
        let [first, last] = self.end_blocks().map(BlockId::get);
        (first..=last).rev().map(BlockId::new).try_for_each(|id| match self.beside(id) {
            Some(beside) => self.hide_beside(beside),
            None => {
                self.hide_block(id);
                Ok(())
            }
        })
    }

    /// A block that stays online, if it is one.
    fn beside(&self, id: BlockId) -> Option<Beside> {
        let word = self.memmap.block_record_of(id)?.block();
        let BlockState::Online(kind) = word.state else { return None };
        let counts = counts_of(*self.memmap, id, self.pfns);
        Some(Beside { id, node: word.node, kind, counts })
    }

    /// Hides what leaves of a block that stays online, and leaves it out of the counts.
    fn hide_beside(&mut self, beside: Beside) -> Result<(), Stays> {
        let Beside { id, node, kind, counts } = beside;
        let _gate = self.memmap.memmap().hold_off_readers(id)?;
        let allocator = self.allocator;
        let mut zone = allocator.nodes.lock(node, kind);
        self.hide_block(id);
        zone.withdraw(counts);
        if let Some(record) = self.memmap.block_record_of(id) {
            record.managed().sub(counts.managed);
        }
        let end = usize::from(id != self.end_blocks()[0]);
        self.online[end] = Some(beside);
        Ok(())
    }

    /// Whether records of a block may change: it is offline, or its zone is locked.
    fn may_change(&self, id: BlockId) -> bool {
        self.memmap.block_record_of(id).map(Record::block).is_none_or(|word| match word.state {
            BlockState::Online(kind) => self.allocator.nodes.is_locked(word.node, kind),
            BlockState::Offline => true,
        })
    }

    /// Hides what leaves of a block.
    fn hide_block(&mut self, id: BlockId) {
        debug_assert!(self.may_change(id), "{id} is hidden while its zone is not locked");
        self.hand_on_block(id);
        records_of::<M>(self.part_of(id)).rev().for_each(|first| self.hide_record(first));
    }

    /// What leaves of a block.
    fn part_of(&self, id: BlockId) -> PfnRange {
        self.memmap.block_pfns(id).intersection(self.pfns).unwrap_or(self.pfns)
    }

    /// Whether it is whole blocks, so that nothing stays in them.
    fn is_alone(&self) -> bool {
        let pages = self.memmap.block_size().pages::<M>();
        self.pfns.start.get().is_multiple_of(pages) && self.pfns.end.get().is_multiple_of(pages)
    }

    /// Shows it again, the first section first.
    pub(super) fn show(&self) {
        let [first, last] = self.end_blocks().map(BlockId::get);
        for id in (first..=last).map(BlockId::new) {
            match self.online.iter().flatten().find(|beside| beside.id == id) {
                Some(beside) => self.show_beside(*beside),
                // A reader stayed, so nothing of it was hidden: its records change under the lock of its zone.
                None if self.beside(id).is_some() => {}
                None => self.show_block(id, SectionState::Present, true),
            }
        }
    }

    /// Shows what was hidden of a block that stayed online, and counts it. If a reader stays, its record is not moved
    /// back: it is where it can be, too.
    fn show_beside(&self, Beside { id, node, kind, counts }: Beside) {
        let gate = self.memmap.hold_off_readers(id);
        let mut zone = self.allocator.nodes.lock(node, kind);
        self.show_block(id, SectionState::Online, gate.is_ok());
        zone.add(counts);
        if let Some(record) = self.memmap.block_record_of(id) {
            record.managed().add(counts.managed);
        }
    }

    /// Shows what was hidden of a block, in sections with this state; moves its records back, or not.
    fn show_block(&self, id: BlockId, state: SectionState, moves: bool) {
        debug_assert!(self.may_change(id), "{id} is shown while its zone is not locked");
        for first in records_of::<M>(self.part_of(id)) {
            let parts = parts_touched::<M>(first, self.pfns);
            let shared = self.memmap.section_of_record(first);
            if shared.is_some() {
                let back = self.moved[self.end_of(first)].filter(|_| moves);
                back.into_iter().for_each(|to| self.move_record(first, to));
            }
            let record = self.record_of(first);
            // In system memory the bits of a record that left were those of a list.
            let others = shared.map_or(0, |_| record.present().bits());
            if shared.is_some() {
                let Noted { initialised, heads } = self.noted[self.end_of(first)];
                record.initialised().set(record.initialised().bits() | initialised);
                record.heads().set(record.heads().bits() | heads);
            }
            record.present().set(others | parts);
            self.each_hidden(first, state);
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
                self.move_record(first, to);
                self.moved[self.end_of(first)] = Some(at);
            }
            let record = self.record_of(first);
            let (initialised, heads) = (record.initialised().bits(), record.heads().bits());
            self.noted[self.end_of(first)] =
                Noted { initialised: initialised & !stay, heads: heads & !stay };
            record.hide_all_but(stay);
            record.initialised().set(initialised & stay);
            record.heads().set(heads & stay);
        }
        let here = record_pfns::<M>(first).intersection(self.pfns).unwrap_or(self.pfns);
        for number in sections_touched::<M>(here).rev() {
            if stay == 0 || stay & parts_touched::<M>(number, section_pfns::<M>(number)) == 0 {
                self.set_word(number, self.word(number).with_state(SectionState::Leaving));
            }
        }
    }

    /// Gives the words of a block that stays in part to a record that stays.
    fn hand_on_block(&self, id: BlockId) {
        let stays = |section: &Section<'_, M>| {
            let parts = parts_touched::<M>(section.number(), self.pfns);
            section.record().present().bits() & !parts != 0
        };
        let mut staying = self.memmap.sections_of_block(id).filter(stays);
        if let (Some(section), Some(words)) = (staying.next(), self.memmap.block_record_of(id)) {
            section.record().take_block(words);
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
    fn move_record(&self, first: u64, to: Pfn) {
        if let Some(section) = self.memmap.section_at(to)
            && let Some(group) = self.memmap.group_of(section, to)
            && group.pfns.contains(to)
            && group.pfns.start != to
        {
            let head = group.pfns.start;
            self.memmap.page(to).set_state(PageState::MemmapTail { head });
        }
        move_record(*self.memmap, first, to);
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
