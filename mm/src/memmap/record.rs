//! The record of a section, or of the neighbours that share it: seven words in the descriptor of one of its memmap
//! pages.
//!
//! ```text
//!   subsection     0 . . . 24 . . . . 50 . . . 63      three DIMMs in a section: one ends in it, two begin in it
//!   present        1 1 0 0 1 1 1 1 1 1 1 1 1 1 1
//!   starts         0 0 0 0 1 0 0 0 0 1 0 0 0 0 0       `group` is that of the subsections before the first start
//! ```
//!
//! Bitmaps have a bit for each of the record's subsections. The block's word, its managed and its free pages belong to
//! the memory block: they are those of the first record of the block whose word of the block is not 0.

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

/// A record, and the number of its first section.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Record<'m>(&'m [AtomicU64; 7], u64);

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

    pub(crate) fn set(self, bits: u64) {
        set(self.0, bits);
    }

    /// All bits.
    pub(crate) fn bits(self) -> u64 {
        get(self.0)
    }
}

/// The number of managed pages of a block, above the bits of a group's head in the same word. An operation changes
/// both.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Managed<'m>(&'m AtomicU64);

/// Log2 of a value above all frame numbers.
const MANAGED_SHIFT: u32 = 40;
/// The group of a record without one.
const NO_GROUP: u64 = (1 << MANAGED_SHIFT) - 1;

impl Managed<'_> {
    pub(crate) fn get(self) -> u64 {
        get(self.0) >> MANAGED_SHIFT
    }

    pub(crate) fn set(self, pages: u64) {
        set(self.0, get(self.0) & NO_GROUP | pages << MANAGED_SHIFT);
    }

    pub(crate) fn sub(self, pages: u64) {
        let before = self.get();
        if pages > before {
            impossible("more pages are subtracted than a block has", pages - before);
        }
        self.set(before.saturating_sub(pages));
    }

    pub(crate) fn add(self, pages: u64) {
        self.set(self.get() + pages);
    }
}

