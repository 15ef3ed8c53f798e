//! Joins: memory that is added to a block which is online already, with memory of another device.
//!
//! ```text
//!   block   [ a a a a a a a . . . . ]  online         [ a a a a a a a b b b b ]  online, in the zone that it was in
//!                          + b b b b b b ...                          [b b ...]  the next block, offline
//! ```
//!
//! A block has one state, which all its memory has. So memory that joins a block goes online with the block if that is
//! offline, and at once if that is online: listeners are asked before the add, and one that objects prevents it. Only
//! the first and the last block of a range can have other memory.

use crate::addr::PfnRange;
use crate::alloc::Allocator;
use crate::alloc::lists::FreeLists;
use crate::alloc::zone::PageCounts;
use crate::machine::Machine;
use crate::memmap::altmap::Altmap;
use crate::memmap::block::{BlockId, BlockState, BlockWord};
use crate::memmap::placement::Placement;
use crate::memmap::section::section_of;
use crate::memmap::seen::Seen;
use crate::operations::Operations;
use crate::operations::add_error::AddError;
use crate::operations::notify::{Change, Event};

/// Memory that comes to a block that is online.
#[derive(Clone, Copy)]
struct Join {
    /// The pages for the allocator.
    change: Change,
    /// All pages.
    pages: u64,
}

/// The memory of a range that comes to blocks that are online.
pub(super) struct Joins([Option<Join>; 2]);

impl Joins {
    /// What of `pfns`, which is not there yet, comes to blocks that are online.
    pub(super) fn of<M: Machine>(
        memmap: Seen<'_, M>,
        pfns: PfnRange,
        placement: Placement,
    ) -> Self {
        let mut joins =
            memmap.shared_blocks(pfns).map(|(id, _)| Join::of(memmap, id, pfns, placement));
        Self([(); 2].map(|()| joins.next().flatten()))
    }

    fn changes(&self) -> impl Iterator<Item = &Change> {
        self.0.iter().flatten().map(|join| &join.change)
    }

    /// The pages that the allocator gets.
    pub(super) fn pages(&self) -> impl Iterator<Item = PfnRange> {
        self.changes().map(|change| change.pfns)
    }

    /// Gives them to the allocator.
    pub(super) fn give<M: Machine>(&self, allocator: &Allocator<M>, memmap: Seen<'_, M>) {
        for Join { change, pages } in self.0.iter().flatten() {
            let first = memmap.block_pfns(change.block).start;
            let Some(record) = memmap.known_block_record(section_of::<M>(first)) else { continue };
            let mut zone = allocator.nodes.lock(change.node, change.kind);
            FreeLists::of(memmap).merge_range(&mut zone, change.pfns);
            let counts = PageCounts::given(*pages, change.pfns.pages());
            record.managed().add(counts.managed);
            record.free().add(counts.free);
            record.change_block(|word| BlockWord { described: true, ..word });
            zone.add(counts);
        }
    }

    /// Asks the listeners whether the memory may come online.
    pub(super) fn ask<M: Machine>(&self, operations: &Operations<M>) -> Result<(), AddError> {
        for (count, change) in self.changes().enumerate() {
            let asked = operations.notify_or_veto(Event::GoingOnline, Event::CancelOnline, change);
            if let Err(veto) = asked {
                let before = self.changes().take(count);
                before.for_each(|at| operations.notify_reverse(Event::CancelOnline, at));
                return Err(AddError::Vetoed(change.block, veto));
            }
        }
        Ok(())
    }

    /// Tells the listeners that the memory does not come online.
    pub(super) fn tell_not_joined<M: Machine>(&self, operations: &Operations<M>) {
        self.changes().for_each(|change| operations.notify_reverse(Event::CancelOnline, change));
    }

    /// Tells the listeners that the memory is online.
    pub(super) fn tell_joined<M: Machine>(&self, operations: &Operations<M>) {
        self.changes().for_each(|change| operations.notify(Event::Online, change));
    }
}

impl Join {
    fn of<M: Machine>(
        memmap: Seen<'_, M>,
        id: BlockId,
        pfns: PfnRange,
        placement: Placement,
    ) -> Option<Self> {
        let word = memmap.block_record_of(id)?.block();
        let BlockState::Online(kind) = word.state else { return None };
        let here = pfns.intersection(memmap.block_pfns(id))?;
        let own = match placement {
            Placement::Boot => None,
            Placement::PerRange => Altmap::new::<M>(pfns).memmap.intersection(here),
            Placement::PerBlock => Some(Altmap::new::<M>(here).memmap),
        };
        let pfns = PfnRange { start: own.map_or(here.start, |own| own.end), ..here };
        let change = Change { block: id, pfns, node: word.node, kind };
        Some(Self { change, pages: here.pages() })
    }
}
