//! From a plugged DIMM to the reply to firmware, on two machines whose controller differs from QEMU's: one
//! with a level-triggered general-purpose event, one with a generic event device.

use std::boxed::Box;
use std::format;
use std::vec;
use std::vec::Vec;

use hotmem::{BlockState, Order, Placement, ZoneKind};
use hotmem_aml::{Limits, Space};
use hotmem_aml_fakes::{Layout, compile};

use super::board::Wire;
use super::firmware::RSDP;
use super::rig::{BLOCK, MIB, Rig, WINDOW, firmware, moved, reduced};
use crate::{AcpiSource, Tables};
use hotmem_hotplug::{HotplugSource, Latch, Outcome, Policy, Refusal, Verdict};
use hotmem_hotplug::{Polarity, Trigger};

/// The general-purpose event of `moved.asl`.
const EVENT: Option<u8> = Some(0x1B);

const ONLINE: BlockState = BlockState::Online(ZoneKind::Movable);

/// A plug, an eject, and everything as before, on any machine.
fn plug_and_unplug(mut rig: Rig) {
    rig.run();
    let before = rig.bench.snapshot();

    let dimm = rig.plug(1, 0, 4 * BLOCK, 3);
    let out = rig.run();
    assert_eq!(rig.reported(), [(1, 1, 0)]);
    assert_eq!(rig.states(dimm), [ONLINE; 4]);
    assert!(rig.blocks(dimm).iter().all(|block| block.node.get() == 3));
    let start = format!("\"start\":{},\"size\":{},\"node\":3", WINDOW, 4 * BLOCK);
    assert!(out.contains(&start), "{out}");
    assert!(out.contains("\"ost\":0,\"error\":null"), "{out}");

    rig.unplug(1);
    let out = rig.run();
    // The last report comes after the eject, as ACPI has it.
    assert_eq!(rig.reported(), [(1, 3, 0x84), (1, 3, 0)]);
    assert!(out.contains("\"operation\":\"remove\""), "{out}");
    assert_eq!(rig.states(dimm), []);
    assert_eq!(rig.bench.snapshot(), before);
    assert!(matches!(rig.hotplug.verdict(), Verdict::Pass));
}

#[test]
fn a_dimm_is_taken_and_given_back_by_a_general_purpose_event() {
    plug_and_unplug(Rig::new("moved", moved(), EVENT));
}

#[test]
fn a_dimm_is_taken_and_given_back_by_an_event_device() {
    plug_and_unplug(Rig::new("reduced", reduced(), None));
}

#[test]
fn the_lines_to_watch_are_what_the_tables_say() {
    let rig = Rig::new("moved", moved(), EVENT);
    let [line] = rig.hotplug.source().lines() else { panic!("one line") };
    assert_eq!((line.gsi, line.trigger), (9, Trigger::Level));
    assert_eq!(line.polarity, Polarity::ActiveHigh);

    let rig = Rig::new("reduced", reduced(), None);
    let [first, second] = rig.hotplug.source().lines() else { panic!("two lines") };
    assert_eq!(
        (first.gsi, first.trigger, first.polarity),
        (41, Trigger::Edge, Polarity::ActiveHigh)
    );
    assert_eq!((second.gsi, second.trigger), (42, Trigger::Level));
    assert_eq!(rig.hotplug.source().device_count(), 2);
}

#[test]
fn only_events_with_a_method_are_enabled_and_of_the_fixed_ones_the_power_button() {
    let wire = Wire::new(moved(), 4);
    wire.0.borrow_mut().pm1_enable = 0x0521;
    wire.0.borrow_mut().pm1_status = 0x0100;
    let rig = Rig::on(wire, "moved", EVENT, Policy::default());
    let board = rig.wire.0.borrow();
    assert_eq!(board.gpe_enable, 1 << 0x1B | 1);
    assert_eq!((board.pm1_enable, board.pm1_status), (0x100, 0));
    assert_eq!(board.smi_writes, [2]);
}

