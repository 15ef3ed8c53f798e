//! Machines as firmware may describe them, each the smallest table that has one odd thing, and what the
//! source makes of it: when it is armed, and when the machine's event comes.
//!
//! ```text
//! Shape: table, interrupts --> AcpiSource --> events, with the driver's replies --> one line for each
//!                                                 what _OST and _EJ0 left in the table's names
//! ```

mod events;
mod generated;
mod many;
mod memory;
mod presence;
mod ranges;

use std::boxed::Box;
use std::format;
use std::string::String;
use std::vec::Vec;

use hotmem_aml::Limits;
use hotmem_aml_fakes::compile_text;
use hotmem_hotplug::{DeviceId, Event, HotplugSource, Latch, Outcome, Ranges, Refusal, Request};

use super::board::Wire;
use super::firmware::{RSDP, io_apic};
use super::rig::{firmware_with, reduced};
use crate::fault::DeviceError;
use crate::{AcpiSource, Tables};

/// The line of the event device in every table here that has one.
const LINE: u32 = 41;

/// A table, and what is expected of it.
struct Shape<'a> {
    name: &'a str,
    asl: String,
    /// What the first look finds.
    boot: &'a [&'a str],
    /// What comes of interrupts, one after the other.
    events: &'a [(u32, &'a [&'a str])],
    /// What names of the table hold then.
    names: &'a [(&'a str, u64)],
}

/// A range of memory as most tables describe it.
fn qword(at: u64, len: u64) -> String {
    format!(
        "QWordMemory (ResourceConsumer, PosDecode, MinFixed, MaxFixed, Cacheable, ReadWrite, \
         0, {at:#x}, {:#x}, 0, {len:#x})",
        at + (len - 1)
    )
}

/// A gigabyte at 4 GiB.
fn gib() -> String {
    qword(0x1_0000_0000, 0x4000_0000)
}

/// `_CRS` of a list of descriptors.
fn crs(list: &str) -> String {
    format!("Name (_CRS, ResourceTemplate () {{ {list} }})")
}

const HID: &str = "Name (_HID, EisaId (\"PNP0C80\")) Name (_UID, 0)";
const EJ0: &str = "Method (_EJ0, 1) { Store (Arg0, \\EJC) }";
const OST: &str = "Method (_OST, 3, Serialized) { Store (Arg1, \\OSTV) Increment (\\OSTN) }";
/// A device that comes when `ON` is set.
const LATE: &str = "Method (_STA) { If (\\ON) { Return (0xF) } Return (0) }";

/// The memory device `MEM0`: what stands before its `_CRS`, and the list in that.
fn dimm(before: &str, list: &str) -> String {
    format!("Device (MEM0) {{ {HID} {before} {} {EJ0} {OST} }}", crs(list))
}

/// A table with names that record what happened, devices, and an event device that runs `event`.
fn table(globals: &str, devices: &str, event: &str) -> String {
    format!(
        "DefinitionBlock (\"\", \"DSDT\", 2, \"HOTMEM\", \"LEGAL\", 1) {{
            Name (EJC, 0) Name (OSTV, 0xFFFF) Name (OSTN, 0) {globals}
            Scope (\\_SB) {{ {devices}
                Device (GED0) {{ Name (_HID, \"ACPI0013\") Name (_UID, 0)
                    Name (_CRS, ResourceTemplate () {{
                        Interrupt (ResourceConsumer, Level, ActiveHigh, Exclusive) {{ 41 }} }})
                    Method (_EVT, 1, Serialized) {{ {event} }} }} }} }}"
    )
}

/// The machine of a table, with its events let through.
struct Machine {
    source: AcpiSource<Wire>,
    latch: &'static Latch,
    wire: Wire,
    /// What is taken, by which device.
    taken: Vec<(DeviceId, Ranges)>,
}

impl Machine {
    fn new(asl: &str) -> Self {
        Self::with_slots(&compile_text(asl).unwrap(), 1)
    }

