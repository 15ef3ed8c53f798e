//! Ejects in steps: what happens between them, cancelling, and which outcome is reported to the firmware.

use core::sync::atomic::{AtomicUsize, Ordering};
use std::string::String;
use std::sync::Mutex;
use std::vec;
use std::vec::Vec;

use hotmem::testing::{Holder, Tiny, range};
use hotmem::{
    AutoOnline, BlockId, BlockState, Listen, Listener, OnlineAs, Order, PhysRange, Placement,
};

use super::{Fixture, MIB, ONLINE, WINDOW};
use crate::{OperatorError, Outcome, Refusal, Verdict};

/// A fixture whose memory holds pages that move.
fn used() -> (Fixture, &'static Holder<Tiny>) {
    let mut this = Fixture::inserted();
    let holder = Holder::register(this.bench);
    for i in 0..60 {
        holder.take_in_zone(this.bench, Order::new(i % 3).unwrap()).unwrap();
    }
    this.driver.set_budget(1);
    (this, holder)
}

/// Runs `count` steps.
fn steps(this: &mut Fixture, count: usize) -> String {
    let mut out = String::new();
    for _ in 0..count {
        assert!(this.driver.run_one(&mut out), "done too soon");
    }
    out
}

/// Runs steps until the first block is going offline. Returns how many.
fn steps_to_first_block(this: &mut Fixture) -> usize {
    let begun = |this: &Fixture| this.driver.ejecting().is_some_and(|now| now.block.is_some());
    let mut count = 0;
    while !begun(this) {
        steps(this, 1);
        count += 1;
    }
    count
}

#[test]
fn the_console_is_looked_at_between_the_steps_of_an_eject() {
    let (mut this, holder) = used();
    this.script.eject(0);
    let room = steps_to_first_block(&mut this);
    assert!(room > 20, "room is counted in {room} steps");
    assert_eq!(holder.moves(), (0, 0));
    steps(&mut this, 40);
    assert_eq!(this.script.reported(), [Outcome::Ejecting]);
    let progress = this.driver.ejecting().unwrap().block.unwrap();
    assert!(progress.steps > 0);
    // Memory serves others meanwhile.
    let handle = holder.take(this.bench, Order::ZERO).unwrap();
    holder.release(this.bench, handle);
    this.run();
    assert_eq!(this.script.reported(), [Outcome::Ejected]);
    assert!(this.driver.ejecting().is_none());
    holder.check(this.bench);
}

/// Counts blocks that were to go offline.
struct Goings(AtomicUsize);

impl Listen for Goings {
    fn notify(&self, event: hotmem::Event, _: &hotmem::Change) -> Result<(), &'static str> {
        self.0.fetch_add(usize::from(event == hotmem::Event::GoingOffline), Ordering::Relaxed);
        Ok(())
    }
}

#[test]
fn a_range_that_cannot_be_removed_is_refused_before_a_block_goes_offline() {
    let mut this = Fixture::inserted();
    // The last range was added anew behind the driver's back, in one piece with a block above it.
    let (mm, [_, last]) = (&this.bench.mm, this.pieces);
    let more = range(last.start().get(), last.len() + MIB);
    this.bench.offline(last);
    this.bench.remove(last);
    this.bench.plug(range(last.end().get(), MIB));
    this.bench.add(more, Placement::PerRange);
    this.bench.online(more);

    static GOINGS: Goings = Goings(AtomicUsize::new(0));
    static LISTENER: Listener = Listener::new("goings", 0, &GOINGS);
    mm.listen(&LISTENER).unwrap();
    this.script.eject(0);
    let out = this.run();
    let refused = Outcome::EjectRefused(Refusal::InUse);
    assert_eq!(this.script.reported(), [Outcome::Ejecting, refused], "{out}");
    assert_eq!((GOINGS.0.load(Ordering::Relaxed), this.states()), (0, vec![ONLINE; 5]));
}

