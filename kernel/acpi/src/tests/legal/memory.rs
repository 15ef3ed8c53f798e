//! The same with the driver and the memory manager: what becomes of the memory.

use std::format;
use std::string::{String, ToString};
use std::vec;
use std::vec::Vec;

use hotmem::testing::range;
use hotmem::{BlockState, PhysRange, ZoneKind};
use hotmem_aml_fakes::compile_text;
use hotmem_hotplug::{Policy, Verdict};

use super::super::board::Wire;
use super::super::rig::{MIB, Rig, WINDOW, reduced};
use super::{EJ0, HID, LINE, OST, crs, qword, table};

const ONLINE: BlockState = BlockState::Online(ZoneKind::Movable);
/// The device is there until it is ejected.
const STA: &str = "Method (_STA) { If (\\EJC) { Return (0) } Return (\\ON) }";
/// Two MiB at the start of the window.
const LOW: (u64, u64) = (WINDOW, 2 * MIB);
/// Two more, 8 MiB up.
const HIGH: (u64, u64) = (WINDOW + 8 * MIB, 2 * MIB);

/// The memory device `MEM0`, with its memory and what stands behind that.
fn dimm(ranges: &[(u64, u64)], after: &str) -> String {
    let list: String = ranges.iter().map(|&(at, len)| qword(at, len)).collect();
    format!("Device (MEM0) {{ {HID} {} {after} }}", crs(&list))
}

/// The machine of devices and an event, after the first look; RAM is where `LOW` and `HIGH` are.
fn machine(devices: &str, event: &str) -> (Rig, String) {
    let dsdt = compile_text(&table("Name (ON, 0xF)", devices, event)).unwrap();
    let mut rig = Rig::with(Wire::new(reduced(), 1), &dsdt, Some(0), Policy::default());
    [LOW, HIGH].into_iter().for_each(|(at, len)| rig.bench.plug(range(at, len)));
    let out = rig.run();
    (rig, out)
}

/// Lets the event device's interrupt come.
fn event(rig: &mut Rig) -> String {
    let lines = rig.hotplug.source().lines();
    let index = lines.iter().position(|line| line.gsi == LINE).unwrap();
    rig.latch.raise(index, 900);
    rig.run()
}

/// The states of the blocks at `LOW` and `HIGH`.
fn states(rig: &Rig) -> [Vec<BlockState>; 2] {
    [LOW, HIGH].map(|(at, len)| rig.states(range(at, len)))
}

fn low_only() -> [Vec<BlockState>; 2] {
    [vec![ONLINE; 2], vec![]]
}

fn piece((at, len): (u64, u64)) -> PhysRange {
    range(at, len)
}

#[test]
fn d1_a_device_without_a_way_out_stays_online() {
    let (mut rig, _) = machine(&dimm(&[LOW], OST), "Notify (\\_SB.MEM0, 3)");
    let before = rig.bench.snapshot();
    let out = event(&mut rig);
    assert!(out.contains("\"ost\":128") && !out.contains("\"operation\":\"offline\""), "{out}");
    assert_eq!((states(&rig), rig.bench.snapshot()), (low_only(), before));
}

#[test]
fn d2_a_device_of_two_ranges_is_added_and_removed_whole() {
    let device = dimm(&[LOW, HIGH], &format!("{OST} {EJ0} {STA}"));
    let (mut rig, _) = machine(&device, "Notify (\\_SB.MEM0, 3)");
    assert_eq!(states(&rig), [vec![ONLINE; 2], vec![ONLINE; 2]]);
    let out = event(&mut rig);
    assert!(out.contains("\"operation\":\"remove\"") && out.contains("\"ost\":0"), "{out}");
    assert_eq!(states(&rig), [vec![], vec![]]);
    assert!(rig.hotplug.plugged().is_empty());
}

