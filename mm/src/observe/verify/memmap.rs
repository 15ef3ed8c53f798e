//! Invariants 1 to 3: descriptors, memmaps and their heads.

use super::violation::{Subject, Violation, expect, hold};
use crate::addr::{Pfn, PfnRange};
use crate::geometry::PARTS_PER_RECORD;
use crate::machine::Machine;
use crate::memmap::altmap::Altmap;
use crate::memmap::block::{Block, Group};
use crate::memmap::page::{Owner, PageState};
use crate::memmap::placement::Placement;
use crate::memmap::section::{Section, record_pfns, section_of};
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
            let Some(section) = self.memmap.section(number) else { continue };
            let block = self.memmap.block_record(number);
            let sound = block.is_some_and(|record| record.sound_block().is_some());
            hold(1, "a record holds a block's word", Subject::Section(number), sound)?;
            if section.word().boot() {
                self.check_elsewhere(section.pfns(), Owner::Boot)?;
                let first = record_pfns::<M>(number).start;
                let place = self.descriptors_at(first) == Some(section.word().record());
                hold(3, "the record's place", Subject::Section(number), place)?;
            }
        }
        for block in self.memmap.blocks() {
            if block.boot {
                let none = block.placement == Placement::Boot && !block.whole;
                hold(3, "boot memory has no memmap of its own", block.id, none)?;
                continue;
            }
            self.check_shares(&block)?;
            self.memmap.sections_of_block(block.id).try_for_each(|at| self.check_record(at))?;
        }
        Ok(())
    }

    /// A section has memory, and memory begins where there is memory; its record is at a place for it in one of the
    /// memmaps that describe the record's memory.
    fn check_record(&self, section: Section<'_, M>) -> Result<(), Violation> {
        let (number, record) = (section.number(), section.record());
        let (present, starts) = (record.present().bits(), record.starts().bits());
        let place = section.word().record();
        let parts = record_pfns::<M>(number);
        let begins = present & (starts | !(present << 1));
        let mut places = (0..PARTS_PER_RECORD).filter(|part| begins >> part & 1 != 0);
        let here = |part| {
            let pfn = parts.start.add(part * M::PART_PAGES);
            match self.memmap.group_of(section, pfn) {
                Some(group) => {
                    Altmap::of_memmap::<M>(group.pfns).record::<M>(section_of::<M>(pfn)) == place
                }
                None => self.descriptors_at(pfn) == Some(place),
            }
        };
        hold(3, "the record's place", Subject::Section(number), places.any(here))?;
        let Some(group) =
            self.memmap.section_at(place).and_then(|at| self.memmap.group_of(at, place))
        else {
            return Ok(());
        };
        let head = group.pfns.start;
        let state = PageState::MemmapTail { head };
        let named = head == place || self.memmap.page(place).is(state);
        hold(3, "a tail names its head", place, named)
    }

    fn check_shares(&self, block: &Block) -> Result<(), Violation> {
        for share in self.memmap.shares(block.id) {
            let at = share.pfns.start;
            let hosted = share.group.is_some();
            let known = !block.whole || block.placement.self_hosted() == hosted;
            hold(3, "a self-hosted block has a head", at, known)?;
            hold(3, "a whole block has one share", at, !block.whole || share.pfns == block.pfns)?;
            match share.group {
                Some(group) => self.check_group(block, share.pfns, group)?,
                None => self.check_elsewhere(share.pfns, Owner::Memmap)?,
            }
        }
        Ok(())
    }

    /// The frame that holds the descriptor of `pfn`.
    fn descriptors_at(&self, pfn: Pfn) -> Option<Pfn> {
        let virt = self.memmap.windows().descriptor_virt(pfn);
        self.memmap.mapper().translate(virt).map(|leaf| M::pfn(leaf.target(virt)))
    }

    /// A group describes what it came with: in a block, one share.
    fn check_group(&self, block: &Block, pfns: PfnRange, group: Group) -> Result<(), Violation> {
        let head = group.pfns.start;
        let altmap = Altmap::of_memmap::<M>(group.pfns);
        let bad = self.memmap.page(head).has_bad_memmap() && block.pfns.covers(group.pfns);
        hold(4, "a block with a bad memmap is marked", head, !bad || block.poisoned)?;
        let here = altmap.described.intersection(block.pfns);
        hold(3, "a group describes its share of a block", pfns.start, here == Some(pfns))?;
        expect(3, "sections of a group", head, altmap.sections::<M>(), group.sections)?;
        self.check_backing(pfns, altmap)
    }

    /// The memmap of `pfns` is backed by the altmap's frames, in order.
    fn check_backing(&self, pfns: PfnRange, altmap: Altmap) -> Result<(), Violation> {
        let base = self.memmap.windows().memmap_virt(altmap.described).start();
        let mut result = Ok(());
        self.memmap.mapper().visit(self.memmap.windows().memmap_virt(pfns), &mut |leaf| {
            let place = M::address(altmap.memmap.start).add(leaf.virt.offset_from(base));
            let found = leaf.phys.get();
            result = result.and(expect(2, "a memmap leaf", leaf.virt, place.get(), found));
        });
        result
    }

    /// A memmap in system memory: its pages have an owner that keeps descriptors.
    fn check_elsewhere(&self, pfns: PfnRange, owner: Owner) -> Result<(), Violation> {
        let mut result = Ok(());
        self.memmap.mapper().visit(self.memmap.windows().memmap_virt(pfns), &mut |leaf| {
            let held = matches!(self.memmap.extent_of(M::pfn(leaf.phys)),
                Some((_, PageState::Used { owner: holder, .. })) if holder == owner);
            result = result.and(hold(5, "a boot memmap's pages are held", M::pfn(leaf.phys), held));
        });
        result
    }
}
