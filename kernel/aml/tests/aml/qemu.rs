//! The tables QEMU makes for its machines: everything in them against ACPICA, and the hotplug
//! methods against a model of QEMU's controller.
#![expect(clippy::expect_used, reason = "a test that cannot be set up has failed")]

use hotmem_aml::{Aml, Arg, GpeMethod, Limits, NodeId, NodeKind, Space, Width};
use hotmem_aml_fakes::{
    self as fakes, Access, AcpiExec, Controller, Evaluated, EventSource, FlatMemory, Layout,
    Machine, Ost, Tables,
};

/// Two nodes with memory and one without.
const NUMA: &[&str] = &[
    "-smp",
    "2",
    "-object",
    "memory-backend-ram,id=b0,size=256M",
    "-object",
    "memory-backend-ram,id=b1,size=256M",
    "-numa",
    "node,nodeid=0,memdev=b0,cpus=0",
    "-numa",
    "node,nodeid=1,memdev=b1,cpus=1",
    "-numa",
    "node,nodeid=2",
];

/// Whatever adds AML of its own: processors to plug, NVDIMMs, bridges, a second host bridge,
/// a management controller, a generation identifier, a panic device.
const FULL: &[&str] = &[
    "-machine",
    "nvdimm=on",
    "-smp",
    "2,maxcpus=8",
    "-object",
    "memory-backend-ram,id=n0,size=128M",
    "-device",
    "nvdimm,memdev=n0",
    "-device",
    "vmgenid",
    "-device",
    "pvpanic",
    "-device",
    "ipmi-bmc-sim,id=bmc",
    "-device",
    "isa-ipmi-kcs,bmc=bmc",
];

/// QEMU's controller on that machine.
fn layout(machine: Machine) -> Layout {
    match machine {
        Machine::Virt => Layout::qemu(Space::SystemMemory, 0x0907_0000),
        _ => Layout::qemu(Space::SystemIo, 0x0A00),
    }
}

/// A machine's tables, loaded and initialised within the limits of a small stack, and its controller.
fn boot(machine: Machine, slots: u32, more: &[&str]) -> (Aml, Controller) {
    let tables = fakes::tables(machine, slots, more).expect("QEMU's tables");
    let mut host = Controller::new(layout(machine), slots as usize);
    let mut aml = Aml::load(&mut host, &tables.all(), Limits::SMALL_STACK).expect("tables load");
    let report = aml.init(&mut host);
    assert_eq!((report.failed, report.first_failure), (0, None));
    if machine == Machine::Virt {
        // The Generic Event Device says what happened: bit 0 is memory.
        host.doorbell = Some((Space::SystemMemory, 0x0908_0000, 1));
    }
    host.accesses.clear();
    (aml, host)
}

/// Paths of everything that can be evaluated without arguments, the predefined names excepted.
fn questions(aml: &Aml) -> Vec<String> {
    let mut paths = Vec::new();
    let mut pending: Vec<NodeId> = vec![NodeId::ROOT];
    while let Some(node) = pending.pop() {
        pending.extend(aml.children(node));
        let path = aml.path(node).to_string();
        let predefined = ["\\_REV", "\\_OS_", "\\_GL_", "\\_OSI"].contains(&path.as_str());
        if matches!(aml.kind(node), NodeKind::Method(0) | NodeKind::Data) && !predefined {
            paths.push(path);
        }
    }
    paths
}

/// Evaluates everything in the tables, then reports and ejects, in both evaluators, on
/// registers that are plain memory.
fn everything_agrees(machine: Machine, slots: u32, more: &[&str], fill: u8) {
    let tables = fakes::tables(machine, slots, more).expect("QEMU's tables");
    let mut host = FlatMemory::new(fill);
    let mut aml = Aml::load(&mut host, &tables.all(), Limits::DEFAULT).expect("tables load");
    aml.init(&mut host);
    let devices = fakes::memory_devices(&mut aml, &mut host).expect("identifiers");
    assert_eq!(devices.len(), slots as usize);
    // Every slot's methods are alike; ACPICA's console takes 10 ms for a question.
    let (asked, skipped): (Vec<_>, Vec<_>) = devices
        .iter()
        .enumerate()
        .partition(|(slot, _)| slot % 37 < 2 || slot + 1 == devices.len());
    let skipped: Vec<_> =
        skipped.iter().map(|(_, device)| aml.path(**device).to_string()).collect();
    let skip = |path: &String| skipped.iter().any(|device| path.starts_with(device));
    let mut paths = questions(&aml);
    paths.retain(|path| !skip(path));
    let again: Vec<_> = paths.iter().rev().take(50).cloned().collect();
    for (_, device) in asked {
        let path = aml.path(*device).to_string();
        paths.push(format!("{path}._OST 1 0 (00 01)"));
        paths.push(format!("{path}._EJ0 1"));
    }
    // Reports and ejections have left registers behind.
    paths.extend(again);
    differences(&tables, &mut aml, &mut host, fill, &paths);
}

