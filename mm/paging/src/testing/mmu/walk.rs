//! The hardware's walk.

use super::SoftMmu;
use crate::addr::PhysAddr;
use crate::{Attr, Entry, Level, PteFormat};
use core::sync::atomic::Ordering;

/// The highest number of levels in a format.
pub(super) const MAX_LEVELS: usize = 6;

/// The result of the hardware's walk.
pub(super) struct Walk {
    /// The tables below the root, by level; the root's entry is unused.
    pub(super) tables: [Option<PhysAddr>; MAX_LEVELS],
    /// First virtual address, target and attributes of the leaf.
    pub(super) leaf: Option<(u64, PhysAddr, Attr)>,
}

impl Walk {
    /// The page of `bytes` that contains `at`.
    pub(super) fn page(&self, at: u64, bytes: u64) -> Option<(PhysAddr, Attr)> {
        let (virt, phys, attr) = self.leaf?;
        Some((phys.add((at & !(bytes - 1)) - virt), attr))
    }
}

impl<F: PteFormat> SoftMmu<F> {
    /// Reads the entry of the table at `frame` that translates `at`.
    pub(super) fn entry(&self, frame: PhysAddr, level: usize, at: u64) -> Entry {
        let index = F::LEVELS[level].index(at) as u64;
        F::decode(self.word(frame.add(8 * index)).load(Ordering::SeqCst), level)
    }

    /// The hardware's walk.
    pub(super) fn walk(&self, at: u64) -> Walk {
        let mut walk = Walk { tables: [None; MAX_LEVELS], leaf: None };
        let mut frame = self.root;
        for (level, here) in F::LEVELS.iter().enumerate() {
            match self.entry(frame, level, at) {
                Entry::Absent => break,
                Entry::Table(next) => {
                    walk.tables[level + 1] = Some(next);
                    frame = next;
                }
                Entry::Leaf(phys, attr) => {
                    walk.leaf = Some((first(here, at), phys, attr));
                    break;
                }
            }
        }
        walk
    }
}

/// The first address that the entry of `level` for `at` translates.
pub(super) fn first(level: &Level, at: u64) -> u64 {
    at & !(level.span() - 1)
}
