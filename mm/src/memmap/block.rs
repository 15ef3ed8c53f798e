//! Memory blocks: their numbers, states, and what is written down of each.

use crate::addr::{Pfn, PfnRange, PhysAddr, PhysRange};
use crate::impossible::impossible;
use crate::machine::Machine;
use crate::memmap::Memmap;
use crate::memmap::home::{NodeId, PageCounts};
use crate::memmap::page::PageState;
use crate::memmap::placement::Placement;
use crate::memmap::record::Record;
use crate::memmap::section::{Section, section_of};
use crate::memmap::seen::Seen;
use core::fmt;

pub use crate::memmap::word::BlockState;
pub(crate) use crate::memmap::word::BlockWord;

/// The number of a memory block: its first address divided by the block size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockId(u64);

impl BlockId {
    /// Wraps a raw number.
    pub const fn new(raw: u64) -> Self {
        Self(raw)
    }

    /// The raw number.
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for BlockId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "block {}", self.0)
    }
}

/// What is known of a memory block: read from its record, its memmap's head and the section map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    /// Its number.
    pub id: BlockId,
    /// Its frames, holes included.
    pub pfns: PfnRange,
    /// Offline or online, and where.
    pub state: BlockState,
    /// The node its memory is on.
    pub node: NodeId,
    /// Where its memmap is.
    pub placement: Placement,
    /// Whether it holds memory that the machine was started with: such a block cannot be removed.
    pub boot: bool,
    /// First frame of the memmap group that describes it (self-hosted memmap only).
    pub group: Option<Pfn>,
    /// Whether some of its memory was found to be bad: it is not brought online again.
    pub poisoned: bool,
    /// Whether its content is not to be touched, as it is out of the linear map: see [`Mm::take`](crate::Mm::take).
    pub taken: bool,
    /// Its pages: present and managed only while it is online.
    pub counts: PageCounts,
}

/// A self-hosted memmap, as its head tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Group {
    /// The memmap's pages; the first is the head.
    pub pfns: PfnRange,
    /// Sections that are described there.
    pub sections: u64,
}

impl<M: Machine> Memmap<M> {
    /// Sections of a memory block.
    pub(crate) fn block_sections(&self) -> u64 {
        self.block_size().sections::<M>()
    }

    /// The block that holds `address`.
    pub(crate) fn block_at(&self, address: PhysAddr) -> BlockId {
        BlockId(address.get() >> self.block_size().shift())
    }

    /// The blocks that `range` touches, ascending, there or not.
    pub(crate) fn blocks_in(
        &self,
        range: PhysRange,
    ) -> impl DoubleEndedIterator<Item = BlockId> + use<M> {
        let shift = self.block_size().shift();
        let first = range.start().get() >> shift;
        let end = match range.len().checked_sub(1) {
            Some(last) => (range.start().add(last).get() >> shift) + 1,
            None => first,
        };
        (first..end).map(BlockId)
    }

    /// The frames of `range` if it is whole, aligned memory blocks, one at least.
    pub(crate) fn whole_blocks(&self, range: PhysRange) -> Option<PfnRange> {
        let bytes = self.block_size().bytes();
        let whole = range.start().is_aligned(bytes) && range.len().is_multiple_of(bytes);
        (whole && !range.is_empty()).then(|| M::pfns(range))
    }

    /// The bytes of a block; `None` for a number past the end of the address space.
    pub(crate) fn block_range(&self, id: BlockId) -> Option<PhysRange> {
        let bytes = self.block_size().bytes();
        PhysRange::new(PhysAddr::new(id.0.checked_mul(bytes)?), bytes)
    }

    pub(crate) fn block_pfns(&self, id: BlockId) -> PfnRange {
        let pages = self.block_size().pages::<M>();
        PfnRange::new(Pfn::new(id.0.wrapping_mul(pages)), pages)
    }

    /// What is known of a block, or `None` if it is not there.
    pub(crate) fn block(&self, id: BlockId) -> Option<Block> {
        let guard = self.read();
        self.seen(&guard).describe_block(id)
    }

    /// Every block that is there, ascending.
    pub(crate) fn blocks(&self) -> impl Iterator<Item = Block> + '_ {
        let count = self.block_sections();
        let mut last = None;
        let ids = self.sections.candidates().map(move |section| BlockId(section / count));
        ids.filter(move |&id| last.replace(id) != Some(id)).filter_map(|id| self.block(id))
    }

    /// The self-hosted memmap whose head is `head`, as it is written there; `None` if that page is
    /// no head.
    pub(crate) fn group(&self, head: Pfn) -> Option<Group> {
        let guard = self.read();
        let memmap = self.seen(&guard);
        let section = memmap.section_at(head)?;
        memmap.group_of(section).filter(|group| group.pfns.start == head)
    }
}

