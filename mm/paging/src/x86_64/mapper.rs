//! The crate's tables behind a lock, as the operations use them.

// UNSAFETY: vouches for the tables of the crate `x86_64` as a mapper.
#![expect(unsafe_code)]

use super::access::TableAccess;
use super::change;
use super::slot::{LAST, Stop, TABLE_BYTES, span};
use super::visit::{self, Node};
use crate::addr::{PhysAddr, VirtAddr, VirtRange};
use crate::{
    Gather, MapError, Mapper, Mapping, StrangeEntry, TableAt, TableFrames, Tlb, Translation,
    UnmapError,
};

use ::x86_64::structures::paging::PhysFrame;
use core::fmt;

/// The number of bits of a physical address in an entry.
const PHYS_BITS: u32 = 52;

/// Page tables of the crate `x86_64` behind a lock `L`: the [`Mapper`] of a kernel that has such tables.
///
/// `L` is a `RawMutex` of the crate `lock_api`: `hotmem::SpinLock`, or `spin::Mutex<()>` with that crate's feature
/// `lock_api`.
///
/// The lock is held for the whole of each call, and need not be re-entrant. If [`Tlb::flush`] waits for other CPUs,
/// a CPU that waits for the lock must serve their requests, as for the locks of the manager.
pub struct LockedTables<T, B, L: lock_api::RawMutex> {
    tables: lock_api::Mutex<L, T>,
    root: PhysFrame,
    tlb: B,
    largest_leaf: u64,
    phys_limit: u64,
}

impl<T: TableAccess, B: Tlb, L: lock_api::RawMutex> LockedTables<T, B, L> {
    /// Puts the tables whose root is in the frame `root` behind a lock. `tlb` are the translation caches over them.
    ///
    /// Leaves have at most 2 MiB; see [`limited`](Self::limited).
    ///
    /// # Safety
    ///
    /// - Only this value changes the tables that it reaches from now on, except those below root entries in which
    ///   the user of the mapper maps nothing. A `RecursivePageTable` was made by `RecursivePageTable::new`.
    /// - Every table of level 1 to 3 on the way to an address that the user of the mapper unmaps was made by this
    ///   value, or is one that [`TableFrames::keeps`] names.
    /// - The tables reach the frames that are given to `map`.
    /// - EFER.NXE is set: leaves that must not be executed have bit 63.
    /// - A caller that unmaps a range no longer uses it, and one that maps a range aliases no Rust object by it.
    pub const unsafe fn new(tables: T, root: PhysFrame, tlb: B) -> Self {
        let tables = lock_api::Mutex::const_new(L::INIT, tables);
        Self { tables, root, tlb, largest_leaf: span(2), phys_limit: 1 << PHYS_BITS }
    }

    /// The same tables for a CPU that has leaves of up to `largest_leaf` bytes (1 GiB if CPUID says so), and
    /// physical addresses below `phys_limit`.
    #[must_use]
    pub const fn limited(mut self, largest_leaf: u64, phys_limit: PhysAddr) -> Self {
        self.largest_leaf = largest_leaf;
        if phys_limit.get() < 1 << PHYS_BITS {
            self.phys_limit = phys_limit.get();
        }
        self
    }

    /// Calls `with` with the tables, for mappings of the kernel's own, and the lock held.
    ///
    /// `with` must not call the memory manager, not even for frames: it takes them before.
    ///
    /// # Safety
    ///
    /// `with` changes nothing in the ranges that belong to the user of the mapper, and frees no table on the way to
    /// them. A table that it makes lies below a root entry in which the user of the mapper maps nothing.
    pub unsafe fn with<R>(&self, with: impl FnOnce(&mut T) -> R) -> R {
        with(&mut self.tables.lock())
    }

    /// Refuses mappings that no entry can express.
    fn check(&self, mapping: &Mapping) -> Result<(), MapError> {
        let Mapping { virt, phys, len, .. } = *mapping;
        if (virt.get() | phys.get() | len) & (span(LAST) - 1) != 0 {
            return Err(MapError::Misaligned { virt, phys, len });
        }
        let low_enough = phys.checked_add(len).is_some_and(|end| end.get() <= self.phys_limit);
        match VirtRange::new(virt, len) {
            Some(range) if low_enough && reaches(range) => Ok(()),
            _ => Err(MapError::BeyondFormat { virt, phys, len }),
        }
    }
}

