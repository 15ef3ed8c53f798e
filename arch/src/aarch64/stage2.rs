//! Stage-2 page tables of aarch64 with 36-bit guest addresses (Arm ARM D8.3, "Stage 2 ... descriptor formats").
//!
//! ```text
//!    63..59  58..55    54    53   52    51  50..48  47 .................. 12  11   10  9..8  7..6   5..2    1    0
//!   +-------+--------+-----+----+-----+-----+-------+------------------------+---+----+----+------+---------+----+---+
//!   |   0   |   SW   | XN1 | XN0|  0  | DBM |   0   | table, or leaf (low 0) | 0 | AF | SH | S2AP | MemAttr | T  | V |
//!   +-------+--------+-----+----+-----+-----+-------+------------------------+---+----+----+------+---------+----+---+
//!    T: 1 in a table and in a leaf of the last level, 0 in a larger leaf
//! ```
//!
//! 36 bits give a root of one table for each granule, so that no tables have to be concatenated. The Access flag is
//! set from the start. DBM says that a leaf may be written, S2AP\[1\] that it was: both are set from the start, so that the
//! CPU writes to a table only where S2AP\[1\] was taken back, to find out what the guest writes (FEAT_HAFDBS; without it
//! nothing is taken back, and DBM is ignored). A leaf is readable; whether unprivileged code of the guest may access it is the guest's own decision, so [`Attr::USER`] is kept in a
//! bit that hardware ignores.

// UNSAFETY: vouches for the bits of the format.
#![expect(unsafe_code)]

use super::pte::{self, ACCESSED, INNER_SHAREABLE, TYPE, VALID, leaf_type, level};
use crate::contract::GuestSpace;
use hotmem_paging::{Attr, Entry, LeafTest, Level, PteFormat};

/// Bits of a guest address.
pub const GUEST_BITS: u32 = 36;

/// MemAttr: normal memory, write-back, as far as the guest's own attributes allow it.
const WRITE_BACK: u64 = 0b1111 << 2;
/// MemAttr: device, nGnRE.
const DEVICE: u64 = 0b0001 << 2;
const MEMORY_TYPE: u64 = 0b1111 << 2;
const READABLE: u64 = 1 << 6;
/// S2AP\[1\]: a store is allowed, and the CPU sets it at the first one if [`MAY_BE_WRITTEN`] is set.
const WRITTEN: u64 = 1 << 7;
/// DBM.
const MAY_BE_WRITTEN: u64 = 1 << 51;
/// XN = 0b10: not executable at any exception level.
const NO_EXECUTE: u64 = 1 << 54;
/// A bit for software.
const USER: u64 = 1 << 55;

/// The format of pages of 2^`SHIFT` bytes: 12, 14 or 16.
#[derive(Clone, Copy, Debug)]
pub struct Stage2<const SHIFT: u32>;

/// 4 KiB: walks begin at level 1, with a root of 64 entries; blocks of 1 GiB and 2 MiB.
const LEVELS_4K: &[Level] = &[level(30, 6, true), level(21, 9, true), level(12, 9, true)];
/// 16 KiB: walks begin at level 2, with a root of 2048 entries; blocks of 32 MiB.
const LEVELS_16K: &[Level] = &[level(25, 11, true), level(14, 11, true)];
/// 64 KiB: walks begin at level 2, with a root of 128 entries; blocks of 512 MiB.
const LEVELS_64K: &[Level] = &[level(29, 7, true), level(16, 13, true)];

impl<const SHIFT: u32> Stage2<SHIFT> {
    /// VTCR_EL2 without PS: T0SZ for 36 bits, SL0, write-back inner-shareable walks, TG0 (Arm ARM D17.2.165).
    pub const CONTROL: u64 = {
        let (begin, granule) = match SHIFT {
            12 => (1, 0b00),
            14 => (1, 0b10),
            _ => (1, 0b01),
        };
        let size = 64 - GUEST_BITS as u64;
        let walks = 0b01 << 8 | 0b01 << 10 | 0b11 << 12;
        1 << 31 | granule << 14 | walks | begin << 6 | size
    };

    /// HA and HD of VTCR_EL2: the CPU sets S2AP\[1\] of leaves with DBM, and for that the Access flag (Arm ARM D8.4).
    pub const MARKS_WRITES: u64 = 1 << 21 | 1 << 22;

    /// VTTBR_EL2 of a space: VMID in bits 63..48 (8 bits are used), the root below.
    pub fn base(space: &GuestSpace) -> u64 {
        u64::from(space.tag()) << 48 | space.root().get()
    }

    /// Whether `level`'s leaves are pages.
    const fn is_last(level: usize) -> bool {
        level + 1 == Self::LEVELS.len()
    }
}

// SAFETY: the bits are those of VMSAv8-64 stage 2 (Arm ARM D8.3), and the invariants are tested beside it.
unsafe impl<const SHIFT: u32> PteFormat for Stage2<SHIFT> {
    const LEVELS: &'static [Level] = match SHIFT {
        12 => LEVELS_4K,
        14 => LEVELS_16K,
        16 => LEVELS_64K,
        // No levels: no tables can be made of this format.
        _ => &[],
    };

    const PHYS_LIMIT: u64 = 1 << 48;
    const WRITTEN: u64 = WRITTEN;

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
        pte::decode(word, Self::LEVELS[level], Self::is_last(level), attr)
    }

    #[inline]
    fn leaf_test(level: usize) -> LeafTest {
        LeafTest { mask: VALID | TYPE, value: leaf_type(Self::is_last(level)) }
    }
}

/// The bits of a leaf that encode the accesses it allows.
#[inline]
const fn bits(attr: Attr) -> u64 {
    let memory = if attr.contains(Attr::DEVICE) { DEVICE } else { WRITE_BACK | INNER_SHAREABLE };
    let mut bits = ACCESSED | READABLE | memory;
    if attr.contains(Attr::WRITE) {
        bits |= WRITTEN | MAY_BE_WRITTEN;
    }
    if attr.contains(Attr::USER) {
        bits |= USER;
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
    attr.set(Attr::WRITE, word & MAY_BE_WRITTEN != 0);
    attr.set(Attr::USER, word & USER != 0);
    attr.set(Attr::DEVICE, word & MEMORY_TYPE == DEVICE);
    attr.set(Attr::EXECUTE, word & NO_EXECUTE == 0);
    attr
}

#[cfg(test)]
mod tests;
