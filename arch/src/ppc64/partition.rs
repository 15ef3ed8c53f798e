//! Partition-scoped radix tables of ppc64: from a guest's real addresses to physical ones (Power ISA 3.0B, book III,
//! 5.7.10 and 5.7.6.2).
//!
//! Tables and entries are those of [`Radix`], with two differences. The input address has no quadrant: it is its
//! low 52 bits. And the bit for privileged accesses has no meaning to the CPU, so a bit that belongs to software
//! takes its place:
//!
//! ```text
//!             63  62  60 ................................ 9   8   7   6   5..4   3   2   1   0
//!           +---+---+--------------------------------+------+---+---+---+-----+---+---+---+---+
//!  leaf     | V | 1 | page                           | !USER| R | C | 0 | ATT | 0 | r | w | x |
//!           +---+---+--------------------------------+------+---+---+---+-----+---+---+---+---+
//! ```
//!
//! R and C are set from the start. So no access of a guest needs an update of the table, and a hypervisor that reports
//! a clear bit as a fault does not do so.

// UNSAFETY: vouches for the bits of the format.
#![expect(unsafe_code)]

use super::pte::Radix;
use hotmem_paging::addr::PhysAddr;
use hotmem_paging::{Attr, Entry, LeafTest, Level, PteFormat};

/// A leaf without [`Attr::USER`]: the last of the four bits that the CPU leaves to software.
const NOT_USER: u64 = 0x200;

/// The format of second-stage tables of pages of 2^`SHIFT` bytes: 12 or 16.
#[derive(Clone, Copy, Debug)]
pub struct Partition<const SHIFT: u32>;

// SAFETY: the bits are those of partition-scoped Power ISA radix trees (v3.0 book III 5.7.10), and the invariants are
// tested beside it.
unsafe impl<const SHIFT: u32> PteFormat for Partition<SHIFT> {
    const LEVELS: &'static [Level] = Radix::<SHIFT>::LEVELS;

    const PHYS_LIMIT: u64 = Radix::<SHIFT>::PHYS_LIMIT;

    #[inline]
    fn encode(entry: Entry, level: usize) -> u64 {
        let Entry::Leaf(at, attr) = entry else { return Radix::<SHIFT>::encode(entry, level) };
        let word = Radix::<SHIFT>::encode(Entry::Leaf(at, attr | Attr::USER), level);
        if attr.contains(Attr::USER) { word } else { word | NOT_USER.to_be() }
    }

    #[inline]
    fn decode(word: u64, level: usize) -> Entry {
        match Radix::<SHIFT>::decode(word, level) {
            Entry::Leaf(at, mut attr) => {
                attr.set(Attr::USER, u64::from_be(word) & NOT_USER == 0);
                Entry::Leaf(at, attr)
            }
            other => other,
        }
    }

    #[inline]
    fn leaf_test(level: usize) -> LeafTest {
        Radix::<SHIFT>::leaf_test(level)
    }
}

/// Bits of an input address.
pub const GUEST_BITS: u32 = 52;

/// Entries of a partition table of 4 KiB: one for each number of a partition.
pub const PARTITIONS: usize = 4096 / 16;

/// The first doubleword of a partition table's entry, as it is stored: the host translates by a radix tree (HR), the
/// one at `root`; its sizes are those of a process table's entry. The second doubleword names the process table of
/// the guest, and is zero for one that translates nothing itself.
pub const fn partition_entry(root: PhysAddr) -> u64 {
    super::pte::process_entry(root) | (1_u64 << 63).to_be()
}

#[cfg(test)]
mod tests;
