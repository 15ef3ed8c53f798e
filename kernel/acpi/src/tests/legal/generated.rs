//! Tables that no compiler wrote: cloud-hypervisor, like other hypervisors in Rust, generates its byte code at run time with
//! the crate `acpi_tables`. Its memory controller has the registers of QEMU's, in memory, and its event device calls the scan.

use std::boxed::Box;
use std::format;
use std::string::String;
use std::vec;
use std::vec::Vec;

use acpi_tables::Aml;
use acpi_tables::aml::{
    Acquire, Add, AddressSpace, AddressSpaceCacheable, And, Arg, CreateDWordField,
    CreateQWordField, Device, EISAName, Equal, Field, FieldAccessType, FieldEntry, FieldLockRule,
    FieldUpdateRule, If, Interrupt, LessThan, Local, Method, MethodCall, Mutex, Name, Notify, ONE,
    OpRegion, OpRegionSpace, Path, Release, ResourceTemplate, Return, Store, Subtract, While, ZERO,
};
use acpi_tables::sdt::Sdt;

use super::{LINE, Machine};

/// Where the controller's registers are: see [`reduced`](super::super::rig::reduced).
const BASE: u32 = 0xD000_0000;
const SLOTS: u8 = 3;
const GIB: u64 = 1 << 30;

/// A part of a table; all live as long as the test.
type Part = &'static dyn Aml;

fn part(aml: impl Aml + 'static) -> Part {
    Box::leak(Box::new(aml))
}

fn path(name: &str) -> Part {
    part(Path::new(name))
}

fn local(number: u8) -> Part {
    part(Local(number))
}

fn store(to: Part, value: Part) -> Part {
    part(Store::new(to, value))
}

fn call(name: &str, arguments: Vec<Part>) -> Part {
    part(MethodCall::new(Path::new(name), arguments))
}

fn method(name: &str, arguments: u8, body: Vec<Part>) -> Part {
    part(Method::new(Path::new(name), arguments, true, body))
}

/// A method that has the controller to itself.
fn locked(name: &str, arguments: u8, body: Vec<Part>, result: Option<Part>) -> Part {
    let mut all = vec![part(Acquire::new(Path::new("MLCK"), 0xFFFF))];
    all.extend(body);
    all.push(part(Release::new(Path::new("MLCK"))));
    all.extend(result.map(|result| part(Return::new(result))));
    method(name, arguments, all)
}

fn named(name: &str, bits: usize) -> FieldEntry {
    FieldEntry::Named(name.as_bytes().try_into().unwrap(), bits)
}

fn field(access: FieldAccessType, rule: FieldUpdateRule, entries: Vec<FieldEntry>) -> Part {
    part(Field::new(Path::new("MREG"), access, FieldLockRule::NoLock, rule, entries))
}

fn registers() -> Vec<Part> {
    use FieldAccessType::{Byte, DWord};
    use FieldUpdateRule::{Preserve, WriteAsZeroes};
    let range = vec![named("MBAL", 32), named("MBAH", 32), named("MLNL", 32), named("MLNH", 32)];
    let node = vec![FieldEntry::Reserved(128), named("MPRX", 32)];
    let bits = [named("MENA", 1), named("MINS", 1), named("MRMV", 1), named("MEJT", 1)];
    let flags = [FieldEntry::Reserved(160)].into_iter().chain(bits).collect();
    let slot = vec![named("MSEL", 32), named("MEVT", 32), named("MSTS", 32)];
    let region =
        OpRegion::new(Path::new("MREG"), OpRegionSpace::SystemMemory, part(BASE), part(24_u8));
    vec![
        part(region),
        field(DWord, WriteAsZeroes, range),
        field(DWord, Preserve, node),
        field(Byte, WriteAsZeroes, flags),
        field(DWord, Preserve, slot),
    ]
}

/// Notifies the device of each slot of which `flag` is set, and clears that.
fn scan(flag: &str, code: u8) -> Part {
    let body = vec![call("MNTF", vec![local(0), part(code)]), store(path(flag), part(ONE))];
    part(If::new(part(Equal::new(path(flag), part(ONE))), body))
}

