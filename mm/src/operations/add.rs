//! Add: makes a range of new memory present, with its memmap at the place that the caller chooses.
//!
//! ```text
//!   nodes -> linear map -> memmap -> probe -> heads and records -> sections Present (blocks Offline)
//! ```
//!
//! Each phase but the last two can fail, and keeps a cursor of its progress; undo runs the phases backwards from
//! their cursors and needs no memory.

// UNSAFETY: declares functions whose callers vouch for memory.
#![expect(unsafe_code)]

use crate::addr::{Pfn, PfnRange, PhysAddr, PhysRange, VirtRange};
use crate::alloc::Allocator;
use crate::alloc::Waits;
use crate::alloc::node::NodeId;
use crate::alloc::populate::Populate;
use crate::machine::Machine;
use crate::memmap::altmap::Altmap;
use crate::memmap::block::{BlockId, BlockState, BlockWord, pieces};
use crate::memmap::page::PageState;
use crate::memmap::placement::{MhpFlags, Placement};
use crate::memmap::section::{
    MAX_SECTIONS, NODE_BYTES, Section, SectionState, SectionWord, parts_touched, section_of,
    section_pfns, sections_touched,
};
use crate::memmap::seen::Seen;
use crate::memmap::whole::Whole;
use crate::operations::Operations;
use crate::operations::add_error::AddError;
use crate::operations::joins::Joins;
use crate::operations::notify::News;
use crate::operations::probe::Probe;
use crate::operations::ranges::{nodes_of, release_node};
use crate::paging::{MapError, Mapper, NotFlushed, TableFrames};

/// A range that was added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Added {
    /// The range.
    pub range: PhysRange,
    /// The placement of its memmap.
    pub placement: Placement,
    /// Bytes of memory outside the range that this used: tables and nodes past the boot reserve, and the memmap of a
    /// boot placement.
    pub system_bytes: u64,
}

/// An add under way: its arguments, and a cursor for each phase.
struct Add<'m, M: Machine> {
    allocator: &'m Allocator<M>,
    memmap: Whole<'m, M>,
    range: PhysRange,
    pfns: PfnRange,
    /// The whole blocks among them.
    blocks: PfnRange,
    block_pages: u64,
    node: NodeId,
    placement: Placement,
    /// Nodes of the section map that were checked.
    nodes: u64,
    /// Whether the linear range is mapped.
    linear: bool,
    /// Frames whose memmap is mapped.
    populated: PfnRange,
}

impl<M: Machine> Operations<M> {
    /// See [`Mm::add`](crate::Mm::add).
    ///
    /// # Safety
    ///
    /// By the same contract.
    pub(crate) unsafe fn add(
        &self,
        range: PhysRange,
        node: NodeId,
        placement: Placement,
    ) -> Result<Added, AddError> {
        let turn = self.allocator.take_turn().ok_or(AddError::Busy)?;
        let seen = turn.seen();
        let pfns = check_add(seen, range, self.knobs.whole_blocks())?;
        if !self.allocator.nodes.has(node) {
            return Err(AddError::NoSuchNode(node));
        }
        let placement = self.placement_for(range, placement);
        let blocks = seen.blocks_inside(pfns);
        let joins = (blocks != pfns).then(|| Joins::of(seen, pfns, placement));
        joins.as_ref().map_or(Ok(()), |joins| joins.ask(self))?;
        let Ok(operation) = Waits::of(&self.allocator).begin(turn) else {
            joins.iter().for_each(|joins| joins.tell_not_joined(self));
            return Err(AddError::Busy);
        };
        let before = self.allocator.frames.system_pages();
        let (allocator, memmap) = (&self.allocator, operation.seen());
        let mut add = Add {
            allocator,
            memmap,
            range,
            pfns,
            blocks,
            block_pages: memmap.block_size().pages::<M>(),
            node,
            placement,
            nodes: 0,
            linear: false,
            populated: PfnRange::new(pfns.start, 0),
        };
        if let Err(error) = add.prepare(joins.as_ref()) {
            let undone = add.undo();
            operation.settle();
            joins.iter().for_each(|joins| joins.tell_not_joined(self));
            return Err(undone.err().map_or(error, |cpu| MapError::NotFlushed(cpu).into()));
        }
        let shared = joins.as_ref().map_or(0, |_| memmap.shared_blocks(pfns).count());
        let new = (memmap.blocks_in(range).count() - shared) as u64;
        add.publish();
        let came = new != 0 && self.allocator.nodes.blocks(node) == 0;
        // A block that had memory is on the node of that.
        let node_of = |id| memmap.block_record_of(id).map(|record| record.block().node);
        let mut joined = memmap.shared_blocks(pfns).filter_map(|(id, _)| node_of(id));
        let on = if new == 0 { joined.next().unwrap_or(node) } else { node };
        self.allocator.nodes.add_blocks(node, new);
        joins.iter().for_each(|joins| joins.give(&self.allocator, *memmap));
        let came = came.then_some(News::NodeCame(node));
        operation.settle();
        self.announce(came.into_iter().chain([News::Added { range, node: on, placement }]));
        joins.iter().for_each(|joins| joins.tell_joined(self));
        let pages = self.allocator.frames.system_pages() - before;
        Ok(Added { range, placement, system_bytes: pages * M::PAGE_BYTES })
    }

