//! The outcomes that are reported to firmware: one table, a row for each way that a request can end.
//!
//! Codes are those of ACPI 6.5, table 6.22: 0x81 in use, 0x82 busy, 0x83 a dependency, 0x84 in progress.
//! A POWER hypervisor takes no codes: there a scenario checks whether the kernel reports that memory stays.

use anyhow::{Context, Result, ensure};

use super::lab::{Lab, add, insert, insert_unowned, leave, plug, remove, switch};
use super::{Scenario, scenarios};
use crate::machine::{Add, Dimm, Machine, Remove, Request};
use crate::size::MIB;

pub(crate) const SCENARIOS: &[Scenario] = scenarios![
    each_outcome_of_an_eject_has_its_own_status_code,
    memory_that_an_operator_uses_is_not_ejected_though_its_device_was_refused,
    memory_that_is_added_but_does_not_come_online_has_a_code_of_its_own,
];

/// A way an eject can end.
struct Row {
    /// What stands in the way.
    what: &'static str,
    /// What puts it there.
    spoil: &'static [&'static str],
    /// The codes that are reported to the firmware.
    reported: &'static [u64],
    /// What takes it away again.
    mend: &'static [&'static str],
}

/// In progress, then the end.
const ROWS: [Row; 5] = [
    Row { what: "nothing", spoil: &[], reported: &[0x84, 0], mend: &[] },
    Row {
        what: "pages that move",
        spoil: &["pool grow 99", "cache write 1 0 7 5000"],
        reported: &[0x84, 0],
        mend: &["pool check", "cache check", "pool shrink 99"],
    },
    Row {
        what: "a pinned page",
        spoil: &["pool grow 9", "pool pin 3"],
        reported: &[0x84, 0x81],
        mend: &["pool check", "pool unpin 3", "pool shrink 9"],
    },
    Row {
        what: "an objection",
        spoil: &["notify add 0 offline"],
        reported: &[0x84, 0x83],
        mend: &["notify remove 0"],
    },
    Row {
        what: "no room elsewhere",
        // More than there is: refused, when all memory is taken.
        spoil: &["pool grow 1000000"],
        reported: &[0x84, 0x82],
        mend: &["pool check", "pool shrink 1000000"],
    },
];

/// Unplugs, and checks that the firmware gets these codes. Where it takes no codes, checks that the DIMM goes or
/// stays as the last code says.
fn check_unplug(lab: &Lab, machine: &mut Machine, dimm: &Dimm, codes: &[u64]) -> Result<()> {
    machine.unplug(dimm)?;
    let reported = machine.statuses(dimm, Request::Ejection)?;
    lab.check_reported(reported, codes)?;
    if codes.last() == Some(&0) { machine.wait_deleted(dimm) } else { machine.wait_kept(dimm) }
}

/// As [`check_unplug`], of memory that operations have something to do with: reads their steps.
fn check_unplug_and_steps(
    lab: &Lab,
    machine: &mut Machine,
    dimm: &Dimm,
    codes: &[u64],
) -> Result<()> {
    check_unplug(lab, machine, dimm, codes)?;
    let error = machine.later::<Remove>()?.error;
    let goes = codes.last() == Some(&0);
    ensure!(error.is_none() == goes, "reported {codes:x?}, but {error:?}");
    Ok(())
}

fn each_outcome_of_an_eject_has_its_own_status_code(lab: &Lab) -> Result<()> {
    let mut config = lab.room(&["128M"])?;
    config.memory = lab.memory(lab.block().max(128 * MIB));
    lab.begun(&config, |machine| {
        for row in &ROWS {
            one_row(lab, machine, row).with_context(|| row.what.to_owned())?;
        }
        leave(machine)
    })
}

fn one_row(lab: &Lab, machine: &mut Machine, row: &Row) -> Result<()> {
    let taken = plug(machine, "128M")?;
    for line in row.spoil {
        machine.command(line)?;
    }
    check_unplug_and_steps(lab, machine, &taken.dimm, row.reported)?;
    machine.run("verify")?;
    for line in row.mend {
        machine.run(line)?;
    }
    if row.reported.last() == Some(&0) {
        return Ok(());
    }
    check_unplug_and_steps(lab, machine, &taken.dimm, &[0x84, 0]).context("afterwards")
}

fn memory_that_an_operator_uses_is_not_ejected_though_its_device_was_refused(
    lab: &Lab,
) -> Result<()> {
    let block = lab.block();
    lab.begun(&lab.room(&["256M"])?, |machine| {
        let dimm = insert_unowned(machine, "256M")?;
        lab.check_reported(machine.status(&dimm, Request::Insertion)?.as_slice(), &[1])?;
        let start = dimm.start.next_multiple_of(block);
        add(machine, start, block, "device")?;
        switch(machine, "online", start / block)?;
        check_unplug_and_steps(lab, machine, &dimm, &[0x84, 0x81])?;
        machine.unread_steps()?;
        switch(machine, "offline", start / block)?;
        remove(machine, start, block)?;
        // Nothing of it is in use: no operation has anything to do.
        check_unplug(lab, machine, &dimm, &[0x84, 0]).context("afterwards")?;
        machine.run("snapshot check")?;
        leave(machine)
    })
}

fn memory_that_is_added_but_does_not_come_online_has_a_code_of_its_own(lab: &Lab) -> Result<()> {
    lab.begun(&lab.room(&["256M"])?, |machine| {
        machine.run("notify add 0 online")?;
        let dimm = insert(machine, "256M")?;
        let added: Add = machine.next()?;
        let reported = machine.status(&dimm, Request::Insertion)?;
        lab.check_reported(reported.as_slice(), &[0x81])?;
        ensure!(added.ost == reported && added.error.is_none(), "the step says {added:?}");
        machine.run("verify")?;
        let steps = machine.unread_steps()?;
        let failed =
            steps.iter().find(|step| step.operation() == "online").and_then(|one| one.error());
        ensure!(failed.is_some_and(|why| why.contains("objects")), "online ended {failed:?}");

        machine.run("notify remove 0")?;
        let first = dimm.start / lab.block();
        switch(machine, "online", first)?;
        check_unplug_and_steps(lab, machine, &dimm, &[0x84, 0])?;
        machine.run("snapshot check")?;
        leave(machine)
    })
}
