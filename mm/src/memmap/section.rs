//! The sparse section map: the sections of the physical address space that are memory, and their states.
//!
//! ```text
//!   roots (static)        node: 4 KiB, 512 words            record: payload of one descriptor
//!   +---+                 +-----------------------+         +------------------------------+
//!   | . | --------------> | word of section 0     | ------> | initialised   64 bits        |
//!   | 0 |                 | word of section 1     |         | heads         64 bits        |
//!   | . |                 | ...                   |         | present       64 bits        |
//!   +---+                 +-----------------------+         | starts        64 bits        |
//!                           state | boot | record pfn       | group, and the block's words |
//!                                                           +------------------------------+
//! ```
//!
//! A look-up takes no lock: it reads a root, a word, and then only data that the word declares present. A section
//! goes `Absent -> Present -> Online -> Present -> Leaving -> Absent`; in the state `Leaving` it is invisible, and
//! its record and descriptors are unmapped only after the readers that saw it have ended (`readers.rs`).
//!
//! Sections so small that their descriptors share pages share a record too: those of
//! [`Geometry::RECORD_PAGES`], all in one block.
//!
//! *Descriptors are lazy.* A subsection (`Part`) is 1/64 of the pages of a record, at most a section. Its bit in
//! `initialised` states that each of its descriptors holds a state. While the bit is clear they hold the previous
//! contents of the memory, and only the first may be valid, if the subsection's bit in `heads` states that an extent
//! of a subsection or more begins there. All others are tails of the extent that covers them.

// UNSAFETY: turns the pointers of `PhysMem` into references to section words and descriptors.
#![expect(unsafe_code)]

use crate::addr::{Pfn, PfnRange, PhysAddr};
use crate::geometry::{Geometry, PARTS_PER_RECORD};
use crate::machine::{Machine, PhysMem};
use crate::memmap::page::Page;
use crate::memmap::record::{Part, Record};
use crate::paging::TableFrame;
use crate::sync::{AtomicU64, Ordering, array, constant};
use core::ops::Range;
use core::ptr::NonNull;

/// Nodes the map can hold: in a model (`mm/tests/loom`) one, of two sections.
pub(crate) const ROOTS: usize = if cfg!(loom) { 1 } else { 1024 };
/// Sections of one node.
pub(crate) const NODE_SECTIONS: u64 = if cfg!(loom) { 2 } else { 512 };
/// Bytes of one node.
pub(crate) const NODE_BYTES: u64 = NODE_SECTIONS * 8;
/// A node: the words of its sections.
pub(crate) type Node = [AtomicU64; NODE_SECTIONS as usize];
/// Sections the map can hold: 64 TiB of 128 MiB sections.
pub const MAX_SECTIONS: u64 = ROOTS as u64 * NODE_SECTIONS;

/// The state of a section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum SectionState {
    /// No memory is known there.
    Absent = 0,
    /// Mapped and described, but not given to the allocator.
    Present = 1,
    /// Its block is online.
    Online = 2,
    /// Being removed: look-ups no longer find it.
    Leaving = 3,
}

/// One word of the map: the state of a section and the place of its record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SectionWord(u64);

/// Every value of these bits is a state.
const STATE_MASK: u64 = 0x3;
const BOOT_BIT: u64 = 1 << 3;
const RECORD_SHIFT: u32 = 12;

impl SectionWord {
    /// The word of an absent section.
    pub const ABSENT: Self = Self(0);

    /// A section in `state` whose record is in the descriptor of `record`.
    pub const fn new(state: SectionState, boot: bool, record: Pfn) -> Self {
        let boot = if boot { BOOT_BIT } else { 0 };
        Self(state as u64 | boot | record.get() << RECORD_SHIFT)
    }

    /// The section's state.
    pub const fn state(self) -> SectionState {
        match self.0 & STATE_MASK {
            0 => SectionState::Absent,
            1 => SectionState::Present,
            2 => SectionState::Online,
            _ => SectionState::Leaving,
        }
    }

    /// Whether look-ups find the section.
    const fn is_present(self) -> bool {
        matches!(self.state(), SectionState::Present | SectionState::Online)
    }

