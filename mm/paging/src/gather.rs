//! Clear, flush, only then free: the steps of an unmapping before its memory may be used again.
//!
//! ```text
//!   unmap ---> cleared ranges ----+                       +--> frames.give_back(table)
//!          +-> detached tables ---+--> flush (all CPUs) --+
//!                                                         +--> the caller frees the data frames
//! ```
//!
//! A flush that fails frees nothing: the tables are stranded, and the caller keeps the data frames.

// UNSAFETY: keeps the detached tables in an array that is not initialised as a whole: many gathers of the operations
// detach nothing.
#![expect(unsafe_code)]

use super::{NotFlushed, TableFrame, TableFrames, Tlb};
use crate::addr::{AddressRange, PhysAddr, Space, Virtual};

use core::fmt;
use core::mem::{self, MaybeUninit};

/// Detached tables a gather holds before it flushes on its own: a removal of 16 GiB on x86_64 has no more.
const TABLES: usize = 32;
/// Separate cleared ranges in a gather; the last of them also spans those that come after it.
const RANGES: usize = 4;

/// Cleared ranges and detached tables that are not flushed and freed yet.
///
/// A value of this type means: CPUs may still translate through old entries, so neither the memory that was unmapped
/// nor a table that was detached may be reused. [`flush`](Self::flush) ends that. The detached tables are kept here,
/// in a fixed array, and not by links inside the frames: a table walk under way would read such a link as an entry.
#[must_use = "what was unmapped may not be freed before the flush"]
pub struct Gather<'a, T: Tlb<I>, S: TableFrames, I: Space = Virtual> {
    tlb: &'a T,
    frames: S,
    cleared: [AddressRange<I>; RANGES],
    ranges: usize,
    /// The first `tables` of them are initialised.
    detached: [MaybeUninit<TableFrame>; TABLES],
    tables: usize,
    keeps_tables: bool,
    /// The first flush that failed.
    failed: Option<NotFlushed>,
    /// The calls that it received, for tests.
    #[cfg(any(test, feature = "testing"))]
    calls: Option<crate::testing::Vec<Call<I>>>,
}

/// A call of a mapper to a gather.
#[cfg(any(test, feature = "testing"))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call<I: Space> {
    Cleared(AddressRange<I>),
    Detached(PhysAddr, u64, AddressRange<I>),
}

#[cfg(any(test, feature = "testing"))]
impl<I: Space> Call<I> {
    pub(crate) fn cleared(&self) -> Option<AddressRange<I>> {
        if let Self::Cleared(range) = self { Some(*range) } else { None }
    }

    pub(crate) fn detached(&self) -> Option<(PhysAddr, u64, AddressRange<I>)> {
        if let Self::Detached(frame, bytes, near) = *self {
            Some((frame, bytes, near))
        } else {
            None
        }
    }
}

#[cfg(any(test, feature = "testing"))]
impl<'a, T: Tlb<I>, S: TableFrames, I: Space> Gather<'a, T, S, I> {
    /// As [`new`](Self::new), and records the calls that it receives.
    pub(crate) fn watched(tlb: &'a T, frames: S) -> Self {
        let mut gather = Self::new(tlb, frames);
        gather.calls = Some(crate::testing::Vec::new());
        gather
    }

    /// The same, but it keeps tables.
    pub(crate) fn and_keep_tables(mut self) -> Self {
        self.keeps_tables = true;
        self
    }

    /// The calls that it received since the last time.
    pub(crate) fn calls(&mut self) -> crate::testing::Vec<Call<I>> {
        self.calls.as_mut().map(mem::take).unwrap_or_default()
    }

    fn note(&mut self, call: Call<I>) {
        if let Some(all) = &mut self.calls {
            all.push(call);
        }
    }
}

impl<'a, T: Tlb<I>, S: TableFrames, I: Space> Gather<'a, T, S, I> {
    /// An empty gather, which will free its tables to `frames`.
    pub fn new(tlb: &'a T, frames: S) -> Self {
        Self {
            tlb,
            frames,
            cleared: [AddressRange::EMPTY; RANGES],
            ranges: 0,
            detached: [const { MaybeUninit::uninit() }; TABLES],
            tables: 0,
            keeps_tables: false,
            failed: None,
            #[cfg(any(test, feature = "testing"))]
            calls: None,
        }
    }

    /// An empty gather for ranges that are mapped again before anything else changes the tables: tables that become
    /// empty stay, so that mapping needs no memory.
    pub fn keeping_tables(tlb: &'a T, frames: S) -> Self {
        let mut gather = Self::new(tlb, frames);
        gather.keeps_tables = true;
        gather
    }

    /// Whether all tables that become empty stay in the tree.
    ///
    /// For implementers of [`Mapper`](super::Mapper).
    pub fn keeps_tables(&self) -> bool {
        self.keeps_tables
    }