#[test]
fn a_request_gets_one_last_reply_whoever_reports_its_end_again() {
    let wire = Wire::new(moved(), 4);
    let memory = firmware(&compile("moved").unwrap(), false);
    let tables = Tables::new(&memory, RSDP).unwrap();
    let latch: &'static Latch = Box::leak(Box::new(Latch::new()));
    let mut source = AcpiSource::new(&tables, wire.clone(), latch, Limits::DEFAULT).unwrap();
    source.arm().unwrap();
    let next = |source: &mut AcpiSource<Wire>| {
        wire.0.borrow_mut().gpe_status |= 1 << EVENT.unwrap();
        wire.interrupt(latch, 900);
        source.next_event().unwrap().device
    };
    wire.0.borrow_mut().controller.plug(1, WINDOW, BLOCK, 0);
    let device = next(&mut source);
    assert_eq!(source.reply(device, Outcome::Inserted).unwrap(), Some(0));
    assert_eq!(source.reply(device, Outcome::InsertFailed).unwrap(), None);
    wire.0.borrow_mut().controller.request_eject(1);
    assert_eq!(next(&mut source), device);
    assert_eq!(source.reply(device, Outcome::Ejecting).unwrap(), Some(0x84));
    let refused = Outcome::EjectRefused(Refusal::InUse);
    assert_eq!(source.reply(device, refused).unwrap(), Some(0x81));
    assert_eq!(source.reply(device, refused).unwrap(), None);
    let reports = core::mem::take(&mut wire.0.borrow_mut().controller.reports);
    let reports: Vec<_> = reports.iter().map(|ost| (ost.event, ost.status)).collect();
    assert_eq!(reports, [(1, 0), (3, 0x84), (3, 0x81)]);
}

#[test]
fn many_dimms_in_one_event_are_all_taken() {
    let mut rig = Rig::new("moved", moved(), EVENT);
    for slot in 0..4 {
        rig.plug(slot, u64::from(slot) * 8 * MIB, 2 * BLOCK, slot);
    }
    rig.run();
    let mut reported = rig.reported();
    reported.sort_unstable();
    assert_eq!(reported, [(0, 1, 0), (1, 1, 0), (2, 1, 0), (3, 1, 0)]);
    assert_eq!(rig.hotplug.plugged().len(), 4);
}

#[test]
fn inserts_and_ejects_mix_in_one_event() {
    let mut rig = Rig::new("moved", moved(), EVENT);
    let old = rig.plug(0, 0, 2 * BLOCK, 0);
    rig.run();
    rig.reported();

    let new = rig.plug(2, 8 * MIB, 3 * BLOCK, 0);
    rig.unplug(0);
    rig.run();
    let mut reported = rig.reported();
    reported.sort_unstable();
    assert_eq!(reported, [(0, 3, 0), (0, 3, 0x84), (2, 1, 0)]);
    assert_eq!((rig.states(old), rig.states(new)), (vec![], vec![ONLINE; 3]));
}

#[test]
fn an_insert_and_an_eject_of_the_same_slot_end_empty() {
    let mut rig = Rig::new("moved", moved(), EVENT);
    let dimm = rig.plug(3, 0, BLOCK, 0);
    rig.unplug(3);
    // The method notifies of one event at a time, and there is one interrupt for both.
    rig.run();
    assert_eq!(rig.reported(), [(3, 1, 0), (3, 3, 0x84), (3, 3, 0)]);
    assert_eq!(rig.states(dimm), []);
}

#[test]
fn an_event_device_that_forgets_what_happened_loses_no_eject() {
    let mut rig = Rig::new("reduced", reduced(), None);
    let [first, second] = [rig.plug(0, 0, BLOCK, 0), rig.plug(1, 8 * MIB, BLOCK, 0)];
    rig.unplug(0);
    rig.unplug(1);
    // One interrupt for all four requests, and the device reports once that something happened.
    rig.run();
    let mut reported = rig.reported();
    reported.sort_unstable();
    let of = |slot| [(slot, 1, 0), (slot, 3, 0), (slot, 3, 0x84)];
    assert_eq!(reported, [of(0), of(1)].concat());
    assert_eq!((rig.states(first), rig.states(second)), (vec![], vec![]));
}

#[test]
fn an_event_with_nothing_behind_it_changes_nothing() {
    let mut rig = Rig::new("moved", moved(), EVENT);
    rig.run();
    let before = rig.bench.snapshot();
    for _ in 0..1000 {
        rig.signal();
        assert_eq!(rig.run(), "");
    }
    assert_eq!((rig.reported(), rig.bench.snapshot()), (vec![], before));
    let board = rig.wire.0.borrow();
    assert_eq!((board.gpe_status, board.masked), (0, false));
    assert!(board.unmasked.iter().all(|&gsi| gsi == 9));
}