    /// Whether the section is memory that the machine was started with.
    pub const fn boot(self) -> bool {
        self.0 & BOOT_BIT != 0
    }

    /// The frame whose descriptor holds the record.
    pub const fn record(self) -> Pfn {
        Pfn::new(self.0 >> RECORD_SHIFT)
    }

    /// Whether a word of the map can have these bits.
    pub(crate) fn is_known(self) -> bool {
        let low = self.0 & ((1 << RECORD_SHIFT) - 1);
        low & !(STATE_MASK | BOOT_BIT) == 0
            && (self.state() != SectionState::Absent || self == Self::ABSENT)
    }

    /// The same section with its record elsewhere.
    pub(crate) const fn with_record(self, record: Pfn) -> Self {
        Self(self.0 & ((1 << RECORD_SHIFT) - 1) | record.get() << RECORD_SHIFT)
    }

    /// The same section in another state.
    pub const fn with_state(self, state: SectionState) -> Self {
        Self(self.0 & !STATE_MASK | state as u64)
    }
}

/// Set in a root that names a node: a node may lie at physical address 0.
const NODE_BIT: u64 = 1;

/// The map: a root for each node, its physical address and [`NODE_BIT`], or 0 without a node.
#[derive(Debug)]
pub(crate) struct SectionMap {
    roots: [AtomicU64; ROOTS],
    /// The complement of the lowest section that was removed, and one past the highest: for `verify`.
    removed: [AtomicU64; 2],
}

/// The frame of the node that a root names, if it names one.
fn node_frame(root: u64) -> Option<PhysAddr> {
    (root & NODE_BIT != 0).then(|| PhysAddr::new(root & !NODE_BIT))
}

impl SectionMap {
    constant! {
        pub(crate) fn new() -> Self {
            Self { roots: array![AtomicU64::new(0); ROOTS], removed: array![AtomicU64::new(0); 2] }
        }
    }

