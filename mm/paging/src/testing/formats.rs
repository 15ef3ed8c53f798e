//! Page-table formats for tests of the walker.

// UNSAFETY: vouches for formats that only the software MMU walks.
#![expect(unsafe_code)]

use crate::addr::PhysAddr;
use crate::{Attr, Entry, LeafTest, Level, PteFormat};

const PRESENT: u64 = 1 << 0;
const LEAF: u64 = 1 << 1;
const ATTR_SHIFT: u32 = 2;
const ATTR: u64 = 0xf << ATTR_SHIFT;
/// Set by the MMU at the first store, and from the start.
const WRITTEN: u64 = 1 << 6;

/// Tables of 128 bytes and leaves of 4 KiB, 64 KiB and 1 MiB: every path is short, every table full
/// soon. 4 GiB of address space.
#[derive(Clone, Copy, Debug)]
pub struct TinyPte;

/// A very uneven format: levels of 13, 9, 9 and 5 bits (tables of 64 KiB, 4 KiB, 4 KiB and 256
/// bytes), big-endian entries, the two top address bits set. The shape of ppc64 radix with 64 KiB
/// pages.
#[derive(Clone, Copy, Debug)]
pub struct OddPte;

/// Two levels and leaves in the root itself: 256 of 64 KiB, or tables of 4 KiB pages below.
#[derive(Clone, Copy, Debug)]
pub struct ShallowPte;

/// Leaves of 32 MiB and 16 KiB under tables of 16 KiB: arm64 with its 16 KiB granule, without the two
/// entries above the first level here.
#[derive(Clone, Copy, Debug)]
pub struct GranulePte;

/// One word for all formats: the address above bit 7, flags below.
fn word(entry: Entry) -> u64 {
    match entry {
        Entry::Absent => 0,
        Entry::Table(at) => at.get() | PRESENT,
        Entry::Leaf(at, attr) => {
            let written = if attr.contains(Attr::WRITE) { WRITTEN } else { 0 };
            at.get() | PRESENT | LEAF | u64::from(attr.bits()) << ATTR_SHIFT | written
        }
    }
}

/// The inverse of [`word`] for an entry of `level`.
fn entry(word: u64, level: Level) -> Entry {
    if word & PRESENT == 0 {
        Entry::Absent
    } else if word & LEAF != 0 && level.leaf {
        let attr = Attr::from_bits_truncate(((word & ATTR) >> ATTR_SHIFT) as u8);
        Entry::Leaf(PhysAddr::new(word & !(level.span() - 1)), attr)
    } else {
        Entry::Table(PhysAddr::new(word & !0x7f))
    }
}

const BOTH: LeafTest = LeafTest { mask: PRESENT | LEAF, value: PRESENT | LEAF };

/// Implements [`PteFormat`] by [`word`] and [`entry`].
macro_rules! formats {
    ($($name:ident: [$($level:expr),*]),*) => {
        $(
            // SAFETY: only the software MMU walks these tables, and it decodes by this code.
            unsafe impl PteFormat for $name {
                const LEVELS: &'static [Level] = &[$($level),*];
                const PHYS_LIMIT: u64 = 1 << 48;
                const WRITTEN: u64 = WRITTEN;

                #[inline]
                fn encode(entry: Entry, _level: usize) -> u64 {
                    word(entry)
                }

                #[inline]
                fn decode(word: u64, level: usize) -> Entry {
                    entry(word, Self::LEVELS[level])
                }

                #[inline]
                fn leaf_test(_level: usize) -> LeafTest {
                    BOTH
                }
            }
        )*
    };
}

formats! {
    TinyPte: [level(24, 8, false), level(20, 4, true), level(16, 4, true), level(12, 4, true)],
    ShallowPte: [level(16, 8, true), level(12, 4, true)],
    GranulePte: [level(36, 11, false), level(25, 11, true), level(14, 11, true)]
}

// SAFETY: only the software MMU walks these tables, and it decodes by this code.
unsafe impl PteFormat for OddPte {
    const LEVELS: &'static [Level] =
        &[level(39, 13, false), level(30, 9, true), level(21, 9, true), level(16, 5, true)];
    const PHYS_LIMIT: u64 = 1 << 56;
    const WRITTEN: u64 = WRITTEN.to_be();

    #[inline]
    fn encode(entry: Entry, _level: usize) -> u64 {
        word(entry).to_be()
    }

    #[inline]
    fn decode(word: u64, level: usize) -> Entry {
        entry(u64::from_be(word), Self::LEVELS[level])
    }

    #[inline]
    fn leaf_test(_level: usize) -> LeafTest {
        LeafTest { mask: BOTH.mask.to_be(), value: BOTH.value.to_be() }
    }

    #[inline]
    fn canonical(low: u64) -> u64 {
        low | 0b11 << 62
    }
}

const fn level(shift: u32, bits: u32, leaf: bool) -> Level {
    Level { shift, bits, leaf }
}
