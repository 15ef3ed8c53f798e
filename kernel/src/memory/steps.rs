//! Steps of operations that fail on purpose, in an image with the lab: see [`hotmem_lab::fault`].

// UNSAFETY: passes on the guarantees of the kernel's page tables.
#![expect(unsafe_code)]

use core::fmt;
use hotmem::paging::{
    Gather, MapError, Mapper, Mapping, OutOfFrames, StrangeEntry, TableAt, TableFrame, TableFrames,
    TablePlace, Translation, UnmapError,
};
use hotmem::{PhysAddr, VirtAddr, VirtRange};
use hotmem_lab::fault::{Faults, Point};

/// The step that is to fail.
pub(crate) static FAULTS: Faults = Faults::new();

/// The call of firmware that is to fail.
pub(crate) static FIRMWARE: Faults = Faults::new();

/// The kernel's page tables, which fail where that was asked for.
pub struct Faulty<T>(T);

impl<T> Faulty<T> {
    pub(super) const fn new(tables: T) -> Self {
        Self(tables)
    }

    /// The page tables themselves.
    pub(super) const fn inner(&self) -> &T {
        &self.0
    }
}

impl<T> fmt::Debug for Faulty<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Faulty").finish_non_exhaustive()
    }
}

/// A source of frames that fails where that was asked for.
struct Frames<'s, S>(&'s S);

impl<S: TableFrames> TableFrames for Frames<'_, S> {
    fn take(&self, bytes: u64) -> Result<TableFrame, OutOfFrames> {
        if FAULTS.allows(Point::Table) { self.0.take(bytes) } else { Err(OutOfFrames { bytes }) }
    }

    fn take_for(&self, bytes: u64, place: TablePlace) -> Result<TableFrame, OutOfFrames> {
        if FAULTS.allows(Point::Table) {
            self.0.take_for(bytes, place)
        } else {
            Err(OutOfFrames { bytes })
        }
    }

    fn give_back(&self, frame: TableFrame) {
        self.0.give_back(frame);
    }

    fn strand(&self, frame: TableFrame) {
        self.0.strand(frame);
    }

    fn keeps(&self, frame: PhysAddr) -> bool {
        self.0.keeps(frame)
    }
}

// SAFETY: every guarantee is the inner mapper's own; a call that fails on purpose changes nothing.
unsafe impl<T: Mapper> Mapper for Faulty<T> {
    type Tlb = T::Tlb;

    fn tlb(&self) -> &T::Tlb {
        self.0.tlb()
    }

    fn map<S: TableFrames>(&self, mapping: &Mapping, frames: &S) -> Result<(), MapError> {
        if !FAULTS.allows(Point::Mapper) {
            return Err(MapError::AlreadyMapped { at: mapping.virt });
        }
        self.0.map(mapping, &Frames(frames))
    }

    fn unmap<S: TableFrames>(
        &self,
        range: VirtRange,
        gather: &mut Gather<'_, T::Tlb, S>,
    ) -> Result<(), UnmapError> {
        if !FAULTS.allows(Point::Mapper) {
            return Err(UnmapError::BeyondFormat { range });
        }
        self.0.unmap(range, gather)
    }

    #[inline]
    fn translate(&self, at: VirtAddr) -> Option<Translation> {
        self.0.translate(at)
    }

    fn visit(&self, range: VirtRange, each: &mut dyn FnMut(Translation)) {
        self.0.visit(range, each);
    }

    fn tables_for(&self, range: VirtRange, max_leaf: u64, each: &mut dyn FnMut(u64, u64)) {
        self.0.tables_for(range, max_leaf, each);
    }

    fn visit_tables(&self, each: &mut dyn FnMut(TableAt)) {
        self.0.visit_tables(each);
    }

    fn examine(&self, each: &mut dyn FnMut(TableAt) -> bool) -> Option<StrangeEntry> {
        self.0.examine(each)
    }
}
