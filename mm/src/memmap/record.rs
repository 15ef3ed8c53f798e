//! The record of a section, or of the neighbours that share it: seven words in the descriptor of one of its memmap
//! pages.
//!
//! Bitmaps have a bit for each of the record's subsections. The last three words belong to the memory block, and are
//! in the record of its first present section.

use crate::addr::Pfn;
use crate::impossible::impossible;
use crate::memmap::word::BlockWord;
use crate::sync::{AtomicU64, Ordering};

/// A subsection: one of the 64 parts that a record covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Part(u64);

impl Part {
    /// Subsection `number` of a record: below 64.
    pub(crate) const fn new(number: u64) -> Self {
        Self(number)
    }

    pub(crate) const fn number(self) -> u64 {
        self.0
    }

    const fn bit(self) -> u64 {
        1 << self.0
    }
}

/// A record.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Record<'m>(&'m [AtomicU64; 7]);

/// One bitmap of a record, a bit for each subsection. Changed by an operation, or under the zone's lock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Parts<'m>(&'m AtomicU64);

impl Parts<'_> {
    pub(crate) fn has(self, part: Part) -> bool {
        get(self.0) & part.bit() != 0
    }

    pub(crate) fn insert(self, part: Part) {
        set(self.0, get(self.0) | part.bit());
    }

    pub(crate) fn remove(self, part: Part) {
        set(self.0, get(self.0) & !part.bit());
    }

    pub(crate) fn clear(self) {
        set(self.0, 0);
    }

    /// All bits.
    pub(crate) fn bits(self) -> u64 {
        get(self.0)
    }
}

/// A number of pages of a block. Changed under the lock of the block's zone.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Count<'m>(&'m AtomicU64);

impl Count<'_> {
    pub(crate) fn get(self) -> u64 {
        get(self.0)
    }

    pub(crate) fn set(self, pages: u64) {
        set(self.0, pages);
    }

    pub(crate) fn sub(self, pages: u64) {
        let before = get(self.0);
        if pages > before {
            impossible("more pages are subtracted than a block has", pages - before);
        }
        set(self.0, before.saturating_sub(pages));
    }

    /// Adds `pages`, wrapping: may be negative.
    pub(crate) fn add(self, pages: u64) {
        set(self.0, get(self.0).wrapping_add(pages));
    }
}

fn get(word: &AtomicU64) -> u64 {
    word.load(Ordering::Acquire)
}

fn set(word: &AtomicU64, value: u64) {
    word.store(value, Ordering::Release);
}

impl<'m> Record<'m> {
    /// The record in the payload of a descriptor.
    pub(crate) const fn new(payload: &'m [AtomicU64; 7]) -> Self {
        Self(payload)
    }

    /// Fills the record of a section of an offline block; the `present` subsections hold memory.
    pub(crate) fn reset(self, present: u64, group: u64, block: BlockWord) {
        let words = [0, 0, present, group, block.encode(), 0, 0];
        for (word, value) in self.0.iter().zip(words) {
            set(word, value);
        }
    }

    /// Copies another record.
    pub(crate) fn copy(self, from: Record<'_>) {
        for (word, other) in self.0.iter().zip(from.0) {
            set(word, get(other));
        }
    }

    /// Parts whose descriptors are all initialised.
    pub(crate) fn initialised(self) -> Parts<'m> {
        Parts(&self.0[0])
    }

    /// Subsections at which an extent of a subsection or more begins.
    pub(crate) fn heads(self) -> Parts<'m> {
        Parts(&self.0[1])
    }

    /// Subsections that hold memory.
    pub(crate) fn present(self) -> Parts<'m> {
        Parts(&self.0[2])
    }

    /// The head of the memmap group (self-hosted memmap only).
    pub(crate) fn group(self) -> Pfn {
        Pfn::new(get(&self.0[3]))
    }

    /// Moves the record to another memmap group.
    pub(crate) fn set_group(self, head: Pfn) {
        set(&self.0[3], head.get());
    }

    /// The block's state, zone, node and placement; `None` for a word that the manager cannot have written.
    #[inline]
    pub(crate) fn sound_block(self) -> Option<BlockWord> {
        BlockWord::decode(get(&self.0[4]))
    }

    /// As [`sound_block`](Self::sound_block). A block with an invalid word does not come online.
    #[inline]
    #[track_caller]
    pub(crate) fn block(self) -> BlockWord {
        self.sound_block().unwrap_or_else(|| {
            impossible("this is not a word of a block", get(&self.0[4]));
            BlockWord::BROKEN
        })
    }

    /// Changes the block's word, unless it is invalid. An operation does that, while allocations mark granules
    /// ([`soil`](Self::soil)).
    #[inline]
    #[track_caller]
    pub(crate) fn change_block(self, change: impl Fn(BlockWord) -> BlockWord) {
        let changed = |word| Some(change(BlockWord::decode(word)?).encode());
        let done = self.0[4].fetch_update(Ordering::AcqRel, Ordering::Acquire, changed);
        if let Err(word) = done {
            impossible("this is not a word of a block", word);
        }
    }

    /// Marks granules of the block that may hold data from now on.
    #[inline]
    pub(crate) fn soil(self, granules: u32) {
        let bits = BlockWord::dirty_bits(granules);
        if get(&self.0[4]) & bits != bits {
            self.0[4].fetch_or(bits, Ordering::AcqRel);
        }
    }

    /// Pages of the block that the allocator manages.
    pub(crate) fn managed(self) -> Count<'m> {
        Count(&self.0[5])
    }

    /// Pages of the block that are free.
    pub(crate) fn free(self) -> Count<'m> {
        Count(&self.0[6])
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::memmap::home::NodeId;
    use crate::memmap::placement::Placement;
    use crate::memmap::word::BlockState;

    #[test]
    #[should_panic(expected = "this is not a word of a block")]
    fn a_record_with_garbage_for_its_block_is_impossible() {
        let words = [const { AtomicU64::new(u64::MAX) }; 7];
        let _ = Record::new(&words).block();
    }

    #[test]
    fn a_change_of_the_block_leaves_the_rest_of_the_record() {
        let words = [const { AtomicU64::new(0) }; 7];
        let record = Record::new(&words);
        let block = BlockWord::new(BlockState::Offline, NodeId::default(), Placement::PerBlock);
        record.reset(5, 77, block);
        record.managed().set(9);
        record.change_block(|word| BlockWord { poisoned: true, ..word });
        assert_eq!(record.block(), BlockWord { poisoned: true, ..block });
        assert_eq!((record.group(), record.managed().get()), (Pfn::new(77), 9));
        assert!(record.present().has(Part::new(2)) && !record.present().has(Part::new(1)));
    }
}
