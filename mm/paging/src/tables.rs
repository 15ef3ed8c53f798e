//! The tree of tables: the access to its entries, and the walk towards one address.

// UNSAFETY: turns the machine's pointers to table frames into slices of atomic entries.
#![expect(unsafe_code)]

use super::{
    Entry, Gather, MapError, Mapper, Mapping, PhysMem, PteFormat, TableAt, TableFrame, TableFrames,
};
use super::{StrangeEntry, Tlb, Translation, UnmapError};
use crate::addr::{Address, AddressRange, PhysAddr, Space, Virtual};

use core::fmt;
use core::marker::PhantomData;
use core::sync::atomic::{AtomicU64, Ordering};

/// The highest number of levels in a format.
pub(super) const MAX_LEVELS: usize = 6;

/// A live tree of page tables in format `F`, whose input addresses are of `I`.
///
/// A value of this type means: the root and everything below it are tables of `F`, reachable through `P`, and no
/// other code changes them.
pub struct Tables<F: PteFormat, P: PhysMem, T: Tlb<I>, I: Space = Virtual> {
    pub(super) root: PhysAddr,
    mem: P,
    tlb: T,
    /// Bytes of the largest leaf that is written.
    largest_leaf: u64,
    /// One past the highest physical address that is written.
    phys_limit: u64,
    format: PhantomData<fn() -> (F, I)>,
}

/// The entry at which a walk towards an address stopped: a leaf, or an empty slot.
pub(super) struct Stop {
    /// Its level.
    pub(super) level: usize,
    /// The tables that lead to it, from the root to the one that holds the entry, at index `level`.
    pub(super) path: [PhysAddr; MAX_LEVELS],
    /// Its content.
    pub(super) entry: Entry,
}

impl<F: PteFormat, P: PhysMem, T: Tlb<I>, I: Space> Tables<F, P, T, I> {
    /// Bytes (and alignment) of the root table.
    pub const ROOT_BYTES: u64 = F::LEVELS[0].table_bytes();

    /// The levels fit together: each table spans as much as one entry of the level above.
    const FITS: () = {
        let levels = F::LEVELS;
        assert!(!levels.is_empty() && levels.len() <= MAX_LEVELS);
        assert!(levels[levels.len() - 1].leaf);
        assert!(levels[0].shift + levels[0].bits < 64);
        let mut i = 1;
        while i < levels.len() {
            assert!(levels[i - 1].shift == levels[i].shift + levels[i].bits);
            i += 1;
        }
    };

    /// Takes over the tree at `root`.
    ///
    /// # Safety
    ///
    /// - `root` names [`ROOT_BYTES`](Self::ROOT_BYTES) of RAM that hold zeroes or a tree of format `F`, and that
    ///   only this value (and the hardware) accesses from now on. `mem`'s pointers to its tables are valid for all
    ///   bytes of a table. Below the root no table is empty except those that [`TableFrames::keeps`] names.
    /// - `mem` reaches the frames that are given to `map`.
    /// - No call that changes the tree runs at the same time as any other call on it.
    /// - A caller that unmaps a range no longer uses it, and one that maps a range aliases no Rust object by it.
    pub const unsafe fn new(root: PhysAddr, mem: P, tlb: T) -> Self {
        let () = Self::FITS;
        let phys_limit = F::PHYS_LIMIT;
        Self { root, mem, tlb, largest_leaf: u64::MAX, phys_limit, format: PhantomData }
    }

    /// The same tree for an MMU with less than its format: without leaves larger than `largest_leaf` bytes, and
    /// without physical addresses from `phys_limit` on. A leaf with address bits that the CPU does not have faults
    /// when it is used (Intel SDM vol. 3A 4.6.1, reserved bits; Arm ARM D8.2.3).
    #[must_use]
    pub const fn limited(mut self, largest_leaf: u64, phys_limit: PhysAddr) -> Self {
        if largest_leaf < self.largest_leaf {
            self.largest_leaf = largest_leaf;
        }
        if phys_limit.get() < self.phys_limit {
            self.phys_limit = phys_limit.get();
        }
        self
    }

    /// Bytes of the largest leaf of a mapping whose leaves should have at most `max_leaf` bytes.
    pub(super) fn largest_leaf(&self, max_leaf: u64) -> u64 {
        max_leaf.min(self.largest_leaf)
    }

    /// One past the highest physical address that a leaf can map.
    pub(super) const fn phys_limit(&self) -> u64 {
        self.phys_limit
    }

    /// The table where a walk starts.
    pub const fn root(&self) -> PhysAddr {
        self.root
    }

    /// The machine's memory, as the walker reaches it.
    pub const fn mem(&self) -> &P {
        &self.mem
    }

    /// The translation caches over the tree.
    pub(super) const fn caches(&self) -> &T {
        &self.tlb
    }

    /// The entries of the table at `frame`, a table of `level` in this tree.
    pub(super) fn slots(&self, frame: PhysAddr, level: usize) -> &[AtomicU64] {
        let first = self.mem.pointer(frame).cast::<AtomicU64>();
        // SAFETY: by the contract of `new` each table of the tree is RAM of its size that `pointer` reaches as a
        // whole; a table's address is a multiple of its size, so of 8; all accesses here are atomic, and the slice
        // is not kept over a call that frees tables.
        unsafe { core::slice::from_raw_parts(first.as_ptr(), F::LEVELS[level].entries()) }
    }