#[test]
fn an_active_interrupt_without_an_event_does_not_keep_the_kernel_busy() {
    let mut rig = Rig::new("moved", moved(), EVENT);
    rig.run();
    // Somebody else enables the clock's alarm, and it rings.
    rig.wire.0.borrow_mut().pm1_enable = 0x400;
    rig.wire.0.borrow_mut().pm1_status = 0x400;
    assert_eq!(rig.run(), "");
    let board = rig.wire.0.borrow();
    assert_eq!((board.pm1_status, board.pm1_enable), (0, 0x100));
    assert!(!rig.hotplug.source().wants_power_off());
}

#[test]
fn a_dimm_announced_again_gets_its_status_again_and_is_not_touched() {
    let mut rig = Rig::new("moved", moved(), EVENT);
    let dimm = rig.plug(1, 0, 4 * BLOCK, 0);
    rig.run();
    let (before, blocks) = (rig.bench.snapshot(), rig.blocks(dimm));
    rig.reported();
    for _ in 0..100 {
        rig.announce(1);
        assert_eq!(rig.run(), "");
        assert_eq!(rig.reported(), [(1, 1, 0)]);
    }
    assert_eq!((rig.bench.snapshot(), rig.blocks(dimm)), (before, blocks));
}

#[test]
fn dimms_present_at_boot_are_found_without_a_status_to_firmware() {
    let wire = Wire::new(moved(), 4);
    let mut rig = Rig::on(wire.clone(), "moved", EVENT, Policy::default());
    // Plugged between power-on and the first look, without an event.
    let dimm = rig.plug(2, 0, 2 * BLOCK, 0);
    wire.0.borrow_mut().gpe_status = 0;
    wire.0.borrow_mut().controller.slots[2].inserting = false;
    let out = rig.run();
    assert_eq!((rig.states(dimm), rig.reported()), (vec![ONLINE; 2], vec![]));
    assert!(out.contains("\"event_instructions\":null,\"ost\":null"), "{out}");

    rig.unplug(2);
    rig.run();
    assert_eq!(rig.reported(), [(2, 3, 0x84), (2, 3, 0)]);
}

#[test]
fn an_event_that_was_pending_before_the_kernel_started_is_not_lost() {
    let wire = Wire::new(moved(), 4);
    wire.0.borrow_mut().gpe_status = 1 << 0x1B;
    let mut rig = Rig::on(wire, "moved", EVENT, Policy::default());
    let dimm = rig.plug(0, 0, BLOCK, 0);
    rig.run();
    assert_eq!((rig.states(dimm), rig.reported()), (vec![ONLINE], vec![(0, 1, 0)]));
}

#[test]
fn no_event_method_runs_before_its_event() {
    for (layout, table, event) in [(reduced(), "reduced", None), (moved(), "moved", EVENT)] {
        let wire = Wire::new(layout, 4);
        wire.0.borrow_mut().controller.plug(0, WINDOW, BLOCK, 0);
        wire.0.borrow_mut().controller.request_eject(0);
        wire.0.borrow_mut().controller.doorbell = Some((Space::SystemMemory, 0xD000_8000, 4));
        let mut rig = Rig::on(wire.clone(), table, event, Policy::default());
        rig.bench.plug(hotmem::testing::range(WINDOW, BLOCK));
        rig.run();
        // The scan finds the DIMM; its flags are for a method that has not run.
        assert_eq!(rig.states(hotmem::testing::range(WINDOW, BLOCK)), [ONLINE], "{table}");
        let slot = wire.0.borrow().controller.slots[0];
        assert!(slot.enabled && slot.inserting && slot.removing, "{table}");
        assert_eq!(rig.reported(), [], "{table}");
    }
}

#[test]
fn a_dimm_that_refills_the_slot_inside_the_eject_is_another_one() {
    let new = hotmem::testing::range(WINDOW + 64 * MIB, 2 * BLOCK);
    for asked_twice in [false, true] {
        let mut rig = Rig::new("moved", moved(), EVENT);
        let old = rig.plug(1, 0, 4 * BLOCK, 0);
        rig.run();
        rig.reported();
        rig.bench.plug(new);
        let refill = Some((1, new.start().get(), new.len()));
        rig.wire.0.borrow_mut().refill = refill;
        rig.unplug(1);
        if asked_twice {
            // Once more while the eject runs: that request is for the old DIMM.
            rig.wire.interrupt(rig.latch, 900);
            let mut out = std::string::String::new();
            rig.hotplug.run_one(&mut out);
            rig.unplug(1);
        }
        rig.run();
        assert_eq!(rig.reported(), [(1, 3, 0x84), (1, 3, 0), (1, 1, 0)], "{asked_twice}");
        assert_eq!((rig.states(old), rig.states(new)), (vec![], vec![ONLINE; 2]));
        assert!(matches!(rig.hotplug.verdict(), Verdict::Pass));
    }
}

