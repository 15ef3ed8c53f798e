//! Dealings with the machine: registers, devices, events.

use std::format;
use std::string::ToString;
use std::vec::Vec;

use super::{Log, device, fault, integer, load, method, package, table};
use crate::{Aml, ErrorKind, Limits, NodeId, PciAddress, Space};

/// `OperationRegion (REGS, PCI_Config, 0x40, 4) Field (REGS, ByteAcc) { PIN0, 8 }`.
const PCI_FIELD: &[u8] = b"\x5B\x80REGS\x02\x0A\x40\x0A\x04\x5B\x81\x0BREGS\x01PIN0\x08";

/// `Name (_ADR, device << 16 | function)`.
fn address(device: u8, function: u8) -> Vec<u8> {
    [b"\x08_ADR\x0C".as_slice(), &[function, 0, device, 0]].concat()
}

#[test]
fn configuration_space_is_found_through_bridges() {
    // Host bridge on bus 2 -> bridge 1.0 -> function 3.1 behind it, on the bus that the
    // bridge's secondary bus register (0x19) holds.
    let leaf = device(b"LEAF", &[&address(3, 1), PCI_FIELD]);
    let bridge = device(b"BRDG", &[&address(1, 0), &leaf, PCI_FIELD]);
    let root = device(b"PCI0", &[b"\x08_HID\x0C\x41\xD0\x0A\x03", b"\x08_BBN\x0A\x02", &bridge]);
    let mut aml = load(&[&root]).expect("loads");
    let mut host = Log::default();
    let function =
        |bus, device, function| Space::PciConfig(PciAddress { segment: 0, bus, device, function });
    let near = aml.find("PCI0.BRDG.PIN0").expect("the field");
    assert_eq!(aml.integer(&mut host, near, &[]), Ok(1));
    let far = aml.find("PCI0.BRDG.LEAF.PIN0").expect("the field");
    assert_eq!(aml.integer(&mut host, far, &[]), Ok(1));
    assert_eq!(aml.integer(&mut host, far, &[]), Ok(1));
    assert_eq!(
        host.reads,
        [
            (function(2, 1, 0), 0x40),
            (function(2, 1, 0), 0x19),
            (function(1, 3, 1), 0x40),
            (function(1, 3, 1), 0x40),
        ]
    );
}

#[test]
fn configuration_space_without_a_host_bridge_is_an_error() {
    let mut aml = load(&[&device(b"LOST", &[&address(3, 1), PCI_FIELD])]).expect("loads");
    let error = integer(&mut aml, "LOST.PIN0");
    assert_eq!(error, Err(ErrorKind::BadValue("no PCI host bridge above")));
}

#[test]
fn an_access_outside_its_region_never_reaches_the_host() {
    // A region of one byte with a field of two, and one whose end is beyond all addresses.
    let mut aml = load(&[
        b"\x5B\x80REGS\x01\x0A\x70\x01\x5B\x81\x0BREGS\x01WIDE\x10",
        b"\x5B\x80WRAP\x00\xFF\x0A\x08\x5B\x81\x0DWRAP\x01\x00\x08OVER\x08",
    ])
    .expect("loads");
    let mut host = Log::default();
    for (name, reads) in [("WIDE", 1), ("OVER", 0)] {
        host.reads.clear();
        let node = aml.find(name).expect("the field");
        let error = aml.integer(&mut host, node, &[]).map_err(|error| error.kind);
        assert_eq!(error, Err(ErrorKind::OutOfBounds));
        assert_eq!(host.reads.len(), reads, "{name}");
    }
}

/// What the machine sees of `Store (value, PART)`, a field of `bits` bits of two registers, behind `first` others.
fn write_part(flags: u8, first: u8, bits: u8, value: u16) -> Log {
    // OperationRegion (PORT, SystemIO, 0x80, 2) Field (PORT, ...) { , first, PART, bits }
    let field = package(b"\x5B\x81", &[b"PORT", &[flags, 0, first], b"PART", &[bits]]);
    let store = [b"\x70\x0B".as_slice(), &value.to_le_bytes(), b"PART"].concat();
    let test = method(b"TEST", 0, &[&store]);
    let mut aml = load(&[b"\x5B\x80PORT\x01\x0A\x80\x0A\x02", &field, &test]).expect("loads");
    let mut host = Log::default();
    let test = aml.find("TEST").expect("the method");
    aml.evaluate(&mut host, test, &[]).expect("runs");
    host
}