#[test]
fn ranges_with_room_only_in_each_other_are_refused_before_a_page_moves() {
    let mut this = Fixture::inserted();
    let holder = Holder::register(this.bench);
    let pages: Vec<_> = core::iter::from_fn(|| holder.take(this.bench, Order::ZERO)).collect();
    let blocks: Vec<_> =
        this.pieces.iter().flat_map(|&piece| this.bench.mm.blocks_in(piece)).collect();
    let in_device =
        |page: &u64| used_block(&this, holder, *page).is_some_and(|id| blocks.contains(&id));
    let device: Vec<_> = pages.into_iter().filter(in_device).collect();
    // Each range alone would fit into the other.
    let rest = device.iter().enumerate().filter(|(n, _)| n % 3 != 0);
    rest.for_each(|(_, &page)| holder.release(this.bench, page));
    this.script.eject(0);
    this.run();
    let refused = Outcome::EjectRefused(Refusal::Busy);
    assert_eq!(this.script.reported(), [Outcome::Ejecting, refused]);
    assert_eq!((holder.moves(), this.states()), ((0, 0), vec![ONLINE; 5]));
    let more = range(WINDOW + 16 * MIB, 8 * MIB);
    this.bench.plug(more);
    this.script.insert(1, &[more]);
    this.run();
    this.script.eject(0);
    this.run();
    let outcomes = [Outcome::Inserted, Outcome::Ejecting, Outcome::Ejected];
    assert_eq!(this.script.reported(), outcomes);
    holder.check(this.bench);
}

/// The blocks that were to go offline, in that order.
struct Uses(Mutex<Vec<BlockId>>);

impl Listen for Uses {
    fn notify(&self, event: hotmem::Event, change: &hotmem::Change) -> Result<(), &'static str> {
        if event == hotmem::Event::GoingOffline {
            self.0.lock().unwrap().push(change.block);
        }
        Ok(())
    }
}

/// The block of a page.
fn used_block(this: &Fixture, holder: &Holder<Tiny>, page: u64) -> Option<BlockId> {
    Some(this.bench.mm.block_at(hotmem::PhysAddr::new(holder.at(page)?.0.get() * 4096)))
}

#[test]
fn blocks_without_used_pages_go_first_and_full_ones_last() {
    static USES: Uses = Uses(Mutex::new(Vec::new()));
    static LISTENER: Listener = Listener::new("uses", 0, &USES);
    let mut this = Fixture::inserted();
    let holder = Holder::register(this.bench);
    let pages = (0..400).map(|_| holder.take_in_zone(this.bench, Order::ZERO).unwrap());
    let last = this.bench.mm.blocks_in(this.pieces[1]).collect::<Vec<_>>();
    let (in_last, others): (Vec<_>, Vec<_>) = pages
        .partition(|&page| used_block(&this, holder, page).is_some_and(|id| last.contains(&id)));
    others.into_iter().for_each(|page| holder.release(this.bench, page));
    this.bench.mm.listen(&LISTENER).unwrap();
    let used = |id| {
        let counts = this.bench.mm.block(id).unwrap().counts;
        counts.managed - counts.free
    };
    let before: Vec<_> = last.iter().map(|&id| used(id)).collect();
    assert!(before[0] > 200 && before[1..] == [0, 0], "{before:?}");
    this.script.eject(0);
    this.run();
    assert_eq!(this.script.reported(), [Outcome::Ejecting, Outcome::Ejected]);
    let went = USES.0.lock().unwrap().split_off(2);
    assert_eq!(went, [last[1], last[2], last[0]]);
    in_last.into_iter().for_each(|page| holder.release(this.bench, page));
    holder.check(this.bench);
}

#[test]
fn an_eject_can_be_cancelled_at_any_step_and_everything_is_online_again() {
    let mut cancelled = 0;
    for count in (1..).step_by(23) {
        let (mut this, holder) = used();
        this.script.eject(0);
        let mut out = String::new();
        for _ in 0..count {
            this.driver.run_one(&mut out);
        }
        if !this.driver.cancel_eject(&mut out) {
            assert_eq!(this.script.reported(), [Outcome::Ejecting, Outcome::Ejected]);
            break;
        }
        cancelled += 1;
        let reported = this.script.reported();
        assert_eq!(reported, [Outcome::Ejecting, Outcome::EjectRefused(Refusal::Busy)]);
        assert_eq!(this.states(), [ONLINE; 5]);
        assert!(out.contains("the operator cancelled it"), "{out}");
        this.bench.check();
        holder.check(this.bench);
        // An orderly eject works afterwards.
        this.script.eject(0);
        this.run();
        assert_eq!(this.script.reported(), [Outcome::Ejecting, Outcome::Ejected]);
        holder.check(this.bench);
    }
    assert!(cancelled > 5, "{cancelled}");
    let mut this = Fixture::new();
    assert!(!this.driver.cancel_eject(&mut String::new()));
}

