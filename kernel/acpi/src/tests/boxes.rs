//! Memory in containers: announced, ejected and reported on as a whole.

use std::boxed::Box;
use std::vec::Vec;
use std::{format, vec};

use hotmem::testing::range;
use hotmem::{BlockState, Order, PhysRange, ZoneKind};
use hotmem_aml::Limits;
use hotmem_aml_fakes::compile;
use hotmem_hotplug::{HotplugSource, Latch, Outcome, Policy, Request, Verdict};

use super::board::Wire;
use super::firmware::RSDP;
use super::rig::{BLOCK, MIB, Rig, WINDOW, firmware, reduced};
use crate::{AcpiSource, Tables};

const ONLINE: BlockState = BlockState::Online(ZoneKind::Movable);

/// The machine of `containers.asl`, with nothing plugged.
pub(super) fn boxes() -> Rig {
    let dsdt = compile("containers").unwrap();
    let mut rig = Rig::with(Wire::new(reduced(), 5), &dsdt, Some(0), Policy::default());
    rig.run();
    rig.reported();
    rig
}

/// Puts a DIMM into a slot without a word.
pub(super) fn put(rig: &mut Rig, slot: u32, blocks: u64) -> PhysRange {
    let dimm = rig.plug(slot, u64::from(slot) * 8 * MIB, blocks * BLOCK, 7);
    rig.wire.0.borrow_mut().gpe_status = 0;
    dimm
}

/// Lets an event happen.
pub(super) fn event(rig: &mut Rig, number: u32) -> std::string::String {
    rig.wire.0.borrow_mut().gpe_status |= 1 << number;
    rig.run()
}

/// The first container with three DIMMs, all in use.
pub(super) fn full() -> (Rig, [PhysRange; 3]) {
    let mut rig = boxes();
    let dimms = [0, 1, 2].map(|slot| put(&mut rig, slot, 2));
    event(&mut rig, 1);
    rig.reported();
    assert!(dimms.iter().all(|&dimm| rig.states(dimm) == [ONLINE; 2]));
    (rig, dimms)
}

#[test]
fn a_container_that_is_announced_brings_its_memory_and_gets_its_status() {
    for (number, value) in [(0, 0), (1, 1)] {
        let mut rig = boxes();
        let dimms = [0, 1, 2].map(|slot| put(&mut rig, slot, 2));
        event(&mut rig, number);
        assert_eq!(rig.reported(), [(100, value, 0)]);
        for dimm in dimms {
            assert_eq!(rig.states(dimm), [ONLINE; 2]);
            // The node is the container's, also for the device in the inner one.
            assert!(rig.blocks(dimm).iter().all(|block| block.node.get() == 3));
        }
        // Once more changes nothing, and gets its reply.
        assert_eq!(event(&mut rig, number), "");
        assert_eq!(rig.reported(), [(100, value, 0)]);
    }
}

#[test]
fn memory_in_a_container_that_is_not_there_is_not_there() {
    let mut rig = boxes();
    // MEM2 has no _STA, and its container says 0.
    assert_eq!(event(&mut rig, 1), "");
    assert_eq!(rig.reported(), [(100, 1, 0)]);
}

#[test]
fn a_container_that_has_memory_which_is_refused_gets_the_status_of_a_failure() {
    let mut rig = boxes();
    let good = put(&mut rig, 0, 2);
    rig.plug(1, 8 * MIB, BLOCK + BLOCK / 8, 0);
    rig.wire.0.borrow_mut().gpe_status = 0;
    event(&mut rig, 1);
    assert_eq!((rig.reported(), rig.states(good)), (vec![(100, 1, 1)], vec![ONLINE; 2]));
}

#[test]
fn a_container_goes_with_all_its_memory_and_only_it_is_ejected_and_gets_a_status() {
    let mut rig = boxes();
    let before = rig.bench.snapshot();
    // Twice: whatever is kept of the first time does not harm the second.
    for _ in 0..2 {
        let dimms = [0, 1, 2].map(|slot| put(&mut rig, slot, 2));
        event(&mut rig, 1);
        rig.reported();
        let out = event(&mut rig, 3);
        assert_eq!(rig.reported(), [(100, 3, 0x84), (100, 3, 0)], "{out}");
        assert!(dimms.iter().all(|&dimm| rig.states(dimm).is_empty()));
        assert_eq!(rig.bench.snapshot(), before);
        assert!(matches!(rig.hotplug.verdict(), Verdict::Pass));
    }
}

#[test]
fn a_container_stays_whole_if_one_of_its_devices_stays() {
    let (mut rig, dimms) = full();
    // Somebody has a page of the last device, and keeps it.
    let last = rig.blocks(dimms[2])[1].pfns;
    let mut held = vec![];
    while held.last().is_none_or(|&pfn| !last.contains(pfn)) {
        held.push(rig.bench.alloc_movable(Order::ZERO).unwrap());
    }
    let keep = held.pop().unwrap();
    held.into_iter().for_each(|pfn| rig.bench.mm.free_pages(pfn).unwrap());

    event(&mut rig, 3);
    assert_eq!(rig.reported(), [(100, 3, 0x84), (100, 3, 0x81)]);
    let states: Vec<_> = dimms.iter().flat_map(|&dimm| rig.states(dimm)).collect();
    assert_eq!(states, [ONLINE; 6]);

    rig.bench.mm.free_pages(keep).unwrap();
    event(&mut rig, 3);
    assert_eq!(rig.reported(), [(100, 3, 0x84), (100, 3, 0)]);
}

