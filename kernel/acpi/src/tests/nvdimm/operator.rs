//! Persistent memory as RAM: what the operator asks for, over byte code, the driver and the memory manager.

use std::format;
use std::string::{String, ToString};
use std::vec::Vec;

use hotmem::testing::{Holder, Tiny, range};
use hotmem::{BlockState, Order, PhysRange, Placement, ZoneKind};
use hotmem_aml_fakes::compile_text;
use hotmem_hotplug::{HotplugSource, Policy, Verdict};

use super::super::board::Wire;
use super::super::firmware::{self, put};
use super::super::rig::{MIB, Rig, WINDOW, firmware_beside, moved};
use super::writer::{self, Labels};

/// Bytes of each region.
const SIZE: u64 = 8 * MIB;
const DEVICE: Placement = Placement::PerRange;

/// Regions by their numbers, and the handle of the NVDIMM of each.
const EMPTY: usize = 0;
const LABELLED: usize = 1;
const BY_INTERFACE: usize = 2;
const WITHOUT_AREA: usize = 3;
const FAILING: usize = 4;
const UNKNOWN: usize = 5;
const UNNAMED: usize = 6;
const ODD: usize = 7;
const NOT_SUPPORTED: usize = 8;
const PARTLY: usize = 9;
/// Those from here on have methods that say too little of the area, and why.
const HALF: usize = 10;
const HALVES: [(&str, &str); 5] = [
    ("Method (_LSI) { Return (Package () { 0, 2048, 200 }) }", "_LSR is missing"),
    ("Method (_LSR, 2) { Return (Package () { 0, Buffer (256) {} }) }", "_LSI is missing"),
    (
        "Method (_LSI) { Return (Package () { 0, 0x100000000, 200 }) } Method (_LSR, 2) { Return (0) }",
        "_LSI does not return what it should",
    ),
    ("Method (_DSM, 4) { Return (Buffer () { 0x11 }) }", "a function of _DSM is missing"),
    ("Method (_DSM, 4) { Return (0) }", "_DSM does not return what it should"),
];
const COUNT: usize = HALF + HALVES.len();

fn region(number: usize) -> PhysRange {
    range(WINDOW + number as u64 * 2 * SIZE, SIZE + if number == ODD { 4096 } else { 0 })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte}, ")).collect()
}

