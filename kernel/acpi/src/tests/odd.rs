//! Memory devices that are wrong in every way, events that fail, and machines that do not start.

use std::boxed::Box;
use std::vec::Vec;

use hotmem::testing::range;
use hotmem::{BlockState, ZoneKind};
use hotmem_aml::Limits;
use hotmem_aml_fakes::compile;

use super::board::Wire;
use super::firmware::{RSDP, Random, fix, put};
use super::rig::{MIB, Rig, WINDOW, firmware, moved};
use crate::{AcpiSource, ModeError, StartError, Tables};
use hotmem_hotplug::Latch;
use hotmem_hotplug::{HotplugSource, Policy};

const ONLINE: BlockState = BlockState::Online(ZoneKind::Movable);

/// The machine of `odd_devices.asl`, with the memory of its good devices.
fn odd() -> Rig {
    let dsdt = compile("odd_devices").unwrap();
    let rig = Rig::with(Wire::new(moved(), 4), &dsdt, Some(5), Policy::default());
    for (at, len) in [(0, 2 * MIB), (16 * MIB, 2 * MIB), (32 * MIB, MIB), (80 * MIB, MIB)] {
        rig.bench.plug(range(WINDOW + at, len));
    }
    rig
}

#[test]
fn every_device_that_makes_no_sense_is_refused_by_name() {
    let mut rig = odd();
    assert_eq!(rig.hotplug.source().device_count(), 15);
    let out = rig.run();
    let errors: Vec<_> =
        out.lines().filter_map(|line| Some(line.split_once("\"error\":\"")?.1)).collect();
    let wanted = [
        "the device has no _CRS",
        "_CRS is not a buffer",
        "_CRS: resource descriptor at offset 0 is cut short",
        "_CRS names memory from 0x30000000 to 0x30000000 of 0x100000 bytes",
        "_CRS names memory from 0xfffffffffff00000 to 0xfffff of 0x200000 bytes",
        "_STA: name NOPE not found",
        "_CRS: too many steps",
        "_CRS names no memory",
        "_PXM: name NOPE not found",
        "_CRS names too many ranges",
        "_CRS names no memory",
    ];
    for (error, wanted) in errors.iter().zip(wanted) {
        assert!(error.starts_with(wanted), "{error} is not: {wanted}");
    }
    // Devices that are turned off or not there have no events, so they cause no errors.
    assert_eq!(errors.len(), wanted.len(), "{out}");
}

#[test]
fn an_unusual_device_is_taken_on_the_node_the_srat_says() {
    let mut rig = odd();
    let out = rig.run();
    for at in [0, 16 * MIB] {
        let piece = range(WINDOW + at, 2 * MIB);
        assert_eq!(rig.states(piece), [ONLINE; 2], "{out}");
        assert!(rig.blocks(piece).iter().all(|block| block.node.get() == 1));
    }
}

#[test]
fn memory_that_is_read_only_or_reserved_is_not_taken_for_ram() {
    let mut rig = odd();
    let out = rig.run();
    // Eight MiB up from 128 MiB are firmware's; the device beside them has one of RAM.
    assert_eq!(rig.states(range(2 * WINDOW, 8 * MIB)), [], "{out}");
    assert_eq!(rig.states(range(WINDOW + 80 * MIB, MIB)), [ONLINE]);
}

#[test]
fn a_bus_that_wants_to_be_looked_at_shows_its_new_device() {
    // A bus check and a device check.
    for event in [5, 8] {
        let mut rig = odd();
        rig.run();
        let (before, piece) = (rig.bench.snapshot(), range(WINDOW + 32 * MIB, MIB));
        assert_eq!(rig.states(piece), []);
        rig.wire.0.borrow_mut().gpe_status |= 1 << event;
        rig.run();
        assert_eq!(rig.states(piece), [ONLINE]);
        assert_eq!(rig.blocks(piece)[0].node.get(), 5);
        assert_ne!(rig.bench.snapshot(), before);
    }
}

#[test]
fn notifications_of_other_meaning_are_ignored() {
    let mut rig = odd();
    rig.run();
    let before = rig.bench.snapshot();
    rig.wire.0.borrow_mut().gpe_status |= 1 << 6;
    assert_eq!(rig.run(), "");
    assert_eq!(rig.bench.snapshot(), before);
}

#[test]
fn what_a_method_notified_before_it_failed_counts() {
    let mut rig = odd();
    rig.run();
    rig.wire.0.borrow_mut().gpe_status |= 1 << 7;
    let out = rig.run();
    // The device cannot be ejected, so nothing of it goes offline.
    assert!(out.contains("the firmware has no way to take it away"), "{out}");
    assert_eq!(rig.states(range(WINDOW, 2 * MIB)), [ONLINE; 2]);
    assert_eq!(rig.wire.0.borrow().gpe_status, 0);
}

/// Starts ACPI on a board with a table.
fn start(wire: &Wire, dsdt: &[u8]) -> Result<AcpiSource<Wire>, StartError> {
    start_watched(wire, dsdt, Box::leak(Box::new(Latch::new())))
}

fn start_watched(
    wire: &Wire,
    dsdt: &[u8],
    latch: &'static Latch,
) -> Result<AcpiSource<Wire>, StartError> {
    let memory = firmware(dsdt, false);
    let tables = Tables::new(&memory, RSDP).unwrap();
    AcpiSource::new(&tables, wire.clone(), latch, Limits::DEFAULT)
}