#[test]
fn a_container_that_cannot_go_is_refused_before_anything_moves() {
    // No _EJ0; a processor in it; nothing in it.
    for (slot, check, eject, name, code) in
        [(3, 0x11, 0x13, 101, 0x80), (4, 0x21, 0x23, 102, 0x83), (0, 0x21, 0x33, 103, 0x80)]
    {
        let mut rig = boxes();
        let dimm = put(&mut rig, slot, 2);
        event(&mut rig, check);
        rig.reported();
        let before = rig.bench.snapshot();
        assert_eq!(event(&mut rig, eject), "", "{name}");
        assert_eq!((rig.reported(), rig.bench.snapshot()), (vec![(name, 3, code)], before));
        assert_eq!(rig.states(dimm).is_empty(), slot == 0);
    }
}

#[test]
fn a_container_without_memory_in_use_is_ejected_at_once() {
    let mut rig = boxes();
    assert_eq!(event(&mut rig, 3), "");
    assert_eq!(rig.reported(), [(100, 3, 0x84), (100, 3, 0)]);
}

#[test]
fn a_container_that_firmware_cannot_eject_keeps_its_memory() {
    let (mut rig, dimms) = full();
    rig.wire.0.borrow_mut().stuck = true;
    event(&mut rig, 3);
    assert_eq!(rig.reported(), [(100, 3, 0x84), (100, 3, 1)]);
    // The device at which it failed comes back offline, as one of its own does.
    assert_eq!(rig.states(dimms[0]), [ONLINE; 2]);
    assert_eq!(rig.states(dimms[1]), [ONLINE; 2]);
    assert_eq!(rig.states(dimms[2]), [BlockState::Offline; 2]);
    assert!(matches!(rig.hotplug.verdict(), Verdict::Fail(_)));

    rig.wire.0.borrow_mut().stuck = false;
    event(&mut rig, 3);
    assert_eq!(rig.reported(), [(100, 3, 0x84), (100, 3, 0)]);
    assert!(dimms.iter().all(|&dimm| rig.states(dimm).is_empty()));
}

#[test]
fn requests_for_a_container_and_for_a_device_in_it_cross() {
    let (mut rig, dimms) = full();
    let out = event(&mut rig, 4);
    // The device goes first, by its own _EJ0 (200), and then the container with what is left.
    let mut reported = rig.reported();
    reported.sort_unstable();
    let container = [(100, 1, 0), (100, 3, 0), (100, 3, 0x84)];
    let device = [(0, 3, 0), (0, 3, 0x84)];
    let wanted: Vec<_> = device.into_iter().chain(container).chain([(200, 0, 0)]).collect();
    assert_eq!(reported, wanted, "{out}");
    assert!(dimms.iter().all(|&dimm| rig.states(dimm).is_empty()), "{out}");
}

#[test]
fn a_driver_that_asks_for_more_events_meanwhile_gets_those_of_others_only() {
    let (wire, latch): (_, &'static Latch) =
        (Wire::new(reduced(), 5), Box::leak(Box::new(Latch::new())));
    let memory = firmware(&compile("containers").unwrap(), false);
    let tables = Tables::new(&memory, RSDP).unwrap();
    let mut source = AcpiSource::new(&tables, wire.clone(), latch, Limits::DEFAULT).unwrap();
    source.arm().unwrap();
    let plug = |slot: usize| {
        wire.0.borrow_mut().controller.plug(slot, WINDOW + slot as u64 * 8 * MIB, BLOCK, 0);
    };
    (0..3).for_each(plug);
    let mut inserted = 0;
    while let Some(event) = source.next_event() {
        source.reply(event.device, Outcome::Inserted).unwrap();
        inserted += 1;
    }
    assert_eq!(inserted, 3);

    // The first container gets an eject request and is announced, and a device of the second is plugged.
    plug(3);
    wire.0.borrow_mut().gpe_status = 1 << 3 | 1 << 1 | 1 << 0x11;
    latch.raise(0, 1);
    let mut order = vec![];
    while let Some(event) = source.next_event() {
        order.push((event.device.number(), matches!(event.request, Request::Eject)));
        match event.request {
            Request::Eject => {
                // Events that are taken before this device is gone are about the other container.
                while let Some(other) = source.next_event() {
                    assert_eq!(other.device.number(), 3);
                    source.reply(other.device, Outcome::Inserted).unwrap();
                }
                source.eject(event.device).unwrap();
                source.reply(event.device, Outcome::Ejected).unwrap();
            }
            _ => drop(source.reply(event.device, Outcome::Inserted).unwrap()),
        }
    }
    let ejects = order.iter().filter(|(_, eject)| *eject).map(|(device, _)| *device);
    assert_eq!(ejects.collect::<Vec<_>>(), [0, 1, 2], "{order:?}");
    assert_eq!(wire.0.borrow().controller.ejected, [0, 1, 2]);
    assert!(!source.has_work());
}

#[test]
fn a_domain_past_the_last_node_is_node_0_for_devices_as_for_boot_memory() {
    let mut rig = boxes();
    let dimm = put(&mut rig, 3, 2);
    let out = event(&mut rig, 0x11);
    assert_eq!((rig.reported(), rig.states(dimm)), (vec![(101, 1, 0)], vec![ONLINE; 2]));
    assert!(out.contains(&format!("\"start\":{},", range(WINDOW + 24 * MIB, MIB).start().get())));
    assert!(rig.blocks(dimm).iter().all(|block| block.node.get() == 0));
    assert_eq!(crate::node_of(1 << 32).get(), 0);
    assert_eq!(crate::node_of(3).get(), 3);
}
