//! Devices that go without an eject, and what comes into their slots.

use std::string::String;
use std::vec;
use std::vec::Vec;

use hotmem::testing::{Holder, range};
use hotmem::{BlockState, NodeId, Order, Pfn, PhysRange, ZoneKind};

use super::{Fixture, MIB, ONLINE, WINDOW, Wrong};
use crate::{Claim, OperatorError, Outcome, Ranges, Refusal, Request, Verdict};

/// Device 0 with both pieces, and the firmware says that it is gone.
fn lost() -> Fixture {
    let this = Fixture::inserted();
    this.script.0.borrow_mut().absent.push(0);
    this.script.event(0, Request::Gone);
    this
}

/// Every movable page, so that a block that is online has no free one.
fn take_all(this: &Fixture) -> Vec<Pfn> {
    core::iter::from_fn(|| this.bench.alloc_movable_zone(Order::ZERO)).collect()
}

/// A page of the first piece is in use, and its owner does not free it.
fn held() -> (Fixture, Pfn) {
    let this = lost();
    let mut pages = take_all(&this);
    let inside = this.bench.mm.block(first_block(&this)).unwrap().pfns;
    let at = pages.iter().position(|&page| inside.contains(page)).unwrap();
    let page = pages.swap_remove(at);
    pages.into_iter().for_each(|page| this.bench.mm.free_pages(page).unwrap());
    (this, page)
}

fn first_block(this: &Fixture) -> hotmem::BlockId {
    this.bench.mm.blocks_in(this.pieces[0]).next().unwrap()
}

#[test]
fn memory_that_is_gone_is_drained_and_removed_and_no_eject_is_asked_for() {
    let mut this = Fixture::inserted();
    let holder = Holder::register(this.bench);
    for _ in 0..60 {
        holder.take_in_zone(this.bench, Order::ZERO).unwrap();
    }
    this.script.event(0, Request::Gone);
    let out = this.run();
    assert_eq!(this.script.reported(), [Outcome::Ejected]);
    assert_eq!((this.states(), this.driver.plugged()), (vec![], &[][..]), "{out}");
    assert!(this.script.0.borrow().ejected.is_empty());
    assert_eq!(out.matches("\"operation\":\"remove\"").count(), 2);
    let Verdict::Fail(why) = this.driver.verdict() else { panic!("{}", this.driver.verdict()) };
    assert!(why.as_str().contains("is gone and was not ejected"), "{why}");
    holder.check(this.bench);
}

#[test]
fn a_block_that_stays_gets_no_new_user_and_goes_with_the_last_one() {
    let (mut this, page) = held();
    this.run();
    assert_eq!(this.script.reported(), [Outcome::EjectFailed]);
    // What could go went: the second piece whole, and the other block of the first.
    assert_eq!(this.states(), [ONLINE, BlockState::Offline]);
    assert_eq!(this.driver.plugged().len(), 1);
    assert!(this.driver.plugged().iter().all(|entry| entry.claim == Claim::Gone));
    assert!(take_all(&this).is_empty(), "a page of what is gone was given out");

    let id = first_block(&this);
    let offline = this.bench.mm.blocks_in(this.pieces[0]).nth(1).unwrap();
    let refused = this.driver.operator_online(offline, ZoneKind::Movable, &mut String::new());
    assert!(matches!(refused, Err(OperatorError::Gone(entry)) if entry.range == this.pieces[0]));

    this.bench.mm.free_pages(page).unwrap();
    this.script.event(0, Request::Gone);
    this.run();
    assert_eq!(this.script.reported(), [Outcome::Ejected]);
    assert_eq!((this.bench.mm.block(id), this.driver.plugged()), (None, &[][..]));
}

#[test]
fn a_device_that_goes_during_its_eject_does_not_come_back_online() {
    let (mut this, page) = held();
    this.script.0.borrow_mut().events.clear();
    this.script.eject(0);
    this.run();
    assert_eq!(this.script.reported(), [Outcome::Ejecting, Outcome::EjectFailed]);
    assert!(take_all(&this).is_empty());
    this.bench.mm.free_pages(page).unwrap();
    this.script.event(0, Request::Gone);
    this.run();
    assert_eq!((this.script.reported(), this.states()), (vec![Outcome::Ejected], vec![]));
}

#[test]
fn a_device_that_goes_at_the_end_of_its_eject_is_not_added_back() {
    let mut this = lost();
    this.script.0.borrow_mut().events.clear();
    // Five blocks go offline and a range is removed; the other one stays, and the device is not there.
    this.fail(6);
    this.script.eject(0);
    let out = this.run();
    assert_eq!(this.script.reported(), [Outcome::Ejecting, Outcome::Ejected]);
    assert_eq!((this.states(), this.driver.plugged()), (vec![], &[][..]));
    assert!(!out.contains("\"operation\":\"add\""), "{out}");
}

#[test]
fn a_drain_whose_nth_operation_fails_is_finished_at_the_next_notification() {
    let mut failed = 0;
    for n in (0..).step_by(7) {
        let mut this = lost();
        this.driver.set_budget(64);
        this.fail(n);
        this.run();
        match this.script.reported()[..] {
            [Outcome::Ejected] => break,
            [Outcome::EjectFailed] => failed += 1,
            ref other => panic!("call {n}: {other:?}"),
        }
        assert!(!this.driver.plugged().is_empty());
        this.never();
        this.script.event(0, Request::Gone);
        this.run();
        assert_eq!(this.script.reported(), [Outcome::Ejected], "call {n}");
        assert_eq!((this.states(), this.driver.plugged()), (vec![], &[][..]), "call {n}");
    }
    assert!(failed > 0);
}