#[test]
fn a_machine_that_is_in_acpi_mode_is_not_asked_again() {
    let (wire, dsdt) = (Wire::new(moved(), 4), compile("moved").unwrap());
    wire.0.borrow_mut().acpi_enabled = true;
    assert!(start(&wire, &dsdt).is_ok());
    assert!(wire.0.borrow().smi_writes.is_empty());
}

#[test]
fn firmware_that_does_not_enable_acpi_is_given_three_seconds() {
    let (wire, dsdt) = (Wire::new(moved(), 4), compile("moved").unwrap());
    wire.0.borrow_mut().handles_smi = false;
    let error = start(&wire, &dsdt).map(drop);
    assert_eq!(error, Err(StartError::Mode(ModeError::Timeout)));
    assert_eq!(wire.0.borrow().stalled, 3_000_000);
    assert_eq!(wire.0.borrow().smi_writes, [2]);
}

#[test]
fn a_machine_with_no_way_into_acpi_mode_is_an_error() {
    let wire = Wire::new(moved(), 4);
    let fails = |offset, size| {
        let mut memory = firmware(&compile("moved").unwrap(), false);
        let fadt = memory.pieces.iter_mut().find(|(_, bytes)| bytes.starts_with(b"FACP"));
        let fadt = &mut fadt.unwrap().1;
        put(fadt, offset, size, 0);
        fix(fadt, 9);
        let tables = Tables::new(&memory, RSDP).unwrap();
        let latch: &'static Latch = Box::leak(Box::new(Latch::new()));
        AcpiSource::new(&tables, wire.clone(), latch, Limits::DEFAULT).map(drop)
    };
    assert_eq!(fails(48, 4), Err(StartError::Mode(ModeError::NoWay)));
    assert_eq!(fails(64, 4), Err(StartError::Mode(ModeError::NoControl)));
}

#[test]
fn faults_in_tables_do_not_cost_the_memory_devices() {
    let (wire, dsdt) = (Wire::new(moved(), 4), compile("faulty").unwrap());
    let source = start(&wire, &dsdt).unwrap();
    assert_eq!((source.device_count(), source.aml().load_report().count()), (1, 5));

    // Each is named, for people and in JSON.
    let said = |json| {
        let mut out = std::string::String::new();
        source.write_firmware(json, &mut out).unwrap();
        out
    };
    let text = said(false);
    assert!(text.contains("names of 1 tables; left out: 5 definitions\n"), "{text}");
    for skipped in
        ["left out: Device CHLD: name CHLD not found, in DSDT", "left out: If: name GONE not found"]
    {
        assert!(text.contains(skipped), "{skipped}: {text}");
    }
    let json = said(true);
    assert_eq!((json.lines().count(), json.matches("\"what\":").count()), (1, 5), "{json}");
    for part in [
        "\"left_out\":5,",
        "{\"what\":\"Device\",\"name\":\"CHLD\",\"extent\":\"term\",\"table\":0,\"offset\":",
        "\"error\":\"name CHLD not found\"}",
        "\"tables_left_out\":[],\"memory_devices\":1,\"lines\":[",
    ] {
        assert!(json.contains(part), "{part}: {json}");
    }
}

#[test]
fn tables_that_are_left_out_are_named_too() {
    let mut memory = firmware(&compile("moved").unwrap(), false);
    for (_, bytes) in &mut memory.pieces {
        // A sum that does not add up, of the tables that a machine can do without.
        bytes[9] ^= u8::from(bytes.starts_with(b"APIC") || bytes.starts_with(b"SRAT"));
    }
    let tables = Tables::new(&memory, RSDP).unwrap();
    let latch: &'static Latch = Box::leak(Box::new(Latch::new()));
    let wire = Wire::new(moved(), 4);
    let source = AcpiSource::new(&tables, wire, latch, Limits::DEFAULT).unwrap();
    let mut json = std::string::String::new();
    source.write_firmware(true, &mut json).unwrap();
    let part = "\"left_out\":2,\"definitions\":[],\"tables_left_out\":[\"APIC at ";
    assert!(json.contains(part) && json.contains("\"SRAT at "), "{json}");
}

#[test]
fn byte_code_with_flipped_bytes_never_panics() {
    let good = compile("moved").unwrap();
    let mut random = Random(0x4D4F_5645);
    let mut started = 0;
    let latch: &'static Latch = Box::leak(Box::new(Latch::new()));
    for _ in 0..400 {
        let (wire, mut dsdt) = (Wire::new(moved(), 4), good.clone());
        for _ in 0..=random.below(3) {
            let at = 36 + random.below(dsdt.len() - 36);
            dsdt[at] ^= 1 << random.below(8);
        }
        fix(&mut dsdt, 9);
        for slot in 0..4 {
            let at = WINDOW + slot as u64 * MIB;
            wire.0.borrow_mut().controller.plug(slot, at, MIB, 0);
        }
        let Ok(mut source) = start_watched(&wire, &dsdt, latch) else { continue };
        started += 1;
        source.arm().unwrap();
        for _ in 0..3 {
            wire.0.borrow_mut().gpe_status = u64::MAX;
            wire.interrupt(latch, 1);
            for _ in 0..64 {
                let Some(event) = source.next_event() else { break };
                let _ = source.reply(event.device, hotmem_hotplug::Outcome::Ejecting);
                let _ = source.eject(event.device);
            }
        }
    }
    assert!(started > 50, "only {started} of 400 started");
}
