//! Four-level page tables of x86_64 (Intel SDM vol. 3A 4.5; AMD APM vol. 2 5.3).
//!
//! ```text
//!    63   62..52    51 .......................... 12   11..9   8   7   6   5   4    3    2    1    0
//!   +----+---------+--------------------------------+-------+---+---+---+---+----+----+----+----+---+
//!   | NX | ignored | table, or leaf (low bits zero) |ignored| G | PS| D | A |PCD |PWT | US | RW | P |
//!   +----+---------+--------------------------------+-------+---+---+---+---+----+----+----+----+---+
//!    PS: 1 in a 1 GiB or 2 MiB leaf; in a 4 KiB leaf the bit is PAT, left 0
//! ```
//!
//! Accessed and Dirty are set from the start: the CPU then never writes to a table, and a stored
//! entry stays the word that was encoded, unless Dirty is taken back to find out what is written. Global is never set, so a CR3 reload drops everything.

// UNSAFETY: vouches for the bits of the format.
#![expect(unsafe_code)]

use hotmem_paging::addr::PhysAddr;
use hotmem_paging::{Attr, Entry, LeafTest, Level, PteFormat};

const PRESENT: u64 = 1 << 0;
const WRITABLE: u64 = 1 << 1;
const USER: u64 = 1 << 2;
const WRITE_THROUGH: u64 = 1 << 3;
const CACHE_DISABLE: u64 = 1 << 4;
pub(super) const ACCESSED: u64 = 1 << 5;
pub(super) const DIRTY: u64 = 1 << 6;
const PAGE_SIZE: u64 = 1 << 7;
const NO_EXECUTE: u64 = 1 << 63;

/// PCD and PWT select PAT entry 3, which is UC after reset (SDM vol. 3A 12.12.4).
const UNCACHED: u64 = CACHE_DISABLE | WRITE_THROUGH;
/// Bits 51..12 of an entry.
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
/// The level of 4 KiB leaves, where bit 7 is not PS.
const LAST: usize = 3;

/// The format of four-level paging with EFER.NXE set.
///
/// A table entry allows every access: the leaf alone decides what accesses a page allows.
#[derive(Clone, Copy, Debug)]
pub struct X86Pte4;

// SAFETY: the bits are those of four-level paging (Intel SDM vol. 3A 4.5), and the invariants are tested beside it.
unsafe impl PteFormat for X86Pte4 {
    const LEVELS: &'static [Level] =
        &[level(39, false), level(30, true), level(21, true), level(12, true)];

    const PHYS_LIMIT: u64 = 1 << 52;
    const WRITTEN: u64 = DIRTY;

    #[inline]
    fn encode(entry: Entry, level: usize) -> u64 {
        match entry {
            Entry::Absent => 0,
            Entry::Table(at) => at.get() | PRESENT | WRITABLE | USER | ACCESSED,
            Entry::Leaf(at, attr) => {
                at.get() | bits(attr) | if level < LAST { PAGE_SIZE } else { 0 }
            }
        }
    }

    #[inline]
    fn decode(word: u64, level: usize) -> Entry {
        if word & PRESENT == 0 {
            return Entry::Absent;
        }
        let here = Self::LEVELS[level];
        if level < LAST && !(here.leaf && word & PAGE_SIZE != 0) {
            return Entry::Table(PhysAddr::new(word & ADDRESS));
        }
        // Above the last level the bits below the span hold PAT (bit 12) or must be zero.
        let address = word & ADDRESS & !(here.span() - 1);
        Entry::Leaf(PhysAddr::new(address), attr(word))
    }

    #[inline]
    fn leaf_test(level: usize) -> LeafTest {
        let bits = PRESENT | if level < LAST { PAGE_SIZE } else { 0 };
        LeafTest { mask: bits, value: bits }
    }

    /// Repeats bit 47 upwards.
    fn canonical(low: u64) -> u64 {
        ((low << 16) as i64 >> 16) as u64
    }
}

const fn level(shift: u32, leaf: bool) -> Level {
    Level { shift, bits: 9, leaf }
}

/// The bits of a leaf that encode the accesses it allows.
#[inline]
const fn bits(attr: Attr) -> u64 {
    let mut bits = PRESENT | ACCESSED | DIRTY;
    if attr.contains(Attr::WRITE) {
        bits |= WRITABLE;
    }
    if attr.contains(Attr::USER) {
        bits |= USER;
    }
    if attr.contains(Attr::DEVICE) {
        bits |= UNCACHED;
    }
    if !attr.contains(Attr::EXECUTE) {
        bits |= NO_EXECUTE;
    }
    bits
}

/// The accesses that a leaf allows.
#[inline]
fn attr(word: u64) -> Attr {
    let mut attr = Attr::empty();
    attr.set(Attr::WRITE, word & WRITABLE != 0);
    attr.set(Attr::USER, word & USER != 0);
    attr.set(Attr::DEVICE, word & UNCACHED == UNCACHED);
    attr.set(Attr::EXECUTE, word & NO_EXECUTE == 0);
    attr
}

#[cfg(test)]
mod tests;
