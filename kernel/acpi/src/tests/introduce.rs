//! What the kernel announces to firmware by `_OSC` before it uses anything.

use std::boxed::Box;
use std::vec::Vec;

use hotmem_aml::Limits;
use hotmem_aml_fakes::compile_with;
use hotmem_hotplug::Latch;

use super::board::Wire;
use super::firmware::{RSDP, io_apic};
use super::rig::{firmware_with, reduced};
use crate::{AcpiSource, Tables};

/// What `introduced.asl` notes when ACPI is started, on a machine with I/O APICs or without.
fn noted(defines: &[&str], apics: bool) -> Vec<(u32, u32, u32)> {
    let dsdt = compile_with("introduced", defines).unwrap();
    let apic = io_apic(0, 0xFEC0_0000, 0);
    let records: &[&[u8]] = if apics { &[&apic] } else { &[] };
    let memory = firmware_with(&dsdt, false, records);
    let tables = Tables::new(&memory, RSDP).unwrap();
    let latch: &'static Latch = Box::leak(Box::new(Latch::new()));
    let wire = Wire::new(reduced(), 1);
    AcpiSource::new(&tables, wire.clone(), latch, Limits::DEFAULT).unwrap();
    let board = wire.0.borrow();
    board.controller.reports.iter().map(|said| (said.slot, said.event, said.status)).collect()
}

#[test]
fn firmware_hears_what_the_kernel_supports_and_then_how_interrupts_come() {
    // Reports by _OST of devices that come and go; generic event devices.
    let supported = 1 << 3 | 1 << 11;
    assert_eq!(noted(&[], true), [(1, supported, 1), (2, 0, 0), (3, 1, 0)]);
    assert_eq!(noted(&[], false), [(1, supported, 1), (2, 0, 0)]);
    // Some firmware reads a third double word, and fails without.
    assert_eq!(noted(&["WIDE"], true), [(1, supported, 1), (2, 0, 0), (3, 1, 0)]);
}

#[test]
fn firmware_that_cannot_listen_does_not_keep_the_machine_from_starting() {
    let order: Vec<_> = noted(&["BROKEN"], true).into_iter().map(|(what, ..)| what).collect();
    assert_eq!(order, [1, 2, 3]);
}
