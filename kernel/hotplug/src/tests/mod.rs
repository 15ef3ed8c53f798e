//! Tests of the driver on the real memory manager: requests with several ranges, operations that fail at
//! every possible place, owners, and the lines that are written.

mod absent;
mod beside;
mod doubles;
mod ejecting;
mod firmware;
mod gone;
mod joining;
mod listening;
mod lost;
mod meanwhile;
mod operator;
mod parts;
mod scrub;
mod shared;
mod sources;
mod waiting;

use core::cell::Cell;
use std::boxed::Box;
use std::rc::Rc;
use std::string::String;
use std::vec;
use std::vec::Vec;

use hotmem::testing::{Bench, FakeMachine, Setup, Tiny, range};
use hotmem::{BlockState, PhysRange, ZoneKind};

use super::{Claim, Hotplug, Outcome, Policy, Refusal, Request, Verdict};
use doubles::{Script, Ticks, Wrong};

const MIB: u64 = 1 << 20;
const WINDOW: u64 = 64 * MIB;
const ONLINE: BlockState = BlockState::Online(ZoneKind::Movable);

type Driver = Hotplug<'static, Script, FakeMachine<Tiny>, Ticks>;

/// A driver on a fake machine with two pieces of memory plugged.
struct Fixture {
    bench: &'static Bench<Tiny>,
    script: Script,
    driver: Driver,
    pieces: [PhysRange; 2],
}

impl Fixture {
    fn new() -> Self {
        Self::with(Ticks(None))
    }

    fn with(clock: Ticks) -> Self {
        let ram = vec![(0, 16 * MIB, 0)];
        let setup = Setup { ram, block: MIB, window: (WINDOW, 512 * MIB), kernelcore: None };
        let bench: &'static Bench<Tiny> = Box::leak(Box::new(Bench::new(&setup)));
        let script = Script::default();
        let driver = Hotplug::new(script.clone(), &bench.mm, clock, Policy::default()).unwrap();
        let pieces = [range(WINDOW, 2 * MIB), range(WINDOW + 8 * MIB, 3 * MIB)];
        pieces.iter().for_each(|&piece| bench.plug(piece));
        Self { bench, script, driver, pieces }
    }

    /// The n-th operation from now on is refused as busy, counted from 0, and not tried again.
    fn fail(&mut self, n: u64) {
        self.driver.set_patience(1);
        self.bench.mm.machine().busy().arm(n + 1);
    }

    /// No operation is refused from now on.
    fn never(&self) {
        self.bench.mm.machine().busy().disarm();
    }

    fn run(&mut self) -> String {
        let mut out = String::new();
        while self.driver.run_one(&mut out) {}
        self.bench.check();
        out
    }

    /// Inserts device 0 with both pieces, without a fault.
    fn inserted() -> Self {
        let mut this = Self::new();
        this.script.insert(0, &this.pieces);
        this.run();
        assert_eq!(this.script.reported(), [Outcome::Inserted]);
        assert_eq!(this.states(), [ONLINE; 5]);
        this
    }

    fn states(&self) -> Vec<BlockState> {
        let ids = self.pieces.iter().flat_map(|&piece| self.bench.mm.blocks_in(piece));
        ids.filter_map(|id| self.bench.mm.block(id)).map(|block| block.state).collect()
    }
}

#[test]
fn the_ranges_of_one_device_come_and_go_together() {
    let mut this = Fixture::new();
    let before = this.bench.snapshot();
    this.script.insert(0, &this.pieces);
    let out = this.run();
    assert_eq!(this.states(), [ONLINE; 5]);
    assert_eq!(this.script.reported(), [Outcome::Inserted]);
    assert_eq!(out.matches("\"operation\":\"add\"").count(), 2);
    assert_eq!(out.matches("\"operation\":\"online\"").count(), 2);

    this.script.eject(0);
    let out = this.run();
    assert_eq!(this.script.reported(), [Outcome::Ejecting, Outcome::Ejected]);
    assert_eq!(out.matches("\"operation\":\"remove\"").count(), 2);
    assert_eq!(this.bench.snapshot(), before);
    assert!(this.driver.plugged().is_empty());
}

