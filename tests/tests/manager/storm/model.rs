//! The requests to the manager and their results: enough to predict the next result.

use std::collections::BTreeMap;
use std::ops::Range;

use hotmem::testing::{Bench, Tiny, range};
use hotmem::{
    BlockId, BlockState, NodeId, Order, Owner, Pfn, PfnRange, PhysRange, Placement, RemoveError,
    ZoneKind,
};
use hotmem_tests::memory::TINY_WINDOW;

pub(crate) const PAGE: u64 = 4096;

/// A block that is present.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Known {
    pub(crate) online: Option<ZoneKind>,
    pub(crate) node: NodeId,
    pub(crate) placement: Placement,
    /// The blocks that share one memmap with it (the block alone, unless added per range).
    pub(crate) group: (u64, u64),
}

/// The blocks that are present, and the extents that are held.
pub(crate) struct Model {
    /// Bytes of a block.
    pub(crate) block: u64,
    /// The first block of the window.
    pub(crate) first: u64,
    pub(crate) blocks: BTreeMap<u64, Known>,
    /// Order, owner, and the owner's word.
    pub(crate) held: BTreeMap<Pfn, (Order, Owner, u64)>,
}

impl Model {
    pub(crate) fn new(block: u64) -> Self {
        let first = TINY_WINDOW / block;
        Self { block, first, blocks: BTreeMap::new(), held: BTreeMap::new() }
    }

    pub(crate) fn bytes(&self, blocks: &Range<u64>) -> PhysRange {
        range(blocks.start * self.block, (blocks.end - blocks.start) * self.block)
    }

    pub(crate) fn pages(&self, block: u64) -> Range<u64> {
        let pages = self.block / PAGE;
        block * pages..(block + 1) * pages
    }

    /// The error of removing `blocks`: the first reason in ascending order, where being online counts last.
    pub(crate) fn refusal(&self, blocks: &Range<u64>) -> Option<RemoveError> {
        let mut hosted = None;
        for block in blocks.clone() {
            let id = BlockId::new(block);
            let Some(known) = self.blocks.get(&block) else {
                return Some(RemoveError::NoSuchBlock(id));
            };
            if known.group.0 < blocks.start || known.group.1 > blocks.end {
                let pages = self.pages(known.group.0).start..self.pages(known.group.1).start;
                let (start, end) = (Pfn::new(pages.start), Pfn::new(pages.end));
                let whole = PfnRange { start, end };
                return Some(RemoveError::SplitsGroup { block: id, whole });
            }
            let self_hosted = known.placement.self_hosted();
            if *hosted.get_or_insert(self_hosted) != self_hosted {
                return Some(RemoveError::MixedPlacement(id));
            }
        }
        let mut there = self.blocks.range(blocks.clone());
        let online = there.find(|(_, known)| known.online.is_some());
        online.map(|(&block, _)| RemoveError::NotOffline(BlockId::new(block)))
    }

    /// Pages that hold the memmap of a block's group.
    pub(crate) fn memmap_of(&self, known: &Known) -> Range<u64> {
        let start = self.pages(known.group.0).start;
        let described = self.pages(known.group.1).start - start;
        let memmap = if known.placement.self_hosted() { described * 64 / PAGE } else { 0 };
        start..start + memmap
    }

    pub(crate) fn used_pages(&self, block: u64) -> u64 {
        let pages = self.pages(block);
        let inside = self.held.range(Pfn::new(pages.start)..Pfn::new(pages.end));
        inside.map(|(_, (order, ..))| order.pages()).sum()
    }

    pub(crate) fn first_used(&self, block: u64) -> Option<(Pfn, Owner)> {
        let pages = self.pages(block);
        let mut inside = self.held.range(Pfn::new(pages.start)..Pfn::new(pages.end));
        inside.next().map(|(&pfn, &(_, owner, _))| (pfn, owner))
    }

    /// Pages of a block that the allocator manages, according to the model.
    pub(crate) fn managed(&self, block: u64, known: &Known) -> u64 {
        let (pages, memmap) = (self.pages(block), self.memmap_of(known));
        let hidden = memmap.end.clamp(pages.start, pages.end) - pages.start;
        pages.end - pages.start - hidden
    }

    /// Free pages of added memory that `owner` may have.
    pub(crate) fn free_pages(&self, owner: Owner) -> u64 {
        let may = |known: &Known| known.online.is_some_and(|kind| is_for(kind, owner));
        let blocks = self.blocks.iter().filter(|(_, known)| may(known));
        blocks.map(|(&block, known)| self.managed(block, known) - self.used_pages(block)).sum()
    }

    /// Compares every present block with the model.
    pub(crate) fn compare(&self, bench: &Bench<Tiny>) {
        let there = bench.mm.blocks().filter(|block| !block.boot);
        let mut expected = self.blocks.iter();
        for block in there {
            let (&number, known) = expected.next().unwrap_or_else(|| panic!("{}", block.id));
            assert_eq!(block.id.get(), number);
            assert_eq!((block.node, block.placement), (known.node, known.placement));
            assert_eq!(block.state, known.online.map_or(BlockState::Offline, BlockState::Online));
            let hosted = known.placement.self_hosted();
            let head = hosted.then(|| Pfn::new(self.pages(known.group.0).start));
            assert_eq!(block.group, head);
            if known.online.is_some() {
                let managed = self.managed(number, known);
                let pages = self.block / PAGE;
                assert_eq!((block.counts.present, block.counts.managed), (pages, managed));
                assert_eq!(block.counts.memmap, pages - managed);
                assert_eq!(block.counts.free, managed - self.used_pages(number));
            }
        }
        assert_eq!(expected.next().map(|(&number, _)| number), None, "a block is missing");
    }
}

fn is_for(kind: ZoneKind, owner: Owner) -> bool {
    ZoneKind::for_owner(owner).contains(&kind)
}
