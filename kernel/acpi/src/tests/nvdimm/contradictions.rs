//! Firmware that describes persistent memory, and something else at the same place.

use std::format;
use std::string::{String, ToString};
use std::vec::Vec;

use hotmem::testing::range;
use hotmem::{BlockState, PhysRange, Placement, ZoneKind};
use hotmem_aml_fakes::{compile, compile_text};
use hotmem_hotplug::{HotplugSource, Policy};

use super::super::board::Wire;
use super::super::firmware::{self, put};
use super::super::rig::{MIB, Rig, WINDOW, firmware_beside, moved};
use super::writer;

const SIZE: u64 = 8 * MIB;
/// The event of the memory devices.
const EVENT: u8 = 0x1B;
const ONLINE: BlockState = BlockState::Online(ZoneKind::Movable);

/// The n-th place for a region, or for memory of a device.
fn place(n: u64) -> PhysRange {
    range(WINDOW + n * 2 * SIZE, SIZE)
}

fn regions(places: &[u64]) -> Vec<u8> {
    let each = places.iter().flat_map(|&n| {
        let start = place(n).start().get();
        let part = writer::part(10 + n as u16, n as u32, SIZE);
        [writer::range(10 + n as u16, start, SIZE), part].concat()
    });
    each.collect()
}

/// A machine with memory devices, and regions at these places; `_FIT` returns those of `later` from the second time on. In the
/// byte code is `more`, and beside it `tables`.
fn rig(places: &[u64], later: &[u64], more: &str, tables: &[Vec<u8>]) -> Rig {
    let [first, second] = [places, later].map(|places| {
        let bytes: String = regions(places).iter().map(|byte| format!("{byte}, ")).collect();
        format!("Buffer () {{ {bytes} }}")
    });
    let devices: String =
        (0..9).map(|n| format!("Device (NV0{n}) {{ Name (_ADR, {n}) }}")).collect();
    let text = format!(
        "DefinitionBlock (\"\", \"SSDT\", 2, \"HOTMEM\", \"NVDIMMS\", 1) {{
            External (\\_SB.BRDG, DeviceObj)
            Device (\\_SB.NVDR) {{ Name (_HID, \"ACPI0012\") {devices}
                Name (AGAN, 0)
                Method (_FIT, 0, Serialized) {{
                    If (AGAN) {{ Return ({second}) }}
                    AGAN = 1
                    Return ({first})
                }}
            }}
            {more}
            Scope (\\_GPE) {{ Method (_E02) {{ Notify (\\_SB.NVDR, 0x80) }} }} }}"
    );
    let tables = [tables, &[compile_text(&text).unwrap()]].concat();
    let memory = firmware_beside(&compile("moved").unwrap(), false, &[], &tables);
    let rig = Rig::over(Wire::new(moved(), 4), &memory, Some(EVENT), Policy::default());
    for n in places.iter().chain(later.iter().filter(|n| !places.contains(n))) {
        rig.bench.plug(place(*n));
    }
    rig
}

impl Rig {
    /// What is listed of the regions.
    fn listed(&mut self) -> String {
        let mut text = String::new();
        self.hotplug.write_pmem(false, &mut text).unwrap();
        text
    }

    fn left_out(&self) -> String {
        let mut text = String::new();
        self.hotplug.source().write_firmware(false, &mut text).unwrap();
        text
    }

    fn use_region(&mut self, number: usize, force: bool) -> Result<(), String> {
        let done = self.hotplug.pmem_add(number, Placement::PerRange, force, &mut String::new());
        self.bench.check();
        done.map_err(|error| error.to_string())
    }

    /// Announces memory of a device at a place that is persistent memory.
    fn announce_at(&mut self, slot: usize, at: PhysRange) -> String {
        let (start, len) = (at.start().get(), at.len());
        self.wire.0.borrow_mut().controller.plug(slot, start, len, 1);
        self.signal();
        self.run()
    }
}

#[test]
fn a_memory_device_with_persistent_memory_is_refused_by_name_and_one_beside_it_is_used() {
    let mut rig = rig(&[0, 2], &[], "", &[]);
    let inside = range(place(0).start().get() + MIB, 2 * MIB);
    let across = range(place(2).start().get() - MIB, 2 * MIB);
    for (slot, at, region) in [(0, inside, place(0)), (1, across, place(2))] {
        let out = rig.announce_at(slot, at);
        assert!(out.contains("which is persistent memory of the NFIT"), "{out}");
        assert!(out.contains(&region.to_string()), "{out}");
        assert_eq!(rig.reported(), [(slot as u32, 1, 1)]);
        assert_eq!(rig.states(at), []);
    }
    let good = rig.plug(2, 4 * 2 * SIZE, SIZE, 1);
    rig.run();
    assert_eq!(rig.states(good), [ONLINE; 8]);
    // Nothing says which of both is right, so the regions are used by force only.
    let list = rig.listed();
    let names = list.lines().filter(|line| line.contains("names memory of it as its own"));
    assert_eq!(names.count(), 2, "{list}");
    let error = rig.use_region(0, false).unwrap_err();
    assert!(error.contains("may hold data") && error.contains("STK0"), "{error}");
    rig.use_region(0, true).unwrap();
    // Once the device is not there, the region is its own again.
    rig.wire.0.borrow_mut().controller.slots[1] = Default::default();
    rig.announce(1);
    rig.run();
    rig.use_region(1, false).unwrap();
}

