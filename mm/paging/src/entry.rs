//! One page-table entry, independent of any architecture, and the format that encodes it.

// UNSAFETY: declares the unsafe trait by which a format vouches for its words.
#![expect(unsafe_code)]

use crate::addr::PhysAddr;

bitflags::bitflags! {
    /// The accesses that a translation allows. Every translation is readable.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
    pub struct Attr: u8 {
        /// Stores are allowed.
        const WRITE = 1 << 0;
        /// Instruction fetches are allowed.
        const EXECUTE = 1 << 1;
        /// Unprivileged code may access it (for a stage-2 format: always).
        const USER = 1 << 2;
        /// Device registers: uncached, strongly ordered.
        const DEVICE = 1 << 3;
    }
}

/// The content of one slot of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// Empty: an access through it faults.
    Absent,
    /// The physical address of the next level's table.
    Table(PhysAddr),
    /// A translation of the slot's whole span.
    Leaf(PhysAddr, Attr),
}

/// One level of a page-table tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Level {
    /// Log2 of the bytes of address space one entry spans.
    pub shift: u32,
    /// Log2 of the entries of one table: tables of one format may differ in size.
    pub bits: u32,
    /// Whether an entry may be a leaf.
    pub leaf: bool,
}

impl Level {
    /// Bytes of address space one entry spans.
    #[inline]
    pub const fn span(self) -> u64 {
        1 << self.shift
    }

    /// Entries of one table.
    #[inline]
    pub const fn entries(self) -> usize {
        1 << self.bits
    }

    /// Bytes of one table, with 8-byte entries.
    #[inline]
    pub const fn table_bytes(self) -> u64 {
        8 << self.bits
    }

    /// The index of the entry for `address` in its table.
    #[inline]
    pub const fn index(self, address: u64) -> usize {
        (address >> self.shift) as usize & (self.entries() - 1)
    }
}

/// The test for a leaf without decoding: `word & mask == value`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeafTest {
    /// The bits that decide.
    pub mask: u64,
    /// Their values in a leaf.
    pub value: u64,
}

impl LeafTest {
    /// Zero if `word` is a leaf. The results for many words may be or-ed before they are tested.
    #[inline]
    pub const fn miss(self, word: u64) -> u64 {
        (word ^ self.value) & self.mask
    }
}

/// A page-table format: the pure bits of the tables of one architecture (and regime).
///
/// Invariants, tested for every format by `hotmem_paging::testing::check_format`: `decode(encode(e, l), l) == e` for
/// each entry that the level allows; a word is zero exactly if it encodes `Absent` (a zeroed table is empty, and a
/// slot that is not zero is in use); `leaf_test(l)` agrees with `decode` on every word; an encoded entry has the
/// byte order that the hardware reads: `encode` returns the value as the CPU stores it.
///
/// # Safety
///
/// The invariants hold, and the MMU that walks the tables interprets each word as `decode` does.
pub unsafe trait PteFormat {
    /// The levels, root first. The last one's entries span a base page.
    const LEVELS: &'static [Level];

    /// One past the highest physical address an entry can name.
    const PHYS_LIMIT: u64;

    /// The bits of a leaf by which the MMU marks it when it allows the first store through it; 0 if it marks none.
    ///
    /// An encoded leaf that allows stores has all of them, and without them it is the same entry: `decode` ignores
    /// them. The MMU sets them in the table, by an atomic change of a valid leaf, before the store is made; a CPU that
    /// has cached a marked leaf stores without looking again. See [`Tables::unmark`](super::Tables::unmark).
    const WRITTEN: u64 = 0;

    /// The word to store at `level` for `entry`.
    ///
    /// `level` counts from the root (0). The walker never passes a leaf at a level without leaves, or an address
    /// with bits below the span or above the format's limit.
    fn encode(entry: Entry, level: usize) -> u64;

    /// Decodes the stored word at `level`.
    fn decode(word: u64, level: usize) -> Entry;

    /// The test for a stored leaf at `level`; never called for a level without leaves.
    fn leaf_test(level: usize) -> LeafTest;

    /// The input address that the MMU translates by the table indices in the low bits of `low`
    /// (the bits above the root's are zero).
    ///
    /// A sign-extending MMU repeats the top bit; by default the upper bits are zero.
    #[inline]
    fn canonical(low: u64) -> u64 {
        low
    }
}
