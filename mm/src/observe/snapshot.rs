//! The snapshot of law 7: everything that an add followed by a remove, or a failed operation, must
//! leave exactly as it was.

use crate::Mm;
use crate::addr::{Pfn, PfnRange, PhysAddr, VirtAddr, VirtRange};
use crate::alloc::node::NodeId;
use crate::alloc::span::NodeInfo;
use crate::alloc::zone::{PageCounts, ZoneKind};
use crate::machine::Machine;
use crate::memmap::block::{Block, Group};
use crate::memmap::page::PageState;
use crate::memmap::section::SectionWord;
use crate::paging::{Attr, Mapper, Translation};

/// One fact of a snapshot. Two snapshots are equal if their sequences of facts are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fact {
    /// The word of a section that is there.
    Section(u64, SectionWord),
    /// A memory block that is there.
    Block(Block),
    /// A self-hosted memmap, by its head.
    Group(Group),
    /// A zone that has memory, from where to where.
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
        /// What accesses are allowed.
        attr: Attr,
    },
    /// Page-table pages in use at a level.
    Tables(usize, u64),
    /// Free pages of the table reserve, and pages of the allocator's that the verbs hold.
    Frames(u64, u64),
}

impl<M: Machine> Mm<M> {
    /// Tells `each` the facts of the present state, always in the same order.
    ///
    /// Takes the hotplug lock; the facts fit together if nobody allocates or frees meanwhile.
    pub fn snapshot(&self, each: &mut dyn FnMut(Fact)) {
        let _lock = self.hotplug.lock();
        for number in self.sections.iter(&self.machine) {
            each(Fact::Section(number, self.sections.word(&self.machine, number)));
        }
        self.snapshot_blocks(each);
        for zone in self.zones() {
            each(Fact::Zone(zone.node, zone.kind, zone.counts, zone.span));
        }
        self.nodes().for_each(|node| each(Fact::Node(node)));
        self.snapshot_tables(each);
        each(Fact::Frames(self.frames.reserve().1, self.frames.system_pages()));
    }

    fn snapshot_blocks(&self, each: &mut dyn FnMut(Fact)) {
        let mut free = PfnRange::new(Pfn::new(0), 0);
        for block in self.blocks() {
            each(Fact::Block(block));
            if let Some(group) = block.group.and_then(|head| self.group(head)) {
                each(Fact::Group(group));
            }
            for (pfn, pages, state) in self.online_extents(&block) {
                if !matches!(state, PageState::Free { .. }) {
                    continue;
                }
                if free.end != pfn {
                    tell(free, each);
                    free.start = pfn;
                }
                free.end = pfn.add(pages);
            }
        }
        tell(free, each);
    }

    fn snapshot_tables(&self, each: &mut dyn FnMut(Fact)) {
        let mut run: Option<(Translation, u64)> = None;
        self.visit_all_leaves(&mut |leaf| match &mut run {
            Some((first, len)) if continues(first, *len, &leaf) => *len += leaf.len,
            _ => {
                tell_run(run.replace((leaf, leaf.len)), each);
            }
        });
        tell_run(run, each);

        let mut tables = [0; 8];
        self.machine.mapper().visit_tables(&mut |table| tables[table.level & 7] += 1);
        tables.iter().enumerate().for_each(|(level, &count)| each(Fact::Tables(level, count)));
    }

    /// The extents of a block, none if it is offline.
    pub(crate) fn online_extents(
        &self,
        block: &Block,
    ) -> impl Iterator<Item = (Pfn, u64, PageState)> {
        let online = block.state != crate::BlockState::Offline;
        let pfns = if online { block.pfns } else { PfnRange::new(block.pfns.start, 0) };
        self.extents(pfns)
    }

    /// Shows every leaf of the page tables, in the order of addresses.
    pub(crate) fn visit_all_leaves(&self, each: &mut dyn FnMut(Translation)) {
        let half = 1 << 63;
        for start in [0, half] {
            if let Some(range) = VirtRange::new(VirtAddr::new(start), half) {
                self.machine.mapper().visit(range, each);
            }
        }
    }
}

fn tell(free: PfnRange, each: &mut dyn FnMut(Fact)) {
    if free.pages() != 0 {
        each(Fact::Free(free));
    }
}

fn continues(first: &Translation, len: u64, next: &Translation) -> bool {
    (next.len, next.attr) == (first.len, first.attr)
        && next.virt == first.virt.add(len)
        && next.phys == first.phys.add(len)
}

fn tell_run(run: Option<(Translation, u64)>, each: &mut dyn FnMut(Fact)) {
    if let Some((Translation { virt, phys, len: leaf, attr }, len)) = run {
        each(Fact::Mapping { virt, phys, len, leaf, attr });
    }
}