#[test]
fn a_region_with_memory_of_two_devices_is_its_own_when_both_are_gone() {
    let mut rig = rig(&[0], &[], "", &[]);
    let half = |n: u64| range(place(0).start().get() + n * SIZE / 2, SIZE / 2);
    for slot in [0, 1] {
        let out = rig.announce_at(slot, half(slot as u64));
        assert!(out.contains("which is persistent memory of the NFIT"), "{out}");
    }
    for slot in [1, 0] {
        assert!(rig.use_region(0, false).unwrap_err().contains("names memory of it as its own"));
        rig.wire.0.borrow_mut().controller.slots[slot] = Default::default();
        rig.announce(slot as u32);
        rig.run();
    }
    rig.use_region(0, false).unwrap();
}

#[test]
fn memory_that_a_device_had_before_stays_in_use_when_a_region_comes_there() {
    let mut rig = rig(&[0], &[0, 2], "", &[]);
    rig.bench.unplug(place(2));
    let dimm = rig.plug(0, 2 * 2 * SIZE, SIZE, 1);
    rig.run();
    assert_eq!((dimm, rig.states(dimm)), (place(2), [ONLINE; 8].into()));
    rig.wire.0.borrow_mut().gpe_status |= 1 << 2;
    rig.run();
    assert!(rig.listed().contains("STK0 names memory of it as its own"), "{}", rig.listed());
    assert!(rig.use_region(1, false).is_err() && rig.use_region(1, true).is_err());
    // It is announced once more, and goes as any other.
    rig.reported();
    rig.announce(0);
    rig.run();
    assert_eq!((rig.states(dimm), rig.reported()), ([ONLINE; 8].into(), [(0, 1, 0)].into()));
    rig.unplug(0);
    rig.run();
    assert_eq!(rig.states(dimm), []);
    rig.use_region(0, false).unwrap();
    // The device is gone, so the other region is its own.
    rig.bench.plug(place(2));
    rig.use_region(1, false).unwrap();
}

#[test]
fn where_persistent_memory_was_a_memory_device_is_used() {
    let mut rig = rig(&[0], &[2], "", &[]);
    rig.wire.0.borrow_mut().gpe_status |= 1 << 2;
    rig.run();
    rig.bench.unplug(place(0));
    let dimm = rig.plug(0, 0, SIZE, 1);
    rig.run();
    assert_eq!(rig.states(dimm), [ONLINE; 8]);
}

#[test]
fn a_region_with_addresses_of_pci_is_refused_by_name_and_others_are_used() {
    let window = place(2).start().get() + MIB;
    let bridge = format!(
        "Scope (\\_SB.BRDG) {{ Name (_CRS, ResourceTemplate () {{
            QWordMemory (ResourceProducer, PosDecode, MinFixed, MaxFixed, Cacheable, ReadWrite,
                0, {window:#x}, {:#x}, 0, {MIB:#x}) }}) }}",
        window + MIB - 1
    );
    // Configuration space of buses 4 and 5.
    let mut body = [0; 8 + 16].to_vec();
    put(&mut body, 8, 8, place(4).start().get() - 4 * MIB);
    (body[18], body[19]) = (4, 5);
    let mcfg = firmware::table(b"MCFG", 1, &body);
    let mut rig = rig(&[0, 2, 4, 6], &[], &bridge, &[mcfg]);
    let text = rig.left_out();
    for n in [2, 4] {
        let wanted = format!("range {} has addresses of another use in it", 10 + n);
        assert!(text.contains(&wanted), "{text}");
    }
    assert_eq!(rig.hotplug.source().persistent_count(), 2);
    (0..2).for_each(|number| rig.use_region(number, false).unwrap());
    assert_eq!(rig.states(place(6)), [ONLINE; 8]);
}

#[test]
fn two_devices_of_one_nvdimm_cost_that_one_and_no_other() {
    let twice = "Scope (\\_SB) { Device (DUMM) { Name (_ADR, 2) } }
        Device (\\_SB.NVDR.TWIN) { Name (_ADR, 2) }";
    let mut rig = rig(&[0, 2, 4], &[], twice, &[]);
    let error = rig.use_region(1, false).unwrap_err();
    assert!(error.contains("byte code has several devices for NVDIMM 0x2"), "{error}");
    assert_eq!(rig.states(place(2)), []);
    rig.use_region(0, false).unwrap();
    rig.use_region(2, false).unwrap();
    rig.use_region(1, true).unwrap();
}