/// The number of free pages of a block. Changed under the lock of the block's zone.
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
    /// The record in the payload of a descriptor, of section `number` and the neighbours that share it.
    pub(crate) const fn new(payload: &'m [AtomicU64; 7], number: u64) -> Self {
        Self(payload, number)
    }

    /// Fills the record of a section without memory: `block` is its block's word, or `None` if another record has it.
    pub(crate) fn reset(self, block: Option<BlockWord>) {
        self.fill(0, 0, None, block);
    }

    /// Fills the record of memory that is all of an offline block, or a part of that: it begins here, or its memmap's
    /// head is at `head`. `block` is as for [`reset`](Self::reset): a look-up that finds a block half hidden finds no other
    /// word of it.
    pub(crate) fn reset_whole(self, begins: bool, head: Option<Pfn>, block: Option<BlockWord>) {
        let head = head.filter(|_| !begins);
        self.fill(u64::MAX, u64::from(begins), head, block);
    }

    fn fill(self, present: u64, starts: u64, group: Option<Pfn>, block: Option<BlockWord>) {
        let block = block.map_or(0, |block| block.encode(self.1));
        let words = [0, 0, present, group.map_or(NO_GROUP, Pfn::get), block, starts, 0];
        for (word, value) in self.0.iter().zip(words) {
            set(word, value);
        }
    }

    /// Notes memory in `parts`, shown last: it begins with the first of them, or continues from the record before, with
    /// its memmap's head at `head`.
    pub(crate) fn begin(self, begins: bool, parts: u64, head: Option<Pfn>) {
        if begins {
            set(&self.0[5], get(&self.0[5]) | parts & parts.wrapping_neg());
        } else {
            self.set_group(head);
        }
        set(&self.0[2], get(&self.0[2]) | parts);
    }

    /// Hides all subsections but those that `stay`.
    pub(crate) fn hide_all_but(self, stay: u64) {
        // SeqCst: as for the word of a section, a reader sees that they are hidden, or the drain waits for it.
        self.0[2].store(stay, Ordering::SeqCst);
    }

    /// Copies another record of the same sections.
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

    /// Subsections at which memory begins that was added with a memmap of its own, or with one in system memory.
    pub(crate) fn starts(self) -> Parts<'m> {
        Parts(&self.0[5])
    }

    /// The head of the memmap group of the subsections before the first [start](Self::starts), if they have one.
    pub(crate) fn group(self) -> Option<Pfn> {
        let group = get(&self.0[3]) & NO_GROUP;
        (group != NO_GROUP).then_some(Pfn::new(group))
    }

    /// Sets the group of the subsections before the first start.
    pub(crate) fn set_group(self, head: Option<Pfn>) {
        let group = head.map_or(NO_GROUP, Pfn::get);
        set(&self.0[3], get(&self.0[3]) & !NO_GROUP | group);
    }

    /// Whether it has the words of its block.
    #[inline]
    pub(crate) fn has_block(self) -> bool {
        get(&self.0[4]) != 0
    }

    /// Whether its block was added at once, all of it.
    #[inline]
    pub(crate) fn is_whole(self) -> bool {
        BlockWord::is_whole(get(&self.0[4]))
    }

    /// Whether its block is offline, if the word is valid.
    #[inline]
    pub(crate) fn is_offline(self) -> bool {
        BlockWord::is_offline(get(&self.0[4]))
    }

    /// Whether a part of its block is bad, if the word is valid.
    #[inline]
    pub(crate) fn is_poisoned(self) -> bool {
        BlockWord::is_poisoned(get(&self.0[4]))
    }

    /// Gives the block's words to this record, which then is the only one that has them. If the block is online, no one
    /// else uses either record.
    pub(crate) fn take_block(self, from: Record<'_>) {
        if core::ptr::eq(self.0, from.0) {
            return;
        }
        if !from.is_offline() {
            self.managed().set(from.managed().get());
            self.free().set(from.free().get());
            from.managed().set(0);
            from.free().set(0);
        }
        set(&self.0[4], BlockWord::moved(get(&from.0[4]), from.1, self.1));
        set(&from.0[4], 0);
    }

    /// The block's state, zone, node and placement; `None` for a word that the manager cannot have written here. What an
    /// operation begins with, and `verify`.
    pub(crate) fn sound_block(self) -> Option<BlockWord> {
        BlockWord::decode_sealed(get(&self.0[4]), self.1)
    }

    /// The same, whatever the seal, which takes longer to check than the allocator has for an extent. A word that cannot be
    /// decoded is reported.
    #[inline]
    #[track_caller]
    pub(crate) fn block(self) -> BlockWord {
        let word = get(&self.0[4]);
        BlockWord::decode(word).unwrap_or_else(|| {
            impossible("this is not a word of a block", word);
            BlockWord::BROKEN
        })
    }

    /// Changes the block's word, unless it is invalid. An operation does that, while allocations mark granules
    /// ([`soil`](Self::soil)).
    #[inline]
    #[track_caller]
    pub(crate) fn change_block(self, change: impl Fn(BlockWord) -> BlockWord) {
        let changed = |word| Some(change(BlockWord::decode_sealed(word, self.1)?).encode(self.1));
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
            self.mark(granules);
        }
    }

    #[cold]
    fn mark(self, granules: u32) {
        let marked = |word| Some(BlockWord::soiled(word, granules, self.1));
        // It cannot fail.
        let _ = self.0[4].fetch_update(Ordering::AcqRel, Ordering::Acquire, marked);
    }

    /// Pages of the block that the allocator manages.
    pub(crate) fn managed(self) -> Managed<'m> {
        Managed(&self.0[3])
    }

    /// Subsections with bad memory, of a block that is offline: while it is online, the word counts its free pages. Of
    /// all, for bad memory of a block that is not marked is forgotten.
    pub(crate) fn bad(self) -> Parts<'m> {
        Parts(&self.0[6])
    }

    /// Pages of the block that are free, while it is online.
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
        let _ = Record::new(&words, 32).block();
    }

    #[test]
    fn a_change_of_the_block_leaves_the_rest_of_the_record() {
        let words = [const { AtomicU64::new(0) }; 7];
        let record = Record::new(&words, 32);
        let block = BlockWord::new(BlockState::Offline, NodeId::default(), Placement::PerBlock);
        record.reset(Some(block));
        record.present().set(5);
        assert_eq!(record.group(), None);
        record.set_group(Some(Pfn::new(77)));
        record.managed().set(1 << 20);
        record.change_block(|word| BlockWord { poisoned: true, ..word });
        assert_eq!(record.block(), BlockWord { poisoned: true, ..block });
        assert_eq!((record.group(), record.managed().get()), (Some(Pfn::new(77)), 1 << 20));
        record.set_group(None);
        assert_eq!((record.group(), record.managed().get()), (None, 1 << 20));
        assert!(record.present().has(Part::new(2)) && !record.present().has(Part::new(1)));
    }
}
