//! All blocks of a range, online or offline; and back again.
//!
//! Each function stops at the first block that fails. What was changed is noted in
//! [`Touched`](super::touched::Touched), so that the caller can put it back. Figures count the memory
//! manager's verb alone.

use hotmem::{Block, BlockId, BlockState, OfflineError, OnlineError, ZoneKind};

use super::driver::{Done, Hotplug};
use super::event::{HotplugSource, Ranges};
use super::verbs::{Clock, Verbs};

/// One range of a device.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part<'a> {
    pub(super) ranges: &'a Ranges,
    /// Which of them.
    pub(super) index: usize,
}

/// The parts of a device.
pub(super) fn parts(ranges: &Ranges) -> impl DoubleEndedIterator<Item = Part<'_>> {
    (0..ranges.as_slice().len()).map(move |index| Part { ranges, index })
}

impl<S: HotplugSource, V: Verbs, C: Clock> Hotplug<S, V, C> {
    /// How many blocks the ranges touch.
    pub(super) fn count_blocks(&self, ranges: &Ranges) -> u64 {
        let counts = ranges.as_slice().iter().map(|&range| {
            let numbers = self.verbs.block_numbers(range);
            numbers.end - numbers.start
        });
        counts.fold(0, u64::saturating_add)
    }

    /// Brings the part's offline blocks online in `zone`.
    pub(super) fn bring_online(&mut self, part: Part<'_>, zone: ZoneKind) -> Done<(), OnlineError> {
        self.each_block(part, OnlineError::NoSuchBlock, |this, index, block, sum| {
            if block.state == BlockState::Offline {
                this.brought.set(index, zone);
                return this.online_one(block.id, zone, sum);
            }
            Ok(())
        })
    }

    /// Brings back online what an eject took offline, each in its own zone.
    pub(super) fn back_online(&mut self, part: Part<'_>) -> Done<(), OnlineError> {
        self.each_block(part, OnlineError::NoSuchBlock, |this, index, block, sum| {
            match (block.state, this.taken.get(index)) {
                (BlockState::Offline, Some(zone)) => this.online_one(block.id, zone, sum),
                _ => Ok(()),
            }
        })
    }

    /// Takes offline again what [`bring_online`](Self::bring_online) brought.
    pub(super) fn back_offline(&mut self, part: Part<'_>) -> Done<(), OfflineError> {
        self.each_block(part, OfflineError::NoSuchBlock, |this, index, block, sum| {
            match (block.state, this.brought.get(index)) {
                (BlockState::Online(_), Some(_)) => this.offline_one(block.id, sum),
                _ => Ok(()),
            }
        })
    }

    /// Runs `verb` for the part's blocks, ascending, with the number each has in the device.
    fn each_block<E>(
        &mut self,
        part: Part<'_>,
        absent: impl Fn(BlockId) -> E,
        mut verb: impl FnMut(&mut Self, u64, Block, &mut Option<u64>) -> Result<(), E>,
    ) -> Done<(), E> {
        let mut instructions = self.clock.instructions().map(|_| 0);
        let mut index = 0;
        for (n, &range) in part.ranges.as_slice().iter().enumerate() {
            let numbers = self.verbs.block_numbers(range);
            if n < part.index {
                index += numbers.end - numbers.start;
                continue;
            }
            for id in numbers.map(BlockId::new) {
                let result = match self.verbs.block(id) {
                    Some(block) => verb(self, index, block, &mut instructions),
                    None => Err(absent(id)),
                };
                if result.is_err() {
                    return Done { result, instructions };
                }
                index += 1;
            }
            break;
        }
        Done { result: Ok(()), instructions }
    }

    fn online_one(
        &mut self,
        id: BlockId,
        zone: ZoneKind,
        sum: &mut Option<u64>,
    ) -> Result<(), OnlineError> {
        let before = self.clock.instructions();
        let result = self.verbs.online(id, zone);
        *sum = plus(*sum, self.since(before));
        result.map(drop)
    }

    fn offline_one(&mut self, id: BlockId, sum: &mut Option<u64>) -> Result<(), OfflineError> {
        let before = self.clock.instructions();
        let result = self.verbs.offline(id);
        *sum = plus(*sum, self.since(before));
        result.map(drop)
    }
}

/// The sum, if both are known.
pub(super) fn plus(a: Option<u64>, b: Option<u64>) -> Option<u64> {
    a.zip(b).map(|(a, b)| a.saturating_add(b))
}
