//! Memory blocks: their numbers, states, and records.

use crate::addr::{Pfn, PfnRange, PhysAddr, PhysRange};
use crate::geometry::Geometry;
use crate::impossible::impossible;
use crate::machine::Machine;
use crate::memmap::Memmap;
use crate::memmap::home::{NodeId, PageCounts};
use crate::memmap::page::PageState;
use crate::memmap::placement::Placement;
use crate::memmap::record::Record;
use crate::memmap::section::{Section, SectionState, section_of};
use crate::memmap::seen::Seen;

pub(crate) use crate::memmap::word::BlockWord;
pub use crate::memmap::word::{BlockId, BlockState};

/// The state of a memory block: read from its record, its memmap's head and the section map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    /// Its number.
    pub id: BlockId,
    /// Its frames, including holes.
    pub pfns: PfnRange,
    /// How many of its frames are memory, online or not; of boot memory, how many are in subsections with memory.
    pub pages: u64,
    /// Offline, or online in a zone.
    pub state: BlockState,
    /// The node its memory is on.
    pub node: NodeId,
    /// The placement of its memmap: of that of its first memory, if it has [shares](crate::Mm::block_shares).
    pub placement: Placement,
    /// Whether it holds memory that the machine was started with: such a block cannot be removed.
    pub boot: bool,
    /// First frame of the memmap group that describes its first memory (self-hosted memmap only).
    pub group: Option<Pfn>,
    /// Whether a part of its memory was found to be bad: it is not brought online again, until that part is removed.
    pub poisoned: bool,
    /// Whether it was added at once, all of it: then it has one [share](crate::Mm::block_shares).
    pub whole: bool,
    /// Whether its content must not be accessed, as it is out of the linear map: see [`Mm::take`](crate::Mm::take).
    pub taken: bool,
    /// Its page counts: present and managed pages only while it is online.
    pub counts: PageCounts,
}

/// A self-hosted memmap, according to its head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Group {
    /// The memmap's pages; the first is the head.
    pub pfns: PfnRange,
    /// Sections that it describes, at least in part.
    pub sections: u64,
}

hotmem_paging::errors! {
    /// A range is not whole, aligned subsections, or is empty.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct NotWholeSubsections {
        /// The range.
        pub range: PhysRange,
        /// Bytes of the unit of presence: see [`Mm::subsection`](crate::Mm::subsection).
        pub subsection: u64,
    } => ("{range} ({:#x} bytes) is not whole aligned subsections of {subsection:#x} bytes", range.len());
}

impl<M: Machine> Memmap<M> {
    /// Sections of a memory block.
    pub(crate) fn block_sections(&self) -> u64 {
        self.block_size().sections::<M>()
    }

    /// The block that holds `address`.
    pub(crate) fn block_at(&self, address: PhysAddr) -> BlockId {
        BlockId::new(address.get() >> self.block_size().shift())
    }

    /// The blocks that `range` touches, ascending, present or not.
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
        (first..end).map(BlockId::new)
    }

    /// The frames of `range` if it is whole, aligned units of presence, at least one.
    pub(crate) fn whole_units(&self, range: PhysRange) -> Result<PfnRange, NotWholeSubsections> {
        let subsection = unit_bytes::<M>();
        let whole = range.start().is_aligned(subsection) && range.len().is_multiple_of(subsection);
        let whole = whole && !range.is_empty();
        if whole { Ok(M::pfns(range)) } else { Err(NotWholeSubsections { range, subsection }) }
    }

    /// The whole blocks among `pfns`.
    pub(crate) fn blocks_inside(&self, pfns: PfnRange) -> PfnRange {
        let low = self.block_size().pages::<M>() - 1;
        let start = Pfn::new((pfns.start.get() + low) & !low);
        let end = Pfn::new(pfns.end.get() & !low).max(start);
        PfnRange { start, end }
    }

    /// The frames of `range` if it is whole, aligned memory blocks, at least one.
    pub(crate) fn whole_blocks(&self, range: PhysRange) -> Option<PfnRange> {
        let bytes = self.block_size().bytes();
        let whole = range.start().is_aligned(bytes) && range.len().is_multiple_of(bytes);
        (whole && !range.is_empty()).then(|| M::pfns(range))
    }

    /// The bytes of a block; `None` for a number past the end of the address space.
    pub(crate) fn block_range(&self, id: BlockId) -> Option<PhysRange> {
        let bytes = self.block_size().bytes();
        PhysRange::new(PhysAddr::new(id.get().checked_mul(bytes)?), bytes)
    }

    pub(crate) fn block_pfns(&self, id: BlockId) -> PfnRange {
        let pages = self.block_size().pages::<M>();
        PfnRange::new(Pfn::new(id.get().wrapping_mul(pages)), pages)
    }

    /// The state of a block, or `None` if it is not present.
    pub(crate) fn block(&self, id: BlockId) -> Option<Block> {
        // A number past the end of the address space names no block.
        self.block_range(id)?;
        self.read(self.block_pfns(id).start).block()
    }

    /// Every present block, ascending.
    pub(crate) fn blocks(&self) -> impl Iterator<Item = Block> + '_ {
        let count = self.block_sections();
        let mut last = None;
        let ids = self.sections.candidates().map(move |section| BlockId::new(section / count));
        ids.filter(move |&id| last.replace(id) != Some(id)).filter_map(|id| self.block(id))
    }

    /// The self-hosted memmap whose head is `head`, with the values stored there; `None` if that page is not a head.
    pub(crate) fn group(&self, head: Pfn) -> Option<Group> {
        self.read(head).group().filter(|group| group.pfns.start == head)
    }
}

