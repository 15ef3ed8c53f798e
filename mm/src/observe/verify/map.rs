//! The section map, its records, and the translations of their descriptors: checked in this order, each before it is
//! followed. Once all of it is checked, any descriptor of present memory can be read, and so can the head of each
//! memmap that a record names.

use super::violation::{Subject, Violation, hold};
use crate::addr::{PhysAddr, VirtAddr};
use crate::machine::Machine;
use crate::memmap::section::{NODE_BYTES, Section, SectionState, record_pfns, section_of};
use crate::memmap::whole::Whole;
use crate::paging::{Mapper, Translation};

/// Checks the section map.
pub(super) struct Map<'m, M: Machine> {
    pub(super) memmap: Whole<'m, M>,
}

impl<'m, M: Machine> Map<'m, M> {
    pub(super) const fn of(memmap: Whole<'m, M>) -> Self {
        Self { memmap }
    }

    /// For tables that [are sound](super::tables::Tables::check_tree).
    pub(super) fn check(&self) -> Result<(), Violation> {
        self.memmap.sections().nodes().try_for_each(|node| self.check_node(node))?;
        self.check_words()?;
        let mut owner = None;
        self.records().try_for_each(|section| self.check_record(section, &mut owner))?;
        self.records().try_for_each(|section| self.check_descriptors(section))?;
        self.records().try_for_each(|section| self.check_group(section))
    }

    /// The sections that are present, the first of each record.
    fn records(&self) -> impl Iterator<Item = Section<'m, M>> {
        let (memmap, mut last) = (self.memmap, None);
        let numbers = memmap.memmap().sections().candidates();
        numbers.filter_map(move |number| memmap.section(number)).filter(move |section| {
            let record = section.number() / M::RECORD_SECTIONS;
            last.replace(record) != Some(record)
        })
    }

    /// A node can be read, where the linear map has it.
    fn check_node(&self, node: PhysAddr) -> Result<(), Violation> {
        let machine = self.memmap.machine();
        let end = node.checked_add(NODE_BYTES).filter(|&end| end <= machine.phys_limit());
        let whole = node.is_aligned(NODE_BYTES) && end.is_some();
        hold(5, "a section node is whole and in the linear map", node, whole)?;
        let virt = machine.linear_base().add(node.get());
        let leaf = self.memmap.mapper().translate(virt);
        let here = leaf.is_some_and(|leaf| leaf.target(virt) == node) && machine.can_load(virt);
        hold(5, "a section node is whole and in the linear map", node, here)
    }

    /// Each word is one of a section, and names a descriptor that can be read for its record.
    fn check_words(&self) -> Result<(), Violation> {
        let (sections, machine) = (self.memmap.sections(), self.memmap.machine());
        let limit = M::pfn(machine.phys_limit());
        let (mut last, mut kind) = (None, None);
        for number in sections.candidates() {
            let word = sections.word(machine, number);
            let of = Subject::Section(number);
            hold(1, "a section's word has known bits", of, word.is_known())?;
            if word.state() == SectionState::Absent {
                continue;
            }
            let leaving = word.state() == SectionState::Leaving;
            hold(1, "no section is leaving between operations", of, !leaving)?;
            let block = (number / self.memmap.block_sections(), word.boot());
            let same = kind.replace(block).is_none_or(|last| last.0 != block.0 || last == block);
            hold(1, "a block is boot memory, or was added", of, same)?;
            let (record, at) = (number / M::RECORD_SECTIONS, word.record());
            hold(1, "a section lies below the limit", of, record_pfns::<M>(number).start < limit)?;
            if let Some((known, place)) = last
                && known == record
            {
                hold(1, "sections that share a record name it", of, place == at)?;
                continue;
            }
            last = Some((record, at));
            hold(1, "a section's record lies below the limit", of, at < limit)?;
            let there = sections.word(machine, section_of::<M>(at)).state();
            let known = matches!(there, SectionState::Present | SectionState::Online);
            hold(3, "a section's record is in memory", of, known)?;
            let virt = self.memmap.windows().descriptor_virt(at);
            let leaf = self.memmap.mapper().translate(virt);
            let there = leaf.is_some_and(|leaf| self.can_load(&leaf, virt));
            hold(1, "a section's record can be read", of, there)?;
        }
        Ok(())
    }

    /// Whether `at`, which `leaf` translates, is memory that the manager knows, and can be read.
    pub(super) fn can_load(&self, leaf: &Translation, at: VirtAddr) -> bool {
        let number = section_of::<M>(M::pfn(leaf.target(at)));
        let machine = self.memmap.machine();
        let word = self.memmap.sections().word(machine, number);
        word.state() != SectionState::Absent && machine.can_load(at)
    }
}
