//! DIMMs that are plugged while another one, or a container, is given up.

use std::string::String;
use std::vec::Vec;

use hotmem::{BlockState, PhysRange, ZoneKind};

use super::boxes::{full, put};
use super::rig::{BLOCK, Rig, moved, reduced};
use hotmem_hotplug::Verdict;

const ONLINE: BlockState = BlockState::Online(ZoneKind::Movable);

/// Both machines, each with a DIMM of eight blocks in slot 1 that is asked for, and the eject is under way.
fn going() -> [(Rig, PhysRange); 2] {
    let machines = [Rig::new("moved", moved(), Some(0x1B)), Rig::new("reduced", reduced(), None)];
    machines.map(|mut rig| {
        let dimm = rig.plug(1, 0, 8 * BLOCK, 0);
        rig.run();
        rig.reported();
        rig.unplug(1);
        step(&mut rig);
        assert_eq!(rig.reported(), [(1, 3, 0x84)]);
        (rig, dimm)
    })
}

fn step(rig: &mut Rig) {
    rig.wire.interrupt(rig.latch, 900);
    assert!(rig.hotplug.run_one(&mut String::new()));
}

/// Runs until something is reported to the firmware.
fn next_reported(rig: &mut Rig) -> Vec<(u32, u32, u32)> {
    while rig.wire.0.borrow().controller.reports.is_empty() {
        step(rig);
    }
    rig.reported()
}

#[test]
fn a_dimm_that_is_plugged_during_an_eject_does_not_wait_for_its_end() {
    for steps in 0..6 {
        for (mut rig, going) in going() {
            (0..steps).for_each(|_| step(&mut rig));
            let dimm = rig.plug(0, 16 * BLOCK, 2 * BLOCK, 0);
            assert_eq!(next_reported(&mut rig), [(0, 1, 0)]);
            assert_eq!(rig.states(dimm), [ONLINE; 2]);
            let left = rig.states(going);
            assert!(left.contains(&ONLINE) && left.len() == 8, "{left:?}");
            rig.run();
            assert_eq!(rig.reported(), [(1, 3, 0)]);
            assert_eq!((rig.states(going), rig.states(dimm)), (vec![], vec![ONLINE; 2]));
            assert!(matches!(rig.hotplug.verdict(), Verdict::Pass));
        }
    }
}

#[test]
fn a_dimm_that_is_refused_during_an_eject_gets_its_status_and_the_eject_ends() {
    for (mut rig, going) in going() {
        rig.plug(0, 16 * BLOCK, BLOCK / 8, 0);
        assert_eq!(next_reported(&mut rig), [(0, 1, 1)]);
        rig.run();
        assert_eq!((rig.reported(), rig.states(going)), (vec![(1, 3, 0)], vec![]));
    }
}

#[test]
fn notifications_of_the_slot_that_is_given_up_wait_for_the_end_of_the_eject() {
    for (mut rig, going) in going() {
        step(&mut rig);
        rig.announce(1);
        rig.unplug(1);
        step(&mut rig);
        assert_eq!(rig.reported(), []);
        rig.hotplug.cancel_eject(&mut String::new());
        rig.run();
        let reported = [(1, 3, 0x82), (1, 1, 0), (1, 3, 0x84), (1, 3, 0)];
        assert_eq!((rig.reported(), rig.states(going)), (reported.to_vec(), vec![]));
    }
}

#[test]
fn a_dimm_that_is_plugged_while_a_container_is_given_up_does_not_wait_for_its_end() {
    let (mut rig, dimms) = full();
    rig.wire.0.borrow_mut().gpe_status |= 1 << 3;
    step(&mut rig);
    assert_eq!(rig.reported(), [(100, 3, 0x84)]);
    let dimm = put(&mut rig, 3, 2);
    // The DIMM of another container is announced, and a member of the one that goes.
    rig.wire.0.borrow_mut().gpe_status |= 1 << 0x14 | 1 << 6;
    assert_eq!(next_reported(&mut rig), [(3, 1, 0)]);
    assert_eq!(rig.states(dimm), [ONLINE; 2]);
    assert_eq!(next_reported(&mut rig), [(100, 3, 0)]);
    assert_eq!(dimms.map(|dimm| rig.states(dimm).len()), [0; 3]);
    rig.run();
    assert_eq!((rig.reported(), rig.states(dimm)), (vec![(0, 1, 1)], vec![ONLINE; 2]));
}
