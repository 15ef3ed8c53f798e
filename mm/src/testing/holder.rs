//! Owners of movable pages for tests: one that refuses every migration, one that migrates and checks contents.

use super::std::boxed::Box;
use super::std::collections::BTreeMap;
use super::std::sync::{Arc, Mutex, OnceLock, PoisonError};
use super::std::vec::Vec;
use super::{Bench, FakeMachine, FaultPlan, Shape, SoftMmu, Tag, locks_held};
use crate::addr::{Order, Pfn, VirtAddr};
use crate::alloc::migrate::{Extent, MovableOps, Move};
use crate::alloc::owners::Mover;
use crate::alloc::request::Request;
use crate::geometry::Geometry;
use core::fmt;

/// The extent of a handle.
#[derive(Clone, Copy, Debug)]
struct Held {
    pfn: Pfn,
    order: Order,
    isolated: bool,
    pinned: bool,
    /// The number of times that it will refuse, though it is not pinned.
    busy: u32,
}

/// An owner that finds its pages by handles, writes to each of them, and follows their migrations.
pub struct Holder<S: Shape> {
    mmu: Arc<SoftMmu<S::Format>>,
    mover: OnceLock<Mover>,
    held: Mutex<State>,
    releases: FaultPlan,
    copies: FaultPlan,
}

#[derive(Debug, Default)]
struct State {
    extents: BTreeMap<u64, Held>,
    next: u64,
    /// Extents that were copied, and those whose copy failed.
    moves: (u64, u64),
    batches: u64,
    /// The number of extents that it will fail to copy.
    failures: u32,
}

impl<S: Shape> Holder<S> {
    /// Registers an owner, which lives as long as the tests.
    ///
    /// # Panics
    ///
    /// If there are too many.
    pub fn register(bench: &Bench<S>) -> &'static Self {
        let mmu = bench.mm.machine().share_mmu();
        let held = Mutex::new(State::default());
        let (releases, copies) = (FaultPlan::never(), FaultPlan::never());
        let holder = Self { mmu, mover: OnceLock::new(), held, releases, copies };
        let holder: &'static Self = Box::leak(Box::new(holder));
        let mover = bench.mm.register(holder).unwrap_or_else(|error| panic!("{error}"));
        holder.mover.get_or_init(|| mover);
        holder
    }

    /// The handle for its allocations.
    ///
    /// # Panics
    ///
    /// If it is not registered.
    pub fn mover(&self) -> &Mover {
        self.mover.get().unwrap_or_else(|| panic!("the holder is not registered"))
    }

    fn state(&self) -> super::std::sync::MutexGuard<'_, State> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Allocates an extent for itself, and writes to each of its pages. Returns its handle.
    pub fn take(&self, bench: &Bench<S>, order: Order) -> Option<u64> {
        self.take_as(bench, order.into())
    }

    /// As [`take`](Self::take), in a movable zone.
    pub fn take_in_zone(&self, bench: &Bench<S>, order: Order) -> Option<u64> {
        self.take_as(bench, Request::from(order).in_movable_zone())
    }

    /// As [`take`](Self::take), in a movable zone, of pages that hold zeroes.
    ///
    /// # Panics
    ///
    /// If one does not.
    pub fn take_cleared(&self, bench: &Bench<S>, order: Order) -> Option<u64> {
        self.take_as(bench, Request::from(order).in_movable_zone().zeroed())
    }

    fn take_as(&self, bench: &Bench<S>, request: Request) -> Option<u64> {
        let mut state = self.state();
        let handle = state.next;
        let request = if tags_each(handle) { request.with_meta_of_each() } else { request };
        let pfn = bench.mm.alloc_movable(request, self.mover(), handle).ok()?;
        state.next += 1;
        let order = request.order;
        let held = Held { pfn, order, isolated: false, pinned: false, busy: 0 };
        state.extents.insert(handle, held);
        for page in 0..order.pages() {
            let at = word::<S>(pfn.add(page));
            assert!(!request.zeroed || self.mmu.load(at) == 0, "page {page} of {pfn} is not zero");
            self.mmu.store(at, stamp(handle, page));
        }
        for (page, tag) in tags(handle, order) {
            let new = bench.mm.with_meta(pfn, page, self.mover(), |meta| {
                meta.get().is_none().then(|| meta.set(tag))
            });
            assert_eq!(new, Ok(Some(())), "page {page} of handle {handle}");
        }
        Some(handle)
    }

    /// Frees an extent.
    ///
    /// # Panics
    ///
    /// If it is not held, or is being migrated.
    pub fn release(&self, bench: &Bench<S>, handle: u64) {
        assert!(self.try_release(bench, handle), "freed while it moves");
    }

    /// As [`release`](Self::release), unless the extent is being migrated: returns whether it was freed.
    ///
    /// # Panics
    ///
    /// If it is not held.
    pub fn try_release(&self, bench: &Bench<S>, handle: u64) -> bool {
        let mut state = self.state();
        let held = state.extents.get(&handle).copied();
        let held = held.unwrap_or_else(|| panic!("handle {handle} holds nothing"));
        if !held.isolated {
            state.extents.remove(&handle);
            drop(state);
            bench.mm.free_movable(held.pfn, self.mover()).unwrap_or_else(|error| panic!("{error}"));
        }
        !held.isolated
    }

    /// The place of the extent of a handle.
    pub fn at(&self, handle: u64) -> Option<(Pfn, Order)> {
        self.state().extents.get(&handle).map(|held| (held.pfn, held.order))
    }

    /// Every handle.
    pub fn handles(&self) -> Vec<u64> {
        self.state().extents.keys().copied().collect()
    }

    /// Forbids or allows migrating an extent.
    pub fn pin(&self, handle: u64, pinned: bool) {
        if let Some(held) = self.state().extents.get_mut(&handle) {
            held.pinned = pinned;
        }
    }

    /// Refuses to release an extent this many times.
    pub fn be_busy(&self, handle: u64, times: u32) {
        if let Some(held) = self.state().extents.get_mut(&handle) {
            held.busy = times;
        }
    }

    /// Fails to copy this many extents.
    pub fn fail_copies(&self, count: u32) {
        self.state().failures = count;
    }

    /// The extents that it does not release once.
    pub fn releases(&self) -> &FaultPlan {
        &self.releases
    }

    /// The extents that it does not copy once.
    pub fn copies(&self) -> &FaultPlan {
        &self.copies
    }

    /// Extents that were migrated, and those that could not be copied.
    pub fn moves(&self) -> (u64, u64) {
        self.state().moves
    }

    /// The number of times that it was asked to stop using extents.
    pub fn batches(&self) -> u64 {
        self.state().batches
    }

    /// Checks that every extent holds the values written to it, that the manager knows its handle, and that none is
    /// still isolated.
    ///
    /// # Panics
    ///
    /// If not.
    #[track_caller]
    pub fn check(&self, bench: &Bench<S>) {
        let state = self.state();
        for (&handle, held) in &state.extents {
            assert!(!held.isolated, "handle {handle} was left isolated");
            assert_eq!(bench.mm.private(held.pfn), Ok(handle), "{}", held.pfn);
            for page in 0..held.order.pages() {
                let found = self.mmu.load(word::<S>(held.pfn.add(page)));
                assert_eq!(found, stamp(handle, page), "page {page} of handle {handle}");
            }
            for (page, tag) in tags(handle, held.order) {
                let found = bench.mm.with_meta(held.pfn, page, self.mover(), Tag::get);
                assert_eq!(found, Ok(Some(tag)), "page {page} of handle {handle}");
            }
        }
    }
}