#[test]
fn d3_a_device_whose_ranges_overlap_is_undone_and_can_leave() {
    let device = dimm(&[LOW, (WINDOW + MIB, 2 * MIB)], &format!("{OST} {EJ0} {STA}"));
    let (mut rig, out) = machine(&device, "Notify (\\_SB.MEM0, 3)");
    let wanted = format!("{}", piece((WINDOW + MIB, 2 * MIB)));
    assert!(out.contains(&wanted) && out.contains("\"operation\":\"remove\""), "{out}");
    assert_eq!(states(&rig), [vec![], vec![]]);
    assert!(matches!(rig.hotplug.verdict(), Verdict::Refused(_)));
    assert_eq!(event(&mut rig), "");
    assert!(rig.hotplug.plugged().is_empty());
}

#[test]
fn d4_the_second_of_two_devices_with_the_same_memory_is_refused() {
    let first = dimm(&[LOW], &format!("{OST}{EJ0} {STA}"));
    let hid = HID.replace("_UID, 0", "_UID, 1");
    let second = format!("Device (MEM1) {{ {hid} {} {OST} }}", crs(&qword(LOW.0, LOW.1)));
    let (mut rig, _) = machine(&format!("{first} {second}"), "Notify (\\_SB.MEM1, 1)");
    assert_eq!(states(&rig), low_only());
    let out = event(&mut rig);
    assert!(out.contains("\"ost\":1"), "{out}");
    assert_eq!(states(&rig), low_only());
}

#[test]
fn d5_a_device_that_vanished_is_drained() {
    let device = dimm(&[LOW], &format!("{OST} Method (_STA) {{ Return (\\ON) }}"));
    let (mut rig, _) = machine(&device, "Store (0, \\ON) Notify (\\_SB.MEM0, 1)");
    assert_eq!(states(&rig), low_only());
    let out = event(&mut rig);
    assert!(out.contains("\"operation\":\"remove\""), "{out}");
    assert_eq!(states(&rig), [vec![], vec![]]);
    assert!(matches!(rig.hotplug.verdict(), Verdict::Fail(_)));
}

/// A device whose `_CRS` is another one once its event has come.
fn changing(now: (u64, u64)) -> (Rig, String) {
    let template = |(at, len)| format!("Return (ResourceTemplate () {{ {} }})", qword(at, len));
    let crs = format!("If (\\OSTN) {{ {} }} {}", template(now), template(LOW));
    let device = format!(
        "Device (MEM0) {{ {HID} Method (_CRS) {{ {crs} }}
            Method (_OST, 3, Serialized) {{ Store (Arg1, \\OSTV) }} }}"
    );
    let (mut rig, _) = machine(&device, "Increment (\\OSTN) Notify (\\_SB.MEM0, 1)");
    assert_eq!(states(&rig), low_only());
    let out = event(&mut rig);
    (rig, out)
}

#[test]
fn d6_a_device_with_other_memory_than_before_is_another_device() {
    let (rig, out) = changing(HIGH);
    assert_eq!(states(&rig), [vec![], vec![ONLINE; 2]], "{out}");
    assert!(matches!(rig.hotplug.verdict(), Verdict::Fail(_)));
}

#[test]
fn d7_a_device_that_grew_is_refused_and_keeps_what_it_had() {
    let grown = (LOW.0, 2 * LOW.1);
    let (rig, out) = changing(grown);
    assert_eq!(states(&rig), low_only());
    let why = format!("in use, and now has {} instead of {}", piece(grown), piece(LOW));
    assert!(out.contains("\"ost\":1") && out.contains(&why), "{out}");
}

#[test]
fn d8_a_device_whose_last_range_is_past_the_limit_is_undone() {
    // The second of those is the last that there can be.
    for high in [1 << 62, 0_u64.wrapping_sub(2 * MIB)].map(|at| (at, 2 * MIB)) {
        for ranges in [&[LOW, high][..], &[high]] {
            let device = dimm(ranges, &format!("{OST} {EJ0} {STA}"));
            let (mut rig, out) = machine(&device, "Notify (\\_SB.MEM0, 1)");
            assert_eq!(states(&rig), [vec![], vec![]]);
            let undone = out.contains("\"operation\":\"remove\"");
            assert!(out.contains(&piece(high).to_string()), "{out}");
            assert_eq!(undone, ranges.len() == 2, "{out}");
            let out = event(&mut rig);
            assert!(out.contains("\"ost\":1"), "{out}");
            assert_eq!(states(&rig), [vec![], vec![]]);
        }
    }
}
