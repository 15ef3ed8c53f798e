//! Another event source beside ACPI, such as a paravirtual device: the driver serves both.

// UNSAFETY: vouches for the memory that the source announces.
#![expect(unsafe_code)]

use core::cell::RefCell;
use core::convert::Infallible;
use core::fmt;
use std::boxed::Box;
use std::collections::VecDeque;
use std::rc::Rc;
use std::string::{String, ToString};
use std::vec;
use std::vec::Vec;

use hotmem::testing::{Bench, FakeMachine, Tiny, range};
use hotmem::{BlockState, NodeId, PhysRange, ZoneKind};
use hotmem_aml::Limits;
use hotmem_aml_fakes::{Ost, compile};
use hotmem_hotplug::{
    DeviceId, Event, Hotplug, HotplugSource, Latch, Outcome, Policy, Ranges, Request, Sources,
};

use super::board::Wire;
use super::firmware::RSDP;
use super::rig::{BLOCK, Still, WINDOW, bench, firmware, moved};
use crate::{AcpiSource, Tables};

const ONLINE: BlockState = BlockState::Online(ZoneKind::Movable);

/// A device that asks for memory to be added and given up, and hears how that went.
#[derive(Clone, Debug, Default)]
struct Balloon(Rc<RefCell<Asked>>);

#[derive(Debug, Default)]
struct Asked {
    requests: VecDeque<Request<Infallible>>,
    /// Requests the eject of a device that it never announced, again and again.
    broken: bool,
    reported: Vec<Outcome>,
}

// SAFETY: the ranges are those of fake DIMMs.
unsafe impl HotplugSource for Balloon {
    type Error = Infallible;

    fn next_event(&mut self) -> Option<Event<Infallible>> {
        let mut asked = self.0.borrow_mut();
        if asked.broken {
            return Some(Event { device: DeviceId::new(9), request: Request::Eject, since: None });
        }
        let request = asked.requests.pop_front()?;
        Some(Event { device: DeviceId::new(0), request, since: None })
    }

    fn has_work(&self) -> bool {
        self.0.borrow().broken || !self.0.borrow().requests.is_empty()
    }

    fn reply(&mut self, device: DeviceId, outcome: Outcome) -> Result<Option<u32>, Infallible> {
        if device.number() == 0 {
            self.0.borrow_mut().reported.push(outcome);
        }
        Ok(None)
    }

    fn eject(&mut self, _: DeviceId) -> Result<(), Infallible> {
        Ok(())
    }

    fn label(&self, _: DeviceId) -> impl fmt::Display + '_ {
        "the balloon"
    }
}

/// A machine with ACPI and a balloon.
struct Both {
    bench: &'static Bench<Tiny>,
    wire: Wire,
    latch: &'static Latch,
    balloon: Balloon,
    hotplug: Hotplug<'static, Sources<AcpiSource<Wire>, Balloon>, FakeMachine<Tiny>, Still>,
    dimm: PhysRange,
    piece: PhysRange,
}

impl Both {
    fn new() -> Self {
        let memory = firmware(&compile("moved").unwrap(), false);
        let tables = Tables::new(&memory, RSDP).unwrap();
        let latch: &'static Latch = Box::leak(Box::new(Latch::new()));
        let wire = Wire::new(moved(), 4);
        let mut acpi = AcpiSource::new(&tables, wire.clone(), latch, Limits::DEFAULT).unwrap();
        acpi.arm().unwrap();
        let (bench, balloon) = (bench(), Balloon::default());
        let list = Sources::new(acpi, balloon.clone());
        let hotplug = Hotplug::new(list, &bench.mm, Still, Policy::default()).unwrap();
        let [dimm, piece] = [0, 8].map(|block| range(WINDOW + block * BLOCK, 2 * BLOCK));
        [dimm, piece].iter().for_each(|&range| bench.plug(range));
        Self { bench, wire, latch, balloon, hotplug, dimm, piece }
    }

