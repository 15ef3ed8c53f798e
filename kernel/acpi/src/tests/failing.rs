//! Each access of byte code to the controller fails once, while a DIMM comes and while it goes: firmware hears nothing
//! that is not true, and serves the same request when it comes again.

use std::vec;
use std::vec::Vec;

use hotmem::{BlockState, PhysRange, ZoneKind};
use hotmem_aml_fakes::{compile, compile_with};

use super::board::Wire;
use super::rig::{BLOCK, MIB, Rig, moved, reduced};
use hotmem_hotplug::Policy;

const EVENT: Option<u8> = Some(0x1B);
const SLOT: u32 = 1;
const ONLINE: [BlockState; 2] = [BlockState::Online(ZoneKind::Movable); 2];
const OFFLINE: [BlockState; 2] = [BlockState::Offline; 2];

/// Byte code notifies of these, and of an eject reports by them.
const CHECK: u32 = 1;
const EJECT: u32 = 3;

fn plug(rig: &mut Rig) -> PhysRange {
    rig.plug(SLOT, 0, BLOCK * 2, 0)
}

/// Runs `request` with access `nth` failing; returns whether there was one, and what firmware heard.
fn with_fault(
    rig: &mut Rig,
    nth: u64,
    request: impl FnOnce(&mut Rig),
) -> (bool, Vec<(u32, u32, u32)>) {
    rig.wire.0.borrow().fails.arm(nth);
    request(rig);
    rig.run();
    let fired = rig.wire.0.borrow().fails.fired();
    rig.wire.0.borrow().fails.disarm();
    (fired, rig.reported())
}

/// The states in which a status of a request is true.
fn true_states(event: u32, status: u32) -> Vec<Vec<BlockState>> {
    match (event, status) {
        (CHECK, 0) => vec![ONLINE.to_vec()],
        (CHECK, 0x81) => vec![OFFLINE.to_vec()],
        (CHECK, 1) | (EJECT, 0) => vec![vec![]],
        (EJECT, 1) => vec![OFFLINE.to_vec()],
        (EJECT, 0x84) => vec![vec![], OFFLINE.to_vec(), ONLINE.to_vec()],
        (EJECT, 0x80..) => vec![ONLINE.to_vec()],
        other => panic!("{other:x?} was reported"),
    }
}

/// Checks what firmware heard last.
fn check(rig: &Rig, dimm: PhysRange, heard: &[(u32, u32, u32)], nth: u64) {
    let states = rig.states(dimm);
    let in_slot = rig.wire.0.borrow().controller.slots[SLOT as usize].enabled;
    assert!(in_slot || states.is_empty(), "access {nth}: memory is used that is gone");
    if let Some(&(slot, event, status)) = heard.last() {
        assert_eq!(slot, SLOT, "access {nth}");
        let true_states = true_states(event, status);
        assert!(true_states.contains(&states), "access {nth}: {heard:x?}, {states:?}");
        assert!((event, status) != (EJECT, 0) || !in_slot, "access {nth}: it was not ejected");
    }
}

#[test]
fn a_dimm_comes_whichever_access_failed_when_it_was_announced_first() {
    let dsdt = compile("moved").unwrap();
    for nth in 1.. {
        let mut rig = Rig::with(Wire::new(moved(), 4), &dsdt, EVENT, Policy::default());
        rig.run();
        let before = rig.bench.snapshot();
        let mut dimm = None;
        let (fired, heard) = with_fault(&mut rig, nth, |rig| dimm = Some(plug(rig)));
        let dimm = dimm.unwrap();
        check(&rig, dimm, &heard, nth);
        if !fired {
            assert_eq!(heard, [(SLOT, CHECK, 0)]);
            assert!(nth > 10, "only {} accesses", nth - 1);
            return;
        }
        rig.announce(SLOT);
        rig.run();
        assert_eq!(rig.states(dimm), ONLINE, "access {nth}");
        assert_eq!(rig.reported().last(), Some(&(SLOT, CHECK, 0)), "access {nth}");
        rig.unplug(SLOT);
        rig.run();
        assert_eq!(rig.bench.snapshot(), before, "access {nth}");
    }
}