#[test]
fn a_dimm_of_the_same_size_and_place_that_refills_the_slot_is_taken_as_new() {
    let mut rig = Rig::new("moved", moved(), EVENT);
    let dimm = rig.plug(1, 0, 4 * BLOCK, 0);
    rig.run();
    rig.reported();
    rig.wire.0.borrow_mut().refill = Some((1, dimm.start().get(), dimm.len()));
    rig.unplug(1);
    // The model of memory is one: what was pulled and what came are the same bytes.
    rig.wire.interrupt(rig.latch, 900);
    let mut out = std::string::String::new();
    while rig.hotplug.run_one(&mut out) || rig.wire.interrupt(rig.latch, 900) {}
    assert_eq!(rig.reported(), [(1, 3, 0x84), (1, 3, 0), (1, 1, 0)]);
    assert_eq!(rig.states(dimm), [ONLINE; 4]);
}

#[test]
fn a_dimm_that_is_not_whole_subsections_is_refused_by_name_and_can_leave() {
    let mut rig = Rig::new("moved", moved(), EVENT);
    rig.run();
    let before = rig.bench.snapshot();
    rig.plug(1, 0, BLOCK + BLOCK / 8, 0);
    let out = rig.run();
    assert_eq!(rig.reported(), [(1, 1, 1)]);
    assert!(out.contains("(0x120000 bytes) is not whole aligned subsections"), "{out}");
    assert!(out.contains("\"ost\":1,\"error\":\"["), "{out}");
    assert!(matches!(rig.hotplug.verdict(), Verdict::Refused(_)));
    assert_eq!(rig.bench.snapshot(), before);

    rig.unplug(1);
    rig.run();
    assert_eq!(rig.reported(), [(1, 3, 0x84), (1, 3, 0)]);
    assert_eq!(rig.bench.snapshot(), before);
}

#[test]
fn memory_in_use_is_not_given_back_until_it_is_free() {
    let mut rig = Rig::new("moved", moved(), EVENT);
    let dimm = rig.plug(1, 0, 4 * BLOCK, 0);
    rig.run();
    rig.reported();
    let (before, blocks) = (rig.bench.snapshot(), rig.blocks(dimm));
    // Take pages until one comes from the last block, so that others go offline first.
    let last = rig.blocks(dimm)[3].pfns;
    let mut held = vec![];
    while held.last().is_none_or(|&pfn| !last.contains(pfn)) {
        held.push(rig.bench.alloc_movable(Order::ZERO).unwrap());
    }
    let keep = held.pop().unwrap();
    held.into_iter().for_each(|pfn| rig.bench.mm.free_pages(pfn).unwrap());

    rig.unplug(1);
    let out = rig.run();
    assert_eq!(rig.reported(), [(1, 3, 0x84), (1, 3, 0x81)]);
    assert_eq!(rig.states(dimm), [ONLINE; 4]);
    assert!(out.contains("pages are in use"), "{out}");
    assert!(out.contains("\"operation\":\"remove\"") && out.contains("\"ost\":129"), "{out}");

    rig.bench.mm.free_pages(keep).unwrap();
    assert_eq!((rig.bench.snapshot(), rig.blocks(dimm)), (before, blocks));
    rig.unplug(1);
    rig.run();
    assert_eq!(rig.reported(), [(1, 3, 0x84), (1, 3, 0)]);
}

#[test]
fn an_eject_that_is_refused_at_its_first_block_brings_nothing_back() {
    let mut rig = Rig::new("moved", moved(), EVENT);
    let dimm = rig.plug(1, 0, 2 * BLOCK, 0);
    rig.run();
    // No block is empty: those would go first.
    let last = rig.blocks(dimm)[1].pfns;
    while !last.contains(rig.bench.alloc_movable(Order::ZERO).unwrap()) {}
    rig.unplug(1);
    let out = rig.run();
    let operations: vec::Vec<_> = out.lines().filter_map(|line| line.split('"').nth(3)).collect();
    assert_eq!(operations, ["offline", "remove"]);
}

