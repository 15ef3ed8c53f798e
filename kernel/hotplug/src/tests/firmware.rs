//! Every call of firmware fails once, in requests of each kind. What firmware then hears is true, and what it does not
//! hear is in the log, by name; memory is as it would be without the failure, or as it was before.

use super::doubles::LOST;
use super::*;
use core::cell::RefCell;
use hotmem::{Fact, Order};
use std::format;
use std::sync::Once;

std::thread_local! {
    /// Errors that this thread has logged.
    static ERRORS: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// Keeps the errors of each thread.
struct Errors;

impl log::Log for Errors {
    fn enabled(&self, of: &log::Metadata<'_>) -> bool {
        of.level() == log::Level::Error
    }

    fn log(&self, record: &log::Record<'_>) {
        if self.enabled(record.metadata()) {
            ERRORS.with_borrow_mut(|errors| errors.push(format!("{}", record.args())));
        }
    }

    fn flush(&self) {}
}

fn listen_to_errors() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // Another test may have its own.
        log::set_logger(&Errors).unwrap();
        log::set_max_level(log::LevelFilter::Error);
    });
    ERRORS.take();
}

/// A request, on a machine where device 0 is known or not.
struct Case {
    name: &'static str,
    begin: fn() -> Fixture,
    request: fn(&mut Fixture),
    /// Firmware's calls.
    calls: u64,
}

fn in_use() -> Fixture {
    let this = Fixture::inserted();
    // Its owner does not move it.
    this.bench.alloc_movable_zone(Order::ZERO).unwrap();
    this
}

fn kept() -> Fixture {
    let this = Fixture::inserted();
    this.script.0.borrow_mut().stuck = true;
    this
}

fn withdrawn() -> Fixture {
    let this = Fixture::inserted();
    this.script.0.borrow_mut().withdrawn = true;
    this
}

fn insert(this: &mut Fixture) {
    this.script.insert(0, &this.pieces);
}

fn insert_bad(this: &mut Fixture) {
    this.script.insert(0, &[this.pieces[0], range(WINDOW + 8 * MIB + 4096, MIB)]);
}

fn eject(this: &mut Fixture) {
    this.script.eject(0);
}

/// An eject that the operator cancels after its first steps.
fn cancel(this: &mut Fixture) {
    this.script.eject(0);
    let mut out = String::new();
    (0..3).for_each(|_| _ = this.driver.run_one(&mut out));
    this.driver.cancel_eject(&mut out);
}

const CASES: [Case; 8] = [
    Case { name: "insert", begin: Fixture::new, request: insert, calls: 1 },
    Case { name: "insert again", begin: Fixture::inserted, request: insert, calls: 1 },
    Case { name: "insert refused", begin: Fixture::new, request: insert_bad, calls: 1 },
    Case { name: "eject", begin: Fixture::inserted, request: eject, calls: 4 },
    Case { name: "eject of unknown memory", begin: Fixture::new, request: eject, calls: 3 },
    Case { name: "eject cancelled", begin: Fixture::inserted, request: cancel, calls: 3 },
    Case { name: "eject that firmware fails", begin: kept, request: eject, calls: 4 },
    Case { name: "eject withdrawn", begin: withdrawn, request: eject, calls: 4 },
];

/// What is left of a request: the facts, states of blocks, and what firmware heard.
type Left = (Vec<Fact>, Vec<BlockState>, Vec<Outcome>);

impl Case {
    /// Plays it with call `nth` failing; returns what is left, and whether one failed.
    fn play(&self, nth: u64) -> (Fixture, Left, bool) {
        let mut this = (self.begin)();
        this.script.reported();
        listen_to_errors();
        this.script.0.borrow().calls.arm(nth);
        (self.request)(&mut this);
        this.run();
        let fired = this.script.0.borrow().calls.fired();
        this.script.0.borrow().calls.disarm();
        let left = (this.bench.snapshot(), this.states(), this.script.reported());
        (this, left, fired)
    }
}

