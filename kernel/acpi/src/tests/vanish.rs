//! Devices that vanish without an eject: `_STA` says so when firmware notifies of them, of what is around
//! them, or of anything else.

use std::string::String;
use std::vec;
use std::vec::Vec;

use hotmem::{BlockState, Order, Pfn, ZoneKind};
use hotmem_hotplug::Verdict;

use super::boxes::{boxes, event, full, put};
use super::rig::{BLOCK, MIB, Rig, moved};

const ONLINE: BlockState = BlockState::Online(ZoneKind::Movable);

/// Takes a DIMM out without a word.
fn pull(rig: &Rig, slot: usize) {
    rig.wire.0.borrow_mut().controller.slots[slot].enabled = false;
}

/// Takes a page of a range that stays where it is.
fn hold(rig: &Rig, range: hotmem::PhysRange) -> Pfn {
    let inside = rig.blocks(range)[0].pfns;
    let mut pages: Vec<Pfn> =
        core::iter::from_fn(|| rig.bench.alloc_movable_zone(Order::ZERO)).collect();
    let at = pages.iter().position(|&page| inside.contains(page)).unwrap();
    let page = pages.swap_remove(at);
    pages.into_iter().for_each(|page| rig.bench.mm.free_pages(page).unwrap());
    page
}

#[test]
fn a_device_that_vanished_is_drained_whichever_event_reports_it() {
    // Bus check, device check, eject request; a check of a device without memory waits for no `_OST`.
    let reported = [(5, vec![(0, 0, 0)]), (6, vec![(0, 1, 0)]), (7, vec![(0, 3, 0)]), (8, vec![])];
    for (number, reported) in reported {
        let (mut rig, dimms) = full();
        pull(&rig, 0);
        let out = event(&mut rig, number);
        assert_eq!(rig.reported(), reported, "{number}: {out}");
        assert_eq!(rig.states(dimms[0]), [], "{number}");
        assert_eq!(
            (rig.states(dimms[1]), rig.states(dimms[2])),
            (vec![ONLINE; 2], vec![ONLINE; 2])
        );
        assert!(out.contains("\"operation\":\"remove\""), "{out}");
        assert!(matches!(rig.hotplug.verdict(), Verdict::Fail(_)));
        // Told again, there is nothing left to say; and the slot takes another device.
        event(&mut rig, 8);
        rig.bench.unplug(dimms[0]);
        let dimm = put(&mut rig, 0, 3);
        event(&mut rig, 6);
        assert_eq!((rig.reported(), rig.states(dimm)), (vec![(0, 1, 0)], vec![ONLINE; 3]));
    }
}

#[test]
fn memory_in_use_of_a_device_that_vanished_is_isolated_until_it_is_free() {
    for (number, source) in [(5, 0), (6, 1), (7, 3)] {
        let (mut rig, dimms) = full();
        let page = hold(&rig, dimms[0]);
        pull(&rig, 0);
        event(&mut rig, number);
        assert_eq!(rig.reported(), [(0, source, 1)]);
        assert_eq!(rig.states(dimms[0]), [ONLINE, BlockState::Offline]);
        // A scan tries once more; a bus check finds it done.
        event(&mut rig, 8);
        assert_eq!(rig.states(dimms[0]), [ONLINE, BlockState::Offline]);
        rig.bench.mm.free_pages(page).unwrap();
        event(&mut rig, number);
        assert_eq!((rig.reported(), rig.states(dimms[0])), (vec![(0, source, 0)], vec![]));
    }
}

#[test]
fn members_of_a_container_that_vanished_are_drained_and_the_container_gets_its_status() {
    for (number, source) in [(0, 0), (1, 1)] {
        let (mut rig, dimms) = full();
        (1..3).for_each(|slot| pull(&rig, slot));
        event(&mut rig, number);
        assert_eq!(rig.reported(), [(100, source, 0)]);
        let states = dimms.map(|dimm| rig.states(dimm).len());
        assert_eq!(states, [2, 0, 0]);
    }
    // What is left of it goes with the container.
    let (mut rig, dimms) = full();
    pull(&rig, 1);
    event(&mut rig, 3);
    assert_eq!(rig.reported(), [(100, 3, 0x84), (100, 3, 0)]);
    assert!(dimms.iter().all(|&dimm| rig.states(dimm).is_empty()));
}

