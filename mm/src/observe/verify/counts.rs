//! Invariant 4, and the allocator's part of invariants 1 and 2: counts match the contents.

use super::bag::Bag;
use super::violation::{Subject, Violation, expect, hold};
use crate::addr::{Order, Pfn, PfnRange};
use crate::alloc::Allocator;
use crate::alloc::node::MAX_NODES;
use crate::alloc::zone::{PageCounts, ZoneKind};
use crate::machine::Machine;
use crate::memmap::block::{Block, BlockId, BlockState};
use crate::memmap::page::{Owner, PageState};
use crate::memmap::section::{Section, SectionState};
use crate::memmap::whole::Whole;
use crate::observe::View;
use crate::turn::Look;

/// The sums over the blocks of a zone.
struct Found {
    counts: PageCounts,
    extents: [u64; Order::COUNT],
    isolated: u64,
    cached: u64,
    span: PfnRange,
}

/// Heads in a block, by the walk over its extents or by its bitmaps and descriptors.
#[derive(Clone, Copy, Default)]
struct Heads {
    /// Heads of extents of a subsection or more.
    parts: u64,
    /// Heads and holes in initialised subsections.
    believed: u64,
}

/// Checks the counts of zones, nodes and blocks.
pub(super) struct Counts<'m, M: Machine> {
    pub(super) allocator: &'m Allocator<M>,
    pub(super) memmap: Whole<'m, M>,
}

impl<'m, M: Machine> Counts<'m, M> {
    pub(super) fn of(allocator: &'m Allocator<M>, look: &'m Look<'_, M>) -> Self {
        Self { allocator, memmap: look.seen() }
    }

    pub(super) fn check(&self) -> Result<(), Violation> {
        let (mut cached, mut listed) = (Bag::default(), Bag::default());
        for zone in View::new(self.allocator).zones() {
            let mut found = Found {
                counts: PageCounts::default(),
                extents: [0; Order::COUNT],
                isolated: 0,
                cached: 0,
                span: PfnRange::EMPTY,
            };
            let home = (zone.node, BlockState::Online(zone.kind));
            let first = self.memmap.block_at(M::address(zone.span.start)).get();
            let end = self.memmap.block_at(M::address(zone.span.end)).get();
            let blocks = (first..end).filter_map(|raw| self.memmap.block(BlockId::new(raw)));
            for block in blocks.filter(|block| (block.node, block.state) == home) {
                self.check_block(&block, &mut found, &mut cached)?;
            }
            let at = u64::from(zone.node.get());
            let (expected, counted) = (found.counts, zone.counts);
            expect(4, "present pages of a zone", at, expected.present, counted.present)?;
            expect(4, "managed pages of a zone", at, expected.managed, counted.managed)?;
            expect(4, "memmap pages of a zone", at, expected.memmap, counted.memmap)?;
            expect(4, "isolated pages of a zone", at, found.isolated, zone.isolated)?;
            expect(4, "cached pages of a zone", at, found.cached, zone.cached)?;
            let free = (counted.free + zone.isolated).wrapping_sub(zone.cached);
            expect(4, "free pages of a zone", at, expected.free, free)?;
            let (first, last) = (found.span.start.get(), found.span.end.get());
            expect(4, "first frame of a zone's span", at, first, zone.span.start.get())?;
            expect(4, "end of a zone's span", at, last, zone.span.end.get())?;
            for order in (0..Order::COUNT as u8).filter_map(Order::new) {
                let expected = found.extents[order.get() as usize];
                let counted = zone.extents[order.get() as usize];
                expect(4, "free extents of an order in a zone", at, expected, counted)?;
                self.check_list(zone.node, zone.kind, order)?;
            }
        }
        for cpu in self.allocator.caches.all() {
            self.check_cache(cpu, &mut listed)?;
        }
        hold(4, "each cached extent is on one list of a cache", 0, cached == listed)?;
        let mut blocks = [0; MAX_NODES];
        for block in self.memmap.blocks() {
            blocks[block.node.get() as usize] += 1;
            self.check_zone_is_listed(&block)?;
        }
        self.check_nodes(&blocks)
    }

