//! Boot memory: described by the same section map and descriptors as memory that is added later.
//!
//! ```text
//!   early allocator:  [####....##......................]   taken so far, free
//!   1. the reserve    [####RR..##......................]   frames for the hot-pluggable window
//!   2. nodes, memmap  [####RRMM##MM....................]   a memmap for all RAM
//!   3. hand-over      [uuuuuuuuuuuu fffffffffffffffffff]   used extents, free extents
//! ```
//!
//! A block that is only partly RAM keeps a mask of the subsections that are; like every block with boot memory it
//! can never be removed, so the memmaps, tables and nodes there are safe.

// UNSAFETY: vouches for the frames that it allocates.
#![expect(unsafe_code)]

use crate::addr::{Order, Pfn, PfnRange, PhysAddr, PhysRange};
use crate::alloc::Allocator;
use crate::alloc::frames::RESERVE_PIECES;
use crate::alloc::lists::FreeLists;
use crate::alloc::node::{NodeId, ZoneGuard};
use crate::alloc::packed::Budget;
use crate::alloc::zone::{PageCounts, Zone, ZoneKind};
use crate::geometry::{BlockSize, PARTS_PER_RECORD};
use crate::impossible::impossible;
use crate::machine::Machine;
use crate::memmap::block::{BlockState, BlockWord};
use crate::memmap::page::{Owner, PageState};
use crate::memmap::placement::Placement;
use crate::memmap::section::{
    MAX_SECTIONS, NODE_BYTES, NODE_SECTIONS, Section, SectionState, SectionWord, record_pfns,
    section_of, section_pfns, sections_touched,
};
use crate::memmap::whole::Whole;
use crate::operations::Operations;
use crate::operations::boot::{
    BootError, BootMemory, EarlyFrames, EarlyTables, RESERVE_SHARE, inner, whole_pages,
};
use crate::operations::windows::{check_windows, pin_root_entries};
use crate::paging::{Mapper, TableFrames};

impl<M: Machine> Operations<M> {
    /// See [`Mm::boot`](crate::Mm::boot).
    ///
    /// # Safety
    ///
    /// By the same contract.
    pub(crate) unsafe fn boot(
        &self,
        memory: &BootMemory<'_>,
        early: &mut dyn EarlyFrames,
    ) -> Result<(), BootError> {
        // The holder of the turn boots the manager, or has booted it.
        let operation = self.allocator.operation().ok_or(BootError::AlreadyBooted)?;
        let memmap = operation.seen();
        Boot { allocator: &self.allocator, memmap }.run(memory, early)
    }
}

/// A boot under way.
struct Boot<'m, M: Machine> {
    allocator: &'m Allocator<M>,
    memmap: Whole<'m, M>,
}

