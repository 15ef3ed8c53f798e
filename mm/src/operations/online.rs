//! Online: gives a block's pages to the allocator, except those that hold its range's memmap.

use crate::addr::PhysAddr;
use crate::alloc::Allocator;
use crate::alloc::Waits;
use crate::alloc::batch::Cached;
use crate::alloc::lists::FreeLists;
use crate::alloc::zone::{PageCounts, ZoneKind};
use crate::machine::Machine;
use crate::memmap::block::{Block, BlockId, BlockState, BlockWord};
use crate::memmap::section::{SectionState, section_of};
use crate::memmap::seen::Seen;
use crate::memmap::share::Lot;
use crate::operations::Operations;
use crate::operations::notify::{Change, Event, Veto};
use crate::operations::probe::Probe;

hotmem_paging::errors! {
    /// The reason why a block was not brought online. Nothing was changed.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    #[non_exhaustive]
    pub enum OnlineError {
        /// Another operation is running.
        Busy => ("{}", crate::turn::BUSY),
        /// The block is not present.
        NoSuchBlock(id: BlockId) => "{id} is not there",
        /// The block is online.
        AlreadyOnline(id: BlockId) => "{id} is online already",
        /// The block can be taken offline, so its memory cannot serve as system memory.
        NotSystemMemory(id: BlockId) => "{id} can be taken offline, so it cannot be system memory",
        /// A part of the block's memory is bad.
        Poisoned(id: BlockId) => "{id} has bad memory, it stays offline",
        /// The block is out of the linear map.
        Taken(id: BlockId) => "{id} was taken out of the linear map",
        /// A listener objects.
        Vetoed(id: BlockId, veto: Veto) => "{id} stays offline: {veto}",
        /// The block's memory does not keep a written value: there may be no memory. This is the address that was probed.
        NoMemory(at: PhysAddr) => "memory at {at} does not hold what is written",
    }
}

impl<M: Machine> Operations<M> {
    /// See [`Mm::online`](crate::Mm::online).
    pub(crate) fn online(&self, id: BlockId, kind: ZoneKind) -> Result<Block, OnlineError> {
        let turn = self.allocator.take_turn().ok_or(OnlineError::Busy)?;
        let memmap = turn.seen();
        let block = memmap.describe_block(id).ok_or(OnlineError::NoSuchBlock(id))?;
        if block.state != BlockState::Offline {
            return Err(OnlineError::AlreadyOnline(id));
        }
        if kind == ZoneKind::System {
            return Err(OnlineError::NotSystemMemory(id));
        }
        if block.poisoned {
            return Err(OnlineError::Poisoned(id));
        }
        let first = memmap.first_lot(&block);
        let pfns = if block.whole { first.usable } else { memmap.usable(id).hull };
        let change = Change { block: id, pfns, node: block.node, kind };
        let agreed = self.notify_or_veto(Event::GoingOnline, Event::CancelOnline, &change);
        agreed.map_err(|veto| OnlineError::Vetoed(id, veto))?;
        if block.taken {
            self.notify_reverse(Event::CancelOnline, &change);
            return Err(OnlineError::Taken(id));
        }
        let operation = Waits::of(&self.allocator).begin(turn).map_err(|_turn| {
            self.notify_reverse(Event::CancelOnline, &change);
            OnlineError::Busy
        })?;
        // After the listeners agreed: one of them may make the memory accessible.
        let (memmap, probe) = (operation.seen(), Probe::of(operation.seen()));
        let probed = match probe.pages(first.usable) {
            Ok(()) if !block.whole => probe_others(*memmap, &probe, id),
            probed => probed,
        };
        if let Err(at) = probed {
            operation.settle();
            self.notify_reverse(Event::CancelOnline, &change);
            return Err(OnlineError::NoMemory(at));
        }
        let (mut counts, is_first) = give_block(&self.allocator, *memmap, &change, first);
        if !block.whole {
            counts = give_others(&self.allocator, *memmap, &change, counts);
        }
        operation.settle();
        if is_first {
            // The caches of the node's CPUs keep pages of another node.
            Cached::of(&self.allocator).drain_caches();
        }
        self.notify(Event::Online, &change);
        Ok(Block { state: BlockState::Online(kind), counts, ..block })
    }
}

/// Probes all shares of a block but the first.
#[cold]
fn probe_others<M: Machine>(
    memmap: Seen<'_, M>,
    probe: &Probe<'_, M>,
    id: BlockId,
) -> Result<(), PhysAddr> {
    memmap.lots(id).skip(1).try_for_each(|lot| probe.pages(lot.usable))
}

/// Makes an offline block online, with its first share. Cannot fail. Returns what it has then, and whether it is the
/// first of its node.
fn give_block<M: Machine>(
    allocator: &Allocator<M>,
    memmap: Seen<'_, M>,
    change: &Change,
    first: Lot,
) -> (PageCounts, bool) {
    let counts = PageCounts::given(first.pages(), first.usable.pages());
    let pfns = memmap.block_pfns(change.block);
    // Before the lock, which other CPUs wait for: there may be many. The block is still offline.
    memmap.set_state_of_block(change.block, SectionState::Online, |_, _| {});
    let mut zone = allocator.nodes.lock(change.node, change.kind);
    FreeLists::of(memmap).insert_range(&mut zone, first.usable);
    if let Some(record) = memmap.known_block_record(section_of::<M>(pfns.start)) {
        record.managed().set(counts.managed);
        record.free().set(counts.free);
        let state = BlockState::Online(change.kind);
        record.change_block(|word| BlockWord { state, described: true, ..word });
    }
    let (nodes, zone_is_new) = (&allocator.nodes, zone.counts().present == 0);
    let is_first = zone_is_new && !nodes.has_memory(change.node);
    if zone_is_new {
        nodes.set_populated(change.node, change.kind, true);
    }
    zone.add(counts);
    zone.widen(pfns);
    (counts, is_first)
}

/// Gives the other shares of a block to the allocator. Returns what the block has then.
#[cold]
fn give_others<M: Machine>(
    allocator: &Allocator<M>,
    memmap: Seen<'_, M>,
    change: &Change,
    first: PageCounts,
) -> PageCounts {
    memmap.lots(change.block).skip(1).fold(first, |all, lot| {
        let counts = PageCounts::given(lot.pages(), lot.usable.pages());
        // For each share, since there may be many: other CPUs wait for the lock.
        let mut zone = allocator.nodes.lock(change.node, change.kind);
        FreeLists::of(memmap).merge_range(&mut zone, lot.usable);
        if let Some(record) = memmap.known_record_of(lot.start) {
            record.managed().add(counts.managed);
            record.free().add(counts.free);
        }
        zone.add(counts);
        all.plus(counts)
    })
}