    fn with_slots(dsdt: &[u8], slots: usize) -> Self {
        let apic = io_apic(0, 0xFEC0_0000, 0);
        let memory = firmware_with(dsdt, false, &[&apic]);
        let tables = Tables::new(&memory, RSDP).unwrap();
        let latch: &'static Latch = Box::leak(Box::new(Latch::new()));
        let wire = Wire::new(reduced(), slots);
        let source = AcpiSource::new(&tables, wire.clone(), latch, Limits::DEFAULT).unwrap();
        Self { source, latch, wire, taken: Vec::new() }
    }

    /// What happens until nothing is left to do, a line for each event.
    fn drain(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        while let Some(event) = self.source.next_event() {
            assert!(lines.len() < 4096, "no end of events");
            lines.push(self.serve(event));
        }
        assert!(!self.source.has_work());
        lines
    }

    /// Lets an interrupt come.
    fn interrupt(&mut self, gsi: u32) -> Vec<String> {
        let index = self.source.lines().iter().position(|line| line.gsi == gsi).unwrap();
        self.latch.raise(index, 1);
        self.drain()
    }

    /// Does with an event what the driver does, with all of the address space below 64 TiB free.
    fn serve(&mut self, event: Event<DeviceError>) -> String {
        let device = event.device;
        let label = format!("{}", self.source.label(device));
        let label = label.rsplit('.').next().unwrap();
        let (line, outcome) = match event.request {
            Request::Insert { ranges, node } => {
                let outcome = self.take(device, ranges);
                (format!("insert {label} {ranges} on {}", node.get()), outcome)
            }
            Request::Unreadable(error) => {
                (format!("refuse {label} {error}"), Outcome::InsertFailed)
            }
            Request::Gone => (format!("gone {label}"), Outcome::Ejected),
            Request::Divided { at, .. } => (format!("divide {label} at {at}"), Outcome::Inserted),
            Request::Eject => match self.source.can_eject(device) {
                Err(error) => {
                    (format!("keep {label} {error}"), Outcome::EjectRefused(Refusal::Unknown))
                }
                Ok(()) => {
                    self.source.reply(device, Outcome::Ejecting).unwrap();
                    self.source.eject(device).unwrap();
                    (format!("eject {label}"), Outcome::Ejected)
                }
            },
        };
        self.source.reply(device, outcome).unwrap();
        line
    }

    /// Takes all of a device's memory, if none of it is taken.
    fn take(&mut self, device: DeviceId, ranges: Ranges) -> Outcome {
        if self.taken.contains(&(device, ranges)) {
            return Outcome::Inserted;
        }
        let mut all: Vec<_> = self.taken.iter().flat_map(|(_, r)| r.as_slice()).collect();
        for range in ranges.as_slice() {
            let last = range.start().add(range.len() - 1);
            if last.get() >> 46 != 0 || all.iter().any(|other| other.overlaps(*range)) {
                return Outcome::InsertFailed;
            }
            all.push(range);
        }
        self.taken.push((device, ranges));
        Outcome::Inserted
    }

    /// What a name of the table holds.
    fn name(&mut self, name: &str) -> u64 {
        let (aml, mut host) = self.source.interpreter();
        let node = aml.find(name).unwrap();
        aml.integer(&mut host, node, &[]).unwrap()
    }
}

/// Plays shapes, and shows every one that is not as expected.
fn play(shapes: &[Shape<'_>]) {
    let mut wrong = Vec::new();
    for shape in shapes {
        let mut check = |what: &str, is: String, wanted: String| {
            if is != wanted {
                wrong.push(format!("{}, {what}:\n  is     {is}\n  wanted {wanted}", shape.name));
            }
        };
        let mut machine = Machine::new(&shape.asl);
        machine.source.arm().unwrap();
        check("boot", format!("{:?}", machine.drain()), format!("{:?}", shape.boot));
        for (gsi, wanted) in shape.events {
            check(
                &format!("{gsi}"),
                format!("{:?}", machine.interrupt(*gsi)),
                format!("{wanted:?}"),
            );
        }
        for (name, wanted) in shape.names {
            check(name, format!("{:#x}", machine.name(name)), format!("{wanted:#x}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
