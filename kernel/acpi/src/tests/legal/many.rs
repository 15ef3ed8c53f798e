//! Machines with many memory devices.

use std::format;
use std::string::String;
use std::vec::Vec;

use hotmem_hotplug::MAX_LINES;

use super::{EJ0, LINE, Machine, OST, crs, qword, table};

/// A machine of `count` memory devices of a gigabyte, from 4 GiB on.
fn machine(count: u64) -> Machine {
    let device = |n| {
        let hid = format!("Name (_HID, EisaId (\"PNP0C80\")) Name (_UID, {n})");
        let memory = crs(&qword((4 + n) << 30, 1 << 30));
        format!("Device (M{n:03X}) {{ {hid} {memory} {EJ0} {OST} }}\n")
    };
    Machine::new(&table("", &(0..count).map(device).collect::<String>(), "Noop"))
}

#[test]
fn every_device_of_a_large_machine_is_found_once() {
    for (name, count) in [("24", 300), ("25", 1000)] {
        let mut machine = machine(count);
        machine.source.arm().unwrap();
        let line = |n: u64| {
            let (first, last) = ((4 + n) << 30, ((5 + n) << 30) - 1);
            format!("insert M{n:03X} [{first:#x}-{last:#x}] on 0")
        };
        let mut found = machine.drain();
        found.sort_unstable();
        let mut wanted: Vec<_> = (0..count).map(line).collect();
        wanted.sort_unstable();
        assert_eq!(found, wanted, "{name}");
        assert_eq!((machine.interrupt(LINE), machine.name("OSTN")), (Vec::new(), 0), "{name}");
    }
}

#[test]
fn more_interrupts_than_can_be_watched_cost_only_those_that_are_too_many() {
    // The table's event device first: then one with forty interrupts, and the system control interrupt.
    let list: String =
        (0..40).map(|n| format!("{}{}", if n == 0 { "" } else { ", " }, 100 + n)).collect();
    let device = format!(
        "Device (GED1) {{ Name (_HID, \"ACPI0013\") Name (_UID, 1)
            Name (_CRS, ResourceTemplate () {{
                Interrupt (ResourceConsumer, Edge, ActiveHigh, Exclusive) {{ {list} }} }})
            Method (_EVT, 1, Serialized) {{ Store (Arg0, \\LAST) }} }}"
    );
    let mut machine = Machine::new(&table("Name (LAST, 0)", &device, "Noop"));
    machine.source.arm().unwrap();
    let lines: Vec<_> = machine.source.lines().iter().map(|line| line.gsi).collect();
    assert_eq!((lines.len(), lines[0], lines[31]), (MAX_LINES, 9, 130));
    machine.interrupt(130);
    assert_eq!(machine.name("LAST"), 130);
}