/// Whether the CPU can translate every address of a range that is not empty.
fn reaches(range: VirtRange) -> bool {
    let last = range.start().get().wrapping_add(range.len() - 1);
    let known = |at| ::x86_64::VirtAddr::try_new(at).is_ok();
    known(range.start().get()) && known(last) && range.start().get() >> 47 == last >> 47
}

// SAFETY: the crate's functions write entries that the CPU understands. An entry is cleared before it is given to the gather
// of it, and look-ups read the entries that the CPU walks.
unsafe impl<T: TableAccess, B: Tlb, L: lock_api::RawMutex> Mapper for LockedTables<T, B, L> {
    type Tlb = B;

    fn tlb(&self) -> &B {
        &self.tlb
    }

    fn map<S: TableFrames>(&self, mapping: &Mapping, frames: &S) -> Result<(), MapError> {
        if mapping.len == 0 {
            return Ok(());
        }
        self.check(mapping)?;
        let tables = &mut *self.tables.lock();
        let max_leaf = mapping.max_leaf.min(self.largest_leaf);
        // The cursor: everything below it is mapped, and nothing above it.
        let mut done = 0;
        while done < mapping.len {
            let (virt, phys) = (mapping.virt.add(done), mapping.phys.add(done));
            let rest = Mapping { virt, phys, len: mapping.len - done, max_leaf, ..*mapping };
            match change::map_leaf(tables, &rest, frames) {
                Ok(bytes) => done += bytes,
                Err(error) => {
                    let mut gather = Gather::new(&self.tlb, frames);
                    change::prune(tables, virt, &mut gather);
                    if let Some(made) = VirtRange::new(mapping.virt, done) {
                        change::clear(tables, made, &mut gather);
                    }
                    return Err(gather.flush().err().map_or(error, MapError::NotFlushed));
                }
            }
        }
        self.tlb.publish();
        Ok(())
    }

    fn unmap<S: TableFrames>(
        &self,
        range: VirtRange,
        gather: &mut Gather<'_, B, S>,
    ) -> Result<(), UnmapError> {
        if range.is_empty() {
            return Ok(());
        }
        if !reaches(range) {
            return Err(UnmapError::BeyondFormat { range });
        }
        let tables = &mut *self.tables.lock();
        change::check_ends(tables, range)?;
        change::clear(tables, range, gather);
        Ok(())
    }

    fn translate(&self, at: VirtAddr) -> Option<Translation> {
        ::x86_64::VirtAddr::try_new(at.get()).ok()?;
        Stop::at(&*self.tables.lock(), at).leaf(at)
    }

    fn visit(&self, range: VirtRange, each: &mut dyn FnMut(Translation)) {
        let (root, tables) =
            (PhysAddr::new(self.root.start_address().as_u64()), self.tables.lock());
        visit::all(&*tables, root, &mut |node| match node {
            // The root spans two separate ranges: never skipped.
            Node::Table(table) => {
                table.level == 0 || visit::overlaps(table.virt, table.span, range)
            }
            Node::Leaf(leaf) => {
                if visit::overlaps(leaf.virt, leaf.len, range) {
                    each(leaf);
                }
                false
            }
        });
    }

    fn tables_for(&self, range: VirtRange, max_leaf: u64, each: &mut dyn FnMut(u64, u64)) {
        let Some(len) = range.len().checked_sub(1) else { return };
        let (first, last) = (range.start().get(), range.start().add(len).get());
        for level in 0..LAST {
            // Tables below an entry of this level: none if it can be a leaf.
            if level == 0 || span(level) > max_leaf.min(self.largest_leaf) {
                each(TABLE_BYTES, last / span(level) - first / span(level) + 1);
            }
        }
    }

    fn visit_tables(&self, each: &mut dyn FnMut(TableAt)) {
        let (root, tables) =
            (PhysAddr::new(self.root.start_address().as_u64()), self.tables.lock());
        visit::all(&*tables, root, &mut |node| match node {
            Node::Table(table) => {
                each(table);
                true
            }
            Node::Leaf(_) => false,
        });
    }

    /// A loader's tables may have words that this mapper never stores: no word is strange.
    fn examine(&self, each: &mut dyn FnMut(TableAt) -> bool) -> Option<StrangeEntry> {
        let (root, tables) =
            (PhysAddr::new(self.root.start_address().as_u64()), self.tables.lock());
        visit::all(&*tables, root, &mut |node| match node {
            Node::Table(table) => each(table),
            Node::Leaf(_) => false,
        });
        None
    }
}

impl<T, B, L: lock_api::RawMutex> fmt::Debug for LockedTables<T, B, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LockedTables").field("root", &self.root).finish_non_exhaustive()
    }
}