    /// See [`Mm::add_memory`](crate::Mm::add_memory).
    ///
    /// # Safety
    ///
    /// By the same contract.
    pub(crate) unsafe fn add_memory(
        &self,
        node: NodeId,
        range: PhysRange,
        flags: MhpFlags,
    ) -> Result<Added, AddError> {
        let placement = Placement::from_flags(flags).unwrap_or_else(|| {
            log::warn!("{range}: invalid memmap flags {:#x} are ignored", flags.bits());
            Placement::Boot
        });
        // SAFETY: by the contract of this function.
        unsafe { self.add(range, node, placement) }
    }

    /// The requested placement; or system memory if self-hosting is switched off, or, with a warning, if the machine
    /// cannot do it.
    fn placement_for(&self, range: PhysRange, placement: Placement) -> Placement {
        if !self.knobs.self_hosting() {
            return Placement::Boot;
        }
        if placement.self_hosted() && !self.allocator.memmap.machine().allows_self_hosting() {
            log::warn!("{range}: this machine cannot keep the memmap in the range it describes");
            return Placement::Boot;
        }
        placement
    }
}

/// The frames of a range, if it can be added.
fn check_add<M: Machine>(
    memmap: Seen<'_, M>,
    range: PhysRange,
    whole_blocks: bool,
) -> Result<PfnRange, AddError> {
    if whole_blocks && memmap.whole_blocks(range).is_none() {
        return Err(AddError::NotWholeBlocks { range, block: memmap.block_size().bytes() });
    }
    let pfns = memmap.whole_units(range).map_err(AddError::NotWholeSubsections)?;
    let sections = MAX_SECTIONS.saturating_mul(M::SECTION_BYTES);
    let limit = memmap.machine().phys_limit().min(PhysAddr::new(sections));
    if range.len() > limit.get() || range.start().get() > limit.get() - range.len() {
        return Err(AddError::BeyondLimit { range, limit });
    }
    let touched = sections_touched::<M>(pfns);
    let (mut next, end) = (*touched.start(), touched.end() + 1);
    while let Some((number, word)) = memmap.sections().first_known(memmap.machine(), next..end) {
        if is_taken(memmap, number, word, pfns) {
            let block = BlockId::new(number / memmap.block_sections());
            return Err(AddError::Overlaps { range, block });
        }
        next = number + 1;
    }
    if memmap.whole_blocks(range).is_some() {
        return Ok(pfns);
    }
    let beside = memmap.shared_blocks(pfns).find(|(_, section)| section.word().boot());
    match beside {
        Some((block, _)) => Err(AddError::BesideBootMemory { range, block }),
        None => Ok(pfns),
    }
}

