//! Invariants 1 to 3: descriptors, memmaps and their heads.

use super::violation::{Violation, expect, hold};
use crate::machine::Machine;
use crate::memmap::altmap::Altmap;
use crate::memmap::block::Group;
use crate::memmap::page::{Owner, PageState};
use crate::memmap::placement::Placement;
use crate::memmap::section::{Section, SectionState};
use crate::memmap::whole::Whole;
use crate::paging::Mapper;

/// Checks descriptors.
pub(super) struct Descriptors<'m, M: Machine> {
    memmap: Whole<'m, M>,
}

impl<'m, M: Machine> Descriptors<'m, M> {
    pub(super) const fn of(memmap: Whole<'m, M>) -> Self {
        Self { memmap }
    }

    pub(super) fn check(&self) -> Result<(), Violation> {
        for number in self.memmap.sections().iter(self.memmap.machine()) {
            let state = self.memmap.sections().word(self.memmap.machine(), number).state();
            hold(
                1,
                "no section is leaving between operations",
                number,
                state != SectionState::Leaving,
            )?;
            let Some(section) = self.memmap.section(number) else { continue };
            self.check_mapped(section)?;
            let sound = section.record().sound_block().is_some();
            hold(1, "a record holds a block's word", number, sound)?;
            self.check_whole(section)?;
            match self.memmap.group_of(section) {
                Some(group) => self.check_group(section, group)?,
                None => self.check_boot(section)?,
            }
        }
        Ok(())
    }

    /// An added block has all its sections: each is followed by the next, the last by the first.
    fn check_whole(&self, section: Section<'_, M>) -> Result<(), Violation> {
        let last = self.memmap.block_sections() - 1;
        let number = section.number();
        let next = number & !last | (number + 1) & last;
        let there = section.word().boot() || self.memmap.section(next).is_some();
        hold(4, "an added block has all its sections", next, there)
    }

    /// Every byte of the section's descriptors is mapped: no pfn lacks its descriptor.
    fn check_mapped(&self, section: Section<'_, M>) -> Result<(), Violation> {
        let virt = self.memmap.windows().memmap_virt(section.pfns());
        // Leaves come in order; a gap ends the count.
        let mut mapped = 0;
        self.memmap.mapper().visit(virt, &mut |leaf| {
            let first = leaf.virt.max(virt.start()).offset_from(virt.start());
            let end = leaf.virt.add(leaf.len).offset_from(virt.start());
            mapped = if first == mapped { end } else { mapped };
        });
        let covered = mapped.min(virt.len());
        expect(1, "mapped memmap of a section", section.number(), virt.len(), covered)
    }

    fn check_group(&self, section: Section<'_, M>, group: Group) -> Result<(), Violation> {
        let number = section.number();
        let head = group.pfns.start;
        let altmap = Altmap::of_memmap::<M>(group.pfns);
        let range = altmap.described;
        hold(3, "a group describes the section", number, range.covers(section.pfns()))?;
        expect(3, "sections of a group", head.get(), altmap.sections::<M>(), group.sections)?;
        let record = altmap.record::<M>(number);
        expect(3, "the record's place", number, record.get(), section.word().record().get())?;
        let tail = PageState::MemmapTail { head };
        hold(3, "a tail names its head", number, self.memmap.page(record).is(tail))?;
        self.check_backing(section, altmap)
    }

    /// The section's piece of the memmap is backed by the altmap's frames, in order.
    fn check_backing(&self, section: Section<'_, M>, altmap: Altmap) -> Result<(), Violation> {
        let base = self.memmap.windows().memmap_virt(altmap.described).start();
        let mut result = Ok(());
        self.memmap.mapper().visit(
            self.memmap.windows().memmap_virt(section.pfns()),
            &mut |leaf| {
                let place = M::address(altmap.memmap.start).add(leaf.virt.offset_from(base));
                let found = leaf.phys.get();
                result =
                    result.and(expect(2, "a memmap leaf", leaf.virt.get(), place.get(), found));
            },
        );
        result
    }

    /// A memmap in system memory: the owner of its pages is that of descriptors.
    fn check_boot(&self, section: Section<'_, M>) -> Result<(), Violation> {
        let record = self.memmap.block_record(section.number());
        let placement = record.map(|record| record.block().placement);
        let number = section.number();
        hold(3, "a self-hosted block has a head", number, placement == Some(Placement::Boot))?;

        let owner = if section.word().boot() { Owner::Boot } else { Owner::Memmap };
        let mut result = Ok(());
        self.memmap.mapper().visit(
            self.memmap.windows().memmap_virt(section.pfns()),
            &mut |leaf| {
                let held = matches!(self.memmap.extent_of(M::pfn(leaf.phys)),
                Some((_, PageState::Used { owner: holder, .. })) if holder == owner);
                result =
                    result.and(hold(5, "a boot memmap's pages are held", leaf.phys.get(), held));
            },
        );
        result
    }
}