#[test]
fn a_write_of_a_part_of_a_register_leaves_the_rest_as_the_field_says() {
    // ByteAcc, NoLock, and Preserve, WriteAsOnes or WriteAsZeros. A register reads as 1.
    const PRESERVE: u8 = 0x01;
    for (flags, part, reads) in [(PRESERVE, 0x15, 1), (0x21, 0xF7, 0), (0x41, 0x14, 0)] {
        let host = write_part(flags, 2, 3, 5);
        assert_eq!(host.writes, [(Space::SystemIo, 0x80, part)], "flags {flags:#x}");
        assert_eq!(host.reads.len(), reads, "flags {flags:#x}");
    }
    // The first register in part, and the second one whole.
    let host = write_part(PRESERVE, 4, 12, 0xABC);
    assert_eq!(host.reads, [(Space::SystemIo, 0x80)]);
    assert_eq!(host.writes, [(Space::SystemIo, 0x80, 0xC1), (Space::SystemIo, 0x81, 0xAB)]);
}

#[test]
fn the_bytes_of_a_loaded_table_can_be_read_as_a_region() {
    // DataTableRegion (TABL, "DSDT", "", ""), its first field is the signature.
    let body = b"\x5B\x88TABL\x0DDSDT\x00\x0D\x00\x0D\x00\x5B\x81\x0BTABL\x03SIGN\x20";
    let mut aml = load(&[body]).expect("loads");
    assert_eq!(integer(&mut aml, "SIGN"), Ok(u64::from(u32::from_le_bytes(*b"DSDT"))));
    let missing = b"\x5B\x88TABL\x0DNONE\x00\x0D\x00\x0D\x00";
    assert!(fault(&[missing]).is_some());
}

#[test]
fn devices_are_initialised_top_down_and_only_where_present() {
    // _INI of each device writes a digit to a port; GONE is neither present nor functioning,
    // HALF is functioning but not present, so that its child is looked at and it is not run.
    let port = b"\x5B\x80PORT\x01\x0A\x80\x01\x5B\x81\x0BPORT\x01POST\x08";
    let ini = |digit: u8| method(b"_INI", 0, &[&[0x70, 0x0A, digit], b"\\POST"]);
    let sta = |bits: u8| [b"\x08_STA\x0A".as_slice(), &[bits]].concat();
    let inner = |digit| device(b"INNR", &[&ini(digit)]);
    let here = device(b"HERE", &[&ini(1), &inner(2)]);
    let gone = device(b"GONE", &[&sta(0), &ini(3), &inner(4)]);
    let half = device(b"HALF", &[&sta(8), &ini(5), &inner(6)]);
    let reg = device(b"REGD", &[&method(b"_REG", 2, &[b"\x70\x68\\POST", b"\x70\x69\\POST"])]);
    let scope = package(&[0x10], &[b"_SB_", &ini(9)]);
    let mut aml = load(&[port, &here, &gone, &half, &reg, &scope]).expect("loads");
    let mut host = Log::default();
    let report = aml.init(&mut host);
    assert_eq!((report.failed, report.methods), (0, 5));
    let values: Vec<u64> = host.writes.iter().map(|&(_, _, value)| value).collect();
    assert_eq!(values, [2, 1, 9, 1, 2, 6]);
}

#[test]
fn a_failing_ini_is_reported_and_the_others_run() {
    let dies = device(b"DIES", &[&method(b"_INI", 0, &[b"\x78\x01\x00\x00\x00"])]);
    let fine = device(b"FINE", &[&method(b"_INI", 0, &[])]);
    let mut aml = load(&[&dies, &fine]).expect("loads");
    let report = aml.init(&mut Log::default());
    assert_eq!((report.methods, report.failed), (2, 1));
    let (node, error) = report.first_failure.expect("a failure");
    assert_eq!(aml.path(node).to_string(), "\\DIES._INI");
    assert_eq!(error.kind, ErrorKind::DivideByZero);
}

#[test]
fn methods_without_end_shorten_one_another_and_cost_no_other() {
    let endless = package(&[0xA2], &[&[0x01]]);
    let ini = method(b"_INI", 0, &[&endless]);
    let sleepy = method(b"_INI", 0, &[b"\x5B\x22\x0C\xFF\x00\x00\x00", &endless]);
    let names = (0..200).map(|n| [b'D', b'0' + n / 100, b'0' + n / 10 % 10, b'0' + n % 10]);
    let devices: Vec<u8> = names
        .flat_map(|name| device(&name, &[if name[3] == b'9' { &sleepy } else { &ini }]))
        .collect();
    let fine = device(b"FINE", &[&method(b"_INI", 0, &[b"\x5B\x21\x01"])]);
    let count = method(
        b"LOOP",
        0,
        &[b"\x70\x0C\x00\x00\x01\x00\x60", &package(&[0xA2], &[b"\x60\x76\x60"]), b"\xA4\x60"],
    );
    let mut aml = load(&[&devices, &fine, &count]).expect("loads");
    let mut host = Log::default();
    let report = aml.init(&mut host);
    assert_eq!((report.methods, report.failed), (201, 200));
    // Those that sleep for long may not any more, and the last one may stall as it wants.
    assert_eq!(host.slept, 1);
    // Afterwards a method has all the time again that it had before.
    assert_eq!(integer(&mut aml, "LOOP").map_err(|_| "too long"), Ok(0));
}

