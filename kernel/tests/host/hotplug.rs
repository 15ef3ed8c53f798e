//! Memory is plugged and unplugged while the kernel runs: from the interrupt to the reply to firmware.

use hotmem::PhysRange;
use hotmem::testing::Random;
use hotmem_hotplug::Clock;
use hotmem_kernel::clock::InstructionClock;

use crate::alone::alone;
use crate::firmware::Firmware;
use crate::pc::{MIB, Pc, WINDOW, range};

const BLOCK: u64 = 16 * MIB;
/// Two blocks.
const DIMM: PhysRange = range(WINDOW.start().get(), 2 * BLOCK);
/// A device check, as `_OST` names it.
const INSERT: u32 = 1;
const EJECT: u32 = 3;
const IN_PROGRESS: u32 = 0x84;

/// Plugs [`DIMM`] and waits until it is online.
#[track_caller]
pub(crate) fn plug(pc: &Pc) {
    pc.plug(0, DIMM);
    let (add, online) = (pc.step(), pc.step());
    assert!(
        add.contains(r#""operation":"add","start":4294967296,"size":33554432,"node":1"#),
        "{add}"
    );
    assert!(add.contains(r#""error":null"#), "{add}");
    assert_eq!(online.matches(r#""state":"online""#).count(), 2, "{online}");
    pc.verify();
    pc.assert_reported(&[(0, INSERT, 0)]);
}

/// Unplugs [`DIMM`], and removes it once the kernel has ejected it.
#[track_caller]
pub(crate) fn unplug(pc: &Pc) {
    pc.unplug(0);
    let (offline, scrub, remove) = (pc.step(), pc.step(), pc.step());
    assert!(offline.contains(r#""operation":"offline""#), "{offline}");
    assert!(
        scrub.contains(r#""operation":"scrub""#) && scrub.contains(r#""error":null"#),
        "{scrub}"
    );
    assert!(
        remove.contains(r#""operation":"remove""#) && remove.contains(r#""error":null"#),
        "{remove}"
    );
    pc.verify();
    pc.assert_reported(&[(0, EJECT, IN_PROGRESS), (0, EJECT, 0)]);
    assert_eq!(pc.ejected(), [0]);
    pc.machine.unplug(DIMM);
}

#[test]
fn memory_comes_online_is_used_and_is_unplugged_again() {
    alone(|| {
        let (pc, _) = Pc::ready("");
        pc.ask("snapshot save");
        plug(&pc);
        let used = pc.ask("use");
        assert!(
            used.contains(r#""operation":"use","touched_bytes":"#)
                && used.contains(r#""error":null"#),
            "{used}"
        );
        unplug(&pc);
        let same = pc.ask("snapshot check");
        assert!(same.ends_with(" facts are the same\nok\n"), "{same}");
    });
}

#[test]
fn a_machine_without_fixed_hardware_reports_events_by_a_device() {
    alone(|| {
        let pc = Pc::new(&Firmware { reduced: true, ..Firmware::default() });
        let text = pc.start();
        assert!(text.contains("acpi: 2 memory devices\n"), "{text}");
        plug(&pc);
        unplug(&pc);
    });
}

#[test]
fn pages_in_use_are_migrated_before_their_memory_is_removed() {
    alone(|| {
        let (pc, _) = Pc::ready("policy=online_movable");
        plug(&pc);
        let grown = pc.ask("pool grow 8 3");
        assert!(!grown.contains("error"), "{grown}");
        unplug(&pc);
        let held = pc.ask("pool check");
        assert_eq!(held, "8 extents hold what was written\nok\n");
    });
}

#[test]
fn memory_that_was_plugged_before_the_start_is_online_when_the_kernel_is_ready() {
    alone(|| {
        let pc = Pc::new(&Firmware::default());
        pc.plug(1, DIMM);
        let text = pc.start();
        assert!(text.contains(r#""operation":"online","start":4294967296"#), "{text}");
        pc.verify();
        pc.assert_reported(&[(1, INSERT, 0)]);
    });
}

#[test]
fn memory_that_overlaps_memory_is_refused_and_firmware_is_notified() {
    alone(|| {
        let (pc, _) = Pc::ready("");
        plug(&pc);
        pc.machine.act(&pc.board, |board| {
            board.controller.plug(1, DIMM.start().get(), DIMM.len(), 1);
            board.raise_memory_event();
        });
        let refused = pc.step();
        assert!(
            refused.contains(r#""operation":"add""#) && !refused.contains(r#""error":null"#),
            "{refused}"
        );
        pc.verify();
        pc.assert_reported(&[(1, INSERT, 1)]);
    });
}

#[test]
fn a_line_that_stays_active_does_not_starve_the_console() {
    alone(|| {
        let (pc, _) = Pc::ready("");
        // No register that the kernel knows clears it.
        pc.machine.act(&pc.board, |board| board.hold_line());
        pc.verify();
        pc.plug(0, DIMM);
        assert!(pc.step().contains(r#""operation":"add""#));
        assert!(pc.step().contains(r#""state":"online""#));
    });
}

#[test]
fn output_in_the_middle_of_a_typed_line_leaves_the_line_whole_on_the_screen() {
    alone(|| {
        let (pc, _) = Pc::ready("policy=online_movable");
        for (typed, rest) in [("ver", "ify\n"), ("verifyy", "\u{8}\n"), ("verify", "\n")] {
            pc.machine.type_in(typed);
            pc.machine.wait_for(&format!("hotmem> {typed}"));
            pc.plug(0, DIMM);
            assert!(pc.step().contains(r#""operation":"add""#));
            // At once: the kernel may not have shown the prompt again.
            pc.machine.type_in(rest);
            let screen = pc.machine.wait_for("ok\n");
            let (_, line) = screen.rsplit_once("hotmem> ").expect("the prompt is shown again");
            assert!(["verify\nok\n", "verifyy\u{8} \u{8}\nok\n"].contains(&line), "{line:?}");
            pc.unplug(0);
            pc.machine.wait_for(r#"{"operation":"remove""#);
            pc.machine.wait_for("\n");
            pc.machine.unplug(DIMM);
        }
    });
}

/// DIMMs of random sizes at random places are plugged and unplugged in random order, while pages are migrated.
#[test]
fn dimms_can_be_plugged_and_unplugged_in_any_order() {
    alone(|| {
        let (pc, _) = Pc::ready("policy=online_movable placement=block");
        let mut random = Random::new(7);
        let mut plugged = [None; 2];
        let mut held = 0;
        for _ in 0..40 {
            let slot = random.below(2) as usize;
            plugged[slot] = match plugged[slot] {
                None => {
                    // Each slot has a half of the window.
                    let start = (slot as u64 * 16 + random.below(12)) * BLOCK;
                    let dimm = range(WINDOW.start().get() + start, (1 + random.below(4)) * BLOCK);
                    pc.plug(slot, dimm);
                    Some(dimm)
                }
                Some(dimm) => {
                    pc.unplug(slot);
                    pc.machine.wait_for(r#"{"operation":"remove""#);
                    pc.verify();
                    assert_eq!(pc.ejected().last(), Some(&(slot as u32)));
                    pc.machine.unplug(dimm);
                    None
                }
            };
            held += if pc.ask("pool grow 3 4").ends_with("ok\n") { 3 } else { 0 };
            if held > 12 {
                held -= 9;
                pc.ask("pool shrink 9");
            }
            let check = pc.ask("pool check");
            assert_eq!(check, format!("{held} extents hold what was written\nok\n"));
            pc.verify();
        }
        assert!(pc.ejected().len() > 10, "{:?}", pc.ejected());
    });
}

#[test]
fn instructions_are_counted_if_the_command_line_says_so() {
    assert_eq!(InstructionClock { counts: false }.instructions(), None);
    alone(|| {
        let (pc, _) = Pc::ready("icount");
        pc.plug(0, DIMM);
        let add = pc.step();
        assert!(!add.contains(r#""instructions":null"#), "{add}");
        assert!(!add.contains(r#""event_instructions":null"#), "{add}");
    });
}