#[test]
fn a_dimm_goes_whichever_access_failed_when_it_was_asked_for_first() {
    let dsdt = compile("moved").unwrap();
    for nth in 1.. {
        let mut rig = Rig::with(Wire::new(moved(), 4), &dsdt, EVENT, Policy::default());
        rig.run();
        let before = rig.bench.snapshot();
        let dimm = plug(&mut rig);
        rig.run();
        rig.reported();
        let (fired, heard) = with_fault(&mut rig, nth, |rig| rig.unplug(SLOT));
        check(&rig, dimm, &heard, nth);
        if !fired {
            assert_eq!(heard, [(SLOT, EJECT, 0x84), (SLOT, EJECT, 0)]);
            assert!(nth > 10, "only {} accesses", nth - 1);
            return;
        }
        // It may have gone, and only the report of that was lost.
        if !rig.states(dimm).is_empty() {
            rig.unplug(SLOT);
            rig.run();
            assert_eq!(rig.reported().last(), Some(&(SLOT, EJECT, 0)), "access {nth}");
        }
        assert_eq!(rig.bench.snapshot(), before, "access {nth}");
    }
}

#[test]
fn a_dimm_that_did_not_come_goes_whichever_access_failed() {
    let dsdt = compile("moved").unwrap();
    for nth in 1.. {
        let mut rig = Rig::with(Wire::new(moved(), 4), &dsdt, EVENT, Policy::default());
        rig.run();
        let before = rig.bench.snapshot();
        let (fired, _) = with_fault(&mut rig, nth, |rig| {
            plug(rig);
        });
        if !fired {
            assert!(nth > 10, "only {} accesses", nth - 1);
            return;
        }
        rig.unplug(SLOT);
        rig.run();
        let slot = rig.wire.0.borrow().controller.slots[SLOT as usize].enabled;
        assert!(!slot, "access {nth}: it stays: {:x?}", rig.reported());
        assert_eq!(rig.bench.snapshot(), before, "access {nth}");
    }
}

/// Runs `test` with each access failing, one after the other, on three machines: one whose event stays until its method has
/// cleared it; one whose event device forgets what happened when that is read; and one where `_EVT` has another method read it.
fn on_each_machine(test: impl Fn(&mut Rig, u64) -> bool) {
    for (table, defines, layout, event) in [
        ("moved", &[][..], moved(), EVENT),
        ("reduced", &[], reduced(), None),
        ("reduced", &["INDIRECT"], reduced(), None),
    ] {
        let dsdt = compile_with(table, defines).unwrap();
        let mut nth = 0;
        let mut fired = true;
        while fired {
            nth += 1;
            let mut rig = Rig::with(Wire::new(layout, 4), &dsdt, event, Policy::default());
            rig.run();
            fired = test(&mut rig, nth);
        }
        assert!(nth > 10, "{table} {defines:?}: only {} accesses", nth - 1);
    }
}

#[test]
fn of_two_dimms_at_least_one_comes_whichever_access_failed_when_both_were_announced_at_once() {
    on_each_machine(|rig, nth| {
        let mut dimms = None;
        let (fired, _) = with_fault(rig, nth, |rig| {
            dimms = Some([rig.plug(0, 0, BLOCK, 0), rig.plug(1, 8 * MIB, BLOCK, 0)]);
        });
        let there = dimms.unwrap().map(|dimm| rig.states(dimm) == ONLINE[..1]);
        assert!(there.contains(&true) && (fired || there == [true; 2]), "access {nth}: {there:?}");
        fired
    });
}

#[test]
fn a_request_for_a_dimm_is_not_one_for_the_next_whichever_access_failed() {
    on_each_machine(|rig, nth| {
        let dimm = plug(rig);
        rig.run();
        rig.reported();
        let (fired, heard) = with_fault(rig, nth, |rig| rig.unplug(SLOT));
        if !rig.states(dimm).is_empty() {
            assert_ne!(heard, [], "access {nth}: the request is lost");
            rig.unplug(SLOT);
            rig.run();
        }
        assert_eq!(rig.states(dimm), [], "access {nth}");
        let next = plug(rig);
        rig.run();
        assert_eq!(rig.states(next), ONLINE, "access {nth}");
        fired
    });
}