#[test]
fn the_operator_keeps_out_of_memory_that_is_being_given_up() {
    let (mut this, ..) = used();
    this.script.eject(0);
    steps(&mut this, 3);
    let mut out = String::new();
    let id = this.bench.mm.blocks_in(this.pieces[1]).next().unwrap();
    let refused = this.driver.operator_offline(id, &mut out).unwrap_err();
    assert!(matches!(refused, OperatorError::Ejecting(device) if device.number() == 0));
    assert_eq!(out, "");
}

#[test]
fn a_block_that_cannot_be_put_back_does_not_keep_the_others_from_it() {
    let mut kept = Vec::new();
    for n in 5..10 {
        let mut this = Fixture::inserted();
        // Offline are the first four blocks when the last one, of which a page is in use, stays.
        let pages: Vec<_> =
            core::iter::from_fn(|| this.bench.alloc_movable_zone(Order::ZERO)).collect();
        let last = this.bench.mm.blocks_in(this.pieces[1]).next_back().unwrap();
        let inside = this.bench.mm.block(last).unwrap().pfns;
        let held = pages.iter().position(|&page| inside.contains(page)).unwrap();
        let mut others = pages.clone();
        others.swap_remove(held);
        others.into_iter().for_each(|page| this.bench.mm.free_pages(page).unwrap());
        this.fail(n);
        this.script.eject(0);
        this.run();
        let refused = Outcome::EjectRefused(Refusal::InUse);
        assert_eq!(this.script.reported(), [Outcome::Ejecting, refused]);
        kept.push(this.states().iter().filter(|&&state| state != ONLINE).count());
    }
    // Of each online that failed one block is missing; the fifth block never went.
    assert_eq!(kept, [1, 1, 1, 1, 0]);
}

#[test]
fn a_block_that_cannot_be_taken_back_does_not_keep_the_others_from_it() {
    static LAST: Listener = Listener::new("the last", 0, &NotTheLast);
    // Two adds and five onlines, of which the last one is refused; then four blocks are to go offline again.
    for n in 7..11 {
        let mut this = Fixture::new();
        this.bench.mm.listen(&LAST).unwrap();
        this.fail(n);
        this.script.insert(0, &this.pieces);
        this.run();
        this.bench.mm.unlisten(&LAST).unwrap();
        assert_eq!(this.script.reported(), [Outcome::InsertedOffline]);
        let online = this.states().iter().filter(|&&state| state == ONLINE).count();
        assert_eq!(online, 1, "call {n}");
    }
}

/// Objects to the last block of the second piece.
struct NotTheLast;

impl Listen for NotTheLast {
    fn notify(&self, event: hotmem::Event, change: &hotmem::Change) -> Result<(), &'static str> {
        let is_last = change.block.get() == (WINDOW + 10 * MIB) / MIB;
        if event == hotmem::Event::GoingOnline && is_last { Err("not the last") } else { Ok(()) }
    }
}

/// The outcomes that are reported to the firmware when `spoil` was called before the eject.
fn reported_after(spoil: impl Fn(&mut Fixture)) -> Vec<Outcome> {
    let mut this = Fixture::inserted();
    spoil(&mut this);
    this.script.eject(0);
    this.run();
    this.script.reported()
}

#[test]
fn an_eject_that_is_withdrawn_leaves_the_memory_online_and_is_not_a_failure() {
    let mut this = Fixture::inserted();
    this.script.0.borrow_mut().withdrawn = true;
    this.script.eject(0);
    this.run();
    assert_eq!(this.script.reported(), [Outcome::Ejecting, Outcome::EjectFailed]);
    assert_eq!(this.states(), [ONLINE; 5]);
    assert!(matches!(this.driver.verdict(), Verdict::Pass));
    this.script.0.borrow_mut().withdrawn = false;
    this.script.eject(0);
    this.run();
    assert_eq!(this.script.reported(), [Outcome::Ejecting, Outcome::Ejected]);
}