#[test]
fn one_bad_range_refuses_the_whole_device() {
    let mut this = Fixture::new();
    let before = this.bench.snapshot();
    this.script.insert(0, &[this.pieces[0], range(WINDOW + 8 * MIB + 4096, MIB)]);
    let out = this.run();
    assert_eq!(this.script.reported(), [Outcome::InsertFailed]);
    assert_eq!(this.bench.snapshot(), before);
    // The range that was added and removed again has a line for both.
    let operations: Vec<_> = out.lines().filter_map(|line| line.split('"').nth(3)).collect();
    assert_eq!(operations, ["add", "add", "remove"]);
    assert!(matches!(this.driver.verdict(), Verdict::Refused(_)));
}

#[test]
fn what_stays_of_a_device_that_was_refused_goes_with_it() {
    let mut this = Fixture::new();
    let before = this.bench.snapshot();
    // The second range is refused, and then the first cannot be removed.
    this.fail(2);
    this.script.insert(0, &[this.pieces[0], range(WINDOW + 8 * MIB + 4096, MIB)]);
    this.run();
    assert_eq!(this.script.reported(), [Outcome::InsertFailed]);
    assert_eq!(this.states(), [BlockState::Offline; 2]);
    let claims: Vec<_> = this.driver.plugged().iter().map(|entry| entry.claim).collect();
    assert_eq!(claims, [Claim::Stranded, Claim::Refused]);
    assert!(matches!(this.driver.verdict(), Verdict::Fail(_)));
    this.script.eject(0);
    this.run();
    assert_eq!(this.script.reported(), [Outcome::Ejecting, Outcome::Ejected]);
    assert_eq!(this.bench.snapshot(), before);
}

#[test]
fn an_insert_whose_nth_operation_fails_leaves_all_or_nothing() {
    let mut failed = 0;
    for n in 0.. {
        let mut this = Fixture::new();
        let before = this.bench.snapshot();
        this.fail(n);
        this.script.insert(0, &this.pieces);
        this.run();
        let reported = this.script.reported();
        match reported[..] {
            [Outcome::Inserted] => break,
            [Outcome::InsertFailed | Outcome::InsertedOffline] => failed += 1,
            ref other => panic!("call {n}: {other:?}"),
        }
        // The first two calls are the adds; a failure later leaves everything added but offline.
        if n < 2 {
            assert_eq!(this.bench.snapshot(), before, "call {n}");
            assert_eq!(reported, [Outcome::InsertFailed]);
        } else {
            assert_eq!(reported, [Outcome::InsertedOffline]);
            assert_eq!(this.states(), [BlockState::Offline; 5], "call {n}");
        }
        this.never();
        this.script.eject(0);
        this.run();
        assert_eq!(this.script.reported(), [Outcome::Ejecting, Outcome::Ejected], "call {n}");
        assert_eq!(this.bench.snapshot(), before, "call {n}");
    }
    assert_eq!(failed, 2 + 5);
}

#[test]
fn an_eject_whose_nth_operation_fails_changes_nothing() {
    let mut failed = 0;
    for n in 0.. {
        let mut this = Fixture::inserted();
        let before = this.bench.snapshot();
        this.fail(n);
        this.script.eject(0);
        this.run();
        match this.script.reported()[..] {
            [Outcome::Ejecting, Outcome::Ejected] => break,
            [Outcome::Ejecting, Outcome::EjectRefused(Refusal::Busy)] => failed += 1,
            ref other => panic!("call {n}: {other:?}"),
        }
        assert_eq!(this.states(), [ONLINE; 5], "call {n}");
        assert_eq!(this.bench.snapshot(), before, "call {n}");
        assert!(this.script.0.borrow().ejected.is_empty());
    }
    assert_eq!(failed, 5 + 2);
}

#[test]
fn a_device_the_firmware_keeps_is_added_back_and_offline() {
    let mut this = Fixture::inserted();
    this.script.0.borrow_mut().stuck = true;
    this.script.eject(0);
    let out = this.run();
    assert_eq!(this.script.reported(), [Outcome::Ejecting, Outcome::EjectFailed]);
    assert_eq!(this.states(), [BlockState::Offline; 5]);
    let operations: Vec<_> = out.lines().filter_map(|line| line.split('"').nth(3)).collect();
    assert_eq!(operations, ["offline", "offline", "remove", "remove", "add", "add"]);
    assert!(out.contains("\"error\":\"stuck\""), "{out}");
    assert_eq!(this.driver.plugged().len(), 2);
}