    /// The node with the words of `section`, if there is one.
    fn node<'m>(&self, memory: &'m impl PhysMem, section: u64) -> Option<&'m Node> {
        let root = self.roots.get((section / NODE_SECTIONS) as usize)?;
        // Acquire: partner of the Release in `insert_node`; the words were zeroed before.
        let frame = node_frame(root.load(Ordering::Acquire))?;
        let node: NonNull<Node> = memory.pointer(frame).cast();
        // SAFETY: a non-zero root names `NODE_BYTES` of RAM, aligned to that, so the words are too, which
        // `insert_node` zeroed and which no other code uses; they are freed only once every section in them is
        // absent and the readers that could hold this reference were drained.
        Some(unsafe { node.as_ref() })
    }

    /// The word of `section`: absent if there is no node, or past the map's end.
    pub(crate) fn word(&self, memory: &impl PhysMem, section: u64) -> SectionWord {
        self.node(memory, section).map_or(SectionWord::ABSENT, |node| {
            // Acquire: partner of the Release in `set_word`; the record was written before.
            SectionWord(node[(section % NODE_SECTIONS) as usize].load(Ordering::Acquire))
        })
    }

    /// Publishes the word of `section`, whose node must exist.
    pub(crate) fn set_word(&self, memory: &impl PhysMem, section: u64, word: SectionWord) {
        if let Some(node) = self.node(memory, section) {
            // SeqCst: a reader either sees the new word or was counted before it was written, so that
            // draining the readers waits for it (see `readers`). As a Release it publishes the record.
            node[(section % NODE_SECTIONS) as usize].store(word.0, Ordering::SeqCst);
        }
        if word == SectionWord::ABSENT {
            self.removed[0].fetch_max(!section, Ordering::Relaxed);
            self.removed[1].fetch_max(section + 1, Ordering::Relaxed);
        }
    }

    /// Changes the word of `section`, if it has a node: of a section that is not absent before or after.
    pub(crate) fn change_word(
        &self,
        memory: &impl PhysMem,
        section: u64,
        change: impl FnOnce(SectionWord) -> SectionWord,
    ) {
        if let Some(node) = self.node(memory, section) {
            let cell = &node[(section % NODE_SECTIONS) as usize];
            // The orderings of `word` and `set_word`.
            cell.store(change(SectionWord(cell.load(Ordering::Acquire))).0, Ordering::SeqCst);
        }
    }

    /// Changes the words of the sections among `numbers` that are present, ascending, to those that `change` returns:
    /// of sections that stay present. Finds each node once.
    pub(crate) fn change_present(
        &self,
        memory: &impl PhysMem,
        numbers: Range<u64>,
        mut change: impl FnMut(u64, SectionWord) -> SectionWord,
    ) {
        let mut first = numbers.start;
        while first < numbers.end {
            for (number, cell) in (first..numbers.end).zip(self.words_from(memory, first)) {
                // The orderings of `word` and `set_word`.
                let word = SectionWord(cell.load(Ordering::Acquire));
                if word.is_present() {
                    cell.store(change(number, word).0, Ordering::SeqCst);
                }
            }
            first = (first / NODE_SECTIONS + 1).saturating_mul(NODE_SECTIONS);
        }
    }

    /// The first of the sections `numbers` that is not absent, and its word. Finds each node once.
    pub(crate) fn first_known(
        &self,
        memory: &impl PhysMem,
        numbers: Range<u64>,
    ) -> Option<(u64, SectionWord)> {
        let mut first = numbers.start;
        while first < numbers.end {
            for (number, cell) in (first..numbers.end).zip(self.words_from(memory, first)) {
                // The ordering of `word`.
                let word = SectionWord(cell.load(Ordering::Acquire));
                if word != SectionWord::ABSENT {
                    return Some((number, word));
                }
            }
            first = (first / NODE_SECTIONS + 1).saturating_mul(NODE_SECTIONS);
        }
        None
    }

    /// Makes the sections `numbers` absent, which are hidden. Finds each node once.
    pub(crate) fn forget(&self, memory: &impl PhysMem, numbers: Range<u64>) {
        let mut first = numbers.start;
        while first < numbers.end {
            for (_, cell) in (first..numbers.end).zip(self.words_from(memory, first)) {
                // The ordering of `set_word`.
                cell.store(SectionWord::ABSENT.0, Ordering::SeqCst);
            }
            first = (first / NODE_SECTIONS + 1).saturating_mul(NODE_SECTIONS);
        }
        self.removed[0].fetch_max(!numbers.start, Ordering::Relaxed);
        self.removed[1].fetch_max(numbers.end, Ordering::Relaxed);
    }

    /// The words of `section` and of those after it in its node: an empty slice if the map lacks that node.
    fn words_from<'m>(&self, memory: &'m impl PhysMem, section: u64) -> &'m [AtomicU64] {
        let index = (section % NODE_SECTIONS) as usize;
        self.node(memory, section).and_then(|node| node.get(index..)).unwrap_or_default()
    }

    /// Whether `section` lies in the range of removed sections: only memory of the manager was ever present there.
    pub(crate) fn was_removed(&self, section: u64) -> bool {
        let [first, end] = &self.removed;
        (!first.load(Ordering::Relaxed)..end.load(Ordering::Relaxed)).contains(&section)
    }

    /// Whether `section` has a node.
    pub(crate) fn has_node(&self, section: u64) -> bool {
        self.roots
            .get((section / NODE_SECTIONS) as usize)
            .is_some_and(|root| root.load(Ordering::Acquire) != 0)
    }

    /// Makes `frame`, of [`NODE_BYTES`], the node of `section`, with every section in it absent.
    pub(crate) fn insert_node(&self, memory: &impl PhysMem, section: u64, frame: TableFrame) {
        // SAFETY: a table frame is RAM of its size, of no other use, and `memory` reaches it.
        unsafe { memory.pointer(frame.at()).write_bytes(0, frame.bytes() as usize) };
        self.put_back_node(section, frame);
    }

    /// Removes the node of `section` from the map if every section in it is absent. A look-up may still be reading
    /// it.
    pub(crate) fn take_empty_node(
        &self,
        memory: &impl PhysMem,
        section: u64,
    ) -> Option<TableFrame> {
        let node = self.node(memory, section)?;
        if node.iter().any(|word| word.load(Ordering::Relaxed) != 0) {
            return None;
        }
        let root = self.roots.get((section / NODE_SECTIONS) as usize)?;
        // SeqCst: as in `set_word`, a reader sees no node or the drain waits for it.
        let frame = node_frame(root.swap(0, Ordering::SeqCst))?;
        // SAFETY: a node is a table frame of this size, by `insert_node`, and no longer in the map. Look-ups under
        // way only read it, and the caller waits for them before it frees the frame.
        Some(unsafe { TableFrame::new(frame, NODE_BYTES) })
    }

    /// Inserts a node that was removed empty, or is new.
    pub(crate) fn put_back_node(&self, section: u64, frame: TableFrame) {
        let at = frame.into_raw();
        if let Some(root) = self.roots.get((section / NODE_SECTIONS) as usize) {
            root.store(at.get() | NODE_BIT, Ordering::Release);
        }
    }

    /// The numbers of all sections that are not absent, ascending.
    ///
    /// For an operation or a look: between two steps of the iterator only these keep a node from being removed.
    pub(crate) fn iter<'m>(&'m self, memory: &'m impl PhysMem) -> impl Iterator<Item = u64> + 'm {
        self.candidates().filter(|&section| self.word(memory, section) != SectionWord::ABSENT)
    }

    /// The numbers of all sections that have a node, ascending. Reads no node.
    pub(crate) fn candidates(&self) -> impl Iterator<Item = u64> + '_ {
        self.candidates_from(0)
    }

    /// As [`candidates`](Self::candidates), from `first` on.
    pub(crate) fn candidates_from(&self, first: u64) -> impl Iterator<Item = u64> + '_ {
        let roots = first / NODE_SECTIONS..ROOTS as u64;
        let roots = roots.map(|root| root * NODE_SECTIONS).filter(|&start| self.has_node(start));
        roots.flat_map(move |start| start.max(first)..start + NODE_SECTIONS)
    }

    /// The physical addresses of all nodes.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = PhysAddr> + '_ {
        self.roots.iter().filter_map(|root| node_frame(root.load(Ordering::Acquire)))
    }
}

