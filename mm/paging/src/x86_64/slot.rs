//! One entry of a table, the walk that leads to it, and the accesses that it allows.

// UNSAFETY: reads tables by pointers that `TableAccess` vouches for.
#![expect(unsafe_code)]

use super::access::TableAccess;
use crate::addr::{PhysAddr, VirtAddr};
use crate::{Attr, Translation};

use ::x86_64::structures::paging::page_table::PageTableEntry;
use ::x86_64::structures::paging::{PageTable, PageTableFlags as Flags, PageTableIndex, PhysFrame};
use core::ptr::NonNull;

/// Levels below which there is no table.
pub(super) const LAST: usize = 3;
/// Entries of a table.
pub(super) const ENTRIES: usize = 512;
/// Bytes of a table.
pub(super) const TABLE_BYTES: u64 = 4096;

/// Bytes that an entry of `level` translates.
pub(super) const fn span(level: usize) -> u64 {
    1 << (39 - 9 * level)
}

/// The index of the entry of `level` that leads to `at`.
pub(super) fn index(at: VirtAddr, level: usize) -> PageTableIndex {
    PageTableIndex::new_truncate((at.get() / span(level)) as u16)
}

/// The content of an entry.
#[derive(Clone, Copy, Debug)]
pub(super) enum Slot {
    /// Nothing.
    Empty,
    /// A table of the next level.
    Table(PhysFrame),
    /// A translation.
    Leaf(PhysAddr, Attr),
    /// Something of the kernel's own that translates nothing.
    Other,
}

impl Slot {
    /// Reads an entry of `level`.
    pub(super) fn read(entry: &PageTableEntry, level: usize) -> Self {
        let flags = entry.flags();
        let huge = flags.contains(Flags::HUGE_PAGE);
        if entry.is_unused() {
            Self::Empty
        } else if !flags.contains(Flags::PRESENT) || (level == 0 && huge) {
            Self::Other
        } else if level < LAST && !huge {
            Self::Table(PhysFrame::containing_address(entry.addr()))
        } else {
            // In a larger leaf the bits below its span hold no address (bit 12 is PAT).
            let at = PhysAddr::new(entry.addr().as_u64()).align_down(span(level));
            Self::Leaf(at, attr(flags))
        }
    }
}

/// The entry at which a walk towards an address ended: anything but a table.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stop {
    /// Its level.
    pub(super) level: usize,
    /// Its content.
    pub(super) slot: Slot,
    /// The tables that lead to it below the root: of level 1 at index 0, and so on to that which holds the entry.
    pub(super) tables: [NonNull<PageTable>; LAST],
    /// Their frames.
    pub(super) frames: [Option<PhysFrame>; LAST],
}

impl Stop {
    /// Walks from the root towards `at`.
    pub(super) fn at<T: TableAccess>(tree: &T, at: VirtAddr) -> Self {
        let mut stop = Self {
            level: 0,
            slot: Slot::Empty,
            tables: [NonNull::dangling(); LAST],
            frames: [None; LAST],
        };
        let path = [0, 1, 2].map(|level| index(at, level));
        let mut table = tree.root();
        loop {
            stop.slot = Slot::read(&table[index(at, stop.level)], stop.level);
            let Slot::Table(frame) = stop.slot else { return stop };
            let below = tree.table(frame, &path[..=stop.level]);
            stop.tables[stop.level] = below;
            stop.frames[stop.level] = Some(frame);
            stop.level += 1;
            // SAFETY: the entry leads to a table in that frame, and `tree` is borrowed for as long as this is used.
            table = unsafe { below.as_ref() };
        }
    }

    /// The leaf, if it is one; the walk was towards `at`.
    pub(super) fn leaf(&self, at: VirtAddr) -> Option<Translation> {
        let Slot::Leaf(phys, attr) = self.slot else { return None };
        let len = span(self.level);
        Some(Translation { virt: at.align_down(len), phys, len, attr })
    }
}

/// The flags of a leaf. Accessed and dirty are set from the start, so that the CPU never writes to a table.
pub(super) fn flags(attr: Attr) -> Flags {
    let mut flags = Flags::PRESENT | Flags::ACCESSED | Flags::DIRTY;
    flags.set(Flags::WRITABLE, attr.contains(Attr::WRITE));
    flags.set(Flags::USER_ACCESSIBLE, attr.contains(Attr::USER));
    flags.set(Flags::NO_EXECUTE, !attr.contains(Attr::EXECUTE));
    // Entry 3 of the PAT is UC after reset (Intel SDM vol. 3A 12.12.4).
    flags.set(Flags::NO_CACHE | Flags::WRITE_THROUGH, attr.contains(Attr::DEVICE));
    flags
}

/// The flags of the entries above it: the leaf decides on stores, and on fetches.
pub(super) fn parent_flags(attr: Attr) -> Flags {
    let mut flags = Flags::PRESENT | Flags::WRITABLE;
    flags.set(Flags::USER_ACCESSIBLE, attr.contains(Attr::USER));
    flags
}

/// The accesses that a leaf with these flags allows.
fn attr(flags: Flags) -> Attr {
    let mut attr = Attr::empty();
    attr.set(Attr::WRITE, flags.contains(Flags::WRITABLE));
    attr.set(Attr::USER, flags.contains(Flags::USER_ACCESSIBLE));
    attr.set(Attr::EXECUTE, !flags.contains(Flags::NO_EXECUTE));
    attr.set(Attr::DEVICE, flags.contains(Flags::NO_CACHE | Flags::WRITE_THROUGH));
    attr
}
