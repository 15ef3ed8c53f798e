//! Spans: the range of a zone's online blocks, and the blocks of a node.
//!
//! ```text
//!   zone      [b . b b . . b]        b: one of its blocks, .: another's, or none
//!   span      ^-------------^        from its first block's first frame to its last one's end
//! ```
//!
//! Onlining a block extends the span. Offlining a block at an end shrinks it to the next block inwards: the walk
//! reads only the words of the blocks between the two, and skips a run of sections that never had memory by its
//! empty root. Offlining a block in the middle, or the last one, costs nothing.

use crate::addr::{PfnRange, PhysRange};
use crate::alloc::Allocator;
use crate::alloc::isolate::Area;
use crate::alloc::node::{MAX_NODES, NodeId};
use crate::alloc::zone::{PageCounts, ZoneKind};
use crate::machine::Machine;
use crate::memmap::block::{BlockId, BlockState, BlockWord};
use crate::memmap::section::{SectionState, section_of, sections_touched};
use crate::memmap::seen::Seen;

/// A node that has memory, online or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NodeInfo {
    /// The node.
    pub node: NodeId,
    /// The number of its memory blocks.
    pub blocks: u64,
    /// From its first online block to its last, including gaps; empty if none is online.
    pub span: PfnRange,
    /// The pages of all its zones.
    pub counts: PageCounts,
}

impl<M: Machine> Allocator<M> {
    /// See [`Mm::nodes`](crate::Mm::nodes).
    pub(crate) fn nodes(&self) -> impl Iterator<Item = NodeInfo> + '_ {
        self.nodes.ids().filter_map(|node| {
            let blocks = self.nodes.blocks(node);
            let mut info =
                NodeInfo { node, blocks, span: PfnRange::EMPTY, counts: PageCounts::default() };
            for kind in ZoneKind::ALL {
                let zone = self.nodes.lock(node, kind);
                info.span = info.span.hull(zone.span);
                info.counts = info.counts.plus(zone.counts);
                drop(zone);
                info.counts.free += self.caches.pages::<M>(node, kind);
            }
            (blocks != 0).then_some(info)
        })
    }

    /// Counts the blocks that the machine was started with.
    pub(crate) fn note_boot_blocks(&self) {
        for block in self.memmap.blocks() {
            self.nodes.add_blocks(block.node, 1);
            if let BlockState::Online(kind) = block.state {
                let mut zone = self.nodes.lock(block.node, kind);
                zone.widen(block.pfns);
            }
        }
    }

    /// Subtracts the blocks of `range` of which nothing stays, which are being removed: their records can still be read.
    /// Returns a bit for each node without remaining blocks.
    pub(crate) fn forget_blocks(&self, memmap: Seen<'_, M>, range: PhysRange) -> u128 {
        const { assert!(MAX_NODES <= u128::BITS as usize) };
        leaving_nodes(memmap, range).fold(0, |gone, node| {
            self.nodes.remove_blocks(node, 1);
            gone | u128::from(self.nodes.blocks(node) == 0) << node.get()
        })
    }

    /// Adds the blocks of `range` again, whose removal was cancelled.
    pub(crate) fn remember_blocks(&self, memmap: Seen<'_, M>, range: PhysRange) {
        leaving_nodes(memmap, range).for_each(|node| self.nodes.add_blocks(node, 1));
    }

    /// The span of the area's zone without block `id`, a block of the zone.
    ///
    /// For an operation, without the zone's lock: it may read every block of the span.
    pub(crate) fn span_without(&self, memmap: Seen<'_, M>, id: BlockId, area: &Area) -> PfnRange {
        let span = self.nodes.lock(area.node, area.kind).span;
        let gone = self.memmap.block_pfns(id);
        let first = self.memmap.block_at(M::address(span.start)).get();
        let end = self.memmap.block_at(M::address(span.end)).get();
        let between = (first..end).map(BlockId::new);
        let mut stays = between.filter(|&other| other != id && is_home(memmap, other, area));
        if gone.start == span.start {
            let next = stays.next().map(|id| self.memmap.block_pfns(id));
            return next.map_or(PfnRange::EMPTY, |next| PfnRange { start: next.start, ..span });
        }
        if gone.end == span.end {
            let last = stays.next_back().map(|id| self.memmap.block_pfns(id));
            return last.map_or(PfnRange::EMPTY, |last| PfnRange { end: last.end, ..span });
        }
        span
    }
}

/// The node of each block of `range` that is hidden: it is being removed.
fn leaving_nodes<M: Machine>(
    memmap: Seen<'_, M>,
    range: PhysRange,
) -> impl Iterator<Item = NodeId> {
    let inside = memmap.blocks_inside(M::pfns(range));
    let node = move |id: BlockId| {
        let pfns = memmap.block_pfns(id);
        if inside.contains(pfns.start) {
            let first = section_of::<M>(pfns.start);
            let word = memmap.sections().word(memmap.machine(), first);
            let words = memmap.hidden_section(first, word).record().sound_block();
            if let Some(BlockWord { whole: true, node, .. }) = words {
                return Some(node);
            }
        }
        leaving_node(memmap, id, M::pfns(range))
    };
    memmap.blocks_in(range).filter_map(node)
}

/// The node of a block of which memory is hidden with `pfns`, if that is all of it. Other memory that is hidden, for ever,
/// has no record any more.
#[cold]
fn leaving_node<M: Machine>(memmap: Seen<'_, M>, id: BlockId, pfns: PfnRange) -> Option<NodeId> {
    if memmap.sections_of_block(id).next().is_some() {
        return None;
    }
    let here = memmap.block_pfns(id).intersection(pfns)?;
    let records = sections_touched::<M>(here).filter_map(|number| {
        let word = memmap.sections().word(memmap.machine(), number);
        let leaving = word.state() == SectionState::Leaving;
        leaving.then(|| memmap.hidden_section(number, word).record())
    });
    let mut words = records.filter(|record| record.has_block());
    Some(words.next()?.block().node)
}

/// Whether a block is online in the area's zone.
fn is_home<M: Machine>(memmap: Seen<'_, M>, id: BlockId, area: &Area) -> bool {
    let first = id.get() * memmap.block_sections();
    if !memmap.sections().has_node(first) {
        return false;
    }
    memmap.block_record(first).is_some_and(|record| {
        let word = record.block();
        (word.node, word.state) == (area.node, BlockState::Online(area.kind))
    })
}
