//! Nested page tables: guest-physical to physical addresses (AMD APM vol. 2 15.25; the entries are those of 5.3).
//!
//! ```text
//!    63   62..52    51 .......................... 12  11 10   9     8   7   6   5   4    3    2    1    0
//!   +----+---------+--------------------------------+-----+------+---+---+---+---+----+----+----+----+---+
//!   | NX | ignored | table, or leaf (low bits zero) |ignor| kept | G | PS| D | A |PCD |PWT | US | RW | P |
//!   +----+---------+--------------------------------+-----+------+---+---+---+---+----+----+----+----+---+
//!    US: 1 in each entry, since every access of a guest counts as one of user code (15.25.5)
//! ```
//!
//! The guest's own tables limit its unprivileged code, so [`Attr::USER`] changes nothing here: a bit that the CPU
//! ignores keeps it. Guest-physical addresses are not sign-extended.

// UNSAFETY: vouches for the bits of the format.
#![expect(unsafe_code)]

use super::pte::X86Pte4;
use hotmem_paging::{Attr, Entry, LeafTest, Level, PteFormat};

/// Ignored by the CPU: [`Attr::USER`].
const KEPT_USER: u64 = 1 << 9;

/// The format of nested paging on a host with four-level tables and EFER.NXE set.
///
/// A table entry allows every access. Accessed and Dirty are set from the start: the CPU writes to a table only where
/// Dirty was taken back, to find out what the guest writes.
#[derive(Clone, Copy, Debug)]
pub struct Npt;

// SAFETY: the bits are those of nested paging (AMD APM vol. 2 15.25), and the invariants are tested beside it.
unsafe impl PteFormat for Npt {
    const LEVELS: &'static [Level] = X86Pte4::LEVELS;
    const PHYS_LIMIT: u64 = X86Pte4::PHYS_LIMIT;
    const WRITTEN: u64 = X86Pte4::WRITTEN;

    /// The host's entries, as user code may access them. PCD and PWT select an entry of the host's PAT (15.25.8).
    #[inline]
    fn encode(entry: Entry, level: usize) -> u64 {
        let Entry::Leaf(at, attr) = entry else { return X86Pte4::encode(entry, level) };
        let word = X86Pte4::encode(Entry::Leaf(at, attr | Attr::USER), level);
        let kept = if attr.contains(Attr::USER) { KEPT_USER } else { 0 };
        word | kept
    }

    #[inline]
    fn decode(word: u64, level: usize) -> Entry {
        match X86Pte4::decode(word, level) {
            Entry::Leaf(at, mut attr) => {
                attr.set(Attr::USER, word & KEPT_USER != 0);
                Entry::Leaf(at, attr)
            }
            other => other,
        }
    }

    #[inline]
    fn leaf_test(level: usize) -> LeafTest {
        X86Pte4::leaf_test(level)
    }
}

#[cfg(test)]
mod tests;
