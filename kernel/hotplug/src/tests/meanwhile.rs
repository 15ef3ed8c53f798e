//! Devices that are announced while another one is given up.

use std::string::String;
use std::vec::Vec;

use hotmem::testing::{Holder, Tiny, range};
use hotmem::{BlockState, Order, PhysRange};

use super::{Fixture, MIB, ONLINE, WINDOW, Wrong};
use crate::{Outcome, Refusal, Request, Verdict};

/// Device 0 with five blocks, whose pages are in use and move one at a time.
fn used() -> (Fixture, &'static Holder<Tiny>) {
    let mut this = Fixture::inserted();
    let holder = Holder::register(this.bench);
    for i in 0..60 {
        holder.take_in_zone(this.bench, Order::new(i % 3).unwrap()).unwrap();
    }
    this.driver.set_budget(1);
    (this, holder)
}

/// Memory of another device.
fn plugged(this: &Fixture) -> PhysRange {
    let piece = range(WINDOW + 32 * MIB, 2 * MIB);
    this.bench.plug(piece);
    piece
}

fn states(this: &Fixture, piece: PhysRange) -> Vec<BlockState> {
    let mm = &this.bench.mm;
    mm.blocks_in(piece).filter_map(|id| mm.block(id)).map(|block| block.state).collect()
}

/// Begins with an eject of device 0 and does some steps of it.
fn begin(this: &mut Fixture, steps: u32) {
    this.script.eject(0);
    for _ in 0..=steps {
        assert!(this.driver.run_one(&mut String::new()));
    }
    assert!(this.driver.ejecting().is_some(), "done too soon");
}

#[test]
fn a_device_that_is_announced_during_an_eject_waits_for_one_block_at_the_most() {
    for steps in (0..100).step_by(9) {
        let (mut this, holder) = used();
        let piece = plugged(&this);
        begin(&mut this, steps);
        let offline = |this: &Fixture| this.states().iter().filter(|&&it| it != ONLINE).count();
        let before = offline(&this);
        this.script.insert(1, &[piece]);
        while states(&this, piece).is_empty() {
            assert!(this.driver.run_one(&mut String::new()));
        }
        assert_eq!(this.script.reported(), [Outcome::Ejecting, Outcome::Inserted]);
        assert!(offline(&this) <= before + 1, "after {steps} steps");
        assert_eq!(states(&this, piece), [ONLINE; 2]);
        this.run();
        assert_eq!(this.script.reported(), [Outcome::Ejected]);
        assert_eq!(states(&this, piece), [ONLINE; 2]);
        assert!(matches!(this.driver.verdict(), Verdict::Pass));
        holder.check(this.bench);
    }
}

#[test]
fn an_eject_that_fails_after_an_insert_puts_back_what_it_changed_itself() {
    let (mut this, holder) = used();
    let piece = plugged(&this);
    begin(&mut this, 0);
    while this.states().first() == Some(&ONLINE) {
        this.driver.run_one(&mut String::new());
    }
    this.script.insert(1, &[piece]);
    while states(&this, piece).is_empty() {
        this.driver.run_one(&mut String::new());
    }
    assert!(this.driver.cancel_eject(&mut String::new()));
    assert_eq!((this.states(), states(&this, piece)), (vec![ONLINE; 5], vec![ONLINE; 2]));
    holder.check(this.bench);
}

#[test]
fn an_insert_that_fails_during_an_eject_takes_back_what_it_changed_itself() {
    let mut failed = 0;
    for n in 0..8 {
        let (mut this, holder) = used();
        let piece = plugged(&this);
        begin(&mut this, 0);
        while this.states().first() == Some(&ONLINE) {
            this.driver.run_one(&mut String::new());
        }
        this.script.insert(1, &[piece]);
        this.script.reported();
        this.fail(n);
        while this.driver.ejecting().is_some_and(|_| this.script.0.borrow().reported.is_empty()) {
            this.driver.run_one(&mut String::new());
        }
        this.never();
        let reported = this.script.reported();
        failed += u32::from(reported != [Outcome::Inserted]);
        this.driver.cancel_eject(&mut String::new());
        this.run();
        assert_eq!(this.states(), [ONLINE; 5], "operation {n} failed, {reported:?}");
        holder.check(this.bench);
    }
    assert!(failed >= 3, "{failed}");
}

#[test]
fn a_device_that_is_refused_during_an_eject_gets_its_reply_and_the_eject_ends() {
    let (mut this, holder) = used();
    begin(&mut this, 5);
    this.script.event(1, Request::Unreadable(Wrong("odd")));
    this.script.insert(2, &[range(WINDOW + 40 * MIB, 4096)]);
    this.run();
    let reported = this.script.0.borrow().reported.clone();
    let failed = |device| (device, Outcome::InsertFailed);
    let whole = [(0, Outcome::Ejecting), failed(1), failed(2), (0, Outcome::Ejected)];
    assert_eq!(reported, whole);
    assert!(matches!(this.driver.verdict(), Verdict::Refused(_)));
    holder.check(this.bench);
}

#[test]
fn an_eject_ends_however_many_devices_are_announced_meanwhile() {
    let (mut this, holder) = used();
    begin(&mut this, 0);
    for _ in 0..10_000 {
        // One before every step.
        this.script.event(1, Request::Unreadable(Wrong("odd")));
        this.driver.run_one(&mut String::new());
        if this.script.0.borrow().ejected.contains(&0) {
            holder.check(this.bench);
            return;
        }
    }
    panic!("the eject has no end");
}

#[test]
fn what_is_announced_of_the_device_that_is_given_up_comes_after_the_eject() {
    for cancels in [false, true] {
        let (mut this, holder) = used();
        begin(&mut this, 5);
        this.script.insert(0, &this.pieces);
        this.script.eject(0);
        if cancels {
            this.driver.cancel_eject(&mut String::new());
        }
        this.run();
        let end = if cancels { Outcome::EjectRefused(Refusal::Busy) } else { Outcome::Ejected };
        let reported = this.script.reported();
        let again = [Outcome::Inserted, Outcome::Ejecting, Outcome::Ejected];
        assert_eq!(reported, [&[Outcome::Ejecting, end][..], &again].concat());
        assert_eq!(this.states(), []);
        holder.check(this.bench);
    }
}

#[test]
fn a_device_that_vanishes_during_an_eject_is_drained_before_the_next_block() {
    for cancels in [false, true] {
        let (mut this, holder) = used();
        let piece = plugged(&this);
        this.script.insert(1, &[piece]);
        this.run();
        for _ in 0..20 {
            holder.take_in_zone(this.bench, Order::ZERO).unwrap();
        }
        this.script.reported();
        begin(&mut this, 0);
        this.script.event(1, Request::Gone);
        // The first block is not begun with yet.
        this.driver.run_one(&mut String::new());
        this.driver.run_one(&mut String::new());
        if cancels {
            assert!(this.driver.cancel_eject(&mut String::new()));
        }
        this.run();
        let end = if cancels { Outcome::EjectRefused(Refusal::Busy) } else { Outcome::Ejected };
        assert_eq!(this.script.reported(), [Outcome::Ejecting, Outcome::Ejected, end]);
        assert_eq!(states(&this, piece), []);
        assert_eq!(this.states().len(), if cancels { 5 } else { 0 });
        holder.check(this.bench);
    }
}
