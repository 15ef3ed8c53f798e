//! All blocks of a range, online or offline; and back again.
//!
//! A change stops at the first block that fails. What was changed is noted in
//! [`Touched`](super::touched::Touched), so that the caller can put it back: that goes on after a block that
//! fails, and reports the first one. Figures count the memory manager's operation alone.

use core::cmp::Ordering;
use core::ops::Range;

use hotmem::{
    Block, BlockId, BlockState, Machine, NodeId, OfflineError, OnlineError, PhysRange, RemoveError,
    Removed, Share, ZoneKind,
};

use super::clock::Clock;
use super::driver::{Done, Hotplug};
use super::event::{HotplugSource, Ranges};

/// One range of a device.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part<'a> {
    pub(super) ranges: &'a Ranges,
    /// Which of them.
    pub(super) index: usize,
}

/// Whether the blocks behind one that fails are looked at.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Onward {
    /// They are not.
    UntilOneFails,
    /// They are.
    ToTheEnd,
}

/// The parts of a device.
pub(super) fn parts(ranges: &Ranges) -> impl DoubleEndedIterator<Item = Part<'_>> {
    (0..ranges.as_slice().len()).map(move |index| Part { ranges, index })
}

impl<S: HotplugSource, M: Machine, C: Clock> Hotplug<'_, S, M, C> {
    /// The numbers of the blocks that `range` touches, there or not.
    pub(super) fn numbers(&self, range: PhysRange) -> Range<u64> {
        let mut blocks = self.mm.blocks_in(range).map(BlockId::get);
        let Some(first) = blocks.next() else { return 0..0 };
        first..blocks.next_back().unwrap_or(first) + 1
    }

    /// A block that has memory of `range`. Takes no longer for a range that is larger than all memory.
    pub(super) fn block_in(&self, range: PhysRange) -> Option<BlockId> {
        let (numbers, pfns) = (self.numbers(range), M::pfns(range));
        let here = |share: Share| share.pfns.intersection(pfns).is_some();
        let mut ids = self.mm.blocks().map(|block| block.id);
        ids.find(|&id| numbers.contains(&id.get()) && self.mm.block_shares(id).any(here))
    }

    /// Whether a block has other memory than that of `ranges`, which it has some of.
    pub(super) fn has_others(&self, block: &Block, ranges: &Ranges) -> bool {
        let own = |share: &Share| {
            ranges.as_slice().iter().any(|&range| M::pfns(range).covers(share.pfns))
        };
        !block.whole && self.mm.block_shares(block.id).any(|share| !own(&share))
    }

    /// Removes a range, of a device with `ranges`, that is offline. A block goes offline with it whose other memory left
    /// after what the device has of it went offline.
    pub(super) fn remove_with_blocks(
        &self,
        range: PhysRange,
        ranges: &Ranges,
    ) -> Done<Removed, RemoveError> {
        let done = self.remove(range);
        let Err(RemoveError::NotOffline(id)) = done.result else { return done };
        let alone = self.mm.peek_block(id).is_some_and(|block| !self.has_others(&block, ranges));
        if alone && self.in_turn(|mm| mm.offline(id)).result.is_ok() {
            return self.remove(range);
        }
        done
    }

    /// How many blocks the ranges touch.
    pub(super) fn count_blocks(&self, ranges: &Ranges) -> u64 {
        let counts = ranges.as_slice().iter().map(|&range| {
            let numbers = self.numbers(range);
            numbers.end - numbers.start
        });
        counts.fold(0, u64::saturating_add)
    }

    /// The node that memory of `range`, which was added on `node`, is on. A block is on the node of the memory that came
    /// first: so another one, if all of the range came to blocks with other memory.
    pub(super) fn node_in(&self, range: PhysRange, node: NodeId) -> NodeId {
        let blocks = self.mm.blocks_in(range).filter_map(|id| self.mm.peek_block(id));
        let mut nodes = blocks.map(|block| block.node);
        let first = nodes.next();
        first.filter(|&first| first != node && nodes.all(|other| other != node)).unwrap_or(node)
    }

    /// Brings the part's offline blocks online in `zone`, without those that have to [wait](Self::wait_online).
    pub(super) fn bring_online(&mut self, part: Part<'_>, zone: ZoneKind) -> Done<(), OnlineError> {
        let absent = |id| Some(OnlineError::NoSuchBlock(id));
        self.each_block(part, absent, Onward::UntilOneFails, |this, index, block| {
            let waits =
                || this.behind_eject(block.id).is_some() || this.gone_in(block.id).is_some();
            if block.state != BlockState::Offline || waits() {
                return None;
            }
            this.brought.set(index, zone);
            Some(this.in_turn(|mm| mm.online(block.id, zone).map(drop)))
        })
    }

    /// Has blocks of the range that are offline still come online in `zone` later: one that an eject has taken offline
    /// when that ends, since other memory of it is about to go; one with memory that is gone when that is removed.
    pub(super) fn wait_online(&mut self, range: PhysRange, zone: ZoneKind) {
        // Only these can have memory of others.
        for id in self.ends(range) {
            match self.behind_eject(id) {
                _ if self.zone_of(id).is_some() => {}
                Some(index) if self.taken.get(index).is_none() => self.taken.set(index, zone),
                Some(_) => {}
                None => {
                    self.wait_for_gone(id, zone);
                }
            }
        }
    }

    /// The first and the last block that `range` touches.
    pub(super) fn ends(&self, range: PhysRange) -> [BlockId; 2] {
        let numbers = self.numbers(range);
        [numbers.start, numbers.end.saturating_sub(1)].map(BlockId::new)
    }

    /// Brings an offline block online, unless memory of it is gone.
    fn online_unless_gone(&mut self, id: BlockId, zone: ZoneKind) -> Option<Done<(), OnlineError>> {
        let waits = self.wait_for_gone(id, zone);
        (!waits).then(|| self.in_turn(|mm| mm.online(id, zone).map(drop)))
    }

    /// The number that a block has in the device of the eject under way, if that has it behind it.
    fn behind_eject(&self, id: BlockId) -> Option<u64> {
        let ejecting = self.ejecting.as_ref()?;
        let mut first = 0;
        for (part, &range) in ejecting.ranges.as_slice().iter().enumerate() {
            let numbers = self.numbers(range);
            let done = match part.cmp(&ejecting.part) {
                Ordering::Less => numbers.end,
                Ordering::Equal => ejecting.next.min(numbers.end),
                Ordering::Greater => break,
            };
            if (numbers.start..done).contains(&id.get()) {
                return Some(first + id.get() - numbers.start);
            }
            first += numbers.end - numbers.start;
        }
        None
    }

    /// Brings back online what an eject took offline, each in its own zone.
    pub(super) fn back_online(&mut self, part: Part<'_>) -> Done<(), OnlineError> {
        let absent = |id| Some(OnlineError::NoSuchBlock(id));
        let range = part.ranges.as_slice().get(part.index).copied();
        self.each_block(part, absent, Onward::ToTheEnd, |this, index, block| {
            let zone = this.taken.get(index)?;
            if block.state == BlockState::Offline {
                return this.online_unless_gone(block.id, zone);
            }
            let range = range?;
            let done = this.in_turn(|mm| mm.online_part(block.id, range));
            // It may be online with memory that was added again.
            let is_online = matches!(done.result, Err(OnlineError::AlreadyOnline(_)));
            (!is_online).then_some(done)
        })
    }

    /// Brings back online what an eject took offline of other devices: what stays in the blocks of this one.
    pub(super) fn return_shared(&mut self, part: Part<'_>) -> Done<(), OnlineError> {
        self.each_block(
            part,
            |_| None,
            Onward::ToTheEnd,
            |this, index, block| {
                let zone = this.taken.get(index).filter(|_| block.state == BlockState::Offline)?;
                let shared = this.has_others(&block, part.ranges);
                shared.then(|| this.online_unless_gone(block.id, zone)).flatten()
            },
        )
    }

    /// Takes what `range` has of the blocks at its ends offline where they are online, which have other memory, and runs
    /// `remove`; if that fails, it is online again. Fails with the block whose part does not go offline.
    pub(super) fn without_parts<T, E>(
        &mut self,
        range: PhysRange,
        remove: impl FnOnce(&mut Self) -> Done<T, E>,
    ) -> Result<Done<T, E>, (BlockId, OfflineError)> {
        let mut result = Ok(());
        for id in self.ends(range).into_iter().filter(|&id| self.zone_of(id).is_some()) {
            let part = || self.in_turn(|mm| mm.offline_part(id, range)).result;
            match result.and_then(|()| part().map_err(|error| (id, error))) {
                // Both ends may be in one block.
                Err((_, OfflineError::AlreadyOffline(_))) => {}
                done => result = done,
            }
        }
        let done = result.map(|()| remove(self));
        if done.as_ref().map_or(true, |done| done.result.is_err()) {
            for id in self.ends(range) {
                // What did not go is online.
                let _ = self.in_turn(|mm| mm.online_part(id, range));
            }
        }
        done
    }

    /// Brings a block back online, if some of it is still there.
    pub(super) fn online_again(&mut self, id: BlockId, zone: ZoneKind) {
        let offline = self.mm.peek_block(id).is_some_and(|at| at.state == BlockState::Offline);
        let online = offline.then(|| self.online_unless_gone(id, zone)).flatten();
        if let Some(Done { result: Err(error), .. }) = online {
            log::error!("{error}: memory of another device in it stays offline");
            self.verdict.failed(error);
        }
    }

    /// The zone that a block is online in.
    pub(super) fn zone_of(&self, id: BlockId) -> Option<ZoneKind> {
        match self.mm.peek_block(id)?.state {
            BlockState::Online(zone) => Some(zone),
            BlockState::Offline => None,
        }
    }

    /// Takes offline again what [`bring_online`](Self::bring_online) brought.
    pub(super) fn back_offline(&mut self, part: Part<'_>) -> Done<(), OfflineError> {
        let absent = |id| Some(OfflineError::NoSuchBlock(id));
        self.each_block(part, absent, Onward::ToTheEnd, |this, index, block| {
            this.brought.get(index).filter(|_| block.state != BlockState::Offline)?;
            Some(this.in_turn(|mm| mm.offline(block.id)))
        })
    }

    /// Runs `operation` for the part's blocks, ascending, with the number each has in the device; it may have
    /// nothing to do. The first error is the result; `absent` returns that of a block that is not there.
    fn each_block<E>(
        &mut self,
        part: Part<'_>,
        absent: impl Fn(BlockId) -> Option<E>,
        onward: Onward,
        mut operation: impl FnMut(&mut Self, u64, Block) -> Option<Done<(), E>>,
    ) -> Done<(), E> {
        let mut instructions = self.clock.instructions().map(|_| 0);
        let mut result = Ok(());
        let numbers = |&range| self.numbers(range);
        let ranges = part.ranges.as_slice();
        let before = ranges.iter().take(part.index).map(numbers);
        let first = before.map(|numbers| numbers.end - numbers.start).sum();
        let numbers = ranges.get(part.index).map_or(0..0, numbers);
        for (index, id) in (first..u64::MAX).zip(numbers.map(BlockId::new)) {
            let done = match self.mm.peek_block(id) {
                Some(block) => operation(self, index, block),
                None => absent(id).map(|error| Done { result: Err(error), instructions: Some(0) }),
            };
            let Some(done) = done else { continue };
            instructions = plus(instructions, done.instructions);
            result = result.and(done.result);
            if result.is_err() && onward == Onward::UntilOneFails {
                break;
            }
        }
        Done { result, instructions }
    }
}

/// The sum, if both are known.
pub(super) fn plus(a: Option<u64>, b: Option<u64>) -> Option<u64> {
    a.zip(b).map(|(a, b)| a.saturating_add(b))
}