impl<'g, M: Machine> Seen<'g, M> {
    /// The sections of a block that are there, ascending.
    pub(crate) fn sections_of_block(self, id: BlockId) -> impl Iterator<Item = Section<'g, M>> {
        let count = self.block_sections();
        let first = id.0.saturating_mul(count);
        (first..first.saturating_add(count)).filter_map(move |number| self.section(number))
    }

    /// The record that keeps the block's own words.
    pub(crate) fn block_record(self, section: u64) -> Option<Record<'g>> {
        self.first_section(section & !(self.block_sections() - 1)).map(Section::record)
    }

    /// As [`block_record`](Self::block_record), of a block that the caller knows to be there.
    #[track_caller]
    pub(crate) fn known_block_record(self, section: u64) -> Option<Record<'g>> {
        let record = self.block_record(section);
        if record.is_none() {
            impossible("no block holds this section", section);
        }
        record
    }

    /// The record of the block of `pfn`, which the caller knows to be there.
    #[track_caller]
    pub(crate) fn known_record_of(self, pfn: Pfn) -> Option<Record<'g>> {
        self.known_block_record(section_of::<M>(pfn))
    }

    /// The section in whose record the block's own words are: its first that is there. `first` is the first that
    /// it can have.
    fn first_section(self, first: u64) -> Option<Section<'g, M>> {
        self.section(first).or_else(|| self.first_boot_section(first))
    }

    /// As [`first_section`](Self::first_section), without its first section. Added blocks are whole, so if that is hidden, others
    /// may be seen only because the block was coming or going while they were looked at: it is not there.
    #[cold]
    fn first_boot_section(self, first: u64) -> Option<Section<'g, M>> {
        let others = first..first.saturating_add(self.block_sections());
        let section = others.skip(1).find_map(|number| self.section(number))?;
        section.word().boot().then_some(section)
    }

    /// What is known of a block, or `None` if it is not there.
    pub(crate) fn describe_block(self, id: BlockId) -> Option<Block> {
        let section = self.first_section(id.0.saturating_mul(self.block_sections()))?;
        let record = section.record();
        // Silently: a dump of a kernel that dies looks, too, and the log may be what it died in.
        let word = record.sound_block().unwrap_or(BlockWord::BROKEN);
        let pfns = self.block_pfns(id);
        let mut block = Block {
            id,
            pfns,
            state: word.state,
            node: word.node,
            placement: word.placement,
            boot: section.word().boot(),
            group: word.placement.self_hosted().then(|| section.group_head()),
            poisoned: word.poisoned,
            taken: word.taken,
            counts: PageCounts::default(),
        };
        if let BlockState::Online(_) = word.state {
            let (managed, free) = (record.managed().get(), record.free().get());
            let memmap = self.memmap_of(&block).map_or(0, PfnRange::pages);
            block.counts = PageCounts { present: managed + memmap, managed, memmap, free };
        }
        Some(block)
    }

    /// Every block from `first` on, ascending.
    pub(crate) fn blocks_from(self, first: BlockId) -> impl Iterator<Item = Block> + use<'g, M> {
        let count = self.block_sections();
        let mut last = None;
        let sections = self.memmap().sections.candidates_from(first.0.saturating_mul(count));
        let ids = sections.map(move |section| BlockId(section / count));
        let ids = ids.filter(move |&id| last.replace(id) != Some(id));
        ids.filter_map(move |id| self.describe_block(id))
    }

    /// The memmap that `section` is described in, as its head tells; `None` for a boot memmap.
    pub(crate) fn group_of(self, section: Section<'g, M>) -> Option<Group> {
        let record = self.block_record(section.number())?;
        if !record.sound_block()?.placement.self_hosted() {
            return None;
        }
        self.group_at(section.group_head())
    }

    /// The memmap whose head is `head`, in a section that is there.
    pub(crate) fn group_at(self, head: Pfn) -> Option<Group> {
        match self.page(head).state() {
            Some(PageState::MemmapHead { pages, sections }) => {
                Some(Group { pfns: PfnRange::new(head, pages), sections: u64::from(sections) })
            }
            _ => None,
        }
    }

    /// The memmap pages that lie in a block.
    pub(crate) fn memmap_of(self, block: &Block) -> Option<PfnRange> {
        self.group_at(block.group?)?.pfns.intersection(block.pfns)
    }

    /// The memmap pages among `pfns`, which lie in the block of `section`.
    pub(crate) fn memmap_in(self, section: Section<'g, M>, pfns: PfnRange) -> Option<PfnRange> {
        self.group_of(section)?.pfns.intersection(pfns)
    }
}
