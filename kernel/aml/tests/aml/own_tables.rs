//! Tables of our own: the same hotplug flow as on QEMU's, with other names, other registers,
//! other events and both widths of integers. Nothing below names an object of a table.
#![expect(clippy::expect_used, reason = "a test that cannot be set up has failed")]

use hotmem_aml::{Aml, Arg, Limits, NodeId, Space};
use hotmem_aml_fakes::{self as fakes, Controller, EventSource, Layout, Ost, Tables};

/// A table and the controller it drives.
struct Case {
    source: &'static str,
    layout: Layout,
    slots: usize,
    /// The register from which a Generic Event Device reads what happened, and its value for memory.
    doorbell: Option<(Space, u64, u64)>,
}

/// All of them.
fn cases() -> [Case; 3] {
    let memory = Space::SystemMemory;
    [
        Case {
            source: "moved",
            layout: Layout {
                space: memory,
                base: 0xFEDD_0000,
                read: [0x28, 0x2C, 0x20, 0x24, 0x18],
                write: [0x08, 0x0C, 0x10],
                flags: 0x00,
                bits: [4, 5, 6, 7],
            },
            slots: 4,
            doorbell: None,
        },
        Case {
            source: "reduced",
            layout: Layout::qemu(memory, 0xD000_0000),
            slots: 2,
            doorbell: Some((memory, 0xD000_8000, 4)),
        },
        Case {
            source: "cloud",
            layout: Layout::qemu(memory, 0xE_8000_0000),
            slots: 3,
            doorbell: Some((memory, 0xE_8000_1000, 2)),
        },
    ]
}

/// A loaded table, its controller, its memory devices in the order of slots and its event.
struct Booted {
    aml: Aml,
    host: Controller,
    devices: Vec<NodeId>,
    event: EventSource,
}

impl Case {
    fn boot(&self) -> Booted {
        let dsdt = fakes::compile(self.source).expect("the table compiles");
        let tables = Tables { dsdt, ssdts: Vec::new() };
        let mut host = Controller::new(self.layout, self.slots);
        host.doorbell = self.doorbell;
        let mut aml = Aml::load(&mut host, &tables.all(), Limits::DEFAULT).expect("it loads");
        let report = aml.init(&mut host);
        assert_eq!(report.first_failure, None, "{}", self.source);
        let devices = fakes::memory_devices(&mut aml, &mut host).expect("identifiers");
        assert_eq!(devices.len(), self.slots, "{}", self.source);
        host.accesses.clear();
        let sources = fakes::event_sources(&mut aml, &mut host).expect("event sources");
        let event = *sources
            .iter()
            .find(|&&source| {
                fakes::raise(&mut aml, &mut host, source).expect("the event method");
                !host.accesses.is_empty()
            })
            .expect("an event that looks at the controller");
        Booted { aml, host, devices, event }
    }
}

#[test]
fn dimms_are_found_read_reported_and_ejected_on_every_table() {
    for case in cases() {
        let Booted { mut aml, mut host, devices, event } = case.boot();
        let last = case.slots - 1;
        let range = (0x1_F800_0000, 0x1_1000_0000);
        host.plug(last, range.0, range.1, 7);
        fakes::raise(&mut aml, &mut host, event).expect("the event method");
        let noticed: Vec<_> = host.notices.iter().map(|n| (n.node, n.value)).collect();
        assert_eq!(noticed, [(devices[last], 1)], "{}", case.source);

        let device = devices[last];
        assert_eq!(aml.status(&mut host, device), Ok(0x0F), "{}", case.source);
        assert_eq!(aml.status(&mut host, devices[0]), Ok(0), "{}", case.source);
        let found = fakes::memory_range(&mut aml, &mut host, device);
        assert_eq!(found, Ok(Some(range)), "{}", case.source);
        assert_eq!(aml.child_integer(&mut host, device, "_PXM"), Ok(Some(7)), "{}", case.source);

        let ost = aml.child(device, "_OST").expect("_OST");
        let args = [Arg::Integer(1), Arg::Integer(0), Arg::Buffer(&[])];
        aml.evaluate(&mut host, ost, &args).expect("_OST");
        host.request_eject(last);
        fakes::raise(&mut aml, &mut host, event).expect("the event method");
        assert_eq!(host.notices.last().map(|n| (n.node, n.value)), Some((device, 3)));
        let eject = aml.child(device, "_EJ0").expect("_EJ0");
        aml.evaluate(&mut host, eject, &[Arg::Integer(1)]).expect("_EJ0");
        assert_eq!(host.ejected, [last as u32], "{}", case.source);
        assert_eq!(host.reports, [Ost { slot: last as u32, event: 1, status: 0 }]);
        assert_eq!(aml.status(&mut host, device), Ok(0), "{}", case.source);
    }
}

#[test]
fn many_notifications_in_one_event_name_each_device_once() {
    for case in cases() {
        let Booted { mut aml, mut host, mut devices, event } = case.boot();
        for slot in 0..case.slots {
            host.plug(slot, (slot as u64 + 4) << 30, 1 << 30, 0);
        }
        fakes::raise(&mut aml, &mut host, event).expect("the event method");
        let mut noticed: Vec<_> = host.notices.iter().map(|n| n.node).collect();
        noticed.sort();
        devices.sort();
        assert_eq!(noticed, devices, "{}", case.source);
    }
}

#[test]
fn the_width_of_integers_comes_from_the_table() {
    let wide = cases().map(|case| case.boot().aml.is_wide());
    assert_eq!(wide, [false, true, true]);
}

#[test]
fn a_refused_register_access_leaves_the_tables_usable() {
    for case in cases() {
        let Booted { mut aml, mut host, devices, event } = case.boot();
        let crs = aml.child(devices[0], "_CRS").expect("_CRS");
        host.refuse = Some(case.layout.base);
        let refused = aml.evaluate(&mut host, crs, &[]).map(drop);
        assert!(refused.is_err(), "{}", case.source);
        host.refuse = None;
        host.plug(0, 4 << 30, 1 << 30, 0);
        fakes::raise(&mut aml, &mut host, event).expect("the event method");
        assert_eq!(host.notices.len(), 1, "{}", case.source);
    }
}