    /// Fills a frame with empty entries before it becomes part of the tree.
    pub(super) fn zero(&self, frame: &TableFrame) {
        let first = self.mem.pointer(frame.at());
        // SAFETY: a table frame is RAM of its size that has no other use and that `mem` reaches, by the contract of
        // `TableFrame::new`; no walk can reach it yet.
        unsafe { first.write_bytes(0, frame.bytes() as usize) }
    }

    /// Removes the table of `level` on the path of `stop`, which leads to `at`, from the tree. Returns its frame,
    /// and the entries of the table above.
    pub(super) fn take_out(
        &self,
        stop: &Stop,
        level: usize,
        at: Address<I>,
    ) -> (TableFrame, &[AtomicU64]) {
        let parents = self.slots(stop.path[level - 1], level - 1);
        parents[F::LEVELS[level - 1].index(at.get())].store(0, Ordering::Release);
        let bytes = F::LEVELS[level].table_bytes();
        // SAFETY: a table of this tree was a table frame of its level's size, or existed before, by the contract of
        // `new`; its entry is cleared, so only this value and walks under way reach it, and those end with the
        // flush, before which the gather frees no frame.
        (unsafe { TableFrame::new(stop.path[level], bytes) }, parents)
    }

    /// Walks from the root towards `at` until an entry is not a table.
    #[inline]
    pub(super) fn walk(&self, at: Address<I>) -> Stop {
        let mut path = [self.root; MAX_LEVELS];
        let mut level = 0;
        loop {
            let slots = self.slots(path[level], level);
            let index = F::LEVELS[level].index(at.get());
            // Pairs with the release store that linked a table: the table below is initialised.
            let entry = F::decode(slots[index].load(Ordering::Acquire), level);
            match entry {
                Entry::Table(next) if level + 1 < F::LEVELS.len() => {
                    level += 1;
                    path[level] = next;
                }
                _ => return Stop { level, path, entry },
            }
        }
    }

    /// Whether the MMU can translate every address of a range that is not empty.
    pub(super) fn reaches(range: AddressRange<I>) -> bool {
        let span = F::LEVELS[0].shift + F::LEVELS[0].bits;
        let last = range.end().get().wrapping_sub(1);
        let known = |at: u64| F::canonical(at & ((1 << span) - 1)) == at;
        known(range.start().get()) && known(last) && range.start().get() >> span == last >> span
    }

    /// The leaf at which a walk towards `at` stopped, if it stopped at one.
    pub(super) fn leaf(at: Address<I>, stop: &Stop) -> Option<Translation<I>> {
        let Entry::Leaf(phys, attr) = stop.entry else {
            return None;
        };
        let len = F::LEVELS[stop.level].span();
        Some(Translation { virt: at.align_down(len), phys, len, attr })
    }
}

// SAFETY: the walker writes entries of a format that the MMU understands, clears an entry before it reports that to
// the gather, and reads the entries that the MMU walks.
unsafe impl<F: PteFormat, P: PhysMem, T: Tlb<I>, I: Space> Mapper<I> for Tables<F, P, T, I> {
    type Tlb = T;

    fn tlb(&self) -> &T {
        self.caches()
    }

    fn tables_for(&self, range: AddressRange<I>, max_leaf: u64, each: &mut dyn FnMut(u64, u64)) {
        let first = range.start().get();
        let Some(len) = range.len().checked_sub(1) else {
            return;
        };
        let last = range.start().add(len).get();
        let max_leaf = self.largest_leaf(max_leaf);
        for (level, below) in F::LEVELS.iter().zip(&F::LEVELS[1..]) {
            if !level.leaf || level.span() > max_leaf {
                let count = (last >> level.shift) - (first >> level.shift) + 1;
                each(below.table_bytes(), count);
            }
        }
    }

    fn map<S: TableFrames>(&self, mapping: &Mapping<I>, frames: &S) -> Result<(), MapError<I>> {
        self.map_range(mapping, frames)
    }

    fn unmap<S: TableFrames>(
        &self,
        range: AddressRange<I>,
        gather: &mut Gather<'_, T, S, I>,
    ) -> Result<(), UnmapError<I>> {
        self.unmap_range(range, gather)
    }

    fn translate(&self, at: Address<I>) -> Option<Translation<I>> {
        let byte = AddressRange::new(at, 1)?;
        if Self::reaches(byte) { Self::leaf(at, &self.walk(at)) } else { None }
    }

    fn visit(&self, range: AddressRange<I>, each: &mut dyn FnMut(Translation<I>)) {
        self.visit_leaves(range, each);
    }

    fn visit_tables(&self, each: &mut dyn FnMut(TableAt<I>)) {
        self.visit_all_tables(each);
    }

    fn examine(&self, each: &mut dyn FnMut(TableAt<I>) -> bool) -> Option<StrangeEntry<I>> {
        self.examine_tables(each)
    }
}

impl<F: PteFormat, P: PhysMem, T: Tlb<I>, I: Space> fmt::Debug for Tables<F, P, T, I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tables").field("root", &self.root).finish_non_exhaustive()
    }
}