/// Whether two results mean the same. ACPICA repairs the values of predefined names: identifiers become upper
/// case, `_STR` becomes Unicode. Its console cannot hold a value of more than 16 KiB, such as a long `_PRT`.
fn same(path: &str, ours: &Evaluated, theirs: &Evaluated) -> bool {
    match (ours, theirs) {
        (_, Evaluated::TooLong) => true,
        (Evaluated::String(ours), Evaluated::String(theirs)) if path.ends_with("ID") => {
            ours.eq_ignore_ascii_case(theirs)
        }
        (Evaluated::String(ours), Evaluated::Buffer(theirs)) if path.ends_with("_STR") => {
            let wide: Vec<u8> = ours.bytes().chain([0]).flat_map(|byte| [byte, 0]).collect();
            wide == *theirs
        }
        _ => ours == theirs,
    }
}

/// Evaluates all paths in both evaluators and asserts that they agree, notifications included.
fn differences(tables: &Tables, aml: &mut Aml, host: &mut FlatMemory, fill: u8, paths: &[String]) {
    let acpica = AcpiExec { fill, ..AcpiExec::default() };
    let theirs = acpica.run(tables, paths).expect("acpiexec runs");
    let mut different = Vec::new();
    let mut values = 0;
    for (question, theirs) in paths.iter().zip(&theirs.results) {
        let path = question.split(' ').next().unwrap_or_default();
        let args: &[Arg<'_>] = if path.ends_with("_OST") {
            &[Arg::Integer(1), Arg::Integer(0), Arg::Buffer(&[0, 1])]
        } else if path.ends_with("_EJ0") {
            &[Arg::Integer(1)]
        } else {
            &[]
        };
        let (ours, error) = fakes::ask(aml, host, path, args);
        values += u32::from(!matches!(ours, Evaluated::Failed | Evaluated::Nothing));
        if !same(path, &ours, theirs) {
            different.push(format!("{question}: ours {ours:x?} {error:?}, theirs {theirs:x?}"));
        }
    }
    assert!(different.is_empty(), "{} differ:\n{}", different.len(), different.join("\n"));
    assert!(values > 100, "only {values} evaluations returned a value");
    assert_eq!(host.notices(aml), theirs.notices);
}

#[test]
fn all_of_q35_agrees_with_acpica() {
    everything_agrees(Machine::Q35, 8, &[], 0);
}

#[test]
fn all_of_q35_with_256_slots_agrees_with_acpica() {
    everything_agrees(Machine::Q35, 256, &[], 0);
}

#[test]
fn all_of_q35_agrees_with_acpica_when_every_register_bit_is_set() {
    everything_agrees(Machine::Q35, 8, &[], 0xFF);
}

#[test]
fn all_of_pc_agrees_with_acpica() {
    everything_agrees(Machine::Pc, 8, &[], 0);
    everything_agrees(Machine::Pc, 8, &[], 0xFF);
}

#[test]
fn all_of_q35_with_numa_agrees_with_acpica() {
    everything_agrees(Machine::Q35, 8, NUMA, 0);
}

#[test]
fn all_of_virt_agrees_with_acpica() {
    everything_agrees(Machine::Virt, 8, &[], 0);
    everything_agrees(Machine::Virt, 8, &[], 0xFF);
}

#[test]
fn all_of_virt_with_256_slots_agrees_with_acpica() {
    everything_agrees(Machine::Virt, 256, &[], 0);
}

#[test]
fn machines_full_of_devices_agree_with_acpica() {
    let bridges = ["-device", "pcie-root-port,id=p1,chassis=1", "-device", "pxb-pcie,bus_nr=20"];
    everything_agrees(Machine::Q35, 8, &[FULL, &bridges].concat(), 0);
    let bridges = ["-device", "pci-bridge,chassis_nr=1", "-device", "pxb,bus_nr=20"];
    everything_agrees(Machine::Pc, 8, &[FULL, &bridges].concat(), 0);
}

