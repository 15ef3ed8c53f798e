//! The snapshot of invariant 7: all facts that an add followed by a remove, or a failed operation, must leave
//! unchanged.

use crate::addr::{Pfn, PfnRange, PhysAddr, VirtAddr, VirtRange};
use crate::alloc::batch::Cached;
use crate::alloc::node::NodeId;
use crate::alloc::span::NodeInfo;
use crate::alloc::zone::{PageCounts, ZoneKind};
use crate::machine::Machine;
use crate::memmap::block::{Block, BlockId, Group};
use crate::memmap::page::PageState;
use crate::memmap::section::SectionWord;
use crate::memmap::seen::Seen;
use crate::memmap::share::Share;
use crate::memmap::whole::Whole;
use crate::observe::View;
use crate::observe::runs::{Piece, next_run};
use crate::paging::{Attr, Mapper, Translation};

/// One fact of a snapshot. Two snapshots are equal if their sequences of facts are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fact {
    /// The word of a present section.
    Section(u64, SectionWord),
    /// A present memory block.
    Block(Block),
    /// Memory that one add brought to a block.
    Share(PfnRange),
    /// A self-hosted memmap, by its head: for each share that it describes.
    Group(Group),
    /// A zone that has memory, and its span.
    Zone(NodeId, ZoneKind, PageCounts, PfnRange),
    /// A node that has memory.
    Node(NodeInfo),
    /// A maximal run of free pages.
    Free(PfnRange),
    /// A maximal run of leaves of one size that translate to consecutive memory.
    Mapping {
        /// First virtual address.
        virt: VirtAddr,
        /// First physical address.
        phys: PhysAddr,
        /// Bytes of the run.
        len: u64,
        /// Bytes of a leaf.
        leaf: u64,
        /// The allowed accesses.
        attr: Attr,
    },
    /// Page-table pages in use at a level.
    Tables(usize, u64),
    /// Free pages of the table reserve, and pages of the allocator that operations hold.
    Frames(u64, u64),
}

/// Bytes of each half of the addresses, and where they start.
const HALF: u64 = 1 << 63;
pub(crate) const HALVES: [u64; 2] = [0, HALF];
/// Runs of leaves that are collected at a time.
const RUNS: usize = 32;

/// Runs of leaves, and the start of the next one.
#[derive(Default)]
struct Leaves {
    runs: [Option<(Translation, u64)>; RUNS],
    count: usize,
    next: Option<VirtAddr>,
}

impl Leaves {
    fn add(&mut self, leaf: Translation) {
        let last = self.count.checked_sub(1).and_then(|last| self.runs.get_mut(last)?.as_mut());
        match last {
            _ if self.next.is_some() => {}
            Some((first, len)) if continues(first, *len, &leaf) => *len += leaf.len,
            _ => match self.runs.get_mut(self.count) {
                Some(run) => {
                    *run = Some((leaf, leaf.len));
                    self.count += 1;
                }
                None => self.next = Some(leaf.virt),
            },
        }
    }
}

impl<M: Machine> View<'_, M> {
    /// See [`Mm::snapshot`](crate::Mm::snapshot).
    pub(crate) fn snapshot(&self, each: &mut dyn FnMut(Fact)) {
        // The place of free pages in caches is not a fact: an idle CPU that clears pages ahead changes none.
        let _closed = Cached::of(self.allocator).close_all_caches();
        let mut next = 0;
        while let Some((number, word)) = self.look(|_| self.first_section(next)) {
            next = number + 1;
            each(Fact::Section(number, word));
        }
        self.snapshot_blocks(each);
        for zone in self.zones() {
            each(Fact::Zone(zone.node, zone.kind, zone.counts, zone.span));
        }
        self.allocator.nodes().for_each(|node| each(Fact::Node(node)));
        self.snapshot_tables(each);
        each(Fact::Frames(self.allocator.frames.reserve().1, self.allocator.frames.system_pages()));
    }

    /// The first present section from `number` on.
    fn first_section(&self, number: u64) -> Option<(u64, SectionWord)> {
        let sections = self.allocator.memmap.sections().candidates_from(number);
        let mut words = sections
            .map(|at| (at, self.allocator.memmap.sections().word(self.allocator.machine(), at)));
        words.find(|&(_, word)| word != SectionWord::ABSENT)
    }

    fn snapshot_blocks(&self, each: &mut dyn FnMut(Fact)) {
        let mut next = BlockId::new(0);
        while let Some(block) = self.look(|memmap| memmap.blocks_from(next).next()) {
            next = BlockId::new(block.id.get() + 1);
            each(Fact::Block(block));
            let mut from = block.pfns.start;
            while let Some(share) = self.look(|memmap| share_from(*memmap, block.id, from)) {
                from = share.pfns.end;
                each(Fact::Share(share.pfns));
                share.group.into_iter().for_each(|group| each(Fact::Group(group)));
            }
        }
        let free =
            |_: &Block, piece| matches!(piece, Piece::Extent(PageState::Free { .. })).then_some(());
        let mut from = Pfn::new(0);
        while let Some((pfns, ())) = self.look(|memmap| next_run(*memmap, from, free)) {
            from = pfns.end;
            each(Fact::Free(pfns));
        }
    }

    fn snapshot_tables(&self, each: &mut dyn FnMut(Fact)) {
        for start in HALVES {
            let mut next = Some(VirtAddr::new(start));
            while let Some(from) = next {
                let leaves = self.look(|memmap| leaves(memmap, from));
                next = leaves.next;
                for (Translation { virt, phys, len: leaf, attr }, len) in
                    leaves.runs.into_iter().flatten()
                {
                    each(Fact::Mapping { virt, phys, len, leaf, attr });
                }
            }
        }
        let mut tables = [0; 8];
        self.look(|memmap| {
            memmap.mapper().visit_tables(&mut |table| tables[table.level & 7] += 1);
        });
        tables.iter().enumerate().for_each(|(level, &count)| each(Fact::Tables(level, count)));
    }
}

/// The first runs of leaves at or above `from`, in its half of the addresses.
fn leaves<M: Machine>(memmap: Whole<'_, M>, from: VirtAddr) -> Leaves {
    let mut leaves = Leaves::default();
    visit_rest(memmap, from, &mut |leaf| leaves.add(leaf));
    leaves
}

/// Calls `each` with the leaves at or above `from`, in its half of the addresses.
pub(super) fn visit_rest<M: Machine>(
    memmap: Whole<'_, M>,
    from: VirtAddr,
    each: &mut dyn FnMut(Translation),
) {
    if let Some(range) = VirtRange::new(from, HALF - from.get() % HALF) {
        memmap.mapper().visit(range, each);
    }
}

/// The first share of a block from `from` on.
fn share_from<M: Machine>(memmap: Seen<'_, M>, id: BlockId, from: Pfn) -> Option<Share> {
    memmap.shares(id).find(|share| share.pfns.start >= from)
}

fn continues(first: &Translation, len: u64, next: &Translation) -> bool {
    (next.len, next.attr) == (first.len, first.attr)
        && next.virt == first.virt.add(len)
        && next.phys == first.phys.add(len)
}