/// Whether an outcome that firmware heard last is what has become of the device.
fn is_true(outcome: Outcome, states: &[BlockState], ejected: bool) -> bool {
    match outcome {
        Outcome::Inserted => states == [ONLINE; 5],
        Outcome::InsertedOffline | Outcome::EjectFailed => {
            states == [BlockState::Offline; 5] && !ejected
        }
        Outcome::InsertFailed => states.is_empty() || states == [ONLINE; 5],
        Outcome::Ejected => states.is_empty() && ejected,
        Outcome::EjectRefused(Refusal::Unknown) => !ejected,
        Outcome::EjectRefused(_) => states == [ONLINE; 5] && !ejected,
        Outcome::Ejecting => true,
    }
}

#[test]
fn a_call_of_firmware_that_fails_leaves_what_firmware_hears_true() {
    for case in &CASES {
        let (_, (_, _, heard), _) = case.play(0);
        for nth in 1.. {
            let (this, (_, states, now), fired) = case.play(nth);
            if !fired {
                assert_eq!(nth - 1, case.calls, "{}", case.name);
                assert_eq!(now, heard, "{}", case.name);
                break;
            }
            let what = format!("{}, call {nth}: {now:?}", case.name);
            let ejected = this.script.0.borrow().ejected.contains(&0);
            let last = now.last().copied().filter(|_| now.len() >= heard.len());
            assert!(last.is_none_or(|last| is_true(last, &states, ejected)), "{what}: {states:?}");
            // It is named, and so is the device.
            let errors = ERRORS.take();
            let named = |error: &String| error.contains("0: ") && error.contains(LOST.0);
            assert!(errors.iter().any(named), "{what}: {errors:?}");
        }
    }
}

#[test]
fn a_report_that_is_lost_changes_nothing_about_the_memory_and_is_named() {
    let mut reports = 0;
    for case in &CASES {
        let (_, (facts, states, heard), _) = case.play(0);
        for nth in 1..=case.calls {
            let (_, (facts_now, states_now, now), _) = case.play(nth);
            let what = format!("{}, call {nth}", case.name);
            let errors = ERRORS.take();
            if errors.iter().any(|error| error.contains("cannot report")) {
                assert_eq!((facts_now == facts, &states_now), (true, &states), "{what}");
                assert_eq!(now.len() + 1, heard.len(), "{what}");
                let lost = heard.iter().find(|outcome| !now.contains(outcome)).unwrap();
                let named = format!("0: cannot report {lost:?} to firmware: {}", LOST.0);
                assert!(errors.contains(&named), "{what}: {errors:?}");
                reports += 1;
            }
        }
    }
    assert_eq!(reports, 13, "reports were lost");
}

#[test]
fn a_request_that_firmware_repeats_after_a_lost_call_ends_well() {
    for case in &CASES {
        for nth in 1..=case.calls {
            let (mut this, ..) = case.play(nth);
            let fresh = Fixture::new().bench.snapshot();
            this.script.0.borrow_mut().stuck = false;
            this.script.0.borrow_mut().withdrawn = false;
            if this.states().is_empty() {
                insert(&mut this);
                this.run();
            }
            let known = this.driver.plugged().iter().any(|entry| entry.claim == Claim::Added);
            if known {
                eject(&mut this);
                this.run();
                assert_eq!(this.script.reported().last(), Some(&Outcome::Ejected), "{}", case.name);
                assert_eq!(this.bench.snapshot(), fresh, "{}, call {nth}", case.name);
            }
        }
    }
}

#[test]
fn an_eject_of_memory_in_use_changes_nothing_whichever_call_fails() {
    let case = Case { name: "eject in use", begin: in_use, request: eject, calls: 3 };
    for nth in 0..=case.calls {
        let (_, (_, states, heard), fired) = case.play(nth);
        assert_eq!(fired, nth > 0, "call {nth}");
        assert_eq!(states, [ONLINE; 5], "call {nth}");
        assert!(!heard.contains(&Outcome::Ejected), "call {nth}: {heard:?}");
    }
}
