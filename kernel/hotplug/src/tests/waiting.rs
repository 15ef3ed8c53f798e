//! Requests while another thread runs operations.

use std::sync::Barrier;
use std::thread;
use std::vec;

use hotmem::{BlockId, Placement, Stepped, ZoneKind};

use super::{Fixture, MIB, ONLINE, WINDOW, range};
use crate::{Outcome, Refusal};

/// Turns that the other thread keeps its operation for.
const KEPT: usize = 1000;

/// An online block that no device has.
fn with_a_block_of_its_own(this: &Fixture) -> BlockId {
    let own = range(WINDOW + 32 * MIB, MIB);
    this.bench.plug(own);
    this.bench.add(own, Placement::PerRange);
    this.bench.online(own);
    this.bench.mm.blocks_in(own).next().unwrap()
}

#[test]
fn a_request_waits_for_the_operation_of_another_thread() {
    let mut this = Fixture::new();
    let id = with_a_block_of_its_own(&this);
    let (bench, barrier) = (this.bench, Barrier::new(2));
    for request in 0..4 {
        thread::scope(|scope| {
            scope.spawn(|| {
                let going = bench.mm.start_offline(id).unwrap();
                barrier.wait();
                (0..KEPT).for_each(|_| thread::yield_now());
                let done = going.step(u64::MAX).unwrap();
                assert!(matches!(done, Stepped::Done));
                // The request runs its own meanwhile.
                while bench.mm.online(id, ZoneKind::Movable).is_err() {
                    thread::yield_now();
                }
            });
            barrier.wait();
            match request % 2 {
                0 => this.script.insert(0, &this.pieces),
                _ => this.script.eject(0),
            }
            let mut out = std::string::String::new();
            while this.driver.run_one(&mut out) {}
        });
        this.bench.check();
        let done: &[_] = match request % 2 {
            0 => &[Outcome::Inserted],
            _ => &[Outcome::Ejecting, Outcome::Ejected],
        };
        assert_eq!(this.script.reported(), done, "request {request}");
    }
}

#[test]
fn an_operation_that_does_not_end_has_a_request_refused_as_busy() {
    let mut this = Fixture::inserted();
    let id = with_a_block_of_its_own(&this);
    let going = this.bench.mm.start_offline(id).unwrap();
    this.driver.set_patience(100);
    this.script.eject(0);
    let mut out = std::string::String::new();
    while this.driver.run_one(&mut out) {}
    let busy = Outcome::EjectRefused(Refusal::Busy);
    assert_eq!(this.script.reported(), vec![Outcome::Ejecting, busy]);
    drop(going);
    assert_eq!(this.states(), [ONLINE; 5]);
    this.script.eject(0);
    this.run();
    assert_eq!(this.script.reported(), [Outcome::Ejecting, Outcome::Ejected]);
}
