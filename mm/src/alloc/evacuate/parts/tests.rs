//! An owner that copies its extents ahead, and what the manager calls in which order.

extern crate std;

use crate::testing::{Bench, FakeMachine, Setup, Tiny, range};
use crate::{
    BlockId, Geometry, MOST_AHEAD, Mm, MovableOps, Move, Mover, OfflineError, Order, Part, Pfn,
    Placement, Stepped, ZoneKind,
};
use std::boxed::Box;
use std::sync::{Mutex, OnceLock};
use std::vec::Vec;

const MIB: u64 = 1 << 20;
const WINDOW: u64 = 64 * MIB;
/// Pages of an extent of 2 MiB.
const PAGES: u64 = 512;

/// A call to the owner; copies and clearings in a row are one, with their pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Call {
    Ahead(u64),
    Isolate,
    Migrate,
    Behind(u64),
    Abandon,
}

use Call::{Abandon, Ahead, Behind, Isolate, Migrate};

#[derive(Default)]
struct State {
    at: Option<Pfn>,
    calls: Vec<Call>,
    /// Pages that are copied and cleared until the last part.
    copies: u64,
    clears: u64,
    refuses: Option<&'static str>,
    /// Its parts have no pages.
    idles: bool,
}

struct Owner {
    mm: &'static Mm<FakeMachine<Tiny>>,
    mover: OnceLock<Mover>,
    state: Mutex<State>,
}

impl Owner {
    fn new(copies: u64) -> (&'static Self, &'static Bench<Tiny>) {
        let ram = [(0, 16 * MIB, 0)].into();
        let setup = Setup { ram, block: 4 * MIB, window: (WINDOW, 64 * MIB), kernelcore: None };
        let bench: &'static Bench<Tiny> = Box::leak(Box::new(Bench::new(&setup)));
        let dimm = range(WINDOW, 8 * MIB);
        bench.plug(dimm);
        bench.add(dimm, Placement::PerBlock);
        bench.online(dimm);
        let (mover, state) = (OnceLock::new(), Mutex::default());
        let one: &'static Self = Box::leak(Box::new(Self { mm: &bench.mm, mover, state }));
        let mover = one.mover.get_or_init(|| bench.mm.register(one).unwrap());
        let request = crate::Request::from(Order::new(9).unwrap()).in_movable_zone();
        let pfn = bench.mm.alloc_movable(request, mover, 7).unwrap();
        *one.state.lock().unwrap() =
            State { at: Some(pfn), copies, clears: PAGES, ..State::default() };
        (one, bench)
    }

    fn at(&self) -> Option<Pfn> {
        self.state.lock().unwrap().at
    }

    fn block(&self) -> BlockId {
        self.mm.block_at(FakeMachine::<Tiny>::address(self.at().unwrap()))
    }

    fn calls(&self) -> Vec<Call> {
        core::mem::take(&mut self.state.lock().unwrap().calls)
    }

    fn free(&self) {
        let pfn = self.state.lock().unwrap().at.take().unwrap();
        self.mm.free_movable(pfn, self.mover.get().unwrap()).unwrap();
    }

    fn refuse(&self, when: &'static str, one: &Move) {
        if self.state.lock().unwrap().refuses == Some(when) {
            one.refuse();
        }
    }
}

fn part(left: &mut u64, pages: u64) -> Part {
    let pages = pages.min(*left);
    *left -= pages;
    Part { pages, last: *left == 0 }
}

impl MovableOps for Owner {
    fn name(&self) -> &'static str {
        "copies ahead"
    }

    fn copy_ahead(&self, one: &Move, pages: u64) -> Part {
        self.refuse("ahead", one);
        let mut state = self.state.lock().unwrap();
        if state.at != Some(one.from().pfn) {
            one.refuse();
        }
        let pages = if state.idles { 0 } else { pages };
        let part = part(&mut state.copies, pages);
        match state.calls.last_mut() {
            Some(Ahead(sum)) => *sum += part.pages,
            _ => state.calls.push(Ahead(part.pages)),
        }
        part
    }

    fn abandon(&self, _: &Move) {
        self.state.lock().unwrap().calls.push(Abandon);
    }

    fn clear_behind(&self, _: &Move, pages: u64) -> Part {
        let mut state = self.state.lock().unwrap();
        let pages = if state.idles { 0 } else { pages };
        let part = part(&mut state.clears, pages);
        match state.calls.last_mut() {
            Some(Behind(sum)) => *sum += part.pages,
            _ => state.calls.push(Behind(part.pages)),
        }
        part
    }

    fn isolate(&self, moves: &[Move]) {
        moves.iter().for_each(|one| self.refuse("isolate", one));
        self.state.lock().unwrap().calls.push(Isolate);
    }

    fn migrate(&self, moves: &[Move]) {
        moves.iter().for_each(|one| self.refuse("migrate", one));
        let mut state = self.state.lock().unwrap();
        state.calls.push(Migrate);
        for one in moves.iter().filter(|one| !one.is_refused()) {
            assert_eq!(self.mm.private(one.to()), Ok(7));
            state.at = Some(one.to());
        }
    }
}

