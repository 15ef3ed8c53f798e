//! Persistent memory as RAM: NVDIMMs that the operator adds and removes.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};

use anyhow::{Context, Result, ensure};

use super::lab::{Lab, check_groups, check_nothing_elsewhere, check_online, refused, use_all};
use super::{Scenario, on_acpi, scenarios};
use crate::machine::{Add, LABELS, Machine, Nvdimm, Offline, Online, Placement, Remove};
use crate::scratch::Scratch;
use crate::size::{KIB, MIB};

pub(crate) const SCENARIOS: &[Scenario] = scenarios![
    persistent_memory_is_added_used_and_removed_in_each_placement if on_acpi,
    a_namespace_keeps_persistent_memory_from_being_used_unless_it_is_forced if on_acpi,
    persistent_memory_in_use_goes_once_its_pages_have_moved if on_acpi,
    memory_without_labels_that_holds_something_is_used_by_force_only if on_acpi,
    an_nvdimm_that_is_plugged_is_listed_behind_the_others_and_used if on_acpi,
];

/// Bytes of an NVDIMM that is two memory blocks.
fn size(lab: &Lab) -> Result<u64> {
    Ok(lab.dimm("256M")?.size.bytes())
}

/// Adds persistent memory by a command, which has to work; returns what was added.
pub(super) fn add(machine: &mut Machine, command: &str) -> Result<(Add, Online)> {
    machine.run(command)?;
    let add: Add = machine.done()?;
    check_groups(machine, &add)?;
    check_nothing_elsewhere(&add)?;
    let online: Online = machine.done()?;
    check_online(machine, &add, &online)?;
    Ok((add, online))
}

/// Removes persistent memory, which has to work.
pub(super) fn remove(machine: &mut Machine, number: usize) -> Result<()> {
    machine.run(&format!("pmem remove {number}"))?;
    machine.done::<Offline>()?;
    let remove: Remove = machine.done()?;
    ensure!(remove.ost.is_none(), "firmware got a status: {:x?}", remove.ost);
    Ok(())
}

/// The state of a region of persistent memory.
fn state(machine: &mut Machine, number: usize) -> Result<String> {
    let list = machine.pmem()?;
    Ok(list.get(number).with_context(|| format!("no region {number}: {list:?}"))?.state.clone())
}

fn persistent_memory_is_added_used_and_removed_in_each_placement(lab: &Lab) -> Result<()> {
    let (scratch, bytes) = (Scratch::new()?, size(lab)?);
    // The last one ends inside a subsection, and the one before has no labels.
    let first = Nvdimm { bytes, labels: LABELS, file: None, node: Some(1) };
    let plain = Nvdimm { labels: 0, node: None, ..first.clone() };
    let odd = Nvdimm::in_file(scratch.path(), "odd", bytes / 2 + lab.page())?;
    let config = lab.room(&[])?.nvdimms(vec![first, plain, odd]);
    lab.with(&config, |machine| {
        let list = machine.pmem()?;
        let found: Vec<_> =
            list.iter().map(|one| (one.bytes, one.node, one.holds.as_str())).collect();
        let odd = bytes / 2 + lab.page();
        let wanted = [(bytes, 1, "nothing"), (bytes, 0, "nothing"), (odd, 0, "nothing")];
        ensure!(found == wanted, "{list:?}");
        ensure!(list[0].why.contains("area is empty"), "{:?}", list[0]);
        ensure!(list[1].why.contains("no label storage area"), "{:?}", list[1]);

        for (number, placement) in [(0, Placement::Device), (1, Placement::Block)] {
            let (added, online) = add(machine, &format!("pmem add {number} {}", placement.word()))?;
            ensure!((added.start(), added.size()) == (list[number].start, bytes), "{added:?}");
            ensure!(added.placement == placement && !added.groups.is_empty(), "{added:?}");
            ensure!(added.node == Some(list[number].node), "{added:?}");
            let touched = use_all(machine)?;
            ensure!(touched == online.managed(), "{touched} bytes are used");
            ensure!(state(machine, number)? == "in use", "it is not in use");
            let again = refused(machine, &format!("pmem add {number} force"))?;
            ensure!(again.contains("is in use already"), "{again}");
            remove(machine, number)?;
            ensure!(state(machine, number)? == "unused", "it is in use");
        }
        let why = refused(machine, "pmem add 2")?;
        ensure!(why.contains("subsection"), "{why}");
        let why = refused(machine, "pmem add 3")?;
        ensure!(why.contains("persistent memory 3 does not exist"), "{why}");
        let why = refused(machine, "pmem remove 0")?;
        ensure!(why.contains("is not in use"), "{why}");
        // Both at once, and all of both is used.
        let (_, first) = add(machine, "pmem add 0")?;
        let (_, second) = add(machine, "pmem add 1")?;
        ensure!(use_all(machine)? == first.managed() + second.managed(), "not all is used");
        remove(machine, 0)?;
        remove(machine, 1)
    })
}