/// A range of memory with the base and the length that registers have, as a template that is filled in.
fn range() -> Vec<Part> {
    let blank =
        AddressSpace::new_memory(AddressSpaceCacheable::Cacheable, true, 0_u64, u64::MAX - 1, None);
    let dword = |at: u8, name| part(CreateDWordField::new(path(name), path("MTPL"), part(at)));
    let qword = |at: u8, name| part(CreateQWordField::new(path(name), path("MTPL"), part(at)));
    let last = || path("LAST");
    vec![
        store(path("MSEL"), part(Arg(0))),
        part(Name::new(Path::new("MTPL"), part(ResourceTemplate::new(vec![part(blank)])))),
        dword(14, "LOWL"),
        dword(18, "LOWH"),
        dword(38, "LENL"),
        dword(42, "LENH"),
        qword(14, "FIRS"),
        qword(22, "LAST"),
        qword(38, "SIZE"),
        store(path("LOWL"), path("MBAL")),
        store(path("LOWH"), path("MBAH")),
        store(path("LENL"), path("MLNL")),
        store(path("LENH"), path("MLNH")),
        part(Add::new(last(), path("FIRS"), path("SIZE"))),
        part(Subtract::new(last(), last(), part(ONE))),
    ]
}

fn device(slot: u8) -> Part {
    let shared = |name, shared: &str| {
        method(name, 0, vec![part(Return::new(call(shared, vec![part(slot)])))])
    };
    let hid = part(Name::new(Path::new("_HID"), part(EISAName::new("PNP0C80"))));
    let uid = part(Name::new(Path::new("_UID"), part(slot)));
    let eject = method("_EJ0", 1, vec![call("MEJ_", vec![part(slot)])]);
    let arguments = vec![part(slot), part(Arg(0)), part(Arg(1))];
    let report = method("_OST", 3, vec![call("MOST", arguments)]);
    let parts = vec![
        hid,
        uid,
        shared("_STA", "MSTA"),
        shared("_CRS", "MCRS"),
        shared("_PXM", "MPXM"),
        eject,
        report,
    ];
    part(Device::new(Path::new(&format!("ME0{slot}")), parts))
}

fn controller() -> Part {
    let select = || store(path("MSEL"), part(Arg(0)));
    let enabled = part(If::new(
        part(Equal::new(path("MENA"), part(ONE))),
        vec![store(local(0), part(0xF_u8))],
    ));
    let each = vec![
        store(path("MSEL"), local(0)),
        scan("MINS", 1),
        scan("MRMV", 3),
        part(Add::new(local(0), local(0), part(ONE))),
    ];
    let all = part(While::new(part(LessThan::new(local(0), part(SLOTS))), each));
    let notify = (0..SLOTS).map(|slot| {
        let device = part(Notify::new(path(&format!("ME0{slot}")), part(Arg(1))));
        part(If::new(part(Equal::new(part(Arg(0)), part(slot))), vec![device]))
    });
    let mut parts = vec![
        part(Name::new(Path::new("_HID"), part(EISAName::new("PNP0A06")))),
        part(Name::new(Path::new("_UID"), part("memory controller"))),
        part(Mutex::new(Path::new("MLCK"), 0)),
    ];
    parts.extend(registers());
    parts.extend([
        method("MNTF", 2, notify.collect()),
        locked("MSCN", 0, vec![store(local(0), part(ZERO)), all], None),
        locked("MSTA", 1, vec![select(), store(local(0), part(ZERO)), enabled], Some(local(0))),
        locked("MPXM", 1, vec![select(), store(local(0), path("MPRX"))], Some(local(0))),
        locked("MCRS", 1, range(), Some(path("MTPL"))),
        locked("MEJ_", 1, vec![select(), store(path("MEJT"), part(ONE))], None),
        locked(
            "MOST",
            3,
            vec![select(), store(path("MEVT"), part(Arg(1))), store(path("MSTS"), part(Arg(2)))],
            None,
        ),
    ]);
    parts.extend((0..SLOTS).map(device));
    part(Device::new(Path::new("_SB_.MHPC"), parts))
}