#[test]
fn a_container_that_is_wanted_back_but_vanished_is_not_ejected() {
    let (mut rig, dimms) = full();
    // The inner container is not there any more, and what is in it with it.
    pull(&rig, 2);
    let out = event(&mut rig, 9);
    assert_eq!((rig.states(dimms[2]), rig.reported()), (vec![], vec![]), "{out}");
    assert_eq!(rig.states(dimms[0]), [ONLINE; 2]);
    assert!(rig.wire.0.borrow().controller.ejected.is_empty());
}

#[test]
fn a_device_that_vanishes_while_it_is_looked_at_leaves_nothing_behind() {
    let mut rig = boxes();
    let before = rig.bench.snapshot();
    // Between the notification and the look.
    put(&mut rig, 0, 2);
    pull(&rig, 0);
    for (number, source) in [(6, 1), (5, 0)] {
        event(&mut rig, number);
        assert_eq!((rig.reported(), rig.bench.snapshot()), (vec![(0, source, 1)], before.clone()));
    }
    // Gone between the check and `_OST`: the next notification finds that.
    rig.wire.0.borrow_mut().controller.slots[0].enabled = true;
    rig.wire.0.borrow_mut().gpe_status |= 1 << 6;
    rig.wire.interrupt(rig.latch, 900);
    assert!(rig.hotplug.run_one(&mut String::new()));
    pull(&rig, 0);
    event(&mut rig, 6);
    assert_eq!(rig.reported(), [(0, 1, 0), (0, 1, 0)]);
    assert!(rig.hotplug.plugged().is_empty());
}

#[test]
fn a_device_that_vanishes_while_it_is_given_up_does_not_come_back_online() {
    let mut rig = Rig::new("moved", moved(), Some(0x1B));
    let dimm = rig.plug(1, 0, 4 * BLOCK, 0);
    rig.run();
    let page = hold(&rig, dimm);
    rig.unplug(1);
    rig.wire.interrupt(rig.latch, 900);
    rig.hotplug.run_one(&mut String::new());
    assert!(rig.hotplug.ejecting().is_some());
    pull(&rig, 1);
    rig.run();
    assert_eq!(rig.reported(), [(1, 1, 0), (1, 3, 0x84), (1, 3, 1)]);
    let online = rig.states(dimm).iter().filter(|&&state| state == ONLINE).count();
    assert_eq!(online, 1, "only the block that is in use");
    rig.bench.mm.free_pages(page).unwrap();
    rig.announce(1);
    rig.run();
    assert_eq!((rig.reported(), rig.states(dimm)), (vec![(1, 1, 0)], vec![]));
}

#[test]
fn another_device_in_the_slot_of_one_that_vanished_is_taken() {
    let mut rig = Rig::new("moved", moved(), Some(0x1B));
    let old = rig.plug(1, 0, 4 * BLOCK, 0);
    rig.run();
    let new = rig.plug(1, 32 * MIB, 2 * BLOCK, 0);
    rig.run();
    assert_eq!(rig.reported(), [(1, 1, 0), (1, 1, 0)]);
    assert_eq!((rig.states(old), rig.states(new)), (vec![], vec![ONLINE; 2]));
}

#[test]
fn an_eject_of_an_empty_slot_gets_one_status_and_no_warning() {
    let mut rig = Rig::new("moved", moved(), Some(0x1B));
    rig.unplug(2);
    assert_eq!(rig.run(), "");
    assert_eq!(rig.reported(), [(2, 3, 0)]);
    assert!(matches!(rig.hotplug.verdict(), Verdict::Pass));
}
