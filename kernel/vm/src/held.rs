//! The blocks that hold a guest, counted when memory is mapped, moved or linked.

use alloc::collections::TryReserveError;
use alloc::vec::Vec;
use core::cell::RefCell;
use hotmem::paging::{OutOfFrames, TableFrame, TableFrames, TablePlace};
use hotmem::{BlockId, Machine, Mm};

/// Blocks with the bytes in each, ascending; each has some.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Held(Vec<(BlockId, u64)>);

impl Held {
    /// Has room for so many more blocks, for [`add`](Self::add) in the middle of a move.
    pub(crate) fn reserve(&mut self, blocks: usize) -> Result<(), TryReserveError> {
        self.0.try_reserve(blocks)
    }

    /// `bytes` of `block` are the guest's.
    pub(crate) fn add(&mut self, block: BlockId, bytes: u64) {
        match self.0.binary_search_by_key(&block, |(known, _)| *known) {
            Ok(at) => self.0.iter_mut().skip(at).take(1).for_each(|(_, sum)| *sum += bytes),
            Err(at) => self.0.insert(at, (block, bytes)),
        }
    }

    /// `bytes` of `block` are the guest's no longer.
    pub(crate) fn remove(&mut self, block: BlockId, bytes: u64) {
        let Ok(at) = self.0.binary_search_by_key(&block, |(known, _)| *known) else { return };
        if let Some((_, sum)) = self.0.get_mut(at) {
            *sum = sum.saturating_sub(bytes);
            if *sum == 0 {
                self.0.remove(at);
            }
        }
    }

    /// The blocks.
    pub(crate) fn blocks(&self) -> &[(BlockId, u64)] {
        &self.0
    }
}

/// A source of frames for tables that counts where they are.
pub(crate) struct Counting<'a, M: Machine, F> {
    pub(crate) mm: &'a Mm<M>,
    pub(crate) frames: &'a F,
    pub(crate) held: RefCell<&'a mut Held>,
}

impl<M: Machine, F: TableFrames> Counting<'_, M, F> {
    fn count(&self, frame: &TableFrame) {
        self.held.borrow_mut().add(self.mm.block_at(frame.at()), frame.bytes());
    }
}

impl<M: Machine, F: TableFrames> TableFrames for Counting<'_, M, F> {
    fn take(&self, bytes: u64) -> Result<TableFrame, OutOfFrames> {
        self.frames.take(bytes).inspect(|frame| self.count(frame))
    }

    fn take_for(&self, bytes: u64, place: TablePlace) -> Result<TableFrame, OutOfFrames> {
        self.frames.take_for(bytes, place).inspect(|frame| self.count(frame))
    }

    fn give_back(&self, frame: TableFrame) {
        self.held.borrow_mut().remove(self.mm.block_at(frame.at()), frame.bytes());
        self.frames.give_back(frame);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_ascending_and_one_that_holds_nothing_is_forgotten() {
        let block = BlockId::new;
        let mut held = Held::default();
        held.reserve(3).unwrap();
        held.add(block(7), 10);
        held.add(block(3), 5);
        held.add(block(7), 10);
        held.add(block(5), 1);
        assert_eq!(held.blocks(), [(block(3), 5), (block(5), 1), (block(7), 20)]);
        held.remove(block(5), 1);
        held.remove(block(7), 19);
        held.remove(block(4), 1);
        assert_eq!(held.blocks(), [(block(3), 5), (block(7), 1)]);
    }
}
