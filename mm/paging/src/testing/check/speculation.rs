//! A CPU that walks the tables while they change, as far as a rig can play it.
//!
//! Whenever a mapper takes a frame, the CPU may have cached any translation, and any pointer to a table, that is there
//! by then. Translations have to be flushed if the mapping fails later, and pointers before the table is freed.

use super::super::std::cell::RefCell;
use super::super::std::thread;
use super::super::std::vec::Vec;
use super::rig::MapperRig;
use crate::TableAt;
use crate::addr::{Address, AddressRange, PhysAddr, Space};

/// What the source of frames calls in the rig.
pub(super) trait Hooks {
    /// Fills a frame with garbage.
    fn spoil(&self, frame: PhysAddr, bytes: u64);

    /// A frame is taken: has the CPU cache what it finds.
    fn taken(&self);

    /// The table in `frame` is freed: checks that the CPU has no pointer to it.
    fn freed(&self, frame: PhysAddr);
}

/// The rig, and its CPU.
pub(super) struct Speculation<'r, R, I: Space> {
    rig: &'r R,
    state: RefCell<State<I>>,
}

/// What the CPU has.
struct State<I: Space> {
    /// The addresses that it tries.
    wanted: Vec<Address<I>>,
    /// Those that it has cached a translation for.
    leaves: Vec<Address<I>>,
    /// The tables that it has cached a pointer to.
    tables: Vec<TableAt<I>>,
    /// What was flushed.
    flushed: Vec<AddressRange<I>>,
}

impl<I: Space> Default for State<I> {
    fn default() -> Self {
        Self { wanted: Vec::new(), leaves: Vec::new(), tables: Vec::new(), flushed: Vec::new() }
    }
}

impl<'r, R: MapperRig<I>, I: Space> Speculation<'r, R, I> {
    pub(super) fn new(rig: &'r R) -> Self {
        Self { rig, state: RefCell::default() }
    }

    /// From now on the CPU tries `wanted`, for the first time at once; if the rig shows what is flushed.
    pub(super) fn begin(&self, wanted: impl Iterator<Item = Address<I>>) {
        let recorded = self.rig.tlb_calls().is_some();
        let wanted = wanted.filter(|_| recorded).collect();
        self.state.replace(State { wanted, ..State::default() });
        self.taken();
    }

    /// The CPU tries nothing any more. If a mapping `failed`, checks that what it has cached was flushed; if not,
    /// that it was published.
    pub(super) fn end(&self, failed: bool) {
        let published = self.flushed();
        let State { leaves, flushed, .. } = self.state.take();
        assert!(failed || published != Some(0), "a mapping is not published");
        let stale = leaves.iter().filter(|_| failed);
        let stale = stale.copied().find(|&at| !flushed.iter().any(|range| range.contains(at)));
        assert_eq!(stale, None, "a map that got no frame was undone without a flush");
    }

    /// The same, after an unmapping whose gather was flushed.
    pub(super) fn end_of_unmap(&self) {
        self.flushed();
        self.state.take();
    }

    /// Notes what was flushed since the last time. Returns the number of publications, if they are recorded.
    fn flushed(&self) -> Option<usize> {
        let calls = self.rig.tlb_calls()?;
        self.state.borrow_mut().flushed.extend(calls.flushed);
        Some(calls.published)
    }
}

impl<R: MapperRig<I>, I: Space> Hooks for Speculation<'_, R, I> {
    fn spoil(&self, frame: PhysAddr, bytes: u64) {
        self.rig.spoil(frame, bytes);
    }

    fn taken(&self) {
        let state = &mut *self.state.borrow_mut();
        for &at in &state.wanted {
            if self.rig.walk(at).is_some() {
                state.leaves.push(at);
            }
            let tables = self.rig.walk_tables(at);
            state.tables.extend(tables.into_iter().filter(|table| table.level > 0));
        }
    }

    fn freed(&self, frame: PhysAddr) {
        if thread::panicking() {
            return;
        }
        self.flushed();
        let state = self.state.borrow();
        let known = state.tables.iter().find(|table| table.frame == frame);
        let stale = known.filter(|table| {
            let span = AddressRange::new(table.virt, table.span).unwrap_or_default();
            !state.flushed.iter().any(|range| range.overlaps(span))
        });
        assert_eq!(stale, None, "a table is freed before the flush");
    }
}