    /// Whether the table at `frame` stays in the tree though it is empty.
    ///
    /// For implementers of [`Mapper`](super::Mapper): called before the table is detached.
    pub fn keeps(&self, frame: PhysAddr) -> bool {
        self.keeps_tables || self.frames.keeps(frame)
    }

    /// Records that entries were cleared which translated addresses of `range`.
    ///
    /// For implementers of [`Mapper`](super::Mapper): called after the entries are cleared.
    pub fn cleared(&mut self, range: AddressRange<I>) {
        #[cfg(any(test, feature = "testing"))]
        self.note(Call::Cleared(range));
        if let Some(last) = self.cleared[..self.ranges].last_mut()
            && let Some(both) = joined(*last, range)
        {
            *last = both;
            return;
        }
        if self.ranges == RANGES {
            // Flushing the gap costs less than another request to every CPU.
            if let Some(both) = hull(self.cleared[RANGES - 1], range) {
                self.cleared[RANGES - 1] = both;
                return;
            }
            self.settle();
        }
        self.cleared[self.ranges] = range;
        self.ranges += 1;
    }

    /// Records that the table in `frame` has no parent any more; it spans a byte of `near`, which is enough for
    /// [`Tlb::flush`] to drop cached pointers to it.
    ///
    /// For implementers of [`Mapper`](super::Mapper): called after the parent's entry is cleared.
    pub fn detached(&mut self, frame: TableFrame, near: AddressRange<I>) {
        self.cleared(near);
        #[cfg(any(test, feature = "testing"))]
        self.note(Call::Detached(frame.at(), frame.bytes(), near));
        self.detached[self.tables].write(frame);
        self.tables += 1;
        if self.tables == TABLES {
            self.settle();
        }
    }

    /// Flushes the cleared ranges on every CPU, in one round, and only then frees the detached tables.
    ///
    /// After it, no CPU reaches the memory that was unmapped through these tables.
    ///
    /// # Errors
    ///
    /// [`NotFlushed`]: a CPU may still reach the memory that was unmapped, which must not be freed. The tables are
    /// stranded ([`TableFrames::strand`]).
    #[inline]
    pub fn flush(mut self) -> Result<(), NotFlushed> {
        self.settle();
        self.failed.map_or(Ok(()), Err)
    }

    fn settle(&mut self) {
        // Emptied first, so that no step runs twice, not even in a drop after a panic in one of these.
        let (ranges, tables) = (mem::take(&mut self.ranges), mem::take(&mut self.tables));
        if ranges == 0 {
            return;
        }
        let flushed = self.tlb.flush(&self.cleared[..ranges]);
        self.failed = self.failed.or(flushed.err());
        for slot in &self.detached[..tables] {
            // SAFETY: `detached` wrote the first `tables` slots, one by one, and the count is set to empty already.
            let frame = unsafe { slot.assume_init_read() };
            if flushed.is_ok() {
                self.tlb.retire(frame.at(), frame.bytes());
                self.frames.give_back(frame);
            } else {
                self.frames.strand(frame);
            }
        }
    }
}

/// Flushes the rest: no memory may be reused before. A missing flush is an error in any case, since memory that was
/// unmapped may have been freed before this runs: it fails tests.
impl<T: Tlb<I>, S: TableFrames, I: Space> Drop for Gather<'_, T, S, I> {
    fn drop(&mut self) {
        let owed = self.ranges != 0;
        self.settle();
        #[cfg(any(test, feature = "testing"))]
        crate::testing::fail_unless(!owed, "a gather was dropped before its flush");
        let _ = owed;
    }
}

impl<T: Tlb<I>, S: TableFrames, I: Space> fmt::Debug for Gather<'_, T, S, I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gather")
            .field("cleared", &&self.cleared[..self.ranges])
            .field("tables", &self.tables)
            .finish_non_exhaustive()
    }
}

/// The union of two overlapping or adjacent ranges.
fn joined<I: Space>(a: AddressRange<I>, b: AddressRange<I>) -> Option<AddressRange<I>> {
    let (low, high) = if a.start() <= b.start() { (a, b) } else { (b, a) };
    let adjacent = high.start().offset_from(low.start()) <= low.len();
    adjacent.then(|| hull(low, high)).flatten()
}

/// The smallest range that spans both, unless that is the whole address space.
fn hull<I: Space>(a: AddressRange<I>, b: AddressRange<I>) -> Option<AddressRange<I>> {
    let start = a.start().min(b.start());
    let gap = |range: AddressRange<I>| range.start().offset_from(start);
    let len = gap(a).checked_add(a.len())?.max(gap(b).checked_add(b.len())?);
    AddressRange::new(start, len)
}
