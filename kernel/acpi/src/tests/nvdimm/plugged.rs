//! NVDIMMs that are plugged while the machine runs: what `_FIT` returns then, sound or not.

use std::format;
use std::string::{String, ToString};
use std::vec;
use std::vec::Vec;

use hotmem::testing::range;
use hotmem::{PhysRange, Placement};
use hotmem_aml_fakes::compile_text;
use hotmem_hotplug::{HotplugSource, Policy};

use super::super::board::Wire;
use super::super::firmware::{self, put};
use super::super::rig::{MIB, Rig, WINDOW, firmware_beside, moved};
use super::writer;
use crate::nvdimm::MOST_REGIONS;

const SIZE: u64 = 8 * MIB;
/// The event whose method notifies of NVDIMMs, of another device, and with another value.
const EVENT: u8 = 2;
const OTHERS: u8 = 3;
/// How many places the regions of the longest test have, and how often one is plugged there.
const PLACES: u64 = 200;
const PLUGS: u64 = 1000;

/// The n-th place for a region.
fn place(n: u64) -> PhysRange {
    range(WINDOW + n * 2 * SIZE, SIZE)
}

/// A region with this number in the table, and its part of an NVDIMM.
fn region(index: u16, n: u64) -> Vec<u8> {
    let place = place(n);
    let part = writer::part(index, n as u32, place.len());
    [writer::range(index, place.start().get(), place.len()), part].concat()
}

/// A machine whose `_FIT` returns the next of these each time, and whose NFIT has the last place.
fn rig(fits: &[Vec<u8>]) -> Rig {
    rig_keeping(fits, &[])
}