/// DIMMs whose figures cross every carry of the methods' 32-bit halves.
const RANGES: [(u64, u64); 8] = [
    (0x1_0000_0000, 0x1000_0000),
    (0x1_1000_0000, 10 << 30),
    (0x4000_0000, 0x4000_0000),
    (0xC000_0000, 0x4000_0000),
    (0x2_F000_0000, 0x2_2000_0000),
    (0x1_3000_0000, 0x640_0000),
    (0x213_0000_0000, 1 << 40),
    (0x1_0000_0000, 0x1_0000_0000),
];

/// Presets of the fields that describe a DIMM, and the registers behind them.
fn presets(scope: &str, (base, len): (u64, u64)) -> [(String, u64, u64); 5] {
    // The low half of the address shares its register with the slot selector, so it is 0.
    [
        ("MRBH", 0x04, base >> 32),
        ("MRLL", 0x08, len & 0xFFFF_FFFF),
        ("MRLH", 0x0C, len >> 32),
        ("MPX", 0x10, 3),
        ("MES", 0x14, 1),
    ]
    .map(|(name, offset, value)| (format!("{scope}.{name}"), offset, value))
}

#[test]
fn ranges_of_dimms_agree_with_acpica() {
    for machine in [Machine::Q35, Machine::Pc, Machine::Virt] {
        let tables = fakes::tables(machine, 8, &[]).expect("QEMU's tables");
        for range in RANGES {
            let mut host = FlatMemory::new(0);
            let mut aml = Aml::load(&mut host, &tables.all(), Limits::DEFAULT).expect("loads");
            let fields = presets("\\_SB.MHPC", range);
            let Layout { space, base, .. } = layout(machine);
            for (_, offset, value) in &fields {
                host.set(space, base + offset, Width::Dword, *value);
            }
            let paths: Vec<String> = ["_STA", "_CRS", "_PXM"]
                .iter()
                .flat_map(|name| [0, 7].map(|slot| format!("\\_SB.MHPC.MP{slot:02X}.{name}")))
                .collect();
            let fields = fields.map(|(path, _, value)| (path, value)).into();
            let acpica = AcpiExec { fields, fill: 0 };
            let theirs = acpica.run(&tables, &paths).expect("acpiexec runs");
            for (path, theirs) in paths.iter().zip(theirs.results) {
                let (ours, error) = fakes::ask(&mut aml, &mut host, path, &[]);
                assert_eq!(ours, theirs, "{machine:?} {range:x?} {path} {error:?}");
            }
        }
    }
}

/// The event source that leads to memory hotplug: on every machine there is exactly one that
/// touches the controller.
fn memory_event(aml: &mut Aml, host: &mut Controller) -> EventSource {
    let sources = fakes::event_sources(aml, host).expect("event sources");
    let mut found = Vec::new();
    for source in sources {
        host.accesses.clear();
        fakes::raise(aml, host, source).expect("the event method");
        if !host.accesses.is_empty() {
            found.push(source);
        }
    }
    host.accesses.clear();
    host.notices.clear();
    assert_eq!(found.len(), 1, "{found:?}");
    found[0]
}

#[test]
fn the_memory_event_is_found_without_knowing_its_name() {
    for (machine, slots) in [(Machine::Q35, 8), (Machine::Pc, 256), (Machine::Virt, 8)] {
        let (mut aml, mut host) = boot(machine, slots, &[]);
        match (machine, memory_event(&mut aml, &mut host)) {
            (Machine::Virt, EventSource::Ged { interrupt, .. }) => {
                assert_eq!(
                    (interrupt.gsi, interrupt.edge, interrupt.active_low),
                    (41, true, false)
                );
            }
            (_, EventSource::Gpe(GpeMethod { number, edge, .. })) => {
                assert_eq!((number, edge), (3, true));
            }
            (_, source) => panic!("{machine:?}: {source:?}"),
        }
    }
}