    /// Nodes count their blocks; a zone without memory is empty; a range is being emptied only while its block goes
    /// offline, or while the operation that empties it calls other code.
    fn check_nodes(&self, blocks: &[u64; MAX_NODES]) -> Result<(), Violation> {
        let emptying = self.allocator.turn.looks.is_calling();
        for node in self.allocator.nodes.ids() {
            let at = u64::from(node.get());
            expect(
                4,
                "blocks of a node",
                at,
                blocks[node.get() as usize],
                self.allocator.nodes.blocks(node),
            )?;
            for kind in ZoneKind::ALL {
                let zone = self.allocator.nodes.lock(node, kind);
                let blank = zone.counts().present != 0 || zone.span() == PfnRange::EMPTY;
                hold(4, "a zone without memory spans nothing", at, blank)?;
                let isolating = zone.isolating();
                // Read after the zone: an offline that begins in the meantime sets its number before its range.
                let going = self
                    .allocator
                    .turn
                    .offlining
                    .get()
                    .map_or(PfnRange::EMPTY, |id| self.memmap.block_pfns(id));
                let known = isolating.pages() == 0 || going.covers(isolating) || emptying;
                hold(4, "only a block that goes offline is being emptied", at, known)?;
            }
        }
        Ok(())
    }

    /// The block's extents and memmaps cover its memory, and add up to its counts.
    /// Adds the cached ones to `cached`.
    fn check_block(
        &self,
        block: &Block,
        found: &mut Found,
        cached: &mut Bag,
    ) -> Result<(), Violation> {
        let (mut managed, mut free) = (0, 0);
        let mut heads = Heads::default();
        let isolating = match block.state {
            BlockState::Online(kind) => self.allocator.nodes.lock(block.node, kind).isolating(),
            BlockState::Offline => PfnRange::EMPTY,
        };
        for (pfn, pages, state) in self.memmap.extents(block.pfns) {
            hold(2, "an extent stays in its block", pfn, pfn.add(pages) <= block.pfns.end)?;
            let aligned = pfn.get().is_multiple_of(pages);
            hold(2, "an extent is aligned to its size", pfn, aligned)?;
            let taken = matches!(state, PageState::Used { owner: Owner::Taken, .. });
            hold(4, "an extent is taken exactly if its block is", pfn, taken == block.taken)?;
            match state {
                PageState::Free { order } => {
                    (managed, free) = (managed + pages, free + pages);
                    found.extents[order.get() as usize] += 1;
                    self.check_merged(pfn, order)?;
                }
                PageState::Isolated { .. } => {
                    (managed, free) = (managed + pages, free + pages);
                    found.isolated += pages;
                    let inside = isolating.covers(PfnRange::new(pfn, pages));
                    hold(4, "an isolated extent is where a range is being emptied", pfn, inside)?;
                }
                PageState::Cached { .. } => {
                    managed += pages;
                    found.cached += pages;
                    cached.insert(PfnRange::new(pfn, 1));
                }
                PageState::Used { order, owner } => {
                    managed += pages;
                    self.check_used(pfn, order, owner, block)?;
                }
                PageState::Hole => {}
                _ => hold(1, "a page of an online block is in an extent", pfn, false)?,
            }
            self.check_there(PfnRange::new(pfn, pages))?;
            heads.parts += u64::from(pages >= M::PART_PAGES);
            heads.believed += u64::from(self.is_initialised(pfn));
        }
        self.check_bitmaps(block, heads)?;
        expect(4, "managed pages of a block", block.id, managed, block.counts.managed)?;
        expect(4, "free pages of a block", block.id, free, block.counts.free)?;
        found.counts = found.counts.plus(block.counts);
        found.span = found.span.hull(block.pfns);
        Ok(())
    }

    /// An extent has no absent part.
    fn check_there(&self, pfns: PfnRange) -> Result<(), Violation> {
        let mut pfn = pfns.start;
        while pfn < pfns.end {
            let section = self.memmap.section_at(pfn);
            let part = Section::<M>::part(pfn);
            let there = section.is_some_and(|section| section.record().present().has(part));
            hold(1, "an extent has no absent part", pfn, there)?;
            pfn = pfn.align_down(M::PART_ORDER).add(M::PART_PAGES);
        }
        Ok(())
    }