/// The device whose interrupt says that the controller has something: bit 1 of what happened is memory.
fn event_device() -> Part {
    let interrupt = part(Interrupt::new(true, true, false, false, LINE));
    let memory = part(And::new(local(0), part(0b10_u8), part(0b10_u8)));
    let event = vec![
        memory,
        part(If::new(
            part(Equal::new(local(0), part(0b10_u8))),
            vec![call("\\_SB_.MHPC.MSCN", Vec::new())],
        )),
    ];
    let parts = vec![
        part(Name::new(Path::new("_HID"), part("ACPI0013"))),
        part(Name::new(Path::new("_UID"), part(ZERO))),
        part(Name::new(Path::new("_CRS"), part(ResourceTemplate::new(vec![interrupt])))),
        method("_EVT", 1, event),
    ];
    part(Device::new(Path::new("_SB_.GED_"), parts))
}

fn table() -> Vec<u8> {
    let mut bytes = Vec::new();
    [controller(), event_device()].iter().for_each(|device| device.to_aml_bytes(&mut bytes));
    let mut sdt = Sdt::new(*b"DSDT", 36, 6, *b"HOTMEM", *b"GENERATE", 1);
    sdt.append_slice(&bytes);
    sdt.as_slice().to_vec()
}

fn machine() -> Machine {
    let mut machine = Machine::with_slots(&table(), SLOTS.into());
    machine.source.arm().unwrap();
    assert_eq!(machine.drain(), [""; 0]);
    machine
}

fn reports(machine: &Machine) -> Vec<(u32, u32, u32)> {
    let mut board = machine.wire.0.borrow_mut();
    let reports = core::mem::take(&mut board.controller.reports);
    reports.into_iter().map(|report| (report.slot, report.event, report.status)).collect()
}

#[test]
fn dimms_of_a_generated_table_come_and_go() {
    let mut machine = machine();
    machine.wire.0.borrow_mut().controller.plug(1, 4 * GIB, GIB, 0);
    machine.wire.0.borrow_mut().controller.plug(2, 512 * GIB, GIB / 8, 1);
    assert_eq!(
        machine.interrupt(LINE),
        [
            "insert ME01 [0x100000000-0x13fffffff] on 0",
            "insert ME02 [0x8000000000-0x8007ffffff] on 1",
        ]
    );
    assert_eq!(reports(&machine), [(1, 1, 0), (2, 1, 0)]);
    machine.wire.0.borrow_mut().controller.request_eject(2);
    assert_eq!(machine.interrupt(LINE), ["eject ME02"]);
    assert_eq!(machine.wire.0.borrow().controller.ejected, [2]);
    let codes: Vec<_> = reports(&machine).iter().map(|report| report.0).collect();
    assert_eq!(codes, [2, 2]);
    let strays: &Vec<_> = &machine.wire.0.borrow().controller.strays;
    assert!(strays.is_empty(), "{strays:x?}");
}

#[test]
fn nothing_that_a_generated_table_names_is_misread() {
    let mut machine = machine();
    // A DIMM without a length, and one that wraps: each is refused, and the one beside them comes.
    machine.wire.0.borrow_mut().controller.plug(0, 4 * GIB, 0, 0);
    machine.wire.0.borrow_mut().controller.plug(1, u64::MAX - GIB + 1, 2 * GIB, 0);
    machine.wire.0.borrow_mut().controller.plug(2, 8 * GIB, GIB, 0);
    let lines: Vec<String> = machine.interrupt(LINE);
    assert_eq!(lines.len(), 3, "{lines:?}");
    assert!(lines[..2].iter().all(|line| line.starts_with("refuse ME0")), "{lines:?}");
    assert_eq!(lines[2], "insert ME02 [0x200000000-0x23fffffff] on 0");
}