/// Whether memory of `pfns` is in section `number`, with this word, already: what stays hidden is there, too (see
/// `Leaving::stay_hidden`).
#[cold]
fn is_taken<M: Machine>(
    memmap: Seen<'_, M>,
    number: u64,
    word: SectionWord,
    pfns: PfnRange,
) -> bool {
    let parts = section_pfns::<M>(number).intersection(pfns);
    let parts = parts.map_or(0, |pfns| parts_touched::<M>(number, pfns));
    let there = || {
        let record = memmap.hidden_section(number, word).record();
        record.present().bits() | record.starts().bits()
    };
    word.state() == SectionState::Leaving || there() & parts != 0
}

impl<M: Machine> Add<'_, M> {
    /// The phases that can fail.
    fn prepare(&mut self, joins: Option<&Joins>) -> Result<(), AddError> {
        self.insert_nodes()?;
        self.map_linear()?;
        let probe = Probe::of(self.memmap);
        let probed = match self.placement {
            Placement::Boot => {
                self.populate_from_system()?;
                Ok(())
            }
            Placement::PerRange | Placement::PerBlock => {
                self.populate_altmaps()?;
                probe.memmap_of(self.pfns)
            }
        };
        let probed = probed.and_then(|()| {
            let mut joining = joins.into_iter().flat_map(Joins::pages);
            joining.try_for_each(|pfns| probe.pages(pfns))
        });
        probed.map_err(AddError::NoMemory)
    }

    fn insert_nodes(&mut self) -> Result<(), AddError> {
        for section in nodes_of::<M>(self.pfns) {
            if !self.memmap.sections().has_node(section) {
                let frame = self.allocator.table_frames().take(NODE_BYTES);
                let frame = frame.map_err(|_| AddError::OutOfMemory(self.range))?;
                self.memmap.sections().insert_node(self.memmap.machine(), section, frame);
            }
            self.nodes += 1;
        }
        Ok(())
    }

    fn map_linear(&mut self) -> Result<(), AddError> {
        if self.memmap.machine().linear_map_is_complete() {
            let unmapped = self.memmap.find_unmapped(self.range);
            return unmapped.map_or(Ok(()), |at| Err(AddError::NotInLinearMap(at)));
        }
        let mapping = self.memmap.windows().linear_mapping(self.range);
        self.allocator.map(self.memmap, &mapping)?;
        self.linear = true;
        Ok(())
    }

    /// The groups of a self-hosted placement.
    fn altmaps(&self) -> impl Iterator<Item = Altmap> + use<M> {
        Altmap::all_of::<M>(self.pfns, self.placement, self.memmap.block_size())
    }

    fn populate_altmaps(&mut self) -> Result<(), AddError> {
        for altmap in self.altmaps() {
            Populate::of(self.allocator, self.memmap).map_altmap(altmap)?;
            self.populated.end = altmap.described.end;
        }
        Ok(())
    }

    fn populate_from_system(&mut self) -> Result<(), AddError> {
        for described in pieces(self.pfns, M::RECORD_PAGES) {
            Populate::of(self.allocator, self.memmap).fill(described).map_err(
                |error| match error {
                    MapError::OutOfFrames(_) => AddError::NoRoomForMemmap {
                        range: self.range,
                        bytes: self.memmap.windows().memmap_virt(self.pfns).len(),
                    },
                    error => AddError::Map(error),
                },
            )?;
            self.populated.end = described.end;
        }
        Ok(())
    }

    /// Writes the heads and records, then makes the memory visible. Cannot fail.
    fn publish(&self) {
        match self.placement {
            Placement::Boot => {
                // So that this descriptor is not read as that of a head: see `Section::group_head`.
                self.memmap.page(self.pfns.start).set_state(PageState::Tail);
                for here in pieces(self.pfns, M::RECORD_PAGES) {
                    let virt = self.memmap.windows().memmap_virt(here).start();
                    if let Some(leaf) = self.memmap.mapper().translate(virt) {
                        let begins = here.start == self.pfns.start;
                        self.describe(here, M::pfn(leaf.target(virt)), begins, None);
                    }
                }
            }
            Placement::PerRange | Placement::PerBlock => self.altmaps().for_each(|altmap| {
                let head = altmap.memmap.start;
                self.memmap.page(head).set_state(altmap.head_state::<M>());
                let end = altmap.described.end;
                let (mut start, mut place) = (altmap.described.start, head);
                loop {
                    let next = Pfn::new((start.get() | (M::RECORD_PAGES - 1)) + 1);
                    let here = PfnRange { start, end: next.min(end) };
                    self.describe(here, place, place == head, Some(head));
                    if next >= end {
                        break;
                    }
                    (start, place) = (next, place.add(1));
                    self.memmap.page(place).set_state(PageState::MemmapTail { head });
                }
            }),
        }
    }

    /// Notes in the record of `here`, the memory of one record, that memory is there: it begins there or continues, with
    /// its memmap's head at `head`; and publishes it in the words of its sections. The record is at `place` if no other
    /// memory shares it.
    fn describe(&self, here: PfnRange, place: Pfn, begins: bool, head: Option<Pfn>) {
        if !self.blocks.contains(here.start) {
            return self.describe_beside(here, place, begins, head);
        }
        let first = section_of::<M>(here.start);
        let new = BlockWord::new(BlockState::Offline, self.node, self.placement);
        let begins_block = here.start.get().is_multiple_of(self.block_pages);
        let new = begins_block.then_some(BlockWord { whole: true, ..new });
        let word = SectionWord::new(SectionState::Present, false, place);
        let record = self.memmap.hidden_section(first, word).record();
        record.reset_whole(begins, head, new);
        for number in first..first + M::RECORD_SECTIONS {
            self.memmap.sections().set_word(self.memmap.machine(), number, word);
        }
    }

    /// The same for a record of a block that may have other memory.
    #[cold]
    fn describe_beside(&self, here: PfnRange, place: Pfn, begins: bool, head: Option<Pfn>) {
        let first = section_of::<M>(here.start);
        let shared = self.memmap.section_of_record(first).map(Section::word);
        let block = self.memmap.block_record(first).map(|record| record.block().state);
        let (present, boot) = (SectionState::Present, false);
        let word = shared.unwrap_or(SectionWord::new(present, boot, place));
        let record = self.memmap.hidden_section(first, word).record();
        if shared.is_none() {
            let new = BlockWord::new(BlockState::Offline, self.node, self.placement);
            record.reset(block.is_none().then_some(new));
        }
        record.begin(begins, parts_touched::<M>(first, here), head);
        let online = matches!(block, Some(BlockState::Online(_)));
        let word = word.with_state(if online { SectionState::Online } else { present });
        for number in sections_touched::<M>(here) {
            if self.memmap.section(number).is_none() {
                self.memmap.sections().set_word(self.memmap.machine(), number, word);
            }
        }
    }

    /// Runs the phases backwards from their cursors.
    fn undo(self) -> Result<(), NotFlushed> {
        let windows = self.memmap.windows();
        let memmap = match self.placement {
            Placement::Boot => Populate::of(self.allocator, self.memmap).empty(self.populated),
            Placement::PerRange | Placement::PerBlock => {
                unmap_mapped(self.allocator, self.memmap, windows.memmap_virt(self.populated))
            }
        };
        let mut linear = Ok(());
        if self.linear {
            linear = unmap_mapped(self.allocator, self.memmap, windows.linear_virt(self.range));
        }
        let touched = nodes_of::<M>(self.pfns).take(self.nodes as usize);
        touched.rev().for_each(|section| release_node(self.allocator, section));
        memmap.and(linear)
    }
}

/// Unmaps what an add mapped before it failed.
fn unmap_mapped<M: Machine>(
    allocator: &Allocator<M>,
    memmap: Whole<'_, M>,
    range: VirtRange,
) -> Result<(), NotFlushed> {
    let mut gather = allocator.gather(memmap);
    if let Err(error) = memmap.unmap(range, &mut gather) {
        // This add mapped the whole range, so the mapper has an error. The add fails anyway.
        log::error!("cannot unmap {range}: {error}");
    }
    gather.flush()
}