/// The label storage area in the file behind an NVDIMM.
fn labels(nvdimm: &Nvdimm) -> Result<Vec<u8>> {
    let mut file = File::open(nvdimm.file.as_ref().context("no file")?)?;
    file.seek(SeekFrom::Start(nvdimm.bytes))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn a_namespace_keeps_persistent_memory_from_being_used_unless_it_is_forced(
    lab: &Lab,
) -> Result<()> {
    let (scratch, bytes) = (Scratch::new()?, size(lab)?);
    let nvdimm = Nvdimm::in_file(scratch.path(), "labelled", bytes)?;
    nvdimm.write_namespace("precious")?;
    let broken = Nvdimm::in_file(scratch.path(), "broken", bytes)?;
    broken.write_namespace("lost")?;
    // A word of the namespace's label, and both lists.
    let file = std::fs::OpenOptions::new().write(true).open(scratch.path().join("broken"))?;
    for at in [0, 256] {
        std::os::unix::fs::FileExt::write_all_at(&file, b"?", bytes + at + 100)?;
    }
    let before = labels(&nvdimm)?;
    ensure!(before.len() as u64 == LABELS, "{} bytes of labels", before.len());
    let config = lab.room(&[])?.nvdimms(vec![nvdimm.clone(), broken]);
    lab.with(&config, |machine| {
        let list = machine.pmem()?;
        ensure!(list[0].holds == "data" && list[1].holds == "unknown", "{list:?}");
        for (number, name) in [(0, "the namespace \"precious\""), (1, "no list that adds up")] {
            let why = refused(machine, &format!("pmem add {number}"))?;
            ensure!(why.contains(name) && why.contains("only by force"), "{why}");
            ensure!(state(machine, number)? == "unused", "it is in use");
            machine.run("snapshot check")?;
            add(machine, &format!("pmem add {number} force"))?;
            remove(machine, number)?;
        }
        // What labels say stays as it was, whatever became of the data.
        ensure!(machine.pmem()? == list, "{:?}", machine.pmem()?);
        ensure!(labels(&nvdimm)? == before, "the labels have changed");
        Ok(())
    })
}

fn memory_without_labels_that_holds_something_is_used_by_force_only(lab: &Lab) -> Result<()> {
    let (scratch, bytes) = (Scratch::new()?, size(lab)?);
    // Where file systems, partition tables and drivers of block devices begin, and where some end.
    let places = [0, 510, 4096, 64 * KIB, bytes - 4096, bytes - 1];
    let mut nvdimms = vec![Nvdimm::in_file(scratch.path(), "blank", bytes)?];
    for at in places {
        let name = at.to_string();
        nvdimms.push(Nvdimm::in_file(scratch.path(), &name, bytes)?);
        let file = std::fs::OpenOptions::new().write(true).open(scratch.path().join(name))?;
        std::os::unix::fs::FileExt::write_all_at(&file, &[1], at)?;
    }
    lab.with(&lab.room(&[])?.nvdimms(nvdimms), |machine| {
        let list = machine.pmem()?;
        let found = list.iter().filter(|one| one.holds == "data").count();
        ensure!((list.len(), found) == (places.len() + 1, places.len()), "{list:?}");
        for (number, one) in list.iter().enumerate() {
            if one.holds == "nothing" {
                add(machine, &format!("pmem add {number}"))?;
                remove(machine, number)?;
                continue;
            }
            let at = one.why.split_once("memory at 0x").map(|(_, rest)| rest.split(' ').next());
            let at = at.flatten().and_then(|at| u64::from_str_radix(at, 16).ok());
            let at = at.with_context(|| format!("{one:?}"))?.wrapping_sub(one.start);
            ensure!(places.iter().any(|place| place / 8 * 8 == at), "{one:?}");
            let why = refused(machine, &format!("pmem add {number}"))?;
            ensure!(why.contains("only by force") && why.contains("is not zero"), "{why}");
        }
        machine.run("snapshot check")?;
        // What was used is the kernel's, whatever is in it.
        let number = list.iter().position(|one| one.holds == "data").context("none")?;
        add(machine, &format!("pmem add {number} force"))?;
        remove(machine, number)?;
        add(machine, &format!("pmem add {number}"))?;
        remove(machine, number)
    })
}

fn persistent_memory_in_use_goes_once_its_pages_have_moved(lab: &Lab) -> Result<()> {
    let (scratch, bytes) = (Scratch::new()?, size(lab)?);
    let nvdimm = Nvdimm::in_file(scratch.path(), "used", bytes)?;
    let config = lab.room(&["256M"])?.nvdimms(vec![nvdimm]);
    lab.with(&config, |machine| {
        let pages = 32 * MIB / lab.page();
        let (added, _) = add(machine, "pmem add 0 block")?;
        machine.run(&format!("pool grow {pages}"))?;
        machine.run("pool pin 7")?;
        let range = format!("{:#x} {}K", added.start(), bytes / KIB);
        let why = machine.run(&format!("explain-remove {range}"))?.join("\n");
        ensure!(why.contains("blocked") && why.contains("held by pool"), "{why}");
        machine.run("pmem remove 0")?;
        let offline: Offline = machine.next()?;
        let error = offline.error.context("it went offline")?;
        ensure!(error.contains("held by pool"), "{error}");
        // What had gone offline comes back online, and the line that says that it stays.
        let steps = machine.later::<Remove>()?.error.unwrap_or_default();
        ensure!(steps.contains("held by pool"), "{steps}");
        ensure!(state(machine, 0)? == "in use", "it is not in use");
        machine.run("pool check")?;
        machine.run("verify")?;

        machine.run("pool unpin 7")?;
        remove(machine, 0)?;
        machine.run("pool check")?;
        machine.run(&format!("pool shrink {pages}"))
    })
}

fn an_nvdimm_that_is_plugged_is_listed_behind_the_others_and_used(lab: &Lab) -> Result<()> {
    let bytes = size(lab)?;
    let cold = Nvdimm { bytes, labels: LABELS, file: None, node: None };
    let later = Nvdimm { bytes, node: Some(1), ..cold.clone() };
    for cold in [vec![], vec![cold]] {
        let config = lab.room(&[])?.nvdimms(cold).room_for_nvdimms(std::slice::from_ref(&later));
        lab.with(&config, |machine| {
            let before = machine.pmem()?;
            ensure!(before.len() == config.nvdimms.len(), "{before:?}");
            let number = before.len();
            if number != 0 {
                add(machine, "pmem add 0")?;
            }
            machine.plug_nvdimm(&later)?;
            let line = machine.wait_line("was plugged")?;
            ensure!(line.contains(&format!("persistent memory {number}")), "{line}");
            let list = machine.pmem()?;
            let found = list.get(number).context("it is not listed")?;
            ensure!((list.len(), found.bytes) == (number + 1, bytes), "{list:?}");
            ensure!((found.holds.as_str(), found.node) == ("nothing", 1), "{found:?}");
            ensure!(number == 0 || state(machine, 0)? == "in use", "the first is not in use");

            add(machine, &format!("pmem add {number}"))?;
            use_all(machine)?;
            for number in 0..=number {
                remove(machine, number)?;
            }
            Ok(())
        })?;
    }
    Ok(())
}
