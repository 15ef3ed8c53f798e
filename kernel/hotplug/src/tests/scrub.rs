//! Memory that was used is cleared before its device goes, in steps, with a line for each range.

use core::ops::Not;
use std::string::String;
use std::vec::Vec;

use hotmem::testing::{Holder, Tiny};
use hotmem::{BlockState, Order, Pfn, PhysAddr};

use super::doubles::Ticks;
use super::{Fixture, ONLINE};
use crate::{Outcome, Refusal};

const PAGE: u64 = 4096;

/// A fixture with a device of which pages were used; returns their addresses.
fn used() -> (Fixture, Vec<u64>) {
    let mut this = Fixture::inserted();
    this.driver.set_scrub(true);
    let holder = Holder::<Tiny>::register(this.bench);
    let take = |_| holder.take_in_zone(this.bench, Order::ZERO).unwrap();
    let handles: Vec<_> = (0..200).map(take).collect();
    let at = |&handle: &u64| holder.at(handle).unwrap().0.get() * PAGE;
    let pages: Vec<_> = handles.iter().map(at).collect();
    assert!(pages.iter().all(|&at| is_clear(&this, at).not()));
    handles.into_iter().for_each(|handle| holder.release(this.bench, handle));
    (this, pages)
}

/// Whether the page at `at` holds zeroes only. The memory of a device that is gone is still plugged here.
fn is_clear(this: &Fixture, at: u64) -> bool {
    let mmu = this.bench.mm.machine().mmu();
    (0..PAGE).step_by(8).all(|word| mmu.peek(PhysAddr::new(at + word)) == 0)
}

fn operations(out: &str) -> Vec<&str> {
    out.lines().filter_map(|line| line.split('"').nth(3)).collect()
}

fn eject(this: &mut Fixture) -> String {
    this.script.eject(0);
    this.run()
}

#[test]
fn memory_that_was_used_is_cleared_before_its_device_goes() {
    let (mut this, pages) = used();
    this.driver.set_budget(1);
    let out = eject(&mut this);
    assert_eq!(this.script.reported(), [Outcome::Ejecting, Outcome::Ejected]);
    let wanted = ["offline", "offline", "scrub", "scrub", "remove", "remove"];
    assert_eq!(operations(&out), wanted, "{out}");
    assert!(pages.iter().all(|&at| is_clear(&this, at)));
    let start = this.pieces[0].start().get();
    let line = "hotmem: step {\"operation\":\"scrub\",\"start\":";
    let first = out.lines().find(|one| one.starts_with(line)).unwrap();
    assert!(first.starts_with(&std::format!("{line}{start},\"size\":2097152,")), "{first}");
    assert!(first.ends_with("\"skipped_blocks\":0,\"instructions\":null,\"error\":null}"));
    assert!(first.contains("\"scrubbed_bytes\":0,").not(), "{first}");
}

#[test]
fn without_the_setting_content_leaves_with_the_device_and_no_line_is_written() {
    let (mut this, pages) = used();
    this.driver.set_scrub(false);
    let out = eject(&mut this);
    assert_eq!(operations(&out), ["offline", "offline", "remove", "remove"]);
    assert!(pages.iter().all(|&at| is_clear(&this, at).not()));
}

#[test]
fn an_eject_that_is_cancelled_while_memory_is_cleared_leaves_all_online() {
    let (mut this, _) = used();
    this.driver.set_budget(1);
    this.script.eject(0);
    let mut out = String::new();
    while operations(&out) != ["offline", "offline"] {
        assert!(this.driver.run_one(&mut out));
    }
    for _ in 0..3 {
        assert!(this.driver.run_one(&mut out));
    }
    assert!(this.driver.cancel_eject(&mut out));
    let reported = [Outcome::Ejecting, Outcome::EjectRefused(Refusal::Busy)];
    assert_eq!(this.script.reported(), reported);
    assert_eq!(this.states(), [ONLINE; 5]);
    this.bench.check();
    eject(&mut this);
    assert_eq!(this.script.reported(), [Outcome::Ejecting, Outcome::Ejected]);
}

#[test]
fn a_block_with_bad_memory_is_not_written_and_the_device_goes() {
    let (mut this, pages) = used();
    let bad = pages[0];
    this.bench.mm.poison(Pfn::new(bad / PAGE)).unwrap();
    let out = eject(&mut this);
    assert_eq!(this.script.reported(), [Outcome::Ejecting, Outcome::Ejected]);
    assert_eq!(out.matches("\"skipped_blocks\":1,").count(), 1, "{out}");
    assert!(is_clear(&this, bad).not());
}

#[test]
fn a_device_stays_if_its_memory_cannot_be_cleared() {
    let (mut this, _) = used();
    let blocks = this.states().len() as u64;
    // The offlines succeed, and the first clearing is refused for good.
    this.fail(blocks);
    let out = eject(&mut this);
    assert!(out.lines().take(2).all(|line| line.contains("\"error\":null}")), "{out}");
    this.never();
    let reported = [Outcome::Ejecting, Outcome::EjectRefused(Refusal::Busy)];
    assert_eq!(this.script.reported(), reported);
    assert_eq!(this.states(), [ONLINE; 5]);
}

#[test]
fn what_clearing_takes_is_counted_in_its_line_alone() {
    let mut lines = Vec::new();
    for scrub in [false, true] {
        let mut this = Fixture::with(Ticks(Some(std::rc::Rc::default())));
        this.driver.set_scrub(scrub);
        this.script.insert(0, &this.pieces.clone());
        this.run();
        let out = eject(&mut this);
        let others = out.lines().filter(|line| line.contains("\"scrub\"").not());
        let figure = |line: &str| {
            let (_, rest) = line.split_once("\"instructions\":").unwrap();
            rest.split([',', '}']).next().unwrap().parse::<u64>().unwrap()
        };
        lines.push(others.map(figure).collect::<Vec<_>>());
        let scrubs = out.lines().filter(|line| line.contains("\"scrub\""));
        assert_eq!(scrubs.filter(|line| figure(line) > 0).count(), if scrub { 2 } else { 0 });
    }
    assert_eq!(lines[0], lines[1]);
}

#[test]
fn the_operators_remove_clears_memory_that_was_used_too() {
    let mut this = Fixture::new();
    this.driver.set_scrub(true);
    // Refused, so that the operator may add it.
    this.script.insert(0, &[this.pieces[0], hotmem::testing::range(super::WINDOW + 1, super::MIB)]);
    this.run();
    let range = this.pieces[0];
    let mut out = String::new();
    this.driver.operator_add(range, hotmem::Placement::PerBlock, &mut out).unwrap();
    for id in this.bench.mm.blocks_in(range) {
        this.driver.operator_online(id, hotmem::ZoneKind::Movable, &mut out).unwrap();
    }
    let holder = Holder::<Tiny>::register(this.bench);
    let handle = holder.take_in_zone(this.bench, Order::ZERO).unwrap();
    let at = holder.at(handle).unwrap().0.get() * PAGE;
    holder.release(this.bench, handle);
    for id in this.bench.mm.blocks_in(range) {
        this.driver.operator_offline(id, &mut out).unwrap();
    }
    assert_eq!(this.states().first(), Some(&BlockState::Offline));
    out.clear();
    this.driver.operator_remove(range, &mut out).unwrap();
    assert_eq!(operations(&out), ["scrub", "remove"]);
    assert!(is_clear(&this, at));
}
