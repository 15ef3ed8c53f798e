//! What the verbs hold of system memory: counted, and each frame used once (laws 4 and 5).

use super::{Violation, expect, hold};
use crate::Mm;
use crate::addr::{Pfn, PfnRange};
use crate::block::BlockState;
use crate::machine::Machine;
use crate::page::{Owner, PageState};
use crate::paging::Mapper;
use crate::section::{Section, section_pfns};
use crate::zone::ZoneKind;

/// Pages with how often each occurs, told from another such bag by a sum of hashes: bags that differ
/// look alike once in 2^64 times, and no memory is needed to compare them.
#[derive(Default, PartialEq, Eq)]
struct Bag {
    pages: u64,
    sum: u64,
}

impl Bag {
    fn insert(&mut self, pfns: PfnRange) {
        self.pages += pfns.pages();
        self.sum = pfns.iter().fold(self.sum, |sum, pfn| sum.wrapping_add(mix(pfn)));
    }
}

/// The output step of splitmix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators").
fn mix(pfn: Pfn) -> u64 {
    let word = pfn.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
    let word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ word >> 31
}

impl<M: Machine> Mm<M> {
    pub(super) fn verify_frames(&self) -> Result<(), Violation> {
        let (mut held, mut tables) = (Bag::default(), 0);
        let system = BlockState::Online(ZoneKind::System);
        for block in self.blocks().filter(|block| block.state == system) {
            for (pfn, pages, state) in self.extents(block.pfns) {
                match state {
                    PageState::Used { owner: Owner::Memmap, .. } => {
                        held.insert(PfnRange::new(pfn, pages));
                    }
                    PageState::Used { owner: Owner::Table, .. } => tables += pages,
                    _ => {}
                }
            }
        }
        let counted = self.frames.system_pages();
        expect(4, "pages that the verbs hold", 0, held.pages + tables, counted)?;

        let mut used = Bag::default();
        let boot = self.sections.iter(&self.machine).filter(|&number| self.is_boot(number));
        let last = boot.last().unwrap_or(0);
        for number in self.sections.iter(&self.machine) {
            let Some(section) = self.section(number) else { continue };
            if section.word().boot() {
                self.verify_apart(section, last)?;
            } else if self.group_of(section).is_none() {
                self.visit_memmap(section, &mut |pfns| used.insert(pfns));
            }
        }
        hold(5, "each frame of a boot memmap is used once", 0, held == used)
    }

    /// No boot section above, up to `last`, has its memmap where this one has. Each lies in one aligned piece, so it
    /// is enough to compare where they begin; there are as many as the machine was started with, and no
    /// more.
    fn verify_apart(&self, section: Section<'_, M>, last: u64) -> Result<(), Violation> {
        let number = section.number();
        let backing = |number| {
            let virt = Self::memmap_virt(section_pfns::<M>(number)).start();
            self.machine.mapper().translate(virt).map(|leaf| leaf.target(virt))
        };
        let start = backing(number);
        let mut next = start.map(|start| M::pfn(start).get());
        self.visit_memmap(section, &mut |pfns| {
            next = next.filter(|&next| next == pfns.start.get()).map(|_| pfns.end.get());
        });
        hold(5, "the memmap of a boot section is in one piece", number, next.is_some())?;
        let mut others = (number + 1..=last).filter(|&other| self.is_boot(other));
        let shared = others.any(|other| backing(other) == start);
        hold(5, "boot sections have memmaps of their own", number, !shared)
    }

    fn is_boot(&self, number: u64) -> bool {
        self.sections.word(&self.machine, number).boot()
    }

    /// Shows the frames of a section's descriptors, in order.
    fn visit_memmap(&self, section: Section<'_, M>, each: &mut dyn FnMut(PfnRange)) {
        let virt = Self::memmap_virt(section.pfns());
        self.machine.mapper().visit(virt, &mut |leaf| {
            let start = leaf.virt.max(virt.start());
            let end = leaf.virt.add(leaf.len).offset_from(start).min(virt.end().offset_from(start));
            each(PfnRange::new(M::pfn(leaf.target(start)), end / M::PAGE_BYTES));
        });
    }
}
