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
use crate::alloc::node::NodeId;
use crate::alloc::populate::Populate;
use crate::machine::Machine;
use crate::memmap::Memmap;
use crate::memmap::altmap::Altmap;
use crate::memmap::block::{BlockId, BlockState, BlockWord};
use crate::memmap::page::PageState;
use crate::memmap::placement::{MhpFlags, Placement};
use crate::memmap::section::{
    MAX_SECTIONS, NODE_BYTES, SectionState, SectionWord, record_pfns, section_of,
};
use crate::memmap::whole::Whole;
use crate::operations::Operations;
use crate::operations::add_error::AddError;
use crate::operations::notify::News;
use crate::operations::probe::Probe;
use crate::operations::ranges::{nodes_of, records_of, release_node, sections_of};
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
        let operation = self.allocator.operation().ok_or(AddError::Busy)?;
        let pfns = check_add(&self.allocator.memmap, range)?;
        if !self.allocator.nodes.has(node) {
            return Err(AddError::NoSuchNode(node));
        }
        let placement = self.placement_for(range, placement);
        let before = self.allocator.frames.system_pages();
        let populated = PfnRange::new(pfns.start, 0);
        let (allocator, memmap) = (&self.allocator, operation.seen());
        let mut add = Add {
            allocator,
            memmap,
            range,
            pfns,
            node,
            placement,
            nodes: 0,
            linear: false,
            populated,
        };
        if let Err(error) = add.prepare() {
            let undone = add.undo();
            return Err(undone.err().map_or(error, |cpu| MapError::NotFlushed(cpu).into()));
        }
        add.publish();
        let came = self.allocator.nodes.blocks(node) == 0;
        self.allocator
            .nodes
            .add_blocks(node, self.allocator.memmap.blocks_in(range).count() as u64);
        let came = came.then_some(News::NodeCame(node));
        operation.settle();
        self.announce(came.into_iter().chain([News::Added { range, node, placement }]));
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
        if !self.self_hosting() {
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
fn check_add<M: Machine>(memmap: &Memmap<M>, range: PhysRange) -> Result<PfnRange, AddError> {
    let block = memmap.block_size().bytes();
    let pfns = memmap.whole_blocks(range).ok_or(AddError::NotWholeBlocks { range, block })?;
    let sections = MAX_SECTIONS.saturating_mul(M::SECTION_BYTES);
    let limit = memmap.machine().phys_limit().min(PhysAddr::new(sections));
    if range.len() > limit.get() || range.start().get() > limit.get() - range.len() {
        return Err(AddError::BeyondLimit { range, limit });
    }
    for number in sections_of::<M>(pfns) {
        if memmap.sections().word(memmap.machine(), number) != SectionWord::ABSENT {
            let block = BlockId::new(number / memmap.block_sections());
            return Err(AddError::Overlaps { range, block });
        }
    }
    Ok(pfns)
}

impl<M: Machine> Add<'_, M> {
    /// The phases that can fail.
    fn prepare(&mut self) -> Result<(), AddError> {
        self.insert_nodes()?;
        self.map_linear()?;
        match self.placement {
            Placement::Boot => self.populate_from_system(),
            Placement::PerRange | Placement::PerBlock => {
                self.populate_altmaps()?;
                let probed = Probe::of(self.memmap).memmap_of(self.pfns);
                probed.map_err(|at| AddError::NoMemory { at })
            }
        }
    }

    fn insert_nodes(&mut self) -> Result<(), AddError> {
        for section in nodes_of::<M>(self.pfns) {
            if !self.memmap.sections().has_node(section) {
                let frame = self.allocator.table_frames().take(NODE_BYTES);
                let frame = frame.map_err(|_| AddError::OutOfMemory { range: self.range })?;
                self.memmap.sections().insert_node(self.memmap.machine(), section, frame);
            }
            self.nodes += 1;
        }
        Ok(())
    }

    fn map_linear(&mut self) -> Result<(), AddError> {
        if self.memmap.machine().linear_map_is_complete() {
            let unmapped = self.memmap.find_unmapped(self.range);
            return unmapped.map_or(Ok(()), |at| Err(AddError::NotInLinearMap { at }));
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
        while self.populated.end < self.pfns.end {
            let described = PfnRange::new(self.populated.end, M::RECORD_PAGES);
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

    /// Writes the heads and records, then makes the sections visible. Cannot fail.
    fn publish(&self) {
        match self.placement {
            Placement::Boot => records_of::<M>(self.pfns).for_each(|first| {
                let virt = self.memmap.windows().memmap_virt(record_pfns::<M>(first)).start();
                if let Some(leaf) = self.memmap.mapper().translate(virt) {
                    self.describe(first, M::pfn(leaf.target(virt)), None);
                }
            }),
            Placement::PerRange | Placement::PerBlock => self.altmaps().for_each(|altmap| {
                let sections = altmap.sections::<M>();
                let head = altmap.memmap.start;
                let page = self.memmap.page(head);
                page.set_state(PageState::MemmapHead {
                    sections: sections as u32,
                    pages: altmap.memmap.pages(),
                });
                for first in records_of::<M>(altmap.described) {
                    let record = altmap.record::<M>(first);
                    self.memmap.page(record).set_state(PageState::MemmapTail { head });
                    self.describe(first, record, Some(altmap));
                }
            }),
        }
    }

    /// Writes the record of section `first` and of those that share it, and publishes their words.
    fn describe(&self, first: u64, record: Pfn, altmap: Option<Altmap>) {
        let word = SectionWord::new(SectionState::Present, false, record);
        let block = BlockWord::new(BlockState::Offline, self.node, self.placement);
        let group = altmap.map_or(0, |altmap| altmap.memmap.start.get());
        self.memmap.hidden_section(first, word).record().reset(u64::MAX, group, block);
        for number in first..first + M::RECORD_SECTIONS {
            self.memmap.sections().set_word(self.memmap.machine(), number, word);
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