/// Byte code with an NVDIMM for each region but the last ones.
fn byte_code() -> Vec<u8> {
    let (empty, used) = (Labels::new(), Labels::new().with(1, "precious", 0, SIZE));
    let methods = |labels: &Labels| {
        format!(
            "Name (AREA, Buffer () {{ {} }})
            Method (_LSI) {{ Return (Package () {{ 0, 2048, 200 }}) }}
            Method (_LSR, 2, Serialized) {{
                CreateField (AREA, Arg0 * 8, Arg1 * 8, PART)
                Return (Package () {{ 0, PART }})
            }}",
            hex(&labels.bytes)
        )
    };
    let interface = format!(
        "Name (AREA, Buffer () {{ {} }})
        Method (_DSM, 4, Serialized) {{
            If (Arg0 != ToUUID (\"4309ac30-0d11-11e4-9191-0800200c9a66\")) {{ Return (Buffer () {{ 0 }}) }}
            If (Arg2 == 0) {{ Return (Buffer () {{ 0x31 }}) }}
            If (Arg2 == 4) {{
                Local0 = Buffer (12) {{ }}
                CreateDWordField (Local0, 4, AREB)
                CreateDWordField (Local0, 8, MOST)
                AREB = SizeOf (AREA)
                MOST = 64
                Return (Local0)
            }}
            Local0 = DerefOf (Arg3 [0])
            CreateDWordField (Local0, 0, OFST)
            CreateDWordField (Local0, 4, LENG)
            CreateField (AREA, OFST * 8, LENG * 8, PART)
            Return (Concatenate (Buffer (4) {{ }}, PART))
        }}",
        hex(&used.bytes)
    );
    let failing = "Method (_LSI) { Return (Package () { 3, 0, 0 }) } Method (_LSR, 2) { Return (Package () { 3, Buffer () { 0 } }) }";
    // As QEMU's without labels: the device gives a status alone.
    let not_supported = "Method (_DSM, 4) { Return (Buffer () { 1, 0, 0, 0 }) }
        Method (_LSI, 0, Serialized) {
            Local0 = _DSM (0, 0, 4, 0)
            CreateDWordField (Local0, 4, AREB)
            Return (Package () { 0, AREB, 0 })
        }
        Method (_LSR, 2) { Return (Package () { 1, Buffer () { 0 } }) }";
    let [empty, labelled] = [&empty, &used].map(methods);
    let devices: String = [empty.as_str(), &labelled, &interface, "", failing]
        .iter()
        .enumerate()
        .chain([(NOT_SUPPORTED, &not_supported)])
        .map(|(number, &body)| (number, body))
        .chain((HALF..).zip(HALVES.map(|(body, _)| body)))
        .map(|(number, body)| {
            let handle = 0x10 + number;
            format!("Device (NV{number:02}) {{ Name (_ADR, {handle}) {body} }}")
        })
        .collect();
    let text = format!(
        "DefinitionBlock (\"\", \"DSDT\", 2, \"HOTMEM\", \"NVDIMM\", 1) {{ Scope (\\_SB) {{
            Device (NVDR) {{ Name (_HID, \"ACPI0012\") {devices} }} }} }}"
    );
    compile_text(&text).unwrap()
}

fn rig() -> Rig {
    let mut body = [0; 4].to_vec();
    // In an order of its own.
    for number in (0..COUNT).rev() {
        let place = region(number);
        let index = 10 + number as u16;
        body.extend(writer::range(index, place.start().get(), place.len()));
        if number <= UNKNOWN || number == NOT_SUPPORTED || number >= HALF {
            body.extend(writer::part(index, 0x10 + number as u32, place.len()));
        }
        if number == PARTLY {
            let mut part = writer::part(index, 0x10 + WITHOUT_AREA as u32, place.len() / 2);
            // Behind what another region has of it.
            put(&mut part, 32, 8, SIZE);
            body.extend(part);
        }
    }
    let nfit = firmware::table(b"NFIT", 1, &body);
    let memory = firmware_beside(&byte_code(), false, &[], &[nfit]);
    let rig = Rig::over(Wire::new(moved(), 0), &memory, Some(1), Policy::default());
    (0..COUNT).for_each(|number| rig.bench.plug(region(number)));
    rig
}

impl Rig {
    fn pmem_add(&mut self, number: usize, force: bool) -> Result<String, String> {
        let mut out = String::new();
        let done = self.hotplug.pmem_add(number, DEVICE, force, &mut out);
        self.bench.check();
        done.map(|()| out).map_err(|error| error.to_string())
    }

    fn pmem_remove(&mut self, number: usize) -> Result<String, String> {
        let mut out = String::new();
        let done = self.hotplug.pmem_remove(number, &mut out);
        done.map_err(|error| error.to_string())?;
        Ok(out + &self.run())
    }

    fn list(&mut self) -> Vec<String> {
        let mut out = String::new();
        self.hotplug.write_pmem(false, &mut out).unwrap();
        out.lines().map(str::to_string).collect()
    }
}

const MOVABLE: BlockState = BlockState::Online(ZoneKind::Movable);

#[test]
fn each_region_is_listed_with_what_its_labels_say() {
    let mut rig = rig();
    let lines = rig.list();
    let says = |number: usize, what: &str| {
        let start = format!("{number}: {} node 1, unused; holds {what}", region(number));
        assert!(lines[number].starts_with(&start), "{start}\n{lines:#?}");
    };
    says(EMPTY, "nothing: its labels name no namespace");
    says(LABELLED, "data: the label of NVDIMM 0x11 says that it holds the namespace \"precious\"");
    says(
        BY_INTERFACE,
        "data: the label of NVDIMM 0x12 says that it holds the namespace \"precious\"",
    );
    says(WITHOUT_AREA, "nothing: its NVDIMM has no label storage area");
    says(FAILING, "unknown: the labels of NVDIMM 0x14: _LSI reports status 0x3");
    says(UNKNOWN, "unknown: the labels of NVDIMM 0x15: byte code has no device for NVDIMM 0x15");
    says(UNNAMED, "unknown: the NFIT does not name the NVDIMMs of all of it");
    says(PARTLY, "unknown: the NFIT does not name the NVDIMMs of all of it");
    says(NOT_SUPPORTED, "nothing: its NVDIMM has no label storage area");
    for (number, (_, why)) in (HALF..).zip(HALVES) {
        let handle = 0x10 + number;
        says(number, &format!("unknown: the labels of NVDIMM {handle:#x}: {why}"));
    }
    assert_eq!(lines.len(), COUNT);
    // It is not announced: the driver knows nothing of it yet.
    assert_eq!(rig.run(), "");
    assert_eq!(rig.hotplug.plugged(), []);
    let mut json = String::new();
    rig.hotplug.write_pmem(true, &mut json).unwrap();
    assert!(
        json.starts_with("[{\"number\":0,\"start\":67108864,\"bytes\":8388608,\"node\":1,"),
        "{json}"
    );
    assert!(json.contains("\"state\":\"unused\",\"holds\":\"data\",\"why\":\""), "{json}");
}

#[test]
fn memory_is_added_with_its_memmap_on_it_and_removed_without_a_trace() {
    let mut rig = rig();
    let (before, place) = (rig.bench.snapshot(), region(EMPTY));
    for placement in [Placement::PerRange, Placement::PerBlock] {
        let mut out = String::new();
        rig.hotplug.pmem_add(EMPTY, placement, false, &mut out).unwrap();
        assert!(out.contains("\"system_bytes\":0"), "{out}");
        assert_eq!(rig.states(place), [MOVABLE; 8]);
        assert!(rig.blocks(place).iter().all(|block| block.node.get() == 1));
        assert!(rig.list()[EMPTY].contains(", in use;"));
        let again = rig.pmem_add(EMPTY, true);
        assert_eq!(again, Err(format!("{place} is in use already")));
        rig.pmem_remove(EMPTY).unwrap();
        assert_eq!(rig.bench.snapshot(), before);
        assert!(rig.list()[EMPTY].contains(", unused;"));
    }
    assert!(matches!(rig.hotplug.verdict(), Verdict::Pass));
    // Firmware asked for nothing.
    assert_eq!(rig.reported(), []);
}

#[test]
fn what_may_hold_data_is_used_only_by_force() {
    let mut rig = rig();
    let before = rig.bench.snapshot();
    for (number, why) in [
        (
            LABELLED,
            "holds data, and is used only by force: the label of NVDIMM 0x11 says that it holds the namespace \"precious\"",
        ),
        (
            BY_INTERFACE,
            "holds data, and is used only by force: the label of NVDIMM 0x12 says that it holds the namespace \"precious\"",
        ),
        (
            FAILING,
            "may hold data, and is used only by force: the labels of NVDIMM 0x14: _LSI reports status 0x3",
        ),
        (
            UNKNOWN,
            "may hold data, and is used only by force: the labels of NVDIMM 0x15: byte code has no device for NVDIMM 0x15",
        ),
        (
            UNNAMED,
            "may hold data, and is used only by force: the NFIT does not name the NVDIMMs of all of it",
        ),
        (
            PARTLY,
            "may hold data, and is used only by force: the NFIT does not name the NVDIMMs of all of it",
        ),
    ] {
        assert_eq!(rig.pmem_add(number, false), Err(format!("{} {why}", region(number))));
        assert_eq!(rig.bench.snapshot(), before);
        rig.pmem_add(number, true).unwrap();
        assert_eq!(rig.states(region(number)), [MOVABLE; 8]);
        rig.pmem_remove(number).unwrap();
    }
    assert!(matches!(rig.hotplug.verdict(), Verdict::Pass));
}

#[test]
fn without_labels_whatever_is_not_zero_is_data() {
    let mut rig = rig();
    let place = region(WITHOUT_AREA);
    let (start, last) = (place.start(), place.start().add(place.len() - 8));
    let page = start.add(place.len() / 16 * 5);
    for (number, at) in
        [start, start.add(0x1000), start.add(0x1_0000), page, last].map(|at| (WITHOUT_AREA, at))
    {
        rig.wire.0.borrow_mut().contents = [at].to_vec();
        let why = format!("and memory at {at} is not zero");
        assert!(rig.list()[number].contains(&why), "{at}: {:?}", rig.list()[number]);
        let error = rig.pmem_add(number, false).unwrap_err();
        assert!(error.contains("holds data") && error.contains(&why), "{error}");
        assert_eq!(rig.states(place), []);
    }
    // In the next region, which has labels that name no namespace, they are what counts.
    rig.wire.0.borrow_mut().contents.push(region(EMPTY).start());
    rig.pmem_add(EMPTY, false).unwrap();
    rig.wire.0.borrow_mut().unreadable = [start].to_vec();
    let error = rig.pmem_add(WITHOUT_AREA, false).unwrap_err();
    assert!(error.contains("may hold data") && error.contains("cannot be read"), "{error}");
    rig.pmem_add(WITHOUT_AREA, true).unwrap();
    // What is there now is the kernel's own, during its use and afterwards.
    assert!(rig.list()[WITHOUT_AREA].contains("in use; holds nothing"));
    rig.pmem_remove(WITHOUT_AREA).unwrap();
    rig.pmem_add(WITHOUT_AREA, false).unwrap();
    rig.wire.0.borrow_mut().contents = [region(NOT_SUPPORTED).end()].to_vec();
    rig.pmem_add(NOT_SUPPORTED, false).unwrap();
}

#[test]
fn a_wrong_request_is_refused_by_name_and_changes_nothing() {
    let mut rig = rig();
    let before = rig.bench.snapshot();
    assert_eq!(rig.pmem_add(COUNT, true), Err(format!("persistent memory {COUNT} does not exist")));
    assert_eq!(
        rig.pmem_remove(usize::MAX),
        Err(format!("persistent memory {} does not exist", usize::MAX))
    );
    assert_eq!(rig.pmem_remove(EMPTY), Err(format!("{} is not in use", region(EMPTY))));
    let boot = rig.hotplug.pmem_add(EMPTY, Placement::Boot, true, &mut String::new());
    assert_eq!(
        boot.unwrap_err().to_string(),
        "the memmap of persistent memory lies on it: device or block"
    );
    // A region that is not whole subsections.
    let odd = rig.pmem_add(ODD, true).unwrap_err();
    assert!(odd.contains(&region(ODD).to_string()) && odd.contains("subsection"), "{odd}");
    assert_eq!(rig.hotplug.plugged(), []);
    // The operator cannot add it by its address either, past what its labels say.
    let place = region(LABELLED);
    let added = rig.hotplug.operator_add(place, DEVICE, &mut String::new());
    assert_eq!(
        added.unwrap_err().to_string(),
        format!("{place} is not in plugged and unused memory")
    );
    assert_eq!(rig.bench.snapshot(), before);
    assert!(matches!(rig.hotplug.verdict(), Verdict::Pass));
}

#[test]
fn pages_in_use_move_and_a_page_that_stays_keeps_the_memory() {
    let mut rig = rig();
    rig.pmem_add(EMPTY, false).unwrap();
    let holder = Holder::<Tiny>::register(rig.bench);
    let handles: Vec<_> =
        (0..60).map(|_| holder.take_in_zone(rig.bench, Order::ZERO).unwrap()).collect();
    holder.pin(handles[7], true);
    let out = rig.pmem_remove(EMPTY).unwrap();
    assert!(out.contains("\"error\":\""), "{out}");
    assert_eq!(rig.states(region(EMPTY)), [MOVABLE; 8]);
    assert!(rig.list()[EMPTY].contains(", in use;"));
    holder.pin(handles[7], false);

    // An eject under way can be cancelled, and nothing else begins meanwhile.
    rig.hotplug.set_budget(1);
    rig.hotplug.pmem_remove(EMPTY, &mut String::new()).unwrap();
    (0..30).for_each(|_| assert!(rig.hotplug.run_one(&mut String::new())));
    assert!(rig.list()[EMPTY].contains(", leaving;"));
    for done in [rig.pmem_add(WITHOUT_AREA, false), rig.pmem_remove(EMPTY)] {
        assert!(done.unwrap_err().contains("is being given up"));
    }
    assert!(rig.hotplug.cancel_eject(&mut String::new()));
    rig.run();
    assert_eq!(rig.states(region(EMPTY)), [MOVABLE; 8]);

    rig.hotplug.set_budget(256);
    rig.pmem_remove(EMPTY).unwrap();
    assert_eq!(rig.states(region(EMPTY)), []);
    holder.check(rig.bench);
    assert!(holder.moves().0 > 0);
    assert!(rig.hotplug.source().persistent_count() > 0);
}