#[test]
fn a_device_that_changes_under_its_memory_gets_a_failure_reply() {
    let mut this = Fixture::inserted();
    let before = this.bench.snapshot();
    this.script.insert(0, &this.pieces[..1]);
    let out = this.run();
    assert_eq!(this.script.reported(), [Outcome::InsertFailed]);
    let why = std::format!("is in use, and now has nothing instead of {}", this.pieces[1]);
    assert!(out.contains(&why), "{out}");
    assert_eq!(this.bench.snapshot(), before);
}

#[test]
fn two_devices_with_the_same_memory_are_not_both_taken() {
    let mut this = Fixture::inserted();
    let before = this.bench.snapshot();
    this.script.insert(1, &this.pieces[..1]);
    this.run();
    assert_eq!(this.script.reported(), [Outcome::InsertFailed]);
    assert_eq!(this.bench.snapshot(), before);
    // What the second claims is still the first's, so the second cannot be pulled with it.
    this.script.eject(1);
    this.run();
    assert_eq!(this.script.reported(), [Outcome::Ejecting, Outcome::EjectRefused(Refusal::InUse)]);
}

#[test]
fn an_unreadable_device_gets_a_reply_and_is_reported() {
    let mut this = Fixture::new();
    this.script.event(7, Request::Unreadable(Wrong("a \"bad\" device")));
    let out = this.run();
    assert_eq!(this.script.reported(), [Outcome::InsertFailed]);
    assert!(out.contains("\"start\":null,\"size\":null,\"node\":null"), "{out}");
    assert!(out.contains(r#""error":"a \"bad\" device""#), "{out}");
}

#[test]
fn a_device_of_unknown_memory_is_not_ejected() {
    let mut this = Fixture::new();
    this.script.event(3, Request::Unreadable(Wrong("broken")));
    this.run();
    this.script.reported();
    this.script.eject(3);
    assert_eq!(this.run(), "");
    assert_eq!(
        this.script.reported(),
        [Outcome::Ejecting, Outcome::EjectRefused(Refusal::Unknown)]
    );
    assert!(this.script.0.borrow().ejected.is_empty());
}

#[test]
fn memory_of_the_start_that_is_a_device_too_is_left_alone_and_never_ejected() {
    let mut this = Fixture::new();
    let before = this.bench.snapshot();
    this.script.insert(3, &[range(MIB, 2 * MIB), range(8 * MIB, MIB)]);
    assert_eq!(this.run(), "");
    assert_eq!(this.script.reported(), [Outcome::Inserted]);
    assert!(matches!(this.driver.verdict(), Verdict::Pass));

    this.script.eject(3);
    this.run();
    assert_eq!(this.script.reported(), [Outcome::Ejecting, Outcome::EjectRefused(Refusal::InUse)]);
    assert_eq!(this.bench.snapshot(), before);
}

#[test]
fn memory_that_cannot_be_added_back_is_not_claimed_any_more() {
    let mut this = Fixture::inserted();
    this.script.0.borrow_mut().stuck = true;
    // Five blocks go offline and two ranges are removed; then the first is to be added back.
    this.fail(7);
    this.script.eject(0);
    this.run();
    assert_eq!(this.script.reported(), [Outcome::Ejecting, Outcome::EjectFailed]);
    assert_eq!(this.states(), [BlockState::Offline; 3]);
    assert!(matches!(this.driver.verdict(), Verdict::Fail(_)));

    this.script.0.borrow_mut().stuck = false;
    this.script.eject(0);
    this.run();
    assert_eq!(this.script.reported(), [Outcome::Ejecting, Outcome::Ejected]);
    assert_eq!((this.states(), this.driver.plugged()), (vec![], &[][..]));
}

#[test]
fn a_report_that_firmware_refuses_changes_nothing_about_the_memory() {
    let mut this = Fixture::new();
    this.script.0.borrow_mut().deaf = true;
    this.script.insert(0, &this.pieces);
    let out = this.run();
    assert_eq!(this.states(), [ONLINE; 5]);
    assert!(out.contains("\"ost\":null"), "{out}");
}

#[test]
fn more_devices_than_the_table_holds_are_refused_not_forgotten() {
    let mut this = Fixture::new();
    // Refused devices fill the table without taking memory.
    for device in 1..=512 {
        this.script.insert(device, &[range(WINDOW + u64::from(device) * 8192, 4096)]);
    }
    this.script.insert(0, &this.pieces);
    let out = this.run();
    assert_eq!(this.driver.plugged().len(), 512);
    assert!(this.script.reported().iter().all(|&reported| reported == Outcome::InsertFailed));
    assert!(out.contains("no room in the table of plugged memory"), "no refusal by name");
    assert_eq!(this.states(), []);
}

#[test]
fn a_line_of_a_step_is_json_with_its_figures() {
    let mut this = Fixture::with(Ticks(Some(Rc::new(Cell::new(0)))));
    this.script.insert(0, &this.pieces[..1]);
    let out = this.run();
    let lines: Vec<_> = out.lines().collect();
    assert_eq!(lines.len(), 2, "{out}");
    // One group: 512 descriptors of 64 bytes are 8 pages.
    let start = WINDOW;
    let add = std::format!(
        "hotmem: step {{\"operation\":\"add\",\"start\":{start},\"size\":2097152,\"node\":0,\
         \"placement\":\"device\",\"groups\":[{{\"memmap_start\":{start},\"memmap_pages\":8,\
         \"sections\":2}}],\"system_bytes\":0,\"instructions\":10,\"event_instructions\":80,\
         \"ost\":1,\"error\":null}}"
    );
    assert_eq!(lines[0], add);
    let first = WINDOW / MIB;
    let (next, less) = (first + 1, MIB - 8 * 4096);
    let online = std::format!(
        "hotmem: step {{\"operation\":\"online\",\"start\":{start},\"size\":2097152,\"blocks\":[\
         {{\"block\":{first},\"state\":\"online\",\"managed_bytes\":{less}}},\
         {{\"block\":{next},\"state\":\"online\",\"managed_bytes\":{MIB}}}],\
         \"instructions\":20,\"error\":null}}"
    );
    assert_eq!(lines[1], online);
}

#[test]
fn a_device_that_claims_all_addresses_is_refused_and_can_go_in_no_time() {
    let mut this = Fixture::new();
    let all = range(0x1000_0000, u64::MAX - 0x1fff_ffff);
    for last in [Request::Eject, Request::Gone] {
        this.script.insert(1, &[all]);
        this.script.event(1, last);
        this.run();
    }
    let (refused, gone) = (Outcome::InsertFailed, Outcome::Ejected);
    assert_eq!(this.script.reported(), [refused, Outcome::Ejecting, gone, refused, gone]);
    assert!(this.driver.plugged().is_empty());
}

/// A console on which every piece of text takes a million instructions.
struct SlowConsole(Rc<Cell<u64>>, String);

impl core::fmt::Write for SlowConsole {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        self.0.set(self.0.get() + 1_000_000);
        self.1.push_str(text);
        Ok(())
    }
}

#[test]
fn what_the_console_takes_is_not_counted_as_part_of_an_eject() {
    let counter = Rc::new(Cell::new(0));
    let mut this = Fixture::with(Ticks(Some(counter.clone())));
    this.script.insert(0, &this.pieces[..1]);
    this.run();
    counter.set(0);
    this.script.eject(0);
    let mut console = SlowConsole(counter.clone(), String::new());
    while this.driver.run_one(&mut console) {}

    let (_, figure) = console.1.split_once("\"event_instructions\":").unwrap();
    let figure: u64 = figure.split(',').next().unwrap().parse().unwrap();
    assert!(counter.get() > 1_000_000);
    assert!((50..1000).contains(&figure), "{figure}");
}

#[test]
fn a_device_that_could_not_be_described_goes_once_it_can_be_unless_its_memory_is_in_use() {
    for used in [false, true] {
        let mut this = Fixture::new();
        this.script.event(3, Request::Unreadable(Wrong("broken")));
        if used {
            this.script.insert(0, &this.pieces[..1]);
        }
        this.run();
        this.script.reported();
        this.script.0.borrow_mut().memory = Some(this.pieces[0]);
        this.script.eject(3);
        this.run();
        let last = if used { Outcome::EjectRefused(Refusal::InUse) } else { Outcome::Ejected };
        assert_eq!(this.script.reported(), [Outcome::Ejecting, last]);
        assert_eq!(this.script.0.borrow().ejected.is_empty(), used);
    }
}
