//! Which blocks of a device the request under way has changed, and in which zone they belong.
//!
//! A request that fails half-way puts back exactly what it changed: a block that was offline before
//! stays offline, one that was online goes back to its own zone. Two bits for each block, taken when
//! the driver is set up, so that undoing needs no memory.

use alloc::vec::Vec;

use hotmem::ZoneKind;

use super::owners::OutOfHeap;

/// Blocks that one device can have: 8 TiB in blocks of 128 MiB.
pub const MAX_BLOCKS: u64 = 65_536;

const BITS: u64 = 2;
const PER_WORD: u64 = 64 / BITS;

/// The note for one request at a time.
#[derive(Debug)]
pub(super) struct Touched {
    bits: Vec<u64>,
    /// Words that may hold a note: forgetting costs as much as was noted.
    used: usize,
}

impl Touched {
    pub(super) fn new() -> Result<Self, OutOfHeap> {
        let words = (MAX_BLOCKS / PER_WORD) as usize;
        let mut bits = Vec::new();
        bits.try_reserve_exact(words).map_err(|_| OutOfHeap)?;
        bits.resize(words, 0);
        Ok(Self { bits, used: 0 })
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.bits.iter_mut().take(self.used).for_each(|word| *word = 0);
        self.used = 0;
    }

    /// Whether nothing was changed.
    pub(super) const fn is_empty(&self) -> bool {
        self.used == 0
    }

    /// Notes that block `index` of the device was changed, and belongs in `zone`.
    pub(super) fn set(&mut self, index: u64, zone: ZoneKind) {
        // 0 stands for untouched.
        let bits = 1 + zone as u64;
        let (at, shift) = ((index / PER_WORD) as usize, index % PER_WORD * BITS);
        if let Some(word) = self.bits.get_mut(at) {
            // It may have been changed before, in another zone.
            *word = *word & !(3 << shift) | bits << shift;
            self.used = self.used.max(at + 1);
        }
    }

    /// Where block `index` belongs, if it was changed.
    pub(super) fn get(&self, index: u64) -> Option<ZoneKind> {
        let word = self.bits.get((index / PER_WORD) as usize)?;
        let bits = word >> (index % PER_WORD * BITS) & 3;
        ZoneKind::ALL.get(bits.checked_sub(1)? as usize).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_block_keeps_its_own_zone() {
        let mut touched = Touched::new().unwrap();
        assert!(touched.is_empty());
        touched.set(31, ZoneKind::Movable);
        assert!(!touched.is_empty());
        touched.set(32, ZoneKind::Normal);
        touched.set(MAX_BLOCKS - 1, ZoneKind::Movable);
        touched.set(MAX_BLOCKS, ZoneKind::Movable);
        assert_eq!(touched.get(30), None);
        assert_eq!(touched.get(31), Some(ZoneKind::Movable));
        assert_eq!(touched.get(32), Some(ZoneKind::Normal));
        assert_eq!(touched.get(MAX_BLOCKS - 1), Some(ZoneKind::Movable));
        assert_eq!(touched.get(MAX_BLOCKS), None);
        touched.set(31, ZoneKind::Normal);
        assert_eq!(touched.get(31), Some(ZoneKind::Normal));
        assert_eq!(touched.get(32), Some(ZoneKind::Normal));
        touched.clear();
        for index in [31, 32, MAX_BLOCKS - 1] {
            assert_eq!(touched.get(index), None);
        }
    }
}