    /// The buddy of a free extent is not free.
    fn check_merged(&self, pfn: Pfn, order: Order) -> Result<(), Violation> {
        if order >= self.memmap.block_size().order::<M>() {
            return Ok(());
        }
        let buddy = Pfn::new(pfn.get() ^ order.pages());
        let section = self.memmap.section_at(buddy);
        let both = section.is_some_and(|section| section.is_free_head(buddy, order));
        hold(4, "free buddies are merged", pfn, !both)
    }

    /// A bit in `heads` stands for an extent of a subsection or more; in an initialised subsection each descriptor
    /// holds a state, and only the heads that the walk found have another state than tail.
    fn check_bitmaps(&self, block: &Block, walked: Heads) -> Result<(), Violation> {
        let mut found = Heads::default();
        for section in self.memmap.sections_of_block(block.id) {
            let online = section.word().state() == SectionState::Online;
            hold(
                4,
                "a section of an online block is online",
                Subject::Section(section.number()),
                online,
            )?;
            let record = section.record();
            for part in section.parts() {
                let pfns = section.part_pfns(part);
                let known = record.heads().has(part) || record.initialised().has(part);
                let present = record.present().has(part);
                hold(1, "an absent part has no descriptors", pfns.start, present || !known)?;
                if record.heads().has(part) {
                    let state = self.memmap.page(pfns.start).state();
                    let pages = state.map_or(0, PageState::extent_pages);
                    hold(1, "a part's head bit", pfns.start, pages >= M::PART_PAGES)?;
                    found.parts += 1;
                }
                if record.initialised().has(part) {
                    let memmap = self.memmap.memmap_in(section, pfns);
                    memmap.map_or(Ok(()), |memmap| self.check_tails(section, memmap))?;
                    let outside = pfns
                        .iter()
                        .filter(|&pfn| memmap.is_none_or(|memmap| !memmap.contains(pfn)));
                    for pfn in outside {
                        let state = self.memmap.page(pfn).state();
                        hold(1, "an initialised part holds states", pfn, state.is_some())?;
                        found.believed += u64::from(state != Some(PageState::Tail));
                    }
                }
            }
        }
        let at = block.id;
        expect(1, "extents of a part or more in a block", at, walked.parts, found.parts)?;
        expect(1, "heads in a block's initialised parts", at, walked.believed, found.believed)
    }

    /// Memmap pages of an initialised subsection name their head.
    fn check_tails(&self, section: Section<'_, M>, memmap: PfnRange) -> Result<(), Violation> {
        let Some(head) = section.group_head(memmap.start) else { return Ok(()) };
        let tail = PageState::MemmapTail { head };
        memmap.iter().filter(|&pfn| pfn != head).try_for_each(|pfn| {
            hold(3, "a memmap page names its head", pfn, self.memmap.page(pfn).is(tail))
        })
    }

    /// Whether each descriptor of the subsection that holds `pfn` is initialised.
    fn is_initialised(&self, pfn: Pfn) -> bool {
        let part = Section::<M>::part(pfn);
        self.memmap.section_at(pfn).is_some_and(|section| section.record().initialised().has(part))
    }

    /// An offline block's sections are present, and none of their descriptors is marked as initialised.
    fn check_offline(&self, block: &Block) -> Result<(), Violation> {
        let mut bad = 0;
        for section in self.memmap.sections_of_block(block.id) {
            let present = section.word().state() == SectionState::Present;
            hold(
                4,
                "a section of an offline block is present",
                Subject::Section(section.number()),
                present,
            )?;
            let record = section.record();
            bad |= record.bad().bits();
            let none = section
                .parts()
                .all(|part| !record.heads().has(part) && !record.initialised().has(part));
            hold(
                1,
                "an offline section's bitmaps are empty",
                Subject::Section(section.number()),
                none,
            )?;
        }
        hold(4, "a block is marked if a part of it is bad", block.id, (bad != 0) == block.poisoned)
    }

    /// An online block's zone is one that [`zones`](View::zones) shows; an offline block is in none.
    fn check_zone_is_listed(&self, block: &Block) -> Result<(), Violation> {
        let BlockState::Online(kind) = block.state else { return self.check_offline(block) };
        let nodes = &self.allocator.nodes;
        let listed = nodes.populated(kind).any(|node| node == block.node);
        hold(4, "the zone of an online block has memory", block.id, listed)?;
        let spans = nodes.lock(block.node, kind).span().covers(block.pfns);
        hold(4, "a zone spans its blocks", block.id, spans)
    }
}