struct Objector;

impl Listen for Objector {
    fn notify(&self, event: hotmem::Event, _: &hotmem::Change) -> Result<(), &'static str> {
        if event == hotmem::Event::GoingOffline { Err("not this one") } else { Ok(()) }
    }
}

#[test]
fn each_way_an_eject_can_end_has_a_status_of_its_own() {
    let refused = |why| [Outcome::Ejecting, Outcome::EjectRefused(why)];
    assert_eq!(reported_after(|_| {}), [Outcome::Ejecting, Outcome::Ejected]);
    let in_use = reported_after(|this| {
        this.bench.alloc_movable_zone(Order::ZERO).unwrap();
    });
    assert_eq!(in_use, refused(Refusal::InUse));
    let no_room = reported_after(|this| {
        let holder = Holder::register(this.bench);
        while holder.take(this.bench, Order::ZERO).is_some() {}
    });
    assert_eq!(no_room, refused(Refusal::Busy));
    let vetoed = reported_after(|this| {
        static OBJECTOR: Listener = Listener::new("objector", 0, &Objector);
        this.bench.mm.listen(&OBJECTOR).unwrap();
    });
    assert_eq!(vetoed, refused(Refusal::Dependency));
    let mut unknown = Fixture::new();
    unknown.script.eject(9);
    unknown.run();
    assert_eq!(unknown.script.reported(), refused(Refusal::Unknown));
}

#[test]
fn a_device_that_cannot_be_taken_away_is_refused_as_such_and_stays_online() {
    let mut this = Fixture::inserted();
    this.script.0.borrow_mut().fixed = true;
    this.script.eject(0);
    this.run();
    // No "in progress" before: nothing has begun.
    assert_eq!(this.script.reported(), [Outcome::EjectRefused(Refusal::Unknown)]);
    assert!(this.script.0.borrow().ejected.is_empty());
    assert_eq!(this.states(), [ONLINE; 5]);
}

#[test]
fn memory_that_stayed_offline_comes_online_when_it_is_announced_again() {
    let mut this = Fixture::new();
    // The first online fails.
    this.fail(2);
    this.script.insert(0, &this.pieces);
    this.run();
    assert_eq!(this.script.reported(), [Outcome::InsertedOffline]);
    assert_eq!(this.states(), [BlockState::Offline; 5]);
    this.fail(1);
    this.script.insert(0, &this.pieces);
    this.run();
    assert_eq!(this.script.reported(), [Outcome::InsertedOffline]);
    this.never();
    this.script.insert(0, &this.pieces);
    this.run();
    assert_eq!(this.script.reported(), [Outcome::Inserted]);
    assert_eq!(this.states(), [ONLINE; 5]);
}

#[test]
fn what_the_operator_took_offline_stays_so_when_it_is_announced_again() {
    let mut this = Fixture::inserted();
    let id = this.bench.mm.blocks_in(this.pieces[0]).next().unwrap();
    this.driver.operator_offline(id, &mut String::new()).unwrap();
    this.script.insert(0, &this.pieces);
    this.run();
    assert_eq!(this.script.reported(), [Outcome::Inserted]);
    assert_eq!(this.states().first(), Some(&BlockState::Offline));
}

#[test]
fn added_memory_goes_where_the_policy_of_the_moment_says() {
    let policies = [
        (AutoOnline::Offline, BlockState::Offline),
        (AutoOnline::Online(OnlineAs::Movable), ONLINE),
        (AutoOnline::Online(OnlineAs::Kernel), BlockState::Online(hotmem::ZoneKind::Normal)),
        (AutoOnline::Online(OnlineAs::Default), BlockState::Online(hotmem::ZoneKind::Normal)),
        (AutoOnline::AutoMovable { ratio: 0 }, BlockState::Online(hotmem::ZoneKind::Normal)),
        (AutoOnline::AutoMovable { ratio: 1000 }, ONLINE),
    ];
    let mut this = Fixture::new();
    let pieces: [PhysRange; 2] = this.pieces;
    for (policy, state) in policies {
        this.bench.mm.set_auto_online(policy);
        this.script.insert(0, &pieces);
        this.run();
        assert_eq!(this.states(), [state; 5], "{policy}");
        this.script.eject(0);
        this.run();
    }
}
