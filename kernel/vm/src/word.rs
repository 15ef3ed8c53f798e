//! The manager's words of a guest's memory: the reverse of its tables.
//!
//! ```text
//!   63         48 47                                            0
//!  +-------------+-----------------------------------------------+
//!  |    guest    |  frame number in the guest                    |   pages
//!  |    guest    |  level (47..44) | number among that level's   |   tables
//!  +-------------+-----------------------------------------------+
//! ```

use hotmem::Geometry;
use hotmem::paging::GuestAddr;

/// Bits below the guest's number.
const PLACE_BITS: u32 = 48;
/// Bits below the level.
const INDEX_BITS: u32 = 44;

const fn low(word: u64, bits: u32) -> u64 {
    word & ((1 << bits) - 1)
}

/// An extent of a guest's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageWord {
    /// The guest's number.
    pub vm: u16,
    /// The first frame, in pages of the kernel.
    pub frame: u64,
}

impl PageWord {
    /// The word for the manager.
    pub const fn encode(self) -> u64 {
        (self.vm as u64) << PLACE_BITS | low(self.frame, PLACE_BITS)
    }

    /// The extent that a word of the manager names.
    pub const fn decode(word: u64) -> Self {
        Self { vm: (word >> PLACE_BITS) as u16, frame: low(word, PLACE_BITS) }
    }

    /// Its address in the guest.
    pub(crate) const fn address<M: Geometry>(self) -> GuestAddr {
        GuestAddr::new(self.frame.wrapping_mul(M::PAGE_BYTES))
    }
}

/// A second-stage table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableWord {
    /// The guest's number.
    pub vm: u16,
    /// The level, counted from the root (0).
    pub level: usize,
    /// The number of the table among those of its level: the first address divided by the span.
    pub index: u64,
}

impl TableWord {
    /// The word for the manager.
    pub const fn encode(self) -> u64 {
        let level = low(self.level as u64, PLACE_BITS - INDEX_BITS) << INDEX_BITS;
        (self.vm as u64) << PLACE_BITS | level | low(self.index, INDEX_BITS)
    }

    /// The table that a word of the manager names.
    pub const fn decode(word: u64) -> Self {
        Self {
            vm: (word >> PLACE_BITS) as u16,
            level: low(word, PLACE_BITS) as usize >> INDEX_BITS,
            index: low(word, INDEX_BITS),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_names_the_guest_and_the_place() {
        let page = PageWord { vm: 3, frame: 0x8_0012 };
        assert_eq!(page.encode(), 0x0003_0000_0008_0012);
        assert_eq!(PageWord::decode(page.encode()), page);
        let table = TableWord { vm: 0xffff, level: 2, index: 0x12 };
        assert_eq!(table.encode(), 0xffff_2000_0000_0012);
        assert_eq!(TableWord::decode(table.encode()), table);
    }
}
