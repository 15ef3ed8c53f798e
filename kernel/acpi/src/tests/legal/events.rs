//! Which events there are, what they bring, and what is evaluated when.

use std::format;

use super::{EJ0, HID, LATE, LINE, Machine, OST, Shape, crs, dimm, gib, play, table};

const TAKEN: &[(&str, u64)] = &[("OSTV", 0), ("OSTN", 1), ("EJC", 0)];
const ONE: &[&str] = &["insert MEM0 [0x100000000-0x13fffffff] on 0"];

#[test]
fn notifications_of_the_devices_own_meaning_bring_nothing() {
    let event = "Store (1, \\ON) Notify (\\_SB.MEM0, 0x80) Notify (\\_SB.MEM0, 0x81)
                 Notify (\\_SB.MEM0, 2) Notify (\\_SB.MEM0, 0x0B)";
    let asl = table("Name (ON, 0)", &dimm(LATE, &gib()), event);
    let names = &[("OSTV", 0xFFFF), ("OSTN", 0), ("EJC", 0)];
    play(&[Shape { name: "19 0x80", asl, boot: &[], events: &[(LINE, &[])], names }]);
}

#[test]
fn a_device_without_a_way_out_is_kept_and_one_without_an_ear_goes() {
    let device = format!("Device (MEM0) {{ {HID} {} {OST} }}", crs(&gib()));
    let asl = table("", &device, "Notify (\\_SB.MEM0, 3)");
    let kept = Shape {
        name: "20 no _EJ0",
        asl,
        boot: ONE,
        events: &[(LINE, &["keep MEM0 the device has no _EJ0"])],
        names: &[("OSTV", 0x80), ("OSTN", 1), ("EJC", 0)],
    };
    let device = format!("Device (MEM0) {{ {HID} {} {EJ0} }}", crs(&gib()));
    let asl = table("", &device, "Notify (\\_SB.MEM0, 3)");
    let gone = Shape {
        name: "21 no _OST",
        asl,
        boot: ONE,
        events: &[(LINE, &["eject MEM0"])],
        names: &[("OSTV", 0xFFFF), ("OSTN", 0), ("EJC", 1)],
    };
    play(&[kept, gone]);
}

/// An event device whose events come by this interrupt.
fn shared(name: &str, gsi: u32, event: &str) -> std::string::String {
    format!(
        "Device ({name}) {{ Name (_HID, \"ACPI0013\") Name (_UID, \"{name}\")
            Name (_CRS, ResourceTemplate () {{
                Interrupt (ResourceConsumer, Level, ActiveHigh, Shared) {{ {gsi}, {gsi} }} }})
            Method (_EVT, 1, Serialized) {{ {event} }} }}"
    )
}

#[test]
fn all_that_share_a_line_hear_of_it_and_the_line_is_connected_once() {
    // With another event device, and with the registers of the system control interrupt.
    for gsi in [LINE, 9] {
        let other = shared("GED1", gsi, "Store (1, \\ON) Notify (\\_SB.MEM0, 1)");
        let devices = format!("{} {other}", dimm(LATE, &gib()));
        let asl = table("Name (ON, 0) Name (RAN, 0)", &devices, "Increment (\\RAN)");
        let mut machine = Machine::new(&asl);
        machine.source.arm().unwrap();
        assert_eq!(machine.drain(), [""; 0]);
        let lines = machine.source.lines().iter().map(|line| line.gsi);
        assert_eq!(lines.collect::<std::vec::Vec<_>>(), [9, LINE]);
        machine.wire.0.borrow_mut().pm1_status = 0x100;
        assert_eq!(machine.interrupt(gsi), ONE, "{gsi}");
        assert_eq!(machine.name("RAN"), u64::from(gsi == LINE));
        assert_eq!(machine.source.devices.is_pressed(), gsi == 9);
        let unmasked = machine.wire.0.borrow().unmasked.clone();
        assert_eq!(unmasked, [gsi]);
    }
}

