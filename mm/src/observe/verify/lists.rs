//! Checks the free lists of zones.
//!
//! A zone is locked for some extents only, since other CPUs wait for it. No page is allocated or freed meanwhile, so the
//! lists stay as they are in between.

use super::counts::Counts;
use super::violation::{Violation, expect, hold};
use crate::addr::{Order, Pfn};
use crate::alloc::lists::FreeLists;
use crate::alloc::node::NodeId;
use crate::alloc::zone::ZoneKind;
use crate::machine::Machine;
use crate::memmap::block::BlockState;
use crate::memmap::record::Record;

/// Extents of a free list that are checked while its zone is locked once.
const EXTENTS_PER_LOCK: u64 = 16;

impl<M: Machine> Counts<'_, M> {
    /// Each extent on a list is free, of the list's order, in the list's zone, and linked both ways, so that no list
    /// is cyclic.
    pub(super) fn check_list(
        &self,
        node: NodeId,
        kind: ZoneKind,
        order: Order,
    ) -> Result<(), Violation> {
        let (mut length, mut last) = (0, None);
        loop {
            let more = self.check_listed(node, kind, order, &mut last)?;
            if more == 0 {
                break;
            }
            length += more;
        }
        let counted = self.allocator.nodes.lock(node, kind).all_extents()[order.get() as usize];
        expect(4, "length of a free list", u64::from(order.get()), counted, length)
    }

    /// Checks the next extents behind `last`, as many as the zone may be locked for. Returns their number; `last` is
    /// then the last of them.
    fn check_listed(
        &self,
        node: NodeId,
        kind: ZoneKind,
        order: Order,
        last: &mut Option<Pfn>,
    ) -> Result<u64, Violation> {
        let zone = self.allocator.nodes.lock(node, kind);
        // If a CPU allocates it in between, it has no link any more.
        last.map_or(Ok(()), |last| self.check_home(last, (node, kind), order))?;
        let lists = FreeLists::of(*self.memmap);
        let mut next = last.map_or(zone.first(order), |last| lists.next(last));
        let mut length = 0;
        while let Some(pfn) = next
            && length < EXTENTS_PER_LOCK
        {
            // Only then its links can be read.
            self.check_home(pfn, (node, kind), order)?;
            let back = lists.previous(pfn) == last.replace(pfn);
            hold(4, "a listed extent names the one before it", pfn, back)?;
            next = lists.next(pfn);
            length += 1;
        }
        Ok(length)
    }

    /// A listed extent is free, of its list's order, and in its zone.
    fn check_home(
        &self,
        pfn: Pfn,
        (node, kind): (NodeId, ZoneKind),
        order: Order,
    ) -> Result<(), Violation> {
        let section = self.memmap.section_at(pfn);
        let free = section.is_some_and(|section| section.is_free_head(pfn, order));
        hold(4, "a listed extent is free and of its order", pfn, free)?;
        let home = section.and_then(|section| self.memmap.block_record(section.number()));
        let home = home.and_then(Record::sound_block).map(|word| (word.node, word.state));
        let here = home == Some((node, BlockState::Online(kind)));
        hold(4, "a listed extent is in its zone", pfn, here)
    }
}
