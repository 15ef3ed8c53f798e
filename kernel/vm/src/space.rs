//! The memory of a guest: its second-stage tables, and the ranges that are being moved.
//!
//! ```text
//!   break_batch: for each extent clear its leaf, note its range; flush once
//!   (the extents are copied, without the lock)
//!   map_batch:   for each extent a leaf for the copy, forget its range
//! ```

use crate::Shared;
use crate::platform::Platform;
use crate::residence::Residence;
use crate::switch::{Fresh, GuestTables, Root};
use crate::vms::VmId;
use crate::word::PageWord;
use alloc::sync::Arc;
use hotmem::paging::{
    Attr, Gather, Guest, GuestAddr, GuestRange, MapError, Mapper, Mapping, OutOfFrames, TableFrame,
    TableFrames, Translation,
};
use hotmem::{Move, Order, Pfn};

/// The accesses of a guest to its memory.
const ACCESS: Attr = Attr::WRITE.union(Attr::EXECUTE).union(Attr::USER);

/// The most extents that are moved at once: those of a batch of the manager.
const MOST_MOVING: usize = 64;

/// What a guest finds at an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// Memory.
    Memory,
    /// Memory that is being moved.
    Moving,
    /// Nothing.
    Nothing,
}

/// What moves have done to a guest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Moved {
    /// Pages moved.
    pub(crate) pages: u64,
    /// Tables moved.
    pub(crate) tables: u64,
    /// The longest time from the first cleared leaf of a batch to its last new one, in instructions.
    pub(crate) longest_pause: u64,
}

/// Mapping again what was cleared takes no table.
struct NoFrames;

impl TableFrames for NoFrames {
    fn take(&self, bytes: u64) -> Result<TableFrame, OutOfFrames> {
        Err(OutOfFrames { bytes })
    }

    fn give_back(&self, frame: TableFrame) {
        self.strand(frame);
    }
}

/// The memory of a guest.
#[derive(Debug)]
pub(crate) struct Space<M: Shared, P: Platform> {
    id: VmId,
    pub(crate) ram: GuestRange,
    /// The size of its extents.
    pub(crate) order: Order,
    pub(crate) tables: GuestTables<M, P>,
    pub(crate) root: Arc<Root<M>>,
    pub(crate) residence: Arc<Residence>,
    /// The ranges without a leaf because they are being moved; the first `moves` are in use.
    moving: [GuestRange; MOST_MOVING],
    moves: usize,
    /// When the batch under way began.
    begun: u64,
    pub(crate) moved: Moved,
}

impl<M: Shared, P: Platform> Space<M, P> {
    pub(crate) fn new(
        id: VmId,
        ram: GuestRange,
        order: Order,
        root: Arc<Root<M>>,
        residence: Arc<Residence>,
        tables: GuestTables<M, P>,
    ) -> Self {
        let moving = [GuestRange::EMPTY; MOST_MOVING];
        let moved = Moved::default();
        Self { id, ram, order, tables, root, residence, moving, moves: 0, begun: 0, moved }
    }

    /// The address of a page of the guest, by its frame number.
    fn address(frame: u64) -> GuestAddr {
        GuestAddr::new(frame.wrapping_mul(M::PAGE_BYTES))
    }

    /// The addresses of an extent.
    pub(crate) fn range(frame: u64, order: Order) -> Option<GuestRange> {
        GuestRange::new(Self::address(frame), order.pages() * M::PAGE_BYTES)
    }

    /// Maps a new extent at `frame`.
    pub(crate) fn map(
        &self,
        frame: u64,
        fresh: &Fresh,
        frames: &impl TableFrames,
    ) -> Result<(), MapError<Guest>> {
        let (virt, phys) = (Self::address(frame), M::address(fresh.pfn));
        let len = fresh.order.pages() * M::PAGE_BYTES;
        self.tables.map(&Mapping { virt, phys, len, attr: ACCESS, max_leaf: u64::MAX }, frames)
    }

    /// What the guest finds at `at`.
    pub(crate) fn find(&self, at: GuestAddr) -> Found {
        if self.tables.translate(at).is_some() {
            return Found::Memory;
        }
        let moving = self.moving().iter().any(|range| range.contains(at));
        if moving { Found::Moving } else { Found::Nothing }
    }

    /// The ranges that are being moved.
    pub(crate) fn moving(&self) -> &[GuestRange] {
        self.moving.get(..self.moves).unwrap_or_default()
    }

    /// The leaf of the extent that begins at `pfn`, if it is the one that `word` names.
    pub(crate) fn leaf(&self, word: PageWord, pfn: Pfn) -> Option<Translation<Guest>> {
        let leaf = self.tables.translate(Self::address(word.frame))?;
        let ours = word.vm == self.id.number()
            && leaf.target(Self::address(word.frame)) == M::address(pfn);
        ours.then_some(leaf)
    }

    /// Clears the leaves of the extents in `moves` that are this guest's, and flushes once. Refuses those that are
    /// not there, and all of them if a CPU does not acknowledge the flush.
    pub(crate) fn break_batch<'m>(&mut self, moves: impl Iterator<Item = &'m Move> + Clone) {
        self.begun = P::instructions();
        let mut gather = Gather::keeping_tables(self.tables.tlb(), NoFrames);
        for one in moves.clone() {
            let (word, from) = (PageWord::decode(one.from().private), one.from());
            let range =
                Self::range(word.frame, from.order).filter(|_| self.leaf(word, from.pfn).is_some());
            let slot = self.moving.get_mut(self.moves);
            match (range, slot) {
                (Some(range), Some(slot)) if self.tables.unmap(range, &mut gather).is_ok() => {
                    *slot = range;
                    self.moves += 1;
                }
                _ => one.refuse(),
            }
        }
        if let Err(error) = gather.flush() {
            log::error!("guest {}: {error}", self.id.number());
            for one in moves.filter(|one| !one.is_refused()) {
                self.restore(one, one.from().pfn);
                one.refuse();
            }
        }
    }

    /// Maps the copies of the extents in `moves`.
    pub(crate) fn map_batch<'m>(&mut self, moves: impl Iterator<Item = &'m Move>) {
        for one in moves {
            if self.restore(one, one.to()) {
                self.moved.pages += one.from().order.pages();
            } else {
                self.restore(one, one.from().pfn);
                one.refuse();
            }
        }
        let pause = P::instructions().wrapping_sub(self.begun);
        self.moved.longest_pause = self.moved.longest_pause.max(pause);
    }

    /// Maps the range of an extent that was cleared to the pages from `pfn` on. Returns whether that succeeded.
    fn restore(&mut self, one: &Move, pfn: Pfn) -> bool {
        let word = PageWord::decode(one.from().private);
        let Some(range) = Self::range(word.frame, one.from().order) else { return false };
        let Some(at) = self.moving().iter().position(|moving| *moving == range) else {
            return false;
        };
        let (virt, phys, len) = (range.start(), M::address(pfn), range.len());
        let mapping = Mapping { virt, phys, len, attr: ACCESS, max_leaf: u64::MAX };
        if let Err(error) = self.tables.map(&mapping, &NoFrames) {
            log::error!("guest {}: {error}", self.id.number());
            return false;
        }
        self.moves -= 1;
        self.moving.swap(at, self.moves);
        true
    }
}