impl<'g, M: Machine> Seen<'g, M> {
    /// The present sections of a block, ascending.
    pub(crate) fn sections_of_block(self, id: BlockId) -> impl Iterator<Item = Section<'g, M>> {
        let count = self.block_sections();
        let first = id.get().saturating_mul(count);
        (first..first.saturating_add(count)).filter_map(move |number| self.section(number))
    }

    /// Changes the state of the present sections of a block, ascending. `before` gets each of them, with its number in
    /// the block.
    pub(crate) fn set_state_of_block(
        self,
        id: BlockId,
        state: SectionState,
        mut before: impl FnMut(u64, Section<'g, M>),
    ) {
        let memmap = self.memmap();
        let first = id.get().saturating_mul(self.block_sections());
        let numbers = first..first.saturating_add(self.block_sections());
        memmap.sections.change_present(&memmap.machine, numbers, |number, word| {
            before(number - first, self.hidden_section(number, word));
            word.with_state(state)
        });
    }

    /// The record that holds the block's own words.
    pub(crate) fn block_record(self, section: u64) -> Option<Record<'g>> {
        self.first_section(section & !(self.block_sections() - 1)).map(Section::record)
    }

    /// As [`block_record`](Self::block_record), for a block that the caller knows to be present.
    #[track_caller]
    pub(crate) fn known_block_record(self, section: u64) -> Option<Record<'g>> {
        let record = self.block_record(section);
        if record.is_none() {
            impossible("this section belongs to no block", section);
        }
        record
    }

    /// The record that holds the block's own words, if the block is present.
    pub(crate) fn block_record_of(self, id: BlockId) -> Option<Record<'g>> {
        self.block_record(id.get().saturating_mul(self.block_sections()))
    }

    /// The record of the block of `pfn`, which the caller knows to be present.
    #[track_caller]
    pub(crate) fn known_record_of(self, pfn: Pfn) -> Option<Record<'g>> {
        self.known_block_record(section_of::<M>(pfn))
    }

    /// The section whose record holds the block's own words: the first whose record has any. `first` is the lowest
    /// that this can be.
    fn first_section(self, first: u64) -> Option<Section<'g, M>> {
        let section = self.section(first).filter(|section| section.record().has_block());
        section.or_else(|| self.later_section(first))
    }

    /// As [`first_section`](Self::first_section), for a block whose first section is absent or joined the block later.
    #[cold]
    fn later_section(self, first: u64) -> Option<Section<'g, M>> {
        let mut others = first..first.saturating_add(self.block_sections());
        others.find_map(|number| self.section(number).filter(|at| at.record().has_block()))
    }

    /// The state of a block, or `None` if it is not present.
    pub(crate) fn describe_block(self, id: BlockId) -> Option<Block> {
        let section = self.first_section(id.get().saturating_mul(self.block_sections()))?;
        let record = section.record();
        // Without a log message: a dump of a kernel that panics uses this, too, and the panic may be in the log.
        let word = record.sound_block().unwrap_or(BlockWord::BROKEN);
        let pfns = self.block_pfns(id);
        let (pages, group) = if word.whole {
            let head = section.group_head(section.pfns().start);
            (pfns.pages(), head.filter(|_| word.placement.self_hosted()))
        } else {
            pages_and_group(self, id)
        };
        let mut block = Block {
            id,
            pfns,
            pages,
            state: word.state,
            node: word.node,
            placement: word.placement,
            boot: section.word().boot(),
            group,
            whole: word.whole,
            poisoned: word.poisoned,
            taken: word.taken,
            counts: PageCounts::default(),
        };
        if let BlockState::Online(_) = word.state {
            let (managed, free) = (record.managed().get(), record.free().get());
            // An operation may take it offline meanwhile: then there are no counts any more (see `Record::bad`).
            if record.is_offline() {
                block.state = BlockState::Offline;
            } else {
                let memmap = self.memmap_pages(id, record, managed);
                block.counts = PageCounts { present: managed + memmap, managed, memmap, free };
            }
        }
        Some(block)
    }

    /// Pages of a block that hold descriptors: all but the `managed` ones, of a block that was added.
    pub(crate) fn memmap_pages(self, id: BlockId, record: Record<'_>, managed: u64) -> u64 {
        if record.is_whole() {
            return self.block_size().pages::<M>().saturating_sub(managed);
        }
        memmap_pages_of_shares(self, id, managed)
    }

    /// Every block from `first` on, ascending.
    pub(crate) fn blocks_from(self, first: BlockId) -> impl Iterator<Item = Block> + use<'g, M> {
        let count = self.block_sections();
        let mut last = None;
        let sections = self.memmap().sections.candidates_from(first.get().saturating_mul(count));
        let ids = sections.map(move |section| BlockId::new(section / count));
        let ids = ids.filter(move |&id| last.replace(id) != Some(id));
        ids.filter_map(move |id| self.describe_block(id))
    }

    /// The memmap that describes `pfn`, of `section`, according to its head; `None` for one in system memory.
    pub(crate) fn group_of(self, section: Section<'g, M>, pfn: Pfn) -> Option<Group> {
        self.group_at(section.group_head(pfn)?)
    }

    /// The memmap whose head is `head`, in a present section: not every page that can be one is.
    pub(crate) fn group_at(self, head: Pfn) -> Option<Group> {
        match self.page(head).state() {
            Some(PageState::MemmapHead { pages, sections }) => {
                Some(Group { pfns: PfnRange::new(head, pages), sections: u64::from(sections) })
            }
            _ => None,
        }
    }

    /// The memmap pages among `pfns`, which lie in `section` and begin in a subsection that is present.
    pub(crate) fn memmap_in(self, section: Section<'g, M>, pfns: PfnRange) -> Option<PfnRange> {
        self.group_of(section, pfns.start)?.pfns.intersection(pfns)
    }
}

