//! Whether a device is there, which node it is on, and containers around it.

use std::format;

use super::{EJ0, HID, LATE, LINE, OST, Shape, crs, dimm, gib, play, qword, table};

/// Neither `_OST` nor `_EJ0` was evaluated.
const SILENT: &[(&str, u64)] = &[("OSTV", 0xFFFF), ("OSTN", 0), ("EJC", 0)];
const TAKEN: &[(&str, u64)] = &[("OSTV", 0), ("OSTN", 1), ("EJC", 0)];
const REFUSED: &[(&str, u64)] = &[("OSTV", 1), ("OSTN", 1), ("EJC", 0)];
const ONE: &[&str] = &["insert MEM0 [0x100000000-0x13fffffff] on 0"];

/// A container around `MEM0`.
fn container(head: &str, dimm: &str) -> std::string::String {
    format!("Device (CON0) {{ Name (_HID, \"ACPI0004\") Name (_UID, 1) {head} {dimm} }}")
}

#[test]
fn a_device_that_does_not_decode_or_work_is_not_there() {
    for (name, status, error) in [
        ("10 turned off", "0x0D", "refuse MEM0 announced, but _STA is 0xd"),
        ("11 not functioning", "0x07", "refuse MEM0 announced, but _STA is 0x7"),
    ] {
        let device = dimm(&format!("Name (_STA, {status})"), &gib());
        let asl = table("", &device, "Notify (\\_SB.MEM0, 1)");
        play(&[Shape { name, asl, boot: &[], events: &[(LINE, &[error])], names: REFUSED }]);
    }
}

#[test]
fn a_device_whose_status_is_nonsense_costs_itself() {
    let bad = dimm("Method (_STA) { Return (Package () { 1 }) }", &gib());
    let good = crs(&qword(0x1_8000_0000, 0x4000_0000));
    let hid = HID.replace("_UID, 0", "_UID, 1");
    let good = format!("Device (MEM1) {{ {hid} {good} {EJ0} {OST} }}");
    let asl = table("", &format!("{bad} {good}"), "Notify (\\_SB.MEM1, 1)");
    let one = "insert MEM1 [0x180000000-0x1bfffffff] on 0";
    let boot = &["refuse MEM0 _STA: object is not an integer", one];
    play(&[Shape { name: "28 _STA", asl, boot, events: &[(LINE, &[one])], names: TAKEN }]);
}

#[test]
fn a_node_is_the_devices_or_that_of_what_is_around_it() {
    let asl = table("", &dimm("Name (_PXM, 200)", &gib()), "Notify (\\_SB.MEM0, 1)");
    let past = Shape { name: "13 _PXM 200", asl, boot: ONE, events: &[(LINE, ONE)], names: TAKEN };
    let device = container("Name (_PXM, 3)", &dimm("", &gib()));
    let asl = table("", &device, "Notify (\\_SB.CON0.MEM0, 1)");
    let boot = &["insert MEM0 [0x100000000-0x13fffffff] on 3"][..];
    let inherited = Shape { name: "18 _PXM", asl, boot, events: &[(LINE, boot)], names: TAKEN };
    play(&[past, inherited]);
}

#[test]
fn a_container_that_is_announced_brings_what_is_in_it() {
    for (name, value) in [("14 bus check", 0), ("15 device check", 1)] {
        let event = format!("Store (1, \\ON) Notify (\\_SB.CON0, {value})");
        let asl = table("Name (ON, 0)", &container("", &dimm(LATE, &gib())), &event);
        // Only the container was notified, and it has no _OST.
        play(&[Shape { name, asl, boot: &[], events: &[(LINE, ONE)], names: SILENT }]);
    }
}

#[test]
fn a_container_that_is_wanted_back_goes_as_a_whole() {
    let head = format!("Method (_EJ0, 1) {{ Store (7, \\EJC) }} {OST}");
    let device = format!("Device (MEM0) {{ {HID} {} }}", crs(&gib()));
    let asl = table("", &container(&head, &device), "Notify (\\_SB.CON0, 3)");
    let names = &[("OSTV", 0), ("OSTN", 2), ("EJC", 7)];
    play(&[Shape { name: "16 eject", asl, boot: ONE, events: &[(LINE, &["eject MEM0"])], names }]);
}

#[test]
fn below_a_container_that_is_not_there_nothing_is_there() {
    let device = container("Name (_STA, 0)", &dimm("", &gib()));
    let asl = table("", &device, "Notify (\\_SB.CON0, 0)");
    play(&[Shape { name: "17 _STA", asl, boot: &[], events: &[(LINE, &[])], names: SILENT }]);
}

#[test]
fn a_device_that_comes_is_found_by_a_bus_check_of_its_bus() {
    let asl = table("Name (ON, 0)", &dimm(LATE, &gib()), "Store (1, \\ON) Notify (\\_SB, 0)");
    play(&[Shape { name: "27 \\_SB", asl, boot: &[], events: &[(LINE, ONE)], names: SILENT }]);
}

#[test]
fn a_device_that_vanishes_is_gone() {
    let event = "Store (0, \\ON) Notify (\\_SB.MEM0, 1)";
    let asl = table("Name (ON, 1)", &dimm(LATE, &gib()), event);
    play(&[Shape {
        name: "22 _STA",
        asl,
        boot: ONE,
        events: &[(LINE, &["gone MEM0"])],
        names: TAKEN,
    }]);
}