/// Where the word of `section` is, if it has a node.
pub(crate) fn node_word(map: &SectionMap, section: u64) -> Option<PhysAddr> {
    let root = map.roots.get((section / NODE_SECTIONS) as usize)?;
    Some(node_frame(root.load(Ordering::Acquire))?.add(section % NODE_SECTIONS * 8))
}

/// A present section: its descriptors are mapped and its record can be read.
///
/// It is borrowed from what keeps the section from being unmapped: an operation, a look, the turn, the lock of the zone
/// that its block is online in, the lock of a cache with its page, or a look-up of a frame in it.
#[derive(Debug)]
pub(crate) struct Section<'m, M> {
    machine: &'m M,
    word: SectionWord,
    number: u64,
}

impl<M> Clone for Section<'_, M> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<M> Copy for Section<'_, M> {}

impl<'m, M: Machine> Section<'m, M> {
    /// The section `number`, if `map` has it: present or online.
    pub(super) fn get(map: &SectionMap, machine: &'m M, number: u64) -> Option<Self> {
        let word = map.word(machine, number);
        word.is_present().then_some(Self { machine, word, number })
    }

    /// The section `number`, if it is online.
    #[inline]
    pub(super) fn online(map: &SectionMap, machine: &'m M, number: u64) -> Option<Self> {
        let word = map.word(machine, number);
        (word.state() == SectionState::Online).then_some(Self { machine, word, number })
    }

    /// The section `number` with a word that is not (or no longer) to be found in the map.
    pub(super) fn with_word(machine: &'m M, number: u64, word: SectionWord) -> Self {
        Self { machine, word, number }
    }

    pub(crate) fn number(self) -> u64 {
        self.number
    }

    pub(crate) fn word(self) -> SectionWord {
        self.word
    }

    /// The section's frames.
    pub(crate) fn pfns(self) -> PfnRange {
        section_pfns::<M>(self.number)
    }

