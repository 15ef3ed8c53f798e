//! Stage-1 page tables of aarch64 with 48-bit addresses (Arm ARM D8.3, "Translation table descriptor
//! formats").
//!
//! ```text
//!    63..55   54    53  52..50  49..48  47 .................. 12  11   10  9..8  7..6   5  4..2   1    0
//!   +-------+-----+-----+------+-------+------------------------+----+----+----+------+----+-----+----+---+
//!   |   0   | UXN | PXN |  0   |   0   | table, or leaf (low 0) | nG | AF | SH |  AP  | NS | MA  | T  | V |
//!   +-------+-----+-----+------+-------+------------------------+----+----+----+------+----+-----+----+---+
//!    T: 1 in a table and in a leaf of the last level, 0 in a larger leaf      MA: index into MAIR
//! ```
//!
//! The Access flag is set from the start and hardware management of it is off, so the CPU never writes to a table.
//! The same format serves EL1&0 and, with HCR_EL2.E2H, EL2&0. Table descriptors add no restrictions: the leaf alone
//! decides what accesses a page allows.

// UNSAFETY: vouches for the bits of the format.
#![expect(unsafe_code)]

use hotmem_paging::addr::PhysAddr;
use hotmem_paging::{Attr, Entry, LeafTest, Level, PteFormat};

pub(super) const VALID: u64 = 1 << 0;
/// A table, or a leaf of the last level.
pub(super) const TYPE: u64 = 1 << 1;
/// MAIR attribute 1: devices, nGnRnE. Attribute 0 is write-back memory.
const DEVICE: u64 = 1 << 2;
/// AP\[1\]: unprivileged code may access.
const UNPRIVILEGED: u64 = 1 << 6;
/// AP\[2\]: no code may write.
const READ_ONLY: u64 = 1 << 7;
pub(super) const INNER_SHAREABLE: u64 = 0b11 << 8;
pub(super) const ACCESSED: u64 = 1 << 10;
/// Privileged code may not execute.
const PXN: u64 = 1 << 53;
/// Unprivileged code may not execute.
const UXN: u64 = 1 << 54;
/// Bits 47..12; the address bits below the granule are zero.
pub(super) const ADDRESS: u64 = 0x0000_ffff_ffff_f000;

/// The format of pages of 2^`SHIFT` bytes: 12, 14 or 16.
#[derive(Clone, Copy, Debug)]
pub struct Stage1<const SHIFT: u32>;

/// 4 KiB: four levels of 512, blocks of 1 GiB and 2 MiB.
const LEVELS_4K: &[Level] =
    &[level(39, 9, false), level(30, 9, true), level(21, 9, true), level(12, 9, true)];
/// 16 KiB: a root of two entries, then three levels of 2048, blocks of 32 MiB.
const LEVELS_16K: &[Level] =
    &[level(47, 1, false), level(36, 11, false), level(25, 11, true), level(14, 11, true)];
/// 64 KiB: a root of 64 entries, then two levels of 8192, blocks of 512 MiB.
const LEVELS_64K: &[Level] = &[level(42, 6, false), level(29, 13, true), level(16, 13, true)];

impl<const SHIFT: u32> Stage1<SHIFT> {
    /// Whether `level`'s leaves are pages.
    const fn is_last(level: usize) -> bool {
        level + 1 == Self::LEVELS.len()
    }
}

// SAFETY: the bits are those of VMSAv8-64 stage 1 (Arm ARM D8.3), and the invariants are tested beside it.
unsafe impl<const SHIFT: u32> PteFormat for Stage1<SHIFT> {
    const LEVELS: &'static [Level] = match SHIFT {
        12 => LEVELS_4K,
        14 => LEVELS_16K,
        16 => LEVELS_64K,
        // No levels: no tables can be made of this format.
        _ => &[],
    };

    const PHYS_LIMIT: u64 = 1 << 48;

    #[inline]
    fn encode(entry: Entry, level: usize) -> u64 {
        match entry {
            Entry::Absent => 0,
            Entry::Table(at) => at.get() | TYPE | VALID,
            Entry::Leaf(at, attr) => at.get() | bits(attr) | leaf_type(Self::is_last(level)),
        }
    }

    #[inline]
    fn decode(word: u64, level: usize) -> Entry {
        decode(word, Self::LEVELS[level], Self::is_last(level), attr)
    }

    #[inline]
    fn leaf_test(level: usize) -> LeafTest {
        LeafTest { mask: VALID | TYPE, value: leaf_type(Self::is_last(level)) }
    }

    /// The upper range: TTBR1.
    fn canonical(low: u64) -> u64 {
        low | 0xffff << 48
    }
}

pub(super) const fn level(shift: u32, bits: u32, leaf: bool) -> Level {
    Level { shift, bits, leaf }
}

/// The low two bits of a leaf.
#[inline]
pub(super) const fn leaf_type(last: bool) -> u64 {
    if last { TYPE | VALID } else { VALID }
}

/// Decodes a word of a level of either stage; `attr` decodes the accesses that a leaf allows.
#[inline]
pub(super) fn decode(word: u64, here: Level, last: bool, attr: impl FnOnce(u64) -> Attr) -> Entry {
    if word & (VALID | TYPE) == VALID | TYPE && !last {
        // A root smaller than a page may point to tables of whole pages only.
        return Entry::Table(PhysAddr::new(word & ADDRESS));
    }
    if here.leaf && word & (VALID | TYPE) == leaf_type(last) {
        return Entry::Leaf(PhysAddr::new(word & ADDRESS & !(here.span() - 1)), attr(word));
    }
    Entry::Absent
}

/// The bits of a leaf that encode the accesses it allows.
///
/// Privileged code never executes what unprivileged code may access, and unprivileged code never executes privileged
/// pages.
#[inline]
const fn bits(attr: Attr) -> u64 {
    let mut bits = ACCESSED | INNER_SHAREABLE | PXN | UXN;
    if !attr.contains(Attr::WRITE) {
        bits |= READ_ONLY;
    }
    if attr.contains(Attr::USER) {
        bits |= UNPRIVILEGED;
    }
    if attr.contains(Attr::DEVICE) {
        bits |= DEVICE;
    }
    if attr.contains(Attr::EXECUTE) {
        bits &= if attr.contains(Attr::USER) { !UXN } else { !PXN };
    }
    bits
}

/// The accesses that a leaf allows.
#[inline]
fn attr(word: u64) -> Attr {
    let user = word & UNPRIVILEGED != 0;
    let never = if user { UXN } else { PXN };
    let mut attr = Attr::empty();
    attr.set(Attr::WRITE, word & READ_ONLY == 0);
    attr.set(Attr::USER, user);
    attr.set(Attr::DEVICE, word & DEVICE != 0);
    attr.set(Attr::EXECUTE, word & never == 0);
    attr
}

#[cfg(test)]
mod tests;
