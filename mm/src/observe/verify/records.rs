//! The records of sections, the mappings of the descriptors that they know, and the groups that they name.

use super::map::Map;
use super::violation::{Violation, expect, hold};
use crate::addr::{Pfn, PfnRange};
use crate::machine::Machine;
use crate::memmap::altmap::Altmap;
use crate::memmap::block::BlockState;
use crate::memmap::section::{Section, SectionState, parts_touched, record_pfns, section_pfns};
use crate::paging::{Attr, Mapper};

impl<M: Machine> Map<'_, M> {
    /// The record's bitmaps agree, and the words of the block are in one of its records only. `block` is the last one
    /// whose words were found.
    pub(super) fn check_record(
        &self,
        section: Section<'_, M>,
        block: &mut Option<u64>,
    ) -> Result<(), Violation> {
        let (at, record) = (section.word().record(), section.record());
        let (present, starts) = (record.present().bits(), record.starts().bits());
        hold(4, "memory begins where there is memory", at, starts & !present == 0)?;
        let known = record.heads().bits() | record.initialised().bits();
        hold(1, "an absent part has no descriptors", at, known & !present == 0)?;
        let first = section.number() / M::RECORD_SECTIONS * M::RECORD_SECTIONS;
        for number in first..first + M::RECORD_SECTIONS {
            let own = parts_touched::<M>(number, section_pfns::<M>(number));
            let there = self.memmap.section(number).is_some();
            hold(4, "a section has memory", at, (present & own != 0) == there)?;
        }
        let continues = present & !starts & 1 != 0;
        let nothing = continues || record.group().is_none();
        hold(3, "a record names a group only for memory from before", at, nothing)?;
        let behind_holes = present & !(present << 1) & !1;
        let begun = if section.word().boot() { starts == 0 } else { behind_holes & !starts == 0 };
        hold(3, "memory begins behind a hole, if it was added", at, begun)?;
        let whose = section.number() / self.memmap.block_sections();
        let mut online = false;
        if record.has_block() {
            hold(1, "a block has one word", at, block.replace(whose) != Some(whose))?;
            let word = record.sound_block();
            hold(1, "a record holds a block's word", at, word.is_some())?;
            online = word.is_some_and(|word| word.state != BlockState::Offline);
        }
        let counted = online || record.managed().get() == 0;
        hold(4, "only an online block counts pages", at, counted)?;
        // Of a block that is offline the word says where its bad memory is.
        let other = match section.word().state() {
            SectionState::Online => record.free().get(),
            _ => record.bad().bits() & !present,
        };
        hold(4, "only an online block counts free pages", at, online || other == 0)
    }

    /// Every byte of the descriptors of memory is mapped, as memory that can be read: no pfn lacks its descriptor.
    pub(super) fn check_descriptors(&self, section: Section<'_, M>) -> Result<(), Violation> {
        let all = record_pfns::<M>(section.number());
        if section.word().boot() {
            return self.check_mapped(all);
        }
        let mut rest = section.record().present().bits();
        while rest != 0 {
            let first = rest.trailing_zeros();
            let count = (rest >> first).trailing_ones();
            rest &= u64::MAX.checked_shl(first + count).unwrap_or(0);
            let start = all.start.add(u64::from(first) * M::PART_PAGES);
            self.check_mapped(PfnRange::new(start, u64::from(count) * M::PART_PAGES))?;
        }
        Ok(())
    }

    fn check_mapped(&self, pfns: PfnRange) -> Result<(), Violation> {
        let virt = self.memmap.windows().memmap_virt(pfns);
        // Leaves come in order; a gap ends the count.
        let (mut mapped, mut result) = (0, Ok(()));
        self.memmap.mapper().visit(virt, &mut |leaf| {
            let start = leaf.virt.max(virt.start());
            let end = leaf.virt.add(leaf.len).offset_from(virt.start()).min(virt.len());
            let last = virt.start().add(end).add(1_u64.wrapping_neg());
            let there = [start, last].into_iter().all(|at| self.can_load(&leaf, at));
            let named = |found| Violation { leaf: Some(leaf), ..found };
            result = result
                .and_then(|()| hold(1, "descriptors can be read", leaf.virt, there))
                .and_then(|()| {
                    hold(6, "a memmap leaf is plain memory", leaf.virt, leaf.attr == Attr::WRITE)
                })
                .map_err(named);
            mapped = if start.offset_from(virt.start()) == mapped { end } else { mapped };
        });
        result?;
        expect(1, "mapped memmap of a section", pfns.start, virt.len(), mapped)
    }

    /// A record that continues memory from before names the group of that. Records come in ascending order: those below
    /// are checked.
    pub(super) fn check_group(&self, section: Section<'_, M>) -> Result<(), Violation> {
        let (at, record) = (section.word().record(), section.record());
        let first = record_pfns::<M>(section.number()).start;
        let what = "a record continues the group before it";
        let before = first.get().checked_sub(1).map(Pfn::new);
        let before = before.and_then(|pfn| {
            let section = self.memmap.section_at(pfn)?;
            section.record().present().has(Section::<M>::part(pfn)).then_some((section, pfn))
        });
        if let Some(head) = record.group() {
            let known = before.and_then(|(section, pfn)| section.group_head(pfn)) == Some(head);
            return hold(3, what, at, known && !section.word().boot());
        }
        if record.present().bits() & !record.starts().bits() & 1 == 0 {
            return Ok(());
        }
        let group = before.and_then(|(section, pfn)| self.memmap.group_of(section, pfn));
        let inside =
            group.is_some_and(|group| Altmap::of_memmap::<M>(group.pfns).described.contains(first));
        hold(3, what, at, !inside)
    }
}