#[test]
fn another_device_in_the_slot_is_taken_once_the_old_one_is_drained() {
    for used in [false, true] {
        let (mut this, page) = held();
        this.script.0.borrow_mut().events.clear();
        if !used {
            this.bench.mm.free_pages(page).unwrap();
        }
        let other: PhysRange = range(WINDOW + 32 * MIB, 2 * MIB);
        this.bench.plug(other);
        this.script.insert(0, &[other]);
        let out = this.run();
        assert_eq!(this.script.reported(), [Outcome::Inserted], "{out}");
        let owners = this.driver.plugged().iter();
        let of = |claim| owners.clone().filter(|entry| entry.claim == claim).count();
        assert_eq!((of(Claim::Added), of(Claim::Gone)), (1, usize::from(used)));
        // Ejecting the new one does not lose track of what is left of the old one.
        this.script.eject(0);
        this.run();
        assert_eq!(this.script.reported(), [Outcome::Ejecting, Outcome::Ejected]);
        assert_eq!(this.driver.plugged().len(), usize::from(used));
        assert_eq!(this.bench.mm.blocks_in(other).find_map(|id| this.bench.mm.block(id)), None);
    }
}

#[test]
fn a_device_that_went_while_the_one_before_it_was_drained_is_not_taken() {
    let mut this = Fixture::inserted();
    let other = range(WINDOW + 32 * MIB, 2 * MIB);
    this.bench.plug(other);
    this.script.insert(0, &[other]);
    let mut out = String::new();
    assert!(this.driver.run_one(&mut out));
    this.script.0.borrow_mut().absent.push(0);
    this.run();
    assert_eq!(this.script.reported(), [Outcome::InsertFailed]);
    assert_eq!((this.states(), this.driver.plugged()), (vec![], &[][..]));
}

#[test]
fn memory_of_another_device_is_not_touched_for_one_that_is_gone() {
    let (mut this, page) = held();
    this.run();
    this.bench.mm.free_pages(page).unwrap();
    this.script.reported();
    // The operator gives the rest up, and another device comes to the same addresses.
    this.driver.operator_offline(first_block(&this), &mut String::new()).unwrap();
    this.driver.operator_remove(this.pieces[0], &mut String::new()).unwrap();
    this.script.insert(1, &this.pieces[..1]);
    this.run();
    // That is there, and the operator's to switch.
    let (id, mut out) = (first_block(&this), String::new());
    this.driver.operator_offline(id, &mut out).unwrap();
    this.driver.operator_online(id, ZoneKind::Movable, &mut out).unwrap();
    this.script.event(0, Request::Gone);
    this.run();
    assert_eq!(this.script.reported(), [Outcome::Inserted, Outcome::Ejected]);
    assert_eq!(this.states(), [ONLINE; 2]);
}

#[test]
fn a_refused_device_that_goes_is_forgotten_quietly() {
    let mut this = Fixture::inserted();
    this.script.insert(1, &this.pieces[..1]);
    this.run();
    this.script.event(1, Request::Gone);
    this.script.event(9, Request::Gone);
    assert_eq!(this.run(), "");
    let reported = [Outcome::InsertFailed, Outcome::Ejected, Outcome::Ejected];
    assert_eq!((&this.script.reported()[..], this.states()), (&reported[..], vec![ONLINE; 5]));
    assert!(matches!(this.driver.verdict(), Verdict::Refused(_)));
    this.script.eject(1);
    this.run();
    let refused = Outcome::EjectRefused(Refusal::Unknown);
    assert_eq!(this.script.reported(), [Outcome::Ejecting, refused]);
}

/// A slot whose first device is gone but for a page in use, and its second device: two ranges on node 1.
fn second_device() -> (Fixture, Pfn, [PhysRange; 2]) {
    let (mut this, page) = held();
    let others = [range(WINDOW + 32 * MIB, 2 * MIB), range(WINDOW + 40 * MIB, MIB)];
    others.iter().for_each(|&other| this.bench.plug(other));
    this.script.event(0, announced(&others));
    this.run();
    assert_eq!(this.script.reported(), [Outcome::EjectFailed, Outcome::Inserted]);
    (this, page, others)
}

/// An insert on node 1.
pub(super) fn announced(pieces: &[PhysRange]) -> Request<Wrong> {
    let mut ranges = Ranges::default();
    pieces.iter().for_each(|&piece| ranges.push(piece).unwrap());
    Request::Insert { ranges, node: NodeId::new(1).unwrap() }
}

#[test]
fn a_device_that_changes_is_not_drained_for_one_that_was_in_its_slot_before() {
    let (mut this, _, others) = second_device();
    let before = this.bench.snapshot();
    this.script.event(0, announced(&others[..1]));
    this.run();
    assert_eq!(this.script.reported(), [Outcome::InsertFailed]);
    assert_eq!(this.bench.snapshot(), before);
}

#[test]
fn a_device_that_is_added_back_comes_to_its_own_node() {
    let (mut this, ..) = second_device();
    this.script.0.borrow_mut().stuck = true;
    this.script.eject(0);
    let out = this.run();
    let added: Vec<_> = out.lines().filter(|line| line.contains("\"operation\":\"add\"")).collect();
    assert_eq!(added.len(), 2, "{out}");
    assert!(added.iter().all(|line| line.contains("\"node\":1,")), "{out}");
}

#[test]
fn a_device_of_unknown_memory_is_not_ejected_for_one_that_was_in_its_slot_before() {
    let (mut this, _) = held();
    this.script.event(0, Request::Unreadable(Wrong("broken")));
    this.run();
    this.script.reported();
    this.script.eject(0);
    assert_eq!(this.run(), "");
    let refused = Outcome::EjectRefused(Refusal::Unknown);
    assert_eq!(this.script.reported(), [Outcome::Ejecting, refused]);
    assert!(this.script.0.borrow().ejected.is_empty());
}
