//! Which events are watched on a machine that has every kind of them.

use std::boxed::Box;
use std::vec::Vec;

use hotmem_aml::Limits;
use hotmem_aml_fakes::compile;
use hotmem_hotplug::{HotplugSource, Latch, Request};

use super::board::Wire;
use super::firmware::RSDP;
use super::rig::{firmware, moved};
use crate::{AcpiSource, Tables};

/// The machine of `handlers.asl`, with its events let through.
fn machine() -> (AcpiSource<Wire>, Wire, &'static Latch) {
    let (wire, latch): (_, &'static Latch) =
        (Wire::new(moved(), 4), Box::leak(Box::new(Latch::new())));
    let memory = firmware(&compile("handlers").unwrap(), false);
    let tables = Tables::new(&memory, RSDP).unwrap();
    let mut source = AcpiSource::new(&tables, wire.clone(), latch, Limits::DEFAULT).unwrap();
    source.arm().unwrap();
    (source, wire, latch)
}

#[test]
fn devices_that_are_there_are_watched_once_and_absent_ones_are_not() {
    let (source, ..) = machine();
    // The SCI, both block devices by one line, two of four event devices.
    let lines: Vec<_> = source.lines().iter().map(|line| line.gsi).collect();
    assert_eq!(lines, [9, 20, 41, 42]);
}

#[test]
fn events_that_wake_the_machine_are_left_off() {
    let (_, wire, _) = machine();
    let board = wire.0.borrow();
    assert_eq!(board.gpe_enable, 1 << 3);
    assert_eq!(board.block_enable, 1 << 1);
}

#[test]
fn an_event_of_each_kind_brings_the_device() {
    for line in [0, 1, 3] {
        let (mut source, wire, latch) = machine();
        assert!(source.next_event().is_none());
        match line {
            0 => wire.0.borrow_mut().gpe_status = 1 << 3,
            1 => wire.0.borrow_mut().block_status = 1 << 1,
            _ => {}
        }
        latch.raise(line, 5);
        let event = source.next_event().unwrap();
        assert!(matches!(event.request, Request::Insert { .. }), "{line}");
        assert_eq!(event.since, Some(5));
        let board = wire.0.borrow();
        assert_eq!((board.gpe_status, board.block_status), (0, 0));
    }
}