#[test]
fn registers_that_cannot_be_reached_cost_their_own_events() {
    let block = |name: &str, memory: &str| {
        format!(
            "Device ({name}) {{ Name (_HID, \"ACPI0006\") Name (_UID, \"{name}\")
                Name (_CRS, ResourceTemplate () {{ {memory} IRQNoFlags () {{ 5 }} }})
                Method (_L01) {{ Notify (\\_SB.MEM0, 1) }} }}"
        )
    };
    let bad = block("GPB0", "Memory32Fixed (ReadWrite, 0xFED40000, 8)");
    let good = block("GPB1", "IO (Decode16, 0x700, 0x700, 1, 2)");
    let devices = format!("{bad} {good} {}", dimm("", &gib()));
    let mut machine = Machine::new(&table("", &devices, "Noop"));
    machine.wire.0.borrow_mut().controller.refuse = Some(0xFED4_0000);
    assert!(machine.source.arm().is_err());
    assert_eq!(machine.drain(), ONE);
    assert_eq!(machine.wire.0.borrow().block_enable, 1 << 1);
    machine.wire.0.borrow_mut().block_status = 1 << 1;
    assert_eq!(machine.interrupt(5), ONE);
}

/// An event device with a method for edges of interrupt 42.
fn edge(name: &str, uid: u32, method: &str) -> std::string::String {
    format!(
        "Device ({name}) {{ Name (_HID, \"ACPI0013\") Name (_UID, {uid})
            Name (_CRS, ResourceTemplate () {{
                Interrupt (ResourceConsumer, Edge, ActiveHigh, Exclusive) {{ 42 }} }})
            Method (_E2A) {{ {method} }} }}"
    )
}

#[test]
fn methods_of_edges_run_for_their_interrupt_and_not_before() {
    let ged = edge("GED1", 1, "Store (1, \\ON) Notify (\\_SB.MEM0, 1)");
    let devices = format!("{} {ged}", dimm(LATE, &gib()));
    let asl = table("Name (ON, 0)", &devices, "Noop");
    let events = &[(LINE, &[][..]), (42, ONE)];
    play(&[Shape { name: "23 two event devices", asl, boot: &[], events, names: TAKEN }]);

    let device = format!(
        "Device (MEM0) {{ {HID} {} Method (_STA) {{ If (\\EJC) {{ Return (0) }} Return (0xF) }} {EJ0} }}",
        crs(&gib())
    );
    let asl = format!(
        "DefinitionBlock (\"\", \"DSDT\", 2, \"HOTMEM\", \"LEGAL\", 1) {{ Name (EJC, 0)
            Scope (\\_SB) {{ {device} {} }} }}",
        edge("GED0", 0, "Notify (\\_SB.MEM0, 3)")
    );
    let mut before = Machine::new(&asl);
    before.source.arm().unwrap();
    assert_eq!(before.drain(), ONE);
    assert_eq!(before.name("EJC"), 0);
    let events = &[(42, &["eject MEM0"][..])];
    play(&[Shape { name: "39 a button", asl, boot: ONE, events, names: &[("EJC", 1)] }]);
}

#[test]
fn the_kernel_announces_once_to_firmware_what_it_supports() {
    let globals = "Name (OSCC, 0) Name (PICM, 0xFF) Method (_PIC, 1) { Store (Arg0, PICM) }";
    let osc = "Method (_OSC, 4, Serialized) { Store (1, \\OSCC) Return (Arg3) }";
    let asl = table(globals, &format!("{osc} {}", dimm("", &gib())), "Notify (\\_SB.MEM0, 1)");
    let names = &[("OSCC", 1), ("PICM", 1), ("OSTV", 0), ("OSTN", 1)];
    play(&[Shape { name: "30 _OSC and _PIC", asl, boot: ONE, events: &[(LINE, ONE)], names }]);
}

#[test]
fn a_scope_of_a_device_that_is_not_there_costs_itself() {
    let scope = "External (\\_SB.PCI0.NOPE, DeviceObj) Scope (\\_SB.PCI0.NOPE) { Name (X, 1) }";
    let asl = table("", &format!("{scope} {}", dimm("", &gib())), "Notify (\\_SB.MEM0, 1)");
    assert_eq!(Machine::new(&asl).source.aml().load_report().count(), 1);
    play(&[Shape { name: "34 a scope", asl, boot: ONE, events: &[(LINE, ONE)], names: TAKEN }]);
}