#[test]
fn plugged_dimms_are_notified_and_read_back_exactly() {
    for (machine, slots) in [(Machine::Q35, 8), (Machine::Pc, 8), (Machine::Virt, 256)] {
        let (mut aml, mut host) = boot(machine, slots, &[]);
        let event = memory_event(&mut aml, &mut host);
        let devices = fakes::memory_devices(&mut aml, &mut host).expect("identifiers");
        for (slot, (base, len)) in RANGES.into_iter().enumerate() {
            host.plug(slot, base, len, slot as u32 % 3);
        }
        fakes::raise(&mut aml, &mut host, event).expect("the event method");

        let noticed: Vec<_> =
            host.notices.iter().map(|notice| (notice.node, notice.value)).collect();
        let wanted: Vec<_> = devices.iter().take(8).map(|&device| (device, 1)).collect();
        assert_eq!(noticed, wanted);
        assert!(host.slots.iter().all(|slot| !slot.inserting), "every insertion was acknowledged");
        for (slot, (range, &device)) in RANGES.into_iter().zip(&devices).enumerate() {
            assert_eq!(aml.status(&mut host, device), Ok(0x0F));
            assert_eq!(fakes::memory_range(&mut aml, &mut host, device), Ok(Some(range)));
            let node = aml.child_integer(&mut host, device, "_PXM");
            assert_eq!(node, Ok(Some(slot as u64 % 3)));
        }
        assert_eq!(
            aml.status(&mut host, devices[slots as usize - 1]),
            Ok(u64::from(slots == 8) * 15)
        );
    }
}

#[test]
fn an_eject_request_is_notified_reported_and_carried_out_in_that_order() {
    for machine in [Machine::Q35, Machine::Pc, Machine::Virt] {
        let (mut aml, mut host) = boot(machine, 8, &[]);
        let event = memory_event(&mut aml, &mut host);
        let device = fakes::memory_devices(&mut aml, &mut host).expect("identifiers")[5];
        host.plug(5, 0x1_0000_0000, 0x4000_0000, 0);
        fakes::raise(&mut aml, &mut host, event).expect("insert");
        host.request_eject(5);
        fakes::raise(&mut aml, &mut host, event).expect("eject request");
        let values: Vec<u64> = host.notices.iter().map(|notice| notice.value).collect();
        assert_eq!(values, [1, 3]);

        host.accesses.clear();
        let ost = aml.child(device, "_OST").expect("_OST");
        let args = [Arg::Integer(3), Arg::Integer(0x84), Arg::Buffer(&[0])];
        aml.evaluate(&mut host, ost, &args).expect("_OST");
        let eject = aml.child(device, "_EJ0").expect("_EJ0");
        aml.evaluate(&mut host, eject, &[Arg::Integer(1)]).expect("_EJ0");

        // Nothing is read on the way: the slot, event and status are whole registers, and the
        // other bits of the flags are written as zeros.
        let dword = Width::Dword;
        let writes = [(0, dword, 5), (4, dword, 3), (8, dword, 0x84), (0, dword, 5)];
        let wanted: Vec<Access> = [writes.as_slice(), &[(0x14, Width::Byte, 8)]]
            .concat()
            .into_iter()
            .map(|(offset, width, value)| Access { offset, width, written: Some(value) })
            .collect();
        assert_eq!(host.accesses, wanted);
        assert_eq!(host.reports, [Ost { slot: 5, event: 3, status: 0x84 }]);
        assert_eq!(host.ejected, [5]);
        assert_eq!(aml.status(&mut host, device), Ok(0));
    }
}

#[test]
fn one_event_with_inserts_and_ejects_notifies_each_once() {
    let (mut aml, mut host) = boot(Machine::Q35, 256, &[]);
    let event = memory_event(&mut aml, &mut host);
    for slot in 0..256 {
        host.plug(slot, (slot as u64 + 16) << 30, 1 << 30, 0);
    }
    fakes::raise(&mut aml, &mut host, event).expect("inserts");
    assert_eq!(host.notices.len(), 256);
    host.notices.clear();
    for slot in (0..256).step_by(2) {
        host.request_eject(slot);
    }
    host.plug(255, 16 << 30, 1 << 30, 0);
    fakes::raise(&mut aml, &mut host, event).expect("mixed");
    assert_eq!(host.notices.iter().filter(|notice| notice.value == 3).count(), 128);
    assert_eq!(host.notices.iter().filter(|notice| notice.value == 1).count(), 1);
    host.notices.clear();
    fakes::raise(&mut aml, &mut host, event).expect("nothing pending");
    assert!(host.notices.is_empty(), "an event without a cause notifies no device");
}
