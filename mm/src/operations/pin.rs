//! Root entries of the windows that never change, so that address spaces can share them.
//!
//! ```text
//!   root of the manager's tables   [ . | text | linear, linear, ... | memmap ]
//!                                                |          |          |       tables made at boot, never freed
//!   root of a process              [ u |  u   | linear, linear, ... | memmap ]
//! ```

use crate::addr::{PhysAddr, VirtAddr, VirtRange};
use crate::memmap::roots::RootEntries;
use crate::operations::boot::{EarlyFrames, EarlyTables};
use crate::paging::{
    Attr, Gather, MapError, Mapper, Mapping, OutOfFrames, TableFrame, TableFrames, UnmapError,
};
use core::cell::{Cell, RefCell};

/// Spare frames that are kept: as many tables as lead from an entry of the root to a page.
const SPARE: usize = 8;

/// The reason why an entry was not pinned.
pub(super) enum PinError {
    /// The entry that begins here points to no table: it is a leaf, or the mapper freed the table that must be kept.
    NoTable(VirtAddr),
    /// The mapper's error.
    Map(MapError),
}

/// Creates an empty table for each of `entries` that has none; these tables stay. `page` is a page of RAM.
pub(super) fn pin(
    entries: RootEntries,
    mapper: &impl Mapper,
    early: &mut dyn EarlyFrames,
    page: (PhysAddr, u64),
) -> Result<(), PinError> {
    let frames = Pinned::new(early);
    for first in entries.batches() {
        for at in entries.of_bits(first, entries.missing(mapper, first)) {
            frames.top.set(None);
            pin_one(mapper, &frames, at, page)?;
        }
    }
    entries.without_table(mapper).map_or(Ok(()), |at| Err(PinError::NoTable(at)))
}

/// Maps a page at `at`, for reading, and unmaps it again, but keeps the first of the tables that this allocated.
fn pin_one(
    mapper: &impl Mapper,
    frames: &Pinned<'_>,
    at: VirtAddr,
    (phys, len): (PhysAddr, u64),
) -> Result<(), PinError> {
    let mapping = Mapping { virt: at, phys, len, attr: Attr::empty(), max_leaf: len };
    mapper.map(&mapping, frames).map_err(|error| match error {
        // Only a leaf in the root itself can be in the way.
        MapError::AlreadyMapped { .. } => PinError::NoTable(at),
        error => PinError::Map(error),
    })?;
    let mut gather = Gather::new(mapper.tlb(), frames);
    let unmapped = mapper.unmap(VirtRange::new(at, len).unwrap_or_default(), &mut gather);
    gather.conclude(unmapped).map_err(|error| match error {
        UnmapError::NotFlushed(cpu) => PinError::Map(MapError::NotFlushed(cpu)),
        _ => PinError::NoTable(at),
    })
}

/// The early allocator as a source of tables of which the first is never freed. Freed tables are used for the next
/// entry; the few that are left at the end stay unused.
struct Pinned<'e> {
    early: RefCell<&'e mut dyn EarlyFrames>,
    /// The first table that was allocated for the entry.
    top: Cell<Option<PhysAddr>>,
    spare: RefCell<[Option<TableFrame>; SPARE]>,
}

impl<'e> Pinned<'e> {
    fn new(early: &'e mut dyn EarlyFrames) -> Self {
        let early = RefCell::new(early);
        Self { early, top: Cell::new(None), spare: RefCell::default() }
    }

    fn take_spare(&self, bytes: u64) -> Option<TableFrame> {
        let mut spare = self.spare.borrow_mut();
        let fits = |slot: &&mut Option<TableFrame>| {
            slot.as_ref().is_some_and(|frame| frame.bytes() == bytes)
        };
        spare.iter_mut().find(fits)?.take()
    }
}

impl Drop for Pinned<'_> {
    fn drop(&mut self) {
        for frame in self.spare.get_mut().iter_mut().filter_map(Option::take) {
            let _unused = frame.into_raw();
        }
    }
}

impl TableFrames for Pinned<'_> {
    fn take(&self, bytes: u64) -> Result<TableFrame, OutOfFrames> {
        let early = || EarlyTables::new(&mut **self.early.borrow_mut()).take(bytes);
        let frame = self.take_spare(bytes).map_or_else(early, Ok)?;
        self.top.set(self.top.get().or(Some(frame.at())));
        Ok(frame)
    }

    fn give_back(&self, frame: TableFrame) {
        match self.spare.borrow_mut().iter_mut().find(|slot| slot.is_none()) {
            Some(slot) => *slot = Some(frame),
            None => _ = frame.into_raw(),
        }
    }

    fn keeps(&self, frame: PhysAddr) -> bool {
        self.top.get() == Some(frame)
    }
}