#[test]
fn events_of_a_block_device_are_watched_and_wakers_are_not() {
    let gpe = "Method (_L03) { Notify (\\_SB.MEM0, 1) } Method (_E04) { } Method (_L10) { }";
    let device = format!("Device (MEM0) {{ Name (_HID, EisaId (\"PNP0C80\")) {} }}", crs(&gib()));
    let asl = format!(
        "DefinitionBlock (\"\", \"DSDT\", 2, \"HOTMEM\", \"LEGAL\", 1) {{
            Scope (\\_GPE) {{ {gpe} }}
            Scope (\\_SB) {{ {device}
                Device (GPB0) {{ Name (_HID, \"ACPI0006\")
                    Name (_CRS, ResourceTemplate () {{
                        IO (Decode16, 0x700, 0x700, 1, 8) IRQNoFlags () {{ 5 }} }})
                    Method (_L01) {{ Notify (\\_SB.MEM0, 1) }} }}
                Device (PWB) {{ Name (_HID, EisaId (\"PNP0C0C\")) Name (_PRW, Package () {{ 0x10, 4 }}) }} }} }}"
    );
    let mut machine = Machine::new(&asl);
    machine.wire.0.borrow_mut().block_enable_at = 0x704;
    machine.source.arm().unwrap();
    assert_eq!(machine.drain(), ONE);
    let board = || machine.wire.0.borrow();
    assert_eq!((board().gpe_enable, board().block_enable), (1 << 3 | 1 << 4, 1 << 1));
    machine.wire.0.borrow_mut().gpe_status = 1 << 3;
    assert_eq!(machine.interrupt(9), ONE);
    machine.wire.0.borrow_mut().block_status = 1 << 1;
    assert_eq!(machine.interrupt(5), ONE);
    let board = machine.wire.0.borrow();
    assert_eq!((board.gpe_status, board.block_status), (0, 0));
}

/// A device that comes when its event has set `ON`, and how often the event's method has run.
const COUNTED: &str = "Name (ON, 0) Name (RAN, 0)";

/// How often this event's method runs for one event; it fails, and the device that it has set `ON` for comes all the same.
fn runs_of(globals: &str, event: &str) -> u64 {
    let mut machine = Machine::new(&table(globals, &dimm(LATE, &gib()), event));
    machine.wire.0.borrow_mut().controller.refuse = Some(0xFED4_0000);
    machine.source.arm().unwrap();
    assert_eq!(machine.drain(), [""; 0]);
    assert_eq!(machine.interrupt(LINE), ONE);
    machine.name("RAN")
}

#[test]
fn an_event_method_that_fails_for_good_runs_once_and_each_device_is_looked_at() {
    let event = "Increment (\\RAN) Store (1, \\ON) Divide (\\RAN, \\EJC, Local0)";
    assert_eq!(runs_of(COUNTED, event), 1);
}

#[test]
fn an_event_method_that_hardware_keeps_from_its_end_runs_twice() {
    let register = "OperationRegion (BAD, SystemMemory, 0xFED40000, 4)
        Field (BAD, DWordAcc, NoLock, Preserve) { BADR, 32 }";
    let event = "Increment (\\RAN) Store (1, \\ON) Store (\\BADR, Local0)";
    assert_eq!(runs_of(&format!("{COUNTED} {register}"), event), 2);
}

#[test]
fn a_method_that_notifies_of_something_else_runs_once() {
    let lid = "Device (LID0) { Name (_HID, EisaId (\"PNP0C0D\")) }
        Method (LIDT) { Increment (\\RAN) Notify (LID0, 0x80) }";
    let devices = format!("{lid} {}", dimm(LATE, &gib()));
    let mut machine = Machine::new(&table(COUNTED, &devices, "\\_SB.LIDT ()"));
    machine.source.arm().unwrap();
    assert_eq!(machine.interrupt(LINE), [""; 0]);
    assert_eq!(machine.name("RAN"), 1);
}
