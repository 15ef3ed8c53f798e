//! The words in memory that the manager relies on, for tests that damage them.

use super::std::vec::Vec;
use super::{Bench, FakeMachine, Shape};
use crate::addr::{Pfn, PhysAddr};
use crate::geometry::Geometry;
use crate::machine::Machine;
use crate::memmap::page::{Owner, PageState};
use crate::memmap::record::Part;
use crate::memmap::section::{NODE_BYTES, NODE_SECTIONS, Section, node_word};
use crate::memmap::whole::Whole;
use crate::paging::Mapper;
use crate::turn::Look;

/// A word.
#[derive(Clone, Copy, Debug)]
pub struct Word {
    /// What it means.
    pub name: &'static str,
    /// Where it is.
    pub at: PhysAddr,
}

/// Names of a record's words.
const RECORD: [&str; 7] = [
    "initialised subsections",
    "heads of subsections",
    "present subsections",
    "group and managed pages",
    "word of a block",
    "starts of memory",
    "free pages",
];

/// Collects words.
struct Words<'m, S: Shape> {
    memmap: Whole<'m, FakeMachine<S>>,
    found: Vec<Word>,
}

impl<S: Shape> Bench<S> {
    /// The words in memory that the manager relies on. The words of an extent in use that belong to its owner, and its
    /// age, are not among them: the manager only passes them on.
    pub fn words(&self) -> Vec<Word> {
        let allocator = self.mm.allocator();
        let look = crate::alloc::Waits::of(allocator).look();
        let mut words = Words { memmap: look.seen(), found: Vec::new() };
        words.sections();
        words.tables();
        let numbers: Vec<_> = words.memmap.sections().iter(words.memmap.machine()).collect();
        numbers.iter().for_each(|&number| words.section(number));
        let (frames, machine) = (&allocator.frames, allocator.machine());
        frames.visit_returned(machine, &mut |frame| {
            words.add("link of the reserve", frame);
            true
        });
        self.shared_pages(&look, &mut words);
        words.found
    }

    /// The headers of pages that tables share.
    fn shared_pages(&self, look: &Look<'_, FakeMachine<S>>, words: &mut Words<'_, S>) {
        let (frames, memmap) = (self.mm.allocator().table_frames(), look.seen());
        let mut pages = Vec::new();
        let mut note = |at: PhysAddr, bytes: u64| {
            if bytes < FakeMachine::<S>::PAGE_BYTES && frames.owns(at) {
                pages.push(at.align_down(FakeMachine::<S>::PAGE_BYTES));
            }
        };
        memmap.mapper().visit_tables(&mut |table| note(table.frame, table.bytes));
        memmap.sections().nodes().for_each(|node| note(node, NODE_BYTES));
        pages.sort_unstable();
        pages.dedup();
        for page in pages {
            words.add("link of a shared page", page);
            words.add("link back of a shared page", page.add(8));
            for word in 2..6 {
                words.add("pieces of a shared page", page.add(8 * word));
            }
        }
    }
}

impl<'m, S: Shape> Words<'m, S> {
    fn add(&mut self, name: &'static str, at: PhysAddr) {
        self.found.push(Word { name, at });
    }

    /// Adds word `index` of the descriptor of `pfn`.
    fn add_of(&mut self, name: &'static str, pfn: Pfn, index: u64) {
        let virt = self.memmap.windows().descriptor_virt(pfn);
        if let Some(leaf) = self.memmap.mapper().translate(virt) {
            self.add(name, leaf.target(virt).add(8 * index));
        }
    }

    /// The words of all nodes.
    fn sections(&mut self) {
        let memmap = self.memmap;
        let (map, limit) = (memmap.sections(), memmap.machine().phys_limit());
        let sections = limit.get().div_ceil(FakeMachine::<S>::SECTION_BYTES);
        for number in map.candidates().take_while(|&number| number < sections + NODE_SECTIONS) {
            if let Some(at) = node_word(map, number) {
                let there = memmap.section(number).is_some();
                let name = if there { "word of a section" } else { "word of an absent section" };
                self.add(name, at);
            }
        }
    }

    /// The entries of all tables.
    fn tables(&mut self) {
        let memmap = self.memmap;
        let (mapper, mmu) = (memmap.mapper(), memmap.machine().mmu());
        mapper.visit_tables(&mut |table| {
            for at in (0..table.bytes).step_by(8).map(|at| table.frame.add(at)) {
                let used = mmu.peek(at) != 0;
                let name = if used { "entry of a table" } else { "empty entry of a table" };
                self.add(name, at);
            }
        });
    }

    /// The record of a section, unless the one before shares it, and its descriptors.
    fn section(&mut self, number: u64) {
        let Some(section) = self.memmap.section(number) else { return };
        let place = section.word().record();
        let first = number / FakeMachine::<S>::RECORD_SECTIONS * FakeMachine::<S>::RECORD_SECTIONS;
        if (first..number).all(|number| self.memmap.section(number).is_none()) {
            for (index, name) in (1..).zip(RECORD) {
                self.add_of(name, place, index);
            }
            let head = self.memmap.section_at(place).and_then(|at| at.group_head(place));
            if let Some(group) = head.and_then(|head| self.memmap.group_at(head))
                && group.pfns.contains(place)
                && self.memmap.section_at(place).is_none_or(|at| at.believed(place).is_none())
            {
                self.add_of("page of a memmap", place, 0);
            }
        }
        for part in section.parts().filter(|&part| section.record().present().has(part)) {
            self.part(section, part);
        }
    }

    /// The descriptors of a subsection that hold states.
    fn part(&mut self, section: Section<'m, FakeMachine<S>>, part: Part) {
        let pfns = section.part_pfns(part);
        for pfn in pfns.iter().filter(|&pfn| section.believed(pfn).is_some()) {
            match self.memmap.page(pfn).state() {
                Some(PageState::Free { .. }) => {
                    self.add_of("head of a free extent", pfn, 0);
                    self.add_of("link of a free extent", pfn, 1);
                    self.add_of("link back of a free extent", pfn, 2);
                }
                Some(PageState::Cached { .. }) => {
                    self.add_of("head of a cached extent", pfn, 0);
                    self.add_of("link of a cached extent", pfn, 1);
                }
                Some(PageState::Used { owner, .. }) => {
                    self.add_of("head of an extent in use", pfn, 0);
                    if matches!(owner, Owner::Kernel | Owner::Named(_) | Owner::Movable(_)) {
                        self.add_of("zone of an extent in use", pfn, 1);
                    }
                }
                Some(PageState::MemmapHead { .. } | PageState::MemmapTail { .. }) => {
                    self.add_of("page of a memmap", pfn, 0);
                }
                _ => self.add_of("tail or hole", pfn, 0),
            }
        }
    }
}