#[test]
fn event_methods_are_found_by_their_names() {
    let names = [b"_L0A", b"_E1F", b"_Q01", b"_LXY", b"EVNT"];
    let methods = names.map(|name| method(name, 0, &[]));
    let scope = package(&[0x10], &[b"_GPE", &methods.concat(), b"\x08_E03\x01"]);
    let aml = load(&[&scope]).expect("loads");
    let scope = aml.find("\\_GPE").expect("the scope");
    let found: Vec<_> = aml.gpe_methods(scope).map(|gpe| (gpe.number, gpe.edge)).collect();
    assert_eq!(found, [(0x0A, false), (0x1F, true)]);
}

#[test]
fn notifications_reach_the_host_by_name_local_and_package() {
    // Local0 = RefOf (DEVX); Notify (DEVX, 1), Notify (Local0, 3), Notify (DATA, 1)
    let list = package(&[0x12], &[b"\x01DEVX"]);
    let mut aml = load(&[
        &device(b"DEVX", &[]),
        b"\x08DATA\x01",
        &[b"\x08LIST".as_slice(), &list].concat(),
        &method(
            b"TEST",
            0,
            &[
                b"\x86DEVX\x01",
                b"\x70\x71DEVX\x60\x86\x60\x0A\x03",
                b"\x70\x83\x88LIST\x00\x00\x61\x86\x61\x0A\x05",
            ],
        ),
        &method(b"FAIL", 0, &[b"\x86DATA\x01"]),
    ])
    .expect("loads");
    let mut host = Log::default();
    let (test, device) = (aml.find("TEST").expect("TEST"), aml.find("DEVX").expect("DEVX"));
    aml.evaluate(&mut host, test, &[]).expect("notifies");
    assert_eq!(host.notices, [(device, 1), (device, 3), (device, 5)]);
    assert!(integer(&mut aml, "FAIL").is_err());
}

#[test]
fn paths_are_shown_from_the_root() {
    let aml = load(&[&device(b"OUTR", &[&device(b"INNR", &[b"\x08X___\x01"])])]).expect("loads");
    let node = aml.find("\\OUTR.INNR.X").expect("the name");
    assert_eq!(aml.path(node).to_string(), "\\OUTR.INNR.X___");
    assert_eq!(aml.path(NodeId::ROOT).to_string(), "\\");
    assert_eq!(aml.find("\\OUTR.NONE"), None);
    assert_eq!(format!("{:?}", aml.name(node)), "Some(X___)");
}

#[test]
fn a_second_table_sees_the_names_of_the_first() {
    let first = table(&[&device(b"DEVX", &[b"\x08BASE\x0A\x05"])]);
    // Scope (\DEVX) { Method (SUM_) { Return (BASE + 1) } }, as an SSDT of revision 1.
    let sum = method(b"SUM_", 0, &[b"\xA4\x72BASE\x01\x00"]);
    let mut second = table(&[&package(&[0x10], &[b"\\DEVX", &sum])]);
    second[..4].copy_from_slice(b"SSDT");
    second[8] = 1;
    let tables: [&[u8]; 2] = [&first, &second];
    let mut aml = Aml::load(&mut Log::default(), &tables, Limits::DEFAULT).expect("loads");
    assert_eq!(integer(&mut aml, "DEVX.SUM"), Ok(6));
    assert!(aml.is_wide(), "the DSDT alone decides the width");
}

#[test]
fn every_address_space_of_the_maker_reaches_the_host_under_its_own_number() {
    for space in [0x80, 0xA5, 0xFF] {
        // OperationRegion (OEM_, space, 0x80, 1) Field (OEM_, ByteAcc) { REG_, 8 }; REG_ = 7
        let region = [b"\x5B\x80OEM_".as_slice(), &[space], b"\x0A\x80\x01"].concat();
        let mut aml = load(&[
            &region,
            b"\x5B\x81\x0BOEM_\x01REG_\x08",
            &method(b"TEST", 0, &[b"\x70\x0A\x07REG_"]),
        ])
        .expect("loads");
        assert_eq!(aml.load_report().count(), 0, "{:?}", aml.load_report());
        let (mut host, test) = (Log::default(), aml.find("TEST").expect("the method"));
        aml.evaluate(&mut host, test, &[]).expect("written");
        assert_eq!(host.writes, [(Space::Other(space), 0x80, 7)]);
    }
}