#[test]
fn blocks_that_were_offline_stay_so_when_an_eject_is_refused() {
    let mut rig = Rig::new("moved", moved(), EVENT);
    let dimm = rig.plug(1, 0, 4 * BLOCK, 0);
    rig.run();
    let ids: vec::Vec<_> = rig.bench.mm.blocks_in(dimm).collect();
    rig.bench.mm.offline(ids[0]).unwrap();
    rig.bench.mm.offline(ids[1]).unwrap();
    rig.bench.mm.online(ids[1], ZoneKind::Normal).unwrap();
    let held = rig.bench.alloc_movable(Order::ZERO).unwrap();
    assert!(dimm.contains(hotmem::PhysAddr::new(held.get() << 12)));

    let before = rig.states(dimm);
    rig.unplug(1);
    rig.run();
    let normal = BlockState::Online(ZoneKind::Normal);
    assert_eq!(before, [BlockState::Offline, normal, ONLINE, ONLINE]);
    assert_eq!(rig.states(dimm), before);
}

#[test]
fn a_device_the_firmware_cannot_eject_comes_back_offline() {
    let mut rig = Rig::new("moved", moved(), EVENT);
    let dimm = rig.plug(1, 0, 4 * BLOCK, 0);
    rig.run();
    rig.reported();
    rig.wire.0.borrow_mut().stuck = true;
    rig.unplug(1);
    let out = rig.run();
    assert_eq!(rig.reported(), [(1, 3, 0x84), (1, 3, 1)]);
    assert_eq!(rig.states(dimm), [BlockState::Offline; 4]);
    assert!(out.contains("_EJ0: "), "{out}");
    assert!(matches!(rig.hotplug.verdict(), Verdict::Fail(_)));

    rig.wire.0.borrow_mut().stuck = false;
    rig.unplug(1);
    rig.run();
    assert_eq!(rig.reported(), [(1, 3, 0x84), (1, 3, 0)]);
    assert_eq!(rig.states(dimm), []);
}

#[test]
fn a_dimm_that_is_announced_but_not_there_gets_the_status_of_a_failure() {
    let mut rig = Rig::new("moved", moved(), EVENT);
    rig.announce(2);
    let out = rig.run();
    assert_eq!(rig.reported(), [(2, 1, 1)]);
    assert!(out.contains("\"start\":null") && out.contains("_STA is 0x0"), "{out}");
}

#[test]
fn a_slot_that_was_emptied_takes_another_dimm() {
    let mut rig = Rig::new("moved", moved(), EVENT);
    for round in 1..4 {
        let dimm = rig.plug(1, 16 * MIB * round, round * BLOCK, 0);
        rig.run();
        assert_eq!(rig.states(dimm).len() as u64, round);
        rig.unplug(1);
        rig.run();
        assert_eq!(rig.states(dimm), []);
    }
}

#[test]
fn the_policy_decides_where_the_memmap_goes_and_whether_memory_is_used() {
    for placement in Placement::ALL {
        let mut rig = Rig::on(Wire::new(moved(), 4), "moved", EVENT, Policy { placement });
        rig.bench.mm.set_auto_online(hotmem::AutoOnline::Offline);
        let dimm = rig.plug(1, 0, 4 * BLOCK, 0);
        let out = rig.run();
        assert_eq!(rig.states(dimm), [BlockState::Offline; 4]);
        assert!(out.contains(&format!("\"placement\":\"{placement}\"")), "{out}");
        let groups = match placement {
            Placement::Boot => 0,
            Placement::PerRange => 1,
            Placement::PerBlock => 4,
        };
        assert_eq!(out.matches("memmap_start").count(), groups);
    }
}

#[test]
fn qemu_tables_work_without_a_word_about_them_in_the_kernel() {
    use hotmem_aml_fakes::{Machine, tables};
    for machine in [Machine::Q35, Machine::Pc] {
        let found = tables(machine, 8, &[]).unwrap();
        let wire = Wire::new(Layout::qemu(Space::SystemIo, 0xA00), 8);
        let rig = Rig::with(wire, &found.dsdt, Some(3), Policy::default());
        assert_eq!(rig.hotplug.source().device_count(), 8);
        plug_and_unplug(rig);
    }
}

#[test]
fn an_edge_that_comes_while_its_method_runs_is_not_lost() {
    use hotmem_aml_fakes::{Machine, tables};
    let found = tables(Machine::Q35, 8, &[]).unwrap();
    let wire = Wire::new(Layout::qemu(Space::SystemIo, 0xA00), 8);
    let mut rig = Rig::with(wire, &found.dsdt, Some(3), Policy::default());
    rig.run();
    let taken = rig.wire.0.borrow().unmasked.len();
    rig.wire.0.borrow_mut().surprise = Some(3);
    rig.signal();
    rig.run();
    assert_eq!(rig.wire.0.borrow().unmasked.len(), taken + 2);
}
