//! PCI: where its configuration space is, windows for registers of devices, and interrupt lines.

use std::boxed::Box;
use std::string::ToString;
use std::vec::Vec;

use hotmem::PhysAddr;
use hotmem_aml::Limits;
use hotmem_aml_fakes::compile_with;
use hotmem_hotplug::{Latch, Line, Polarity, Trigger};

use super::board::Wire;
use super::firmware::{self, RSDP, put};
use super::rig::{firmware, reduced};
use crate::{AcpiSource, Mcfg, Tables};

fn source(defines: &[&str]) -> AcpiSource<Wire> {
    let memory = firmware(&compile_with("bridges", defines).unwrap(), true);
    let tables = Tables::new(&memory, RSDP).unwrap();
    let latch: &'static Latch = Box::leak(Box::new(Latch::new()));
    AcpiSource::new(&tables, Wire::new(reduced(), 1), latch, Limits::DEFAULT).unwrap()
}

/// The windows, as start and length.
fn windows(defines: &[&str]) -> Vec<(u64, u64)> {
    let windows = source(defines).pci_windows().unwrap();
    windows.iter().map(|window| (window.start().get(), window.len())).collect()
}

#[test]
fn the_windows_are_those_of_the_bridge_to_bus_0_that_are_not_translated() {
    // And no registers of the bridge itself.
    let expected = [(0x1000_0000, 0x2EFF_0000), (0x80_0000_0000, 0x80_0000_0000)];
    assert_eq!(windows(&[]), expected);
    assert_eq!(windows(&["OLD"]), expected);
}

#[test]
fn windows_that_cannot_be_read_are_an_error_by_name_and_not_fewer_windows() {
    let cases = [
        ("BROKEN", "_CRS: "),
        ("NUMBER", "_CRS returned a value of another kind"),
        ("CUT", "_CRS: resource descriptor at offset 0 is cut short"),
    ];
    for (define, name) in cases {
        let error = source(&[define]).pci_windows().unwrap_err().to_string();
        assert!(error.contains(name), "{define}: {error}");
    }
}

#[test]
fn the_last_bus_is_that_before_the_buses_of_another_host_bridge() {
    let last = |defines: &[&str]| source(defines).pci_last_bus();
    assert_eq!(last(&[]), Ok(Some(0xff)));
    assert_eq!(last(&["BESIDE"]), Ok(Some(0x3f)));
    let error = last(&["CUT"]).unwrap_err().to_string();
    assert!(error.contains("is cut short"), "{error}");
}

#[test]
fn what_the_mainboard_keeps_for_itself_is_named_whatever_kind_of_range_it_is() {
    let ranges = source(&[]).mainboard().unwrap();
    let ranges: Vec<_> = ranges.iter().map(|range| (range.start().get(), range.len())).collect();
    let expected =
        [(0xB000_0000, 0x1000_0000), (0x40_1000_0000, 0x1000_0000), (0xFED0_0000, 0x1000)];
    assert_eq!(ranges, expected);
    let error = source(&["SHORT"]).mainboard().unwrap_err().to_string();
    assert!(error.contains("_CRS: resource descriptor at offset 0 is cut short"), "{error}");
}

#[test]
fn a_line_ends_where_the_bridge_or_a_link_device_says() {
    let line = |gsi, polarity| Some(Line { gsi, trigger: Trigger::Level, polarity });
    for defines in [&[][..], &["OLD"]] {
        let mut source = source(defines);
        let mut routed = |device, pin| source.pci_line(device, pin).unwrap_or(None);
        let lines = [0, 1, 2, 3, 4].map(|pin| routed(3, pin));
        let (high, low) = (Polarity::ActiveHigh, Polarity::ActiveLow);
        // A link without resources, and a pin that does not exist.
        assert_eq!(lines, [line(35, high), line(37, low), line(42, low), None, None]);
        // A source by its name only, an entry of one function, an index past the end, half an entry.
        assert_eq!([4, 5, 6, 7, 9].map(|device| routed(device, 0)), [None; 5]);
        assert_eq!(routed(31, 0), line(35, high));
    }
}

#[test]
fn a_link_device_that_does_not_interrupt_is_an_error_by_name_and_never_another_line() {
    let mut source = source(&[]);
    let cases = [
        ((3, 3), "no interrupt 0"),
        ((6, 0), "no interrupt 1"),
        ((8, 0), "is not enabled: _STA is 0x9"),
        ((8, 1), "is not enabled: _STA is 0x0"),
        ((8, 2), "no interrupt 0"),
        ((8, 3), "_STA: "),
    ];
    for ((device, pin), name) in cases {
        let error = source.pci_line(device, pin).unwrap_err().to_string();
        assert!(error.contains(name), "{device} {pin}: {error}");
    }
    // Firmware does not say.
    assert_eq!([source.pci_line(3, 4), source.pci_line(9, 0)], [Ok(None); 2]);
}

/// An entry of a MCFG.
fn entry(base: u64, segment: u16, first: u8, last: u8) -> Vec<u8> {
    let mut bytes = [0; 16].to_vec();
    put(&mut bytes, 0, 8, base);
    put(&mut bytes, 8, 2, segment.into());
    (bytes[10], bytes[11]) = (first, last);
    bytes
}

#[test]
fn the_configuration_space_of_a_bus_is_counted_from_bus_0() {
    let entries = [
        entry(0x1_0000_0000, 1, 0, 255),
        entry(0x40_1000_0000, 0, 0, 15),
        entry(0x50_0000_0000, 0, 64, 127),
        entry(u64::MAX - 0xf_ffff, 0, 200, 255),
        // Cut short.
        entry(0x60_0000_0000, 0, 16, 63)[..15].to_vec(),
    ];
    let body = [[0; 8].to_vec(), entries.concat()].concat();
    let memory = firmware::memory(2, &[firmware::table(b"MCFG", 1, &body)]);
    let tables = Tables::new(&memory, RSDP).unwrap();
    let mcfg = Mcfg::find(&tables).unwrap().unwrap();
    let at = |segment, bus| {
        let range = mcfg.bus(segment, bus)?;
        assert_eq!(range.len(), 1 << 20);
        Some(range.start())
    };
    let address = |at| Some(PhysAddr::new(at));
    assert_eq!(at(0, 0), address(0x40_1000_0000));
    assert_eq!(at(0, 15), address(0x40_10f0_0000));
    assert_eq!(at(0, 64), address(0x50_0400_0000));
    assert_eq!(at(1, 255), address(0x1_0ff0_0000));
    assert_eq!([16, 63, 128, 199, 200, 255].map(|bus| at(0, bus)), [None; 6]);
    assert_eq!(at(2, 0), None);
}

#[test]
fn a_machine_without_a_description_of_its_configuration_space_has_none_and_a_short_table_is_named()
{
    let memory = firmware::memory(2, &[]);
    assert!(Mcfg::find(&Tables::new(&memory, RSDP).unwrap()).unwrap().is_none());
    let memory = firmware::memory(2, &[firmware::table(b"MCFG", 1, &[0; 7])]);
    let error = Mcfg::find(&Tables::new(&memory, RSDP).unwrap()).unwrap_err().to_string();
    assert!(error.contains("MCFG") && error.contains("43"), "{error}");
}