/// A word of a page, in the linear map.
fn word<S: Shape>(pfn: Pfn) -> VirtAddr {
    S::LINEAR_BASE.add(FakeMachine::<S>::address(pfn).get() + 8 * (pfn.get() % 64))
}

fn stamp(handle: u64, page: u64) -> u64 {
    handle << 32 | page << 8 | 0x5a
}

/// Whether it tags every page of an extent, and not only the first.
const fn tags_each(handle: u64) -> bool {
    handle % 8 == 1
}

/// The pages of an extent that it tags, with their tags.
fn tags(handle: u64, order: Order) -> impl Iterator<Item = (u64, u64)> {
    let pages = if tags_each(handle) { order.pages() } else { 1 };
    (0..pages).map(move |page| (page, !stamp(handle, page)))
}

impl<S: Shape> fmt::Debug for Holder<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Holder").field("held", &self.held).finish_non_exhaustive()
    }
}

impl<S: Shape> MovableOps for Holder<S> {
    fn name(&self) -> &'static str {
        "holder"
    }

    fn pinned(&self, extent: &Extent) -> bool {
        assert_eq!(locks_held(), 0);
        let state = self.state();
        let held = state.extents.get(&extent.private);
        held.is_some_and(|held| held.pinned && held.pfn == extent.pfn)
    }

    fn isolate(&self, moves: &[Move]) {
        assert_eq!(locks_held(), 0);
        let mut state = self.state();
        check_batch(moves);
        state.batches += 1;
        for one in moves {
            if !self.releases.allows() || !state.isolate(one.from()) {
                one.refuse();
            }
        }
    }

    fn migrate(&self, moves: &[Move]) {
        assert_eq!(locks_held(), 0);
        let mut state = self.state();
        check_batch(moves);
        for one in moves {
            assert!(!one.is_refused(), "a refused extent was isolated");
            let copies = self.copies.allows() && state.copies_next();
            let counts = &mut state.moves;
            let count = if copies { &mut counts.0 } else { &mut counts.1 };
            *count += 1;
            if copies {
                self.copy(one);
            } else {
                one.refuse();
            }
            let from = one.from();
            let held = state.extents.get_mut(&from.private);
            let held = held.unwrap_or_else(|| panic!("handle {} holds nothing", from.private));
            assert!(held.isolated && (held.pfn, held.order) == (from.pfn, from.order));
            held.isolated = false;
            held.pfn = if copies { one.to() } else { from.pfn };
        }
    }
}

impl<S: Shape> Holder<S> {
    fn copy(&self, one: &Move) {
        for (from, to) in one.pages() {
            let value = self.mmu.load(word::<S>(from));
            self.mmu.store(word::<S>(to), value);
        }
    }
}

impl State {
    /// Isolates an extent, if it is there and may move.
    fn isolate(&mut self, extent: &Extent) -> bool {
        let held = self.extents.get_mut(&extent.private).filter(|held| held.pfn == extent.pfn);
        let Some(held) = held else { return false };
        if held.pinned || held.busy > 0 {
            held.busy = held.busy.saturating_sub(1);
            return false;
        }
        assert!(!held.isolated, "isolated twice");
        held.isolated = true;
        true
    }

    /// Whether the next extent is copied.
    fn copies_next(&mut self) -> bool {
        let Some(left) = self.failures.checked_sub(1) else { return true };
        self.failures = left;
        false
    }
}

/// Checks what the manager promises of a batch.
fn check_batch(moves: &[Move]) {
    assert!(!moves.is_empty() && moves.len() <= 64, "{} extents", moves.len());
    for pair in moves.windows(2) {
        let (a, b) = (pair[0].from(), pair[1].from());
        assert!(a.pfn < b.pfn && a.order == b.order, "{a:?}, {b:?}");
    }
}