impl<M: Machine> Boot<'_, M> {
    fn run(&self, memory: &BootMemory<'_>, early: &mut dyn EarlyFrames) -> Result<(), BootError> {
        if self.memmap.sections().nodes().next().is_some() {
            return Err(BootError::AlreadyBooted);
        }
        BlockSize::new::<M>(memory.block_size.bytes()).map_err(BootError::Geometry)?;
        let order = memory.block_size.shift() - M::SECTION_SHIFT;
        self.memmap.set_block_order(order);
        check_ram(self.memmap.machine(), memory.ram)?;
        let node =
            memory.ram.iter().map(|&(_, node)| node).find(|&node| !self.allocator.nodes.has(node));
        node.map_or(Ok(()), |node| Err(BootError::NoSuchNode(node)))?;
        check_windows(self.memmap, memory)?;
        let first = memory.ram.first().map(|&(range, _)| range);
        pin_root_entries(self.memmap, first, early)?;

        self.take_reserve(memory, early);
        // All memmaps first: a section's record may lie in the memmap of any other section.
        for (pfns, _) in whole_pages::<M>(memory.ram) {
            for number in sections_touched::<M>(pfns) {
                self.back_section(number, early)?;
            }
        }
        for (pfns, node) in whole_pages::<M>(memory.ram) {
            self.describe_ram(pfns, node);
        }
        if let Some(bytes) = memory.kernelcore {
            self.spare_blocks(bytes, memory.ram, early);
        }
        self.hand_over(memory.ram, early);
        self.allocator.note_boot_blocks();
        Ok(())
    }

    /// Reserves the memory that adding the whole window can need, within the allowed share of boot RAM, in as many
    /// pieces as necessary.
    fn take_reserve(&self, memory: &BootMemory<'_>, early: &mut dyn EarlyFrames) {
        let ram: u64 = memory.ram.iter().map(|(range, _)| range.len()).sum();
        let mut budget = Budget::default();
        memory.window.iter().for_each(|&range| self.budget_for(range, &mut budget));
        let wanted = budget.frames();
        let most = wanted.min(ram / RESERVE_SHARE / M::PAGE_BYTES);
        let (mut pieces, mut count, mut frames) = ([PhysRange::EMPTY; RESERVE_PIECES], 0, 0);
        // RAM may be fragmented: half of a size that is too large for every piece may fit.
        let mut size = most;
        while size > 0 && count < RESERVE_PIECES {
            let bytes = size * M::PAGE_BYTES;
            let piece = early.take(bytes, M::PAGE_BYTES).and_then(|at| PhysRange::new(at, bytes));
            let Some(piece) = piece else {
                size /= 2;
                continue;
            };
            pieces[count] = piece;
            count += 1;
            frames += size;
            size = size.min(most - frames);
        }
        self.allocator.frames.set_reserve(self.memmap.machine(), pieces);
        if wanted > 0 {
            log::info!(
                "table reserve: {frames} of the {wanted} frames that the window could need, \
                 in {count} pieces"
            );
        }
    }

    /// Adds the tables and section nodes that `range` can need at most.
    fn budget_for(&self, range: PhysRange, budget: &mut Budget) {
        let section = M::SECTION_BYTES;
        let limit = self
            .memmap
            .machine()
            .phys_limit()
            .min(PhysAddr::new(MAX_SECTIONS.saturating_mul(section)));
        let end = range.start().get().saturating_add(range.len()).min(limit.get());
        let start = range.start().align_down(section);
        let Some(len) = end.checked_sub(start.get()).map(|len| len.next_multiple_of(section))
        else {
            return;
        };
        let Some(range) = PhysRange::new(start, len).filter(|range| !range.is_empty()) else {
            return;
        };
        let pfns = M::pfns(range);
        let mapper = self.memmap.mapper();
        let memmap = self.memmap.windows().memmap_mapping(pfns, pfns.start).max_leaf;
        let nodes = (section_of::<M>(pfns.end).div_ceil(NODE_SECTIONS))
            - section_of::<M>(pfns.start) / NODE_SECTIONS;
        budget.add::<M>(NODE_BYTES, nodes);
        let mut add = |bytes, count| budget.add::<M>(bytes, count);
        mapper.tables_for(
            self.memmap.windows().linear_virt(range),
            self.memmap.windows().linear_mapping(range).max_leaf,
            &mut add,
        );
        mapper.tables_for(self.memmap.windows().memmap_virt(pfns), memmap, &mut add);
    }

    /// Backs the memmap of a section and of those that share its record, and creates its node, unless that was done.
    ///
    /// Uses one aligned run, and never single pages as an add may: the start of a memmap then identifies its
    /// sections (`verify` checks it), and leaves are as large as possible. Boot memory without such a run (2 MiB for
    /// 128 MiB of 4 KiB pages) is [`BootError::OutOfMemory`], by design.
    fn back_section(&self, number: u64, early: &mut dyn EarlyFrames) -> Result<(), BootError> {
        let described = record_pfns::<M>(number);
        let mapper = self.memmap.mapper();
        if mapper.translate(self.memmap.windows().memmap_virt(described).start()).is_some() {
            return Ok(());
        }
        if !self.memmap.sections().has_node(number) {
            let frame = EarlyTables::new(early).take(NODE_BYTES);
            let frame = frame.map_err(|_| BootError::OutOfMemory)?;
            self.memmap.sections().insert_node(self.memmap.machine(), number, frame);
        }
        let bytes = self.memmap.windows().memmap_virt(described).len();
        let backing = early.take(bytes, bytes).ok_or(BootError::OutOfMemory)?;
        let mapping = self.memmap.windows().memmap_mapping(described, M::pfn(backing));
        mapper.map(&mapping, &EarlyTables::new(early))?;
        Ok(())
    }

    /// Describes the sections that hold a frame of `pfns`, those that are not described yet.
    fn describe_ram(&self, pfns: PfnRange, node: NodeId) {
        for number in sections_touched::<M>(pfns) {
            if self.memmap.section(number).is_none() {
                self.describe_section(number, node);
            }
            let Some(section) = self.memmap.known_section(section_pfns::<M>(number).start) else {
                continue;
            };
            let present = section.record().present();
            for part in section.parts() {
                if section.part_pfns(part).intersection(pfns).is_some() {
                    present.insert(part);
                }
            }
        }
    }

    /// Writes the record of a section into the descriptor of its memmap's first page, unless a section that shares
    /// it did so.
    fn describe_section(&self, number: u64, node: NodeId) {
        let shared = record_pfns::<M>(number);
        let virt = self.memmap.windows().memmap_virt(shared).start();
        let Some(leaf) = self.memmap.mapper().translate(virt) else {
            return impossible("these descriptors of boot memory are not mapped", virt.get());
        };
        let record = M::pfn(leaf.target(virt));
        let state = BlockState::Online(ZoneKind::System);
        let word = SectionWord::new(SectionState::Online, true, record);
        let block = BlockWord::new(state, node, Placement::Boot);
        if sections_touched::<M>(shared).all(|other| self.memmap.section(other).is_none()) {
            let first = self.memmap.block_record(number).is_none();
            self.memmap.hidden_section(number, word).record().reset(first.then_some(block));
        }
        self.memmap.sections().set_word(self.memmap.machine(), number, word);
    }

    /// Makes the blocks above the lowest `bytes` of RAM movable, if they can be.
    fn spare_blocks(&self, bytes: u64, ram: &[(PhysRange, NodeId)], early: &dyn EarlyFrames) {
        let mut core = 0;
        for (range, _) in ram {
            for id in self.memmap.blocks_in(*range) {
                let Some(block) = self.memmap.block_range(id) else { continue };
                let start = block.start().max(range.start());
                let here = block.end().min(range.end()).offset_from(start);
                if core < bytes || !range.covers(block) || !is_free(block, early) {
                    core += here;
                    continue;
                }
                if let Some(record) = self.memmap.block_record_of(id) {
                    let state = BlockState::Online(ZoneKind::Movable);
                    record.change_block(|word| BlockWord { state, ..word });
                }
            }
        }
    }

    /// Divides all boot memory into extents: free where `early` has not allocated, used elsewhere.
    fn hand_over(&self, ram: &[(PhysRange, NodeId)], early: &dyn EarlyFrames) {
        for number in self.memmap.sections().iter(self.memmap.machine()) {
            if let Some(section) = self.memmap.section(number) {
                self.mark_holes(section, ram);
            }
        }
        for (whole, _) in whole_pages::<M>(ram) {
            let mut used = whole.start;
            early.free_ranges(&mut |free| {
                let free = M::pfns(inner::<M>(free));
                if let Some(free) = free.intersection(whole) {
                    self.insert_used(PfnRange { start: used, end: free.start });
                    self.give(free);
                    used = free.end;
                }
            });
            self.insert_used(PfnRange { start: used, end: whole.end });
        }
    }

    /// Initialises the subsections of a section that are not entirely RAM, and marks their holes.
    fn mark_holes(&self, section: Section<'_, M>, ram: &[(PhysRange, NodeId)]) {
        for part in section.parts().filter(|&part| section.record().present().has(part)) {
            let pfns = section.part_pfns(part);
            let is_ram = |pfns| whole_pages::<M>(ram).any(|(whole, _)| whole.covers(pfns));
            if is_ram(pfns) {
                continue;
            }
            self.memmap.initialise_part(section, part);
            for pfn in pfns.iter().filter(|&pfn| !is_ram(PfnRange::new(pfn, 1))) {
                section.page(pfn).set_state(PageState::Hole);
            }
        }
    }

    /// Records `pfns`, boot memory that was taken before, as used.
    fn insert_used(&self, pfns: PfnRange) {
        for (pfn, order) in self.memmap.cut(pfns) {
            let Some((section, mut zone)) = self.boot_extent(pfn, order) else {
                continue;
            };
            let state = PageState::Used { order, owner: Owner::Boot };
            section.set_head(pfn, order, state);
            self.count_managed(&mut zone, section, order, 0);
        }
    }

    /// Gives `pfns`, boot memory that is free, to the allocator.
    fn give(&self, pfns: PfnRange) {
        for (pfn, order) in self.memmap.cut(pfns) {
            let Some((section, mut zone)) = self.boot_extent(pfn, order) else {
                continue;
            };
            FreeLists::of(*self.memmap).merge(&mut zone, section, pfn, order);
            self.count_managed(&mut zone, section, order, order.pages());
        }
    }

    /// The section and zone of an extent, whose descriptors can take its head.
    fn boot_extent(
        &self,
        pfn: Pfn,
        order: Order,
    ) -> Option<(Section<'_, M>, ZoneGuard<'_, M::Lock>)> {
        let section = self.memmap.known_section(pfn)?;
        if order < M::PART_ORDER {
            self.memmap.initialise_part(section, Section::<M>::part(pfn));
        }
        let record = self.memmap.known_block_record(section.number())?;
        let word = record.block();
        let BlockState::Online(kind) = word.state else { return None };
        self.allocator.nodes.set_populated(word.node, kind, true);
        Some((section, self.allocator.nodes.lock(word.node, kind)))
    }

    fn count_managed(&self, zone: &mut Zone, section: Section<'_, M>, order: Order, free: u64) {
        let pages = order.pages();
        let counts = PageCounts { present: pages, managed: pages, memmap: 0, free };
        zone.add(counts);
        if let Some(record) = self.memmap.known_block_record(section.number()) {
            record.managed().add(pages);
            record.free().add(free);
        }
    }
}

/// Whether the early allocator has given away nothing of `block`.
fn is_free(block: PhysRange, early: &dyn EarlyFrames) -> bool {
    let mut free = false;
    early.free_ranges(&mut |range| free |= range.covers(block));
    free
}

/// Refuses RAM that is out of order or past what can be mapped.
fn check_ram<M: Machine>(machine: &M, ram: &[(PhysRange, NodeId)]) -> Result<(), BootError> {
    let mut above = 0;
    for &(range, _) in ram {
        if range.is_empty() || range.start().get() < above {
            return Err(BootError::Unsorted(range));
        }
        let limit = machine.phys_limit().get().min(MAX_SECTIONS.saturating_mul(M::SECTION_BYTES));
        above = range.start().get().saturating_add(range.len());
        if above > limit {
            return Err(BootError::BeyondLimit(range));
        }
    }
    Ok(())
}

const _: () = assert!(PARTS_PER_RECORD == u64::BITS as u64);