/// The same, that keeps ranges for another use.
fn rig_keeping(fits: &[Vec<u8>], kept: &[PhysRange]) -> Rig {
    let list: String = fits
        .iter()
        .map(|fit| {
            let bytes: String = fit.iter().map(|byte| format!("{byte}, ")).collect();
            format!("Buffer () {{ {bytes} }}, ")
        })
        .collect();
    let devices: String =
        (0..9).map(|n| format!("Device (NV0{n}) {{ Name (_ADR, {n}) }}")).collect();
    let text = format!(
        "DefinitionBlock (\"\", \"DSDT\", 2, \"HOTMEM\", \"PLUGGED\", 1) {{
            Name (NEXT, 0)
            Name (LIST, Package () {{ {list} }})
            Device (\\_SB.OTHR) {{ Name (_HID, \"HOTM0001\") }}
            Device (\\_SB.NVDR) {{ Name (_HID, \"ACPI0012\") {devices}
                Method (_FIT, 0, Serialized) {{ NEXT++ Return (DerefOf (LIST [NEXT - 1])) }}
            }}
            Scope (\\_GPE) {{
                Method (_E02) {{ Notify (\\_SB.NVDR, 0x80) }}
                Method (_E03) {{ Notify (\\_SB.NVDR, 0x81) Notify (\\_SB.OTHR, 0x80) }}
            }} }}"
    );
    let body = [[0; 4].to_vec(), region(1, 8)].concat();
    let nfit = firmware::table(b"NFIT", 1, &body);
    let memory = firmware_beside(&compile_text(&text).unwrap(), false, &[], &[nfit]);
    let wire = Wire::new(moved(), 0);
    let rig = Rig::keeping(wire, &memory, Some(EVENT), Policy::default(), kept);
    (0..9).for_each(|n| rig.bench.plug(place(n)));
    rig
}

impl Rig {
    /// Notifies of NVDIMMs, and sees it through.
    fn notify(&mut self) {
        self.signal();
        self.run();
    }

    /// The places of the regions by their numbers; `None` for one that is gone.
    fn places(&mut self) -> Vec<Option<PhysRange>> {
        let mut found = Vec::new();
        let mut text = String::new();
        self.hotplug.write_pmem(true, &mut text).unwrap();
        for number in 0..self.hotplug.source().persistent_count() {
            let start = |n: &u64| {
                text.contains(&format!("\"number\":{number},\"start\":{}", place(*n).start().get()))
            };
            found.push((0..9).find(start).map(place));
        }
        found
    }

    fn take(&mut self, number: usize) -> Result<(), String> {
        let done = self.hotplug.pmem_add(number, Placement::PerRange, false, &mut String::new());
        self.bench.check();
        done.map_err(|error| error.to_string())
    }
}

#[test]
fn what_is_plugged_gets_the_next_number_and_what_was_there_keeps_its_own() {
    // The one that comes is at a lower address.
    let both = [region(7, 1), region(3, 4)].concat();
    let mut rig = rig(&[region(3, 4), both.clone(), both.clone(), [both, region(4, 0)].concat()]);
    assert_eq!(rig.places(), [Some(place(4))]);
    rig.take(0).unwrap();
    rig.notify();
    assert_eq!(rig.places(), [4, 1].map(|n| Some(place(n))));
    rig.take(1).unwrap();
    // Nothing has changed.
    rig.notify();
    assert_eq!(rig.places(), [4, 1].map(|n| Some(place(n))));
    // Other values, and other devices, say nothing of NVDIMMs.
    rig.wire.0.borrow_mut().gpe_status |= 1 << OTHERS;
    rig.run();
    assert_eq!(rig.hotplug.source().persistent_count(), 2);
    rig.notify();
    assert_eq!(rig.places(), [4, 1, 0].map(|n| Some(place(n))));
    assert_eq!(rig.take(0), Err(format!("{} is in use already", place(4))));
    for number in [0, 1] {
        rig.hotplug.pmem_remove(number, &mut String::new()).unwrap();
        rig.run();
        assert_eq!(rig.states(place([4, 1][number])), []);
    }
}

#[test]
fn the_method_counts_and_the_table_only_if_the_method_returns_nothing() {
    assert_eq!(rig(&[region(3, 4)]).places(), [Some(place(4))]);
    // There is nothing in the list, so the method fails.
    assert_eq!(rig(&[]).places(), [Some(place(8))]);
    let mut rig = rig(&[region(3, 4)]);
    // It fails later: what is known stays.
    rig.notify();
    assert_eq!(rig.places(), [Some(place(4))]);
    rig.take(0).unwrap();
}

#[test]
fn what_comes_and_contradicts_what_is_known_is_refused_and_what_is_sound_beside_it_is_not() {
    let half = place(4).start().get() + SIZE / 2;
    for (wrong, error) in [
        (writer::range(5, half, SIZE), "ranges 5 and 3 overlap"),
        (writer::range(3, place(6).start().get(), SIZE), "several ranges have the number 3"),
        (writer::range(5, half, 0), "range 5 is empty"),
    ] {
        let with = [wrong, region(3, 4), region(9, 1)].concat();
        let mut rig = rig(&[region(3, 4), with]);
        rig.notify();
        assert_eq!(rig.places(), [4, 1].map(|n| Some(place(n))), "{error}");
        let mut report = String::new();
        rig.hotplug.source().write_firmware(false, &mut report).unwrap();
        assert!(report.contains(error), "{report}");
        (0..2).for_each(|number| rig.take(number).unwrap());
    }
    // The known one is not named any more, and another is where it was.
    let mut rig = rig(&[region(3, 4), [writer::range(5, half, SIZE), region(9, 1)].concat()]);
    rig.notify();
    // The last one is at no place that is named here.
    assert_eq!(rig.places(), [None, Some(place(1)), None]);
}

#[test]
fn what_is_not_named_any_more_is_given_up_and_gets_its_number_back() {
    let all = [region(3, 4), region(4, 5)].concat();
    let mut rig = rig(&[all.clone(), region(4, 5), all]);
    let before = rig.bench.snapshot();
    rig.take(0).unwrap();
    rig.notify();
    assert_eq!(rig.places(), [None, Some(place(5))]);
    assert_eq!(rig.states(place(4)), []);
    assert_eq!(rig.bench.snapshot(), before);
    assert_eq!(rig.take(0), Err("persistent memory 0 does not exist".into()));
    let removed = rig.hotplug.pmem_remove(0, &mut String::new());
    assert_eq!(removed.unwrap_err().to_string(), "persistent memory 0 does not exist");
    let mut text = String::new();
    rig.hotplug.write_pmem(true, &mut text).unwrap();
    assert!(text.starts_with("[{\"number\":1,") && text.ends_with("}]"), "{text}");
    rig.take(1).unwrap();
    rig.notify();
    assert_eq!(rig.places(), [4, 5].map(|n| Some(place(n))));
    rig.take(0).unwrap();
}

#[test]
fn a_table_that_is_cut_says_nothing_of_what_it_does_not_name() {
    let mut cut = region(9, 1);
    cut.extend([0, 0, 0xff, 0xff]);
    let mut rig = rig(&[region(3, 4), cut]);
    rig.take(0).unwrap();
    rig.notify();
    assert_eq!(rig.places(), [4, 1].map(|n| Some(place(n))));
    assert!(!rig.states(place(4)).is_empty());
}

#[test]
fn what_is_in_use_stays_as_long_as_its_memory_does_whatever_the_table_calls_it() {
    let (at, larger) = (place(4).start().get(), 2 * SIZE);
    let grown = [writer::range(3, at, larger), writer::part(3, 4, larger)].concat();
    let mut other_node = region(6, 4);
    put(&mut other_node, 12, 4, 2);
    let mut rig = rig(&[region(3, 4), region(5, 4), other_node, grown.clone(), grown]);
    rig.take(0).unwrap();
    for _ in 0..3 {
        rig.notify();
        assert_eq!(rig.places(), [Some(place(4))]);
        assert!(!rig.states(place(4)).is_empty());
    }
    let mut report = String::new();
    rig.hotplug.source().write_firmware(false, &mut report).unwrap();
    assert!(report.contains("ranges 3 and 6 overlap"), "{report}");
    // Once it is not in use, the larger one counts.
    rig.hotplug.pmem_remove(0, &mut String::new()).unwrap();
    rig.run();
    rig.notify();
    assert_eq!(rig.places(), [None, Some(place(4))]);
}

#[test]
fn where_a_region_was_another_one_comes_that_is_smaller() {
    let at = place(4).start().get();
    let half = [writer::range(3, at, SIZE / 2), writer::part(3, 4, SIZE / 2)].concat();
    let mut rig = rig(&[region(3, 4), region(9, 1), [region(9, 1), half].concat()]);
    rig.notify();
    rig.notify();
    assert_eq!(rig.places(), [None, Some(place(1)), Some(place(4))]);
    rig.take(2).unwrap();
    assert_eq!(rig.states(place(4)).len(), 4);
}

#[test]
fn a_region_that_comes_where_other_memory_is_kept_is_refused_by_name() {
    let all = [region(3, 4), region(9, 1)].concat();
    let kept = range(place(4).start().get() + SIZE - MIB, 2 * SIZE);
    let mut rig = rig_keeping(&[region(2, 6), all], &[kept]);
    rig.notify();
    assert_eq!(rig.places(), [None, Some(place(1))]);
    let mut report = String::new();
    rig.hotplug.source().write_firmware(false, &mut report).unwrap();
    let shared = range(kept.start().get(), MIB);
    let wanted = format!("range 3 has addresses of another use in it, {shared}");
    assert!(report.contains(&wanted), "{report}");
    rig.take(1).unwrap();
}

/// A machine whose `_FIT` has one region, each time at another of the places.
fn moving() -> Rig {
    let bytes = [writer::range(3, 0, 2 * MIB), writer::part(3, 0, 2 * MIB)].concat();
    let bytes: String = bytes.iter().map(|byte| format!("{byte}, ")).collect();
    let text = format!(
        "DefinitionBlock (\"\", \"DSDT\", 2, \"HOTMEM\", \"MOVING\", 1) {{
            Name (NEXT, 0)
            Device (\\_SB.NVDR) {{ Name (_HID, \"ACPI0012\")
                Device (NV00) {{ Name (_ADR, 0) }}
                Name (FITS, Buffer () {{ {bytes} }})
                CreateQWordField (FITS, 32, BASE)
                Method (_FIT, 0, Serialized) {{
                    BASE = {WINDOW:#x} + (NEXT % {PLACES}) * {:#x}
                    NEXT++
                    Return (FITS)
                }}
            }}
            Scope (\\_GPE) {{ Method (_E02) {{ Notify (\\_SB.NVDR, 0x80) }} }} }}",
        2 * MIB
    );
    let memory = firmware_beside(&compile_text(&text).unwrap(), false, &[], &[]);
    Rig::over(Wire::new(moved(), 0), &memory, Some(EVENT), Policy::default())
}

#[test]
fn numbers_of_regions_that_are_gone_are_given_again() {
    let mut rig = moving();
    let mut highest = 0;
    for plug in 0..PLUGS {
        let at = range(WINDOW + plug % PLACES * 2 * MIB, 2 * MIB);
        let mut list = String::new();
        rig.hotplug.write_pmem(false, &mut list).unwrap();
        let (number, rest) = list.split_once(": ").unwrap();
        let one = list.lines().count() == 1 && rest.starts_with(&at.to_string());
        assert!(one && rest.contains(", unused; holds nothing"), "{plug}: {list}");
        let number: usize = number.parse().unwrap();
        highest = highest.max(number);
        if plug % 7 == 0 {
            // It is removed before it goes, or goes while it is in use.
            rig.bench.plug(at);
            rig.take(number).unwrap();
            if plug % 2 == 0 {
                rig.hotplug.pmem_remove(number, &mut String::new()).unwrap();
                rig.run();
            }
        }
        rig.notify();
        assert_eq!(rig.states(at), []);
        if plug % 7 == 0 {
            rig.bench.unplug(at);
        }
    }
    assert_eq!(highest + 1, MOST_REGIONS);
}

#[test]
fn of_an_nvdimm_in_the_place_of_another_its_own_labels_count() {
    let [first, other] = [4, 0x77].map(|handle| {
        let at = place(4).start().get();
        [writer::range(3, at, SIZE), writer::part(3, handle, SIZE)].concat()
    });
    for between in [vec![], vec![region(9, 1)]] {
        let fits = [vec![first.clone()], between, vec![other.clone()]].concat();
        let mut rig = rig(&fits);
        (1..fits.len()).for_each(|_| rig.notify());
        let error = rig.take(0).unwrap_err();
        assert!(error.contains("byte code has no device for NVDIMM 0x77"), "{error}");
    }
}

#[test]
fn what_an_nvdimm_in_the_place_of_another_holds_is_looked_at_though_that_was_used() {
    let other = [writer::range(3, place(4).start().get(), SIZE), writer::part(3, 8, SIZE)].concat();
    for between in [vec![], vec![region(9, 1)]] {
        let fits = [vec![region(3, 4)], between, vec![other.clone()]].concat();
        let mut rig = rig(&fits);
        rig.take(0).unwrap();
        rig.hotplug.pmem_remove(0, &mut String::new()).unwrap();
        rig.run();
        rig.wire.0.borrow_mut().contents = vec![place(4).start()];
        rig.take(0).unwrap();
        rig.hotplug.pmem_remove(0, &mut String::new()).unwrap();
        rig.run();
        (1..fits.len()).for_each(|_| rig.notify());
        let error = rig.take(0).unwrap_err();
        assert!(error.contains("is not zero"), "{error}");
    }
    // It was in use when it went.
    let mut rig = rig(&[region(3, 4), region(9, 1), other]);
    rig.take(0).unwrap();
    rig.notify();
    rig.wire.0.borrow_mut().contents = vec![place(4).start()];
    rig.notify();
    let error = rig.take(0).unwrap_err();
    assert!(error.contains("is not zero"), "{error}");
}