#[test]
fn an_extent_is_copied_ahead_in_parts_of_the_budget_then_moved_then_cleared_in_parts() {
    let (owner, bench) = Owner::new(PAGES + 40);
    let free = bench.mm.stats().pages.free;
    let (from, id) = (owner.at().unwrap(), owner.block());
    let mut op = bench.mm.start_offline(id).unwrap();
    let mut steps = 0;
    loop {
        match op.step(64).unwrap() {
            Stepped::Going(more) => op = more,
            Stepped::Done => break,
        }
        steps += 1;
        bench.check();
        assert!(op.progress().beyond <= 1, "{:?}", op.progress());
    }
    assert!(steps > (2 * PAGES + 40) / 64, "{steps} steps");
    assert_eq!(owner.calls(), [Ahead(PAGES + 40), Isolate, Migrate, Behind(PAGES)]);
    assert_ne!(owner.at(), Some(from));
    bench.mm.online(id, ZoneKind::Movable).unwrap();
    assert_eq!(bench.mm.stats().pages.free, free);
    owner.free();
    bench.check();
}

#[test]
fn an_owner_that_copies_nothing_ahead_is_not_asked_to_clear() {
    let (owner, bench) = Owner::new(0);
    bench.mm.offline(owner.block()).unwrap();
    assert_eq!(owner.calls(), [Ahead(0), Isolate, Migrate]);
    owner.free();
    bench.check();
}

#[test]
fn an_owner_that_copies_without_end_is_stopped() {
    let (owner, bench) = Owner::new(u64::MAX);
    let mut op = bench.mm.start_offline(owner.block()).unwrap();
    while let Stepped::Going(more) = op.step(64).unwrap() {
        op = more;
    }
    let calls = [Ahead(MOST_AHEAD * PAGES), Isolate, Migrate, Behind(PAGES)];
    assert_eq!(owner.calls(), calls);
    bench.check();
}

#[test]
fn an_owner_whose_parts_are_empty_is_stopped_too() {
    let (owner, bench) = Owner::new(0);
    {
        let mut state = owner.state.lock().unwrap();
        (state.copies, state.clears, state.idles) = (u64::MAX, u64::MAX, true);
    }
    let mut op = bench.mm.start_offline(owner.block()).unwrap();
    while let Stepped::Going(more) = op.step(64).unwrap() {
        op = more;
    }
    assert_eq!(owner.calls(), [Ahead(0), Isolate, Migrate, Behind(0)]);
    bench.check();
}

/// Steps an offline until the owner was called so.
fn step_until(
    owner: &Owner,
    bench: &'static Bench<Tiny>,
    call: Call,
) -> crate::OfflineOp<'static, FakeMachine<Tiny>> {
    let mut op = bench.mm.start_offline(owner.block()).unwrap();
    while owner.state.lock().unwrap().calls.last() != Some(&call) {
        match op.step(64).unwrap() {
            Stepped::Going(more) => op = more,
            Stepped::Done => panic!("{call:?} never comes"),
        }
    }
    op
}

#[test]
fn an_offline_that_is_cancelled_half_way_frees_the_target_or_what_was_left() {
    for leaks in [false, true] {
        for (call, calls, moves) in [
            (Ahead(128), &[Ahead(128), Abandon] as &[_], false),
            (Behind(128), &[Ahead(PAGES), Isolate, Migrate, Behind(PAGES)], true),
        ] {
            let (owner, bench) = Owner::new(PAGES);
            let (before, from, id) = (bench.snapshot(), owner.at(), owner.block());
            let op = step_until(owner, bench, call);
            if leaks {
                core::mem::forget(op);
                bench.mm.cancel_offline(id).unwrap();
            } else {
                op.cancel();
            }
            assert_eq!((owner.calls(), owner.at() != from), (calls.to_vec(), moves));
            if !moves {
                assert_eq!(bench.snapshot(), before);
            }
            bench.check();
            owner.state.lock().unwrap().copies = PAGES;
            owner.state.lock().unwrap().clears = PAGES;
            bench.mm.offline(owner.block()).unwrap();
            owner.free();
            bench.check();
        }
    }
}

#[test]
fn an_extent_that_is_refused_at_any_point_stays_and_its_target_is_free() {
    for when in ["ahead", "isolate", "migrate"] {
        let (owner, bench) = Owner::new(1);
        let (before, from) = (bench.snapshot(), owner.at());
        owner.state.lock().unwrap().refuses = Some(when);
        let stays = bench.mm.offline(owner.block()).unwrap_err();
        assert!(matches!(stays, OfflineError::InUse { pages: PAGES, .. }), "{when}: {stays}");
        assert_eq!((bench.snapshot(), owner.at()), (before, from));
        bench.check();
        owner.state.lock().unwrap().refuses = None;
        owner.state.lock().unwrap().copies = 1;
        bench.mm.offline(owner.block()).unwrap();
        bench.check();
    }
}

#[test]
fn an_extent_that_its_owner_frees_half_way_is_neither_moved_nor_freed_again() {
    let (owner, bench) = Owner::new(PAGES);
    let free = bench.mm.stats().pages.free;
    let id = owner.block();
    let mut op = step_until(owner, bench, Ahead(128));
    owner.free();
    while let Stepped::Going(more) = op.step(64).unwrap() {
        op = more;
    }
    assert_eq!(owner.calls(), [Ahead(192)]);
    bench.check();
    bench.mm.online(id, ZoneKind::Movable).unwrap();
    assert_eq!(bench.mm.stats().pages.free, free + PAGES);
}