/// Pages that hold descriptors, of a block that is not known to be whole.
#[cold]
#[inline(never)]
fn memmap_pages_of_shares<M: Machine>(memmap: Seen<'_, M>, id: BlockId, managed: u64) -> u64 {
    let boot = memmap.sections_of_block(id).next().is_some_and(|section| section.word().boot());
    if boot { 0 } else { memmap.present_pages(id).saturating_sub(managed) }
}

/// The pages of a block that are there, and the head of the memmap that describes the first of them.
#[cold]
#[inline(never)]
fn pages_and_group<M: Machine>(memmap: Seen<'_, M>, id: BlockId) -> (u64, Option<Pfn>) {
    let group = memmap.shares(id).next().and_then(|share| share.group);
    (memmap.present_pages(id), group.map(|group| group.pfns.start))
}

/// The parts of `pfns` between multiples of `pages`, a power of two.
pub(crate) fn pieces(mut pfns: PfnRange, pages: u64) -> impl Iterator<Item = PfnRange> + Clone {
    core::iter::from_fn(move || {
        let end = pfns.end.min(Pfn::new((pfns.start.get() | (pages - 1)) + 1));
        let piece = PfnRange { end, ..pfns };
        pfns.start = end;
        (piece.pages() != 0).then_some(piece)
    })
}

/// Bytes of the unit of presence.
pub(crate) const fn unit_bytes<G: Geometry>() -> u64 {
    G::UNIT_PAGES * G::PAGE_BYTES
}