    /// The descriptor of `pfn`, which lies in the section.
    pub(crate) fn page(self, pfn: Pfn) -> &'m Page {
        debug_assert!(self.pfns().contains(pfn));
        descriptor(self.machine, pfn)
    }

    /// The section's record.
    pub(crate) fn record(self) -> Record<'m> {
        let first = self.number / M::RECORD_SECTIONS * M::RECORD_SECTIONS;
        Record::new(descriptor(self.machine, self.word.record()).payload(), first)
    }

    /// Where the head of the memmap group that describes `pfn` is, if it has one: memory with its memmap in system
    /// memory may begin there instead.
    pub(crate) fn group_head(self, pfn: Pfn) -> Option<Pfn> {
        let record = self.record();
        let upto = u64::MAX >> (PARTS_PER_RECORD - 1 - Self::part(pfn).number());
        match (record.starts().bits() & upto).checked_ilog2() {
            Some(first) => Some(self.part_pfns(Part::new(first.into())).start),
            None => record.group(),
        }
    }

    /// The subsection of its record that `pfn` is in.
    pub(crate) fn part(pfn: Pfn) -> Part {
        Part::new((pfn.get() % M::RECORD_PAGES) / M::PART_PAGES)
    }

    /// The section's subsections.
    pub(crate) fn parts(self) -> impl Iterator<Item = Part> + use<M> {
        let first = Self::part(self.pfns().start).number();
        (first..first + PARTS_PER_RECORD / M::RECORD_SECTIONS).map(Part::new)
    }

    /// The frames of `part`, of the section's record.
    pub(crate) fn part_pfns(self, part: Part) -> PfnRange {
        let record = record_pfns::<M>(self.number);
        PfnRange::new(record.start.add(part.number() * M::PART_PAGES), M::PART_PAGES)
    }
}

/// The descriptor of `pfn`, in a section that is present or about to be: its memmap is mapped.
pub(super) fn descriptor<M: Machine>(machine: &M, pfn: Pfn) -> &Page {
    // SAFETY: the callers, all in this wing, have it from a `Seen`, so that a guard keeps the memmap mapped; they
    // ask for frames of present subsections, or of those that the operation under way shows or hides itself. A page
    // of atomics has no invalid value, so it may be shared even if it was never written.
    unsafe { machine.descriptor(pfn).as_ref() }
}

/// The frames of section `number`.
pub(crate) fn section_pfns<G: Geometry>(number: u64) -> PfnRange {
    PfnRange::new(Pfn::new(number * G::SECTION_PAGES), G::SECTION_PAGES)
}

/// The frames of the sections that share a record with section `number`.
pub(crate) fn record_pfns<G: Geometry>(number: u64) -> PfnRange {
    let start = Pfn::new(number * G::SECTION_PAGES / G::RECORD_PAGES * G::RECORD_PAGES);
    PfnRange::new(start, G::RECORD_PAGES)
}

/// The subsections of the record of section `number` that hold a frame of `pfns`, as bits.
pub(crate) fn parts_touched<M: Machine>(number: u64, pfns: PfnRange) -> u64 {
    let Some(here) = record_pfns::<M>(number).intersection(pfns) else { return 0 };
    let last = Section::<M>::part(Pfn::new(here.end.get() - 1)).number();
    let upto = u64::MAX >> (PARTS_PER_RECORD - 1 - last);
    upto & u64::MAX << Section::<M>::part(here.start).number()
}

/// The section that holds `pfn`.
pub(crate) fn section_of<G: Geometry>(pfn: Pfn) -> u64 {
    pfn.get() / G::SECTION_PAGES
}

/// The numbers of the sections that hold a frame of `pfns`, which is not empty.
pub(crate) fn sections_touched<G: Geometry>(pfns: PfnRange) -> core::ops::RangeInclusive<u64> {
    section_of::<G>(pfns.start)..=section_of::<G>(Pfn::new(pfns.end.get() - 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_keeps_its_record_and_origin_through_every_state() {
        let record = Pfn::new((1 << 52) - 1);
        for boot in [false, true] {
            let word = SectionWord::new(SectionState::Present, boot, record);
            for state in [SectionState::Present, SectionState::Online, SectionState::Leaving] {
                let word = word.with_state(state);
                assert_eq!((word.state(), word.boot(), word.record()), (state, boot, record));
            }
        }
    }

    #[test]
    fn a_zeroed_node_holds_absent_sections() {
        assert_eq!(SectionWord(0).state(), SectionState::Absent);
        assert_eq!(SectionWord(0), SectionWord::ABSENT);
    }
}
