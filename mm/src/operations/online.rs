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
use crate::operations::Operations;
use crate::operations::notify::{Change, Event, Veto};
use crate::operations::probe::Probe;
use core::fmt;

/// The reason why a block was not brought online. Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnlineError {
    /// Another operation is running.
    Busy,
    /// There is no such block.
    NoSuchBlock(BlockId),
    /// The block is online.
    AlreadyOnline(BlockId),
    /// The block can be taken offline, so its memory cannot serve as system memory.
    NotSystemMemory(BlockId),
    /// A part of the block's memory is bad.
    Poisoned(BlockId),
    /// The block is out of the linear map.
    Taken(BlockId),
    /// A listener objects.
    Vetoed(BlockId, Veto),
    /// The block's memory does not keep a written value: there may be no memory.
    NoMemory {
        /// The address that was probed.
        at: PhysAddr,
    },
}

impl fmt::Display for OnlineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Busy => f.write_str(crate::turn::BUSY),
            Self::NoSuchBlock(id) => write!(f, "{id} is not there"),
            Self::AlreadyOnline(id) => write!(f, "{id} is online already"),
            Self::NotSystemMemory(id) => {
                write!(f, "{id} can be taken offline, so it cannot be system memory")
            }
            Self::Poisoned(id) => write!(f, "{id} has bad memory, it stays offline"),
            Self::Taken(id) => write!(f, "{id} was taken out of the linear map"),
            Self::Vetoed(id, veto) => write!(f, "{id} stays offline: {veto}"),
            Self::NoMemory { at } => write!(f, "memory at {at} does not hold what is written"),
        }
    }
}

impl core::error::Error for OnlineError {}

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
        let pfns = memmap.usable(&block).hull;
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
        if let Err(at) = memmap.shares_in(&block).try_for_each(|share| probe.pages(share.usable()))
        {
            operation.settle();
            self.notify_reverse(Event::CancelOnline, &change);
            return Err(OnlineError::NoMemory { at });
        }
        let (counts, is_first) = give_block(&self.allocator, *memmap, &change, &block);
        operation.settle();
        if is_first {
            // The caches of the node's CPUs keep pages of another node.
            Cached::of(&self.allocator).drain_caches();
        }
        self.notify(Event::Online, &change);
        Ok(Block { state: BlockState::Online(kind), counts, ..block })
    }
}

/// Makes an offline block online. Cannot fail. Returns what it has then, and whether it is the first of its node.
fn give_block<M: Machine>(
    allocator: &Allocator<M>,
    memmap: Seen<'_, M>,
    change: &Change,
    block: &Block,
) -> (PageCounts, bool) {
    // Before the lock, which other CPUs wait for: there may be many. The block is still offline.
    memmap.set_state_of_block(change.block, SectionState::Online, |_, _| {});
    let Some(record) = memmap.known_block_record(section_of::<M>(block.pfns.start)) else {
        return (PageCounts::default(), false);
    };
    let (mut all, mut is_first) = (PageCounts::default(), false);
    // The zone is locked for each share: there may be many.
    for share in memmap.shares_in(block) {
        let usable = share.usable();
        let (present, managed) = (share.pfns.pages(), usable.pages());
        let counts = PageCounts { present, managed, memmap: present - managed, free: managed };
        let mut zone = allocator.nodes.lock(change.node, change.kind);
        if all.present == 0 {
            FreeLists::of(memmap).insert_range(&mut zone, usable);
            record.managed().set(managed);
            record.free().set(managed);
            let state = BlockState::Online(change.kind);
            record.change_block(|word| BlockWord { state, described: true, ..word });
            let zone_is_new = zone.counts().present == 0;
            is_first = zone_is_new && !allocator.nodes.has_memory(change.node);
            if zone_is_new {
                allocator.nodes.set_populated(change.node, change.kind, true);
            }
            zone.widen(block.pfns);
        } else {
            FreeLists::of(memmap).merge_range(&mut zone, usable);
            record.managed().add(managed);
            record.free().add(managed);
        }
        zone.add(counts);
        all = all.plus(counts);
    }
    (all, is_first)
}
