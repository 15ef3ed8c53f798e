//! Power buttons: of the fixed hardware, and as a device that a method notifies.

use hotmem_hotplug::{HotplugSource, Policy, Verdict};

use super::board::Wire;
use super::boxes::{boxes, event};
use super::firmware::{self, RSDP, fix, put};
use super::rig::{BLOCK, Rig, moved};
use crate::{Fadt, Tables};

const BUTTON: u64 = 0x100;

fn is_off(rig: &Rig) -> bool {
    rig.hotplug.source().wants_power_off()
}

#[test]
fn the_fixed_power_button_turns_the_machine_off() {
    let mut rig = Rig::new("moved", moved(), Some(0x1B));
    rig.run();
    assert!(!is_off(&rig));
    rig.wire.0.borrow_mut().pm1_status = BUTTON;
    assert_eq!(rig.run(), "");
    assert!(is_off(&rig));
    let board = rig.wire.0.borrow();
    assert_eq!((board.pm1_status, board.pm1_enable), (0, BUTTON));
    assert!(matches!(rig.hotplug.verdict(), Verdict::Pass));
}

#[test]
fn a_press_and_a_dimm_that_come_by_one_interrupt_are_both_served() {
    let mut rig = Rig::new("moved", moved(), Some(0x1B));
    rig.wire.0.borrow_mut().pm1_status = BUTTON;
    let dimm = rig.plug(1, 0, 2 * BLOCK, 0);
    rig.run();
    assert_eq!((rig.reported(), rig.states(dimm).len()), (std::vec![(1, 1, 0)], 2));
    assert!(is_off(&rig));
}

#[test]
fn a_press_that_comes_while_an_interrupt_turns_out_to_be_idle_is_not_lost() {
    let mut rig = Rig::new("moved", moved(), Some(0x1B));
    rig.run();
    // An interrupt of something else: another event that is left, and cleared, is not a press.
    rig.wire.0.borrow_mut().pm1_status = 0x400;
    rig.latch.raise(0, 1);
    rig.run();
    assert!(!is_off(&rig));
    rig.wire.0.borrow_mut().press = true;
    rig.latch.raise(0, 1);
    rig.run();
    assert!(is_off(&rig));
    let board = rig.wire.0.borrow();
    assert_eq!((board.pm1_status, board.pm1_enable), (0, BUTTON));
}

#[test]
fn the_press_that_turned_the_machine_on_does_not_turn_it_off() {
    let wire = Wire::new(moved(), 4);
    wire.0.borrow_mut().pm1_status = BUTTON;
    let mut rig = Rig::on(wire, "moved", Some(0x1B), Policy::default());
    rig.run();
    assert!(!is_off(&rig));
}

#[test]
fn a_button_that_is_a_device_turns_the_machine_off() {
    let mut rig = boxes();
    // It woke the machine; and another device sends the same number.
    event(&mut rig, 0x0A);
    assert!(!is_off(&rig));
    event(&mut rig, 0x0B);
    assert!(is_off(&rig));
}

#[test]
fn a_button_that_is_described_as_a_device_is_not_in_the_fixed_registers() {
    for (flags, fixed) in [(0, true), (1 << 4, false), (1 << 20, false)] {
        let mut fadt = firmware::fadt(276);
        put(&mut fadt, 112, 4, flags);
        fix(&mut fadt, 9);
        let memory = firmware::memory(2, &[fadt]);
        let tables = Tables::new(&memory, RSDP).unwrap();
        assert_eq!(Fadt::find(&tables).unwrap().power_button, fixed, "{flags:#x}");
    }
}
