//! Radix page tables of ppc64 with 52-bit addresses (Power ISA 3.0B, book III, 5.7.10).
//!
//! ```text
//!              63  62  60 ................................ 8   7    6   5..4   3   2   1   0
//!            +---+---+--------------------------------------+---+---+-----+---+---+---+---+
//!  directory | V | 0 | next table                           |     0       | log2 of its     |
//!            |   |   |                                      |             | entries (4..0)  |
//!  leaf      | V | 1 | page, and R (bit 8)                  | C | 0 | ATT | P | r | w | x |
//!            +---+---+--------------------------------------+---+---+-----+---+---+---+---+
//! ```
//!
//! Entries are big-endian in memory, whatever the CPU's byte order. Reference and change bits are set from the
//! start, so the CPU never writes to a table.

// UNSAFETY: vouches for the bits of the format.
#![expect(unsafe_code)]

use hotmem_paging::addr::PhysAddr;
use hotmem_paging::{Attr, Entry, LeafTest, Level, PteFormat};

const VALID: u64 = 1 << 63;
const LEAF: u64 = 1 << 62;
/// Bits of a leaf's address; those below the leaf's size are zero.
const PAGE: u64 = 0x01ff_ffff_ffff_f000;
/// Bits of a table's address: a table is aligned to its size, 256 bytes at least.
const TABLE: u64 = 0x0fff_ffff_ffff_ff00;
/// Referenced and changed.
const TOUCHED: u64 = 0x180;
/// Attributes: non-idempotent, cache-inhibited, guarded.
const DEVICE: u64 = 0x20;
/// Privileged code only.
const PRIVILEGED: u64 = 0x8;
const READ: u64 = 0x4;
const WRITE: u64 = 0x2;
const EXECUTE: u64 = 0x1;
/// Quadrant 3: the operating system's.
const QUADRANT: u64 = 0xc << 60;

/// The format of pages of 2^`SHIFT` bytes: 12 or 16.
#[derive(Clone, Copy, Debug)]
pub struct Radix<const SHIFT: u32>;

/// 4 KiB: a root of 8192 entries, then three levels of 512, leaves of 1 GiB and 2 MiB.
const LEVELS_4K: &[Level] =
    &[level(39, 13, false), level(30, 9, true), level(21, 9, true), level(12, 9, true)];
/// 64 KiB: the same with a last level of 32: tables of 64 KiB, 4 KiB and 256 bytes.
const LEVELS_64K: &[Level] =
    &[level(39, 13, false), level(30, 9, true), level(21, 9, true), level(16, 5, true)];

// SAFETY: the bits are those of Power ISA radix trees (v3.0 book III 5.7.10), and the invariants are tested beside it.
unsafe impl<const SHIFT: u32> PteFormat for Radix<SHIFT> {
    const LEVELS: &'static [Level] = match SHIFT {
        12 => LEVELS_4K,
        16 => LEVELS_64K,
        // No levels: no tables can be made of this format.
        _ => &[],
    };

    const PHYS_LIMIT: u64 = 1 << 56;

    #[inline]
    fn encode(entry: Entry, level: usize) -> u64 {
        let word = match entry {
            Entry::Absent => 0,
            Entry::Table(at) => VALID | at.get() | next_bits(Self::LEVELS, level),
            Entry::Leaf(at, attr) => VALID | LEAF | at.get() | bits(attr),
        };
        word.to_be()
    }

    #[inline]
    fn decode(word: u64, level: usize) -> Entry {
        let (word, here) = (u64::from_be(word), Self::LEVELS[level]);
        let last = level + 1 == Self::LEVELS.len();
        match word & (VALID | LEAF) {
            VALID if !last => Entry::Table(PhysAddr::new(word & TABLE)),
            bits if bits == VALID | LEAF && here.leaf => {
                Entry::Leaf(PhysAddr::new(word & PAGE & !(here.span() - 1)), attr(word))
            }
            _ => Entry::Absent,
        }
    }

    #[inline]
    fn leaf_test(_level: usize) -> LeafTest {
        LeafTest { mask: (VALID | LEAF).to_be(), value: (VALID | LEAF).to_be() }
    }

    fn canonical(low: u64) -> u64 {
        low | QUADRANT
    }
}

/// The first doubleword of a process table's entry, as it is stored: the tree at `root` translates 52 bits of
/// address (RTS 21 = 52 - 31, in two parts) by a root of 2^13 entries (book III, 5.7.6.1). The second doubleword is
/// zero.
pub const fn process_entry(root: PhysAddr) -> u64 {
    (2 << 61 | root.get() | 5 << 5 | 13).to_be()
}

const fn level(shift: u32, bits: u32, leaf: bool) -> Level {
    Level { shift, bits, leaf }
}

/// Log2 of the entries of the tables below `level`.
#[inline]
const fn next_bits(levels: &[Level], level: usize) -> u64 {
    levels[level + 1].bits as u64
}

/// The bits of a leaf that encode the accesses it allows.
#[inline]
const fn bits(attr: Attr) -> u64 {
    let mut bits = TOUCHED | READ;
    if attr.contains(Attr::WRITE) {
        bits |= WRITE;
    }
    if attr.contains(Attr::EXECUTE) {
        bits |= EXECUTE;
    }
    if attr.contains(Attr::DEVICE) {
        bits |= DEVICE;
    }
    if !attr.contains(Attr::USER) {
        bits |= PRIVILEGED;
    }
    bits
}

/// The accesses that a leaf allows.
#[inline]
fn attr(word: u64) -> Attr {
    let mut attr = Attr::empty();
    attr.set(Attr::WRITE, word & WRITE != 0);
    attr.set(Attr::EXECUTE, word & EXECUTE != 0);
    attr.set(Attr::DEVICE, word & DEVICE != 0);
    attr.set(Attr::USER, word & PRIVILEGED == 0);
    attr
}

#[cfg(test)]
mod tests;