    /// Both are to be added.
    fn plug(&self) {
        self.wire.0.borrow_mut().controller.plug(0, self.dimm.start().get(), self.dimm.len(), 0);
        let mut ranges = Ranges::default();
        ranges.push(self.piece).unwrap();
        let request = Request::Insert { ranges, node: NodeId::default() };
        self.balloon.0.borrow_mut().requests.push_back(request);
    }

    /// The eject of both is requested.
    fn unplug(&self) {
        self.wire.0.borrow_mut().controller.request_eject(0);
        self.balloon.0.borrow_mut().requests.push_back(Request::Eject);
    }

    fn step(&mut self) -> bool {
        let raised = self.wire.interrupt(self.latch, 900);
        self.hotplug.run_one(&mut String::new()) || raised
    }

    /// Has the GPE of memory hotplug come, and serves what there is to serve.
    fn run(&mut self) {
        self.wire.0.borrow_mut().gpe_status |= 1 << 0x1B;
        while self.step() {}
        self.bench.check();
    }

    /// What was reported to ACPI, as event and status, and to the balloon.
    fn reported(&self) -> (Vec<(u32, u32)>, Vec<Outcome>) {
        let reports = core::mem::take(&mut self.wire.0.borrow_mut().controller.reports);
        let acpi = reports.into_iter().map(|Ost { event, status, .. }| (event, status)).collect();
        (acpi, core::mem::take(&mut self.balloon.0.borrow_mut().reported))
    }

    fn states(&self, piece: PhysRange) -> Vec<BlockState> {
        let mm = &self.bench.mm;
        mm.blocks_in(piece).filter_map(|id| mm.block(id)).map(|block| block.state).collect()
    }
}

#[test]
fn acpi_and_a_source_beside_it_are_served_at_once_and_each_hears_of_its_own_device() {
    let mut this = Both::new();
    this.plug();
    this.run();
    assert_eq!(this.reported(), (vec![(1, 0)], vec![Outcome::Inserted]));
    assert_eq!([this.dimm, this.piece].map(|it| this.states(it)), [const { [ONLINE; 2] }; 2]);
    let devices: Vec<_> = this.hotplug.plugged().iter().map(|entry| entry.device).collect();
    let names: Vec<_> = devices.iter().map(ToString::to_string).collect();
    assert!(names.contains(&"memory device 0".to_string()), "{names:?}");
    assert!(names.contains(&"memory device 0 of source 1".to_string()), "{names:?}");

    this.unplug();
    this.run();
    let ends = vec![Outcome::Ejecting, Outcome::Ejected];
    assert_eq!(this.reported(), (vec![(3, 0x84), (3, 0)], ends));
    assert!([this.dimm, this.piece].iter().all(|&it| this.states(it).is_empty()));
}

#[test]
fn a_source_beside_acpi_that_is_broken_does_not_keep_acpi_from_being_served() {
    let mut this = Both::new();
    this.balloon.0.borrow_mut().broken = true;
    this.plug();
    this.wire.0.borrow_mut().gpe_status |= 1 << 0x1B;
    for _ in 0..4 {
        assert!(this.step());
    }
    assert_eq!((this.reported().0, this.states(this.dimm)), (vec![(1, 0)], vec![ONLINE; 2]));
    this.unplug();
    this.wire.0.borrow_mut().gpe_status |= 1 << 0x1B;
    for _ in 0..40 {
        assert!(this.step());
    }
    assert_eq!((this.reported().0, this.states(this.dimm)), (vec![(3, 0x84), (3, 0)], vec![]));
}

#[test]
fn acpi_whose_event_never_ends_does_not_keep_a_source_beside_it_from_being_served() {
    let mut this = Both::new();
    this.plug();
    for done in [Outcome::Inserted, Outcome::Ejected] {
        for _ in 0..40 {
            // The DIMM is announced anew before each step.
            this.wire.0.borrow_mut().controller.slots[0].inserting = true;
            this.wire.0.borrow_mut().gpe_status |= 1 << 0x1B;
            assert!(this.step());
        }
        assert_eq!(this.reported().1.last(), Some(&done));
        this.balloon.0.borrow_mut().requests.push_back(Request::Eject);
    }
}
