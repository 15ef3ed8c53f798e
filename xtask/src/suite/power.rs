//! What happens from outside at the worst moment: a reset, a stop, the power button. Memory is exact afterwards.

use anyhow::{Context, Result, ensure};
use serde_json::json;

use super::lab::{
    Lab, Taken, blocks_of, end_well, insert, plug, switch, taken_online, unplug, use_all,
};
use super::{Scenario, scenarios};
use crate::arch::Arch;
use crate::machine::{Asked, Config, Dimm, Exit, Machine, UnplugEnd};

pub(crate) const SCENARIOS: &[Scenario] = scenarios![
    a_machine_that_is_reset_has_all_of_each_dimm_whatever_its_state_was,
    a_reset_in_the_middle_of_an_unplug_loses_neither_the_dimm_nor_the_request,
    a_reset_in_the_middle_of_an_insertion_loses_nothing,
    a_machine_that_is_stopped_and_continued_in_the_middle_of_operations_does_them_all,
    nmis_in_the_middle_of_an_unplug_are_logged_for_each_cpu_and_change_nothing if continues_after_nmi,
    a_power_button_that_is_pressed_in_the_middle_of_an_unplug_turns_the_machine_off,
];

/// How often the machine is stopped and continued in the middle of an operation.
const STOPS: usize = 25;

/// How many NMIs each CPU gets.
const NMIS: usize = 25;

/// A machine that starts again when it is reset.
fn restarting(lab: &Lab, sizes: &[&str]) -> Result<Config> {
    Ok(Config { restarts: true, ..lab.room(sizes)? })
}

/// Plugs a DIMM and begins an unplug that has many pages to move, one by one.
fn begin_unplug(lab: &Lab, machine: &mut Machine) -> Result<Taken> {
    let taken = plug(machine, "256M")?;
    let pages = taken.dimm.size / lab.page() * 3 / 10;
    machine.run(&format!("pool grow {pages}"))?;
    machine.unplug(&taken.dimm)?;
    machine.wait_line("is being given up")?;
    Ok(taken)
}

/// Checks that all blocks of a DIMM are online.
fn all_online(machine: &mut Machine, dimm: &Dimm) -> Result<()> {
    let blocks = blocks_of(machine, dimm)?;
    let online = !blocks.is_empty() && blocks.iter().all(|one| one.state == "online");
    ensure!(online, "{}: {blocks:?}", dimm.id);
    Ok(())
}

fn a_machine_that_is_reset_has_all_of_each_dimm_whatever_its_state_was(lab: &Lab) -> Result<()> {
    lab.begun(&restarting(lab, &["256M"; 4])?, |machine| {
        let unused = plug(machine, "256M")?;
        let pinned = plug(machine, "256M")?;
        machine.run("pool grow 400")?;
        machine.run("pool pin 4")?;
        let (part, whole) = (plug(machine, "256M")?, plug(machine, "256M")?);
        switch(machine, "offline", part.dimm.start / lab.block())?;
        for block in blocks_of(machine, &whole.dimm)? {
            switch(machine, "offline", block.block)?;
        }

        machine.reset()?;
        machine.wait_ready()?;
        machine.run("snapshot save")?;
        let plugged = [&unused, &pinned, &part, &whole];
        let dimms = plugged.map(|taken| &taken.dimm);
        for dimm in dimms {
            taken_online(machine, dimm)?;
            all_online(machine, dimm)?;
        }
        let managed: u64 = plugged.iter().map(|taken| taken.online.managed()).sum();
        let used = use_all(machine)?;
        ensure!(used == managed, "{used} bytes are used of {managed}");
        for dimm in dimms {
            unplug(machine, dimm)?;
        }
        end_well(machine)
    })
}

/// After a reset: the unplug that was asked for before is carried out, or it is when it is asked for again.
fn goes_after_all(machine: &mut Machine, dimm: &Dimm) -> Result<()> {
    let asked = machine.ask_back(dimm)?;
    ensure!(asked != Asked::TooEarly, "the kernel is ready, and QEMU says it is not");
    let end = machine.wait_unplug_end(dimm)?;
    ensure!(end == UnplugEnd::Gone, "{} stays", dimm.id);
    machine.run("verify")?;
    let left = blocks_of(machine, dimm)?;
    ensure!(left.is_empty(), "{left:?}");
    let steps = machine.unread_steps()?;
    let failed = steps.iter().find_map(|step| step.error());
    ensure!(failed.is_none(), "{failed:?}");
    Ok(())
}

fn a_reset_in_the_middle_of_an_unplug_loses_neither_the_dimm_nor_the_request(
    lab: &Lab,
) -> Result<()> {
    lab.begun(&restarting(lab, &["256M"])?.word("budget=1"), |machine| {
        let taken = begin_unplug(lab, machine)?;
        machine.reset()?;
        machine.wait_ready()?;
        goes_after_all(machine, &taken.dimm)?;
        let again = plug(machine, "256M")?;
        unplug(machine, &again.dimm)?;
        end_well(machine)
    })
}

fn a_reset_in_the_middle_of_an_insertion_loses_nothing(lab: &Lab) -> Result<()> {
    lab.begun(&restarting(lab, &["256M"])?, |machine| {
        // The kernel has not even seen the event, or has begun: with each round it gets further.
        let dimm = machine.stopped(|machine| insert(machine, "256M"))?;
        for round in 0..4 {
            machine.reset()?;
            machine.wait_ready()?;
            taken_online(machine, &dimm).with_context(|| format!("round {round}"))?;
            all_online(machine, &dimm)?;
            machine.run("verify")?;
        }
        unplug(machine, &dimm)?;
        end_well(machine)
    })
}

fn a_machine_that_is_stopped_and_continued_in_the_middle_of_operations_does_them_all(
    lab: &Lab,
) -> Result<()> {
    let pauses = |machine: &mut Machine| (0..STOPS).try_for_each(|_| machine.stopped(|_| Ok(())));
    lab.begun(&lab.room(&["256M", "256M"])?.word("budget=1"), |machine| {
        let first = insert(machine, "256M")?;
        pauses(machine)?;
        taken_online(machine, &first)?;
        let pages = first.size / lab.page() * 3 / 10;
        machine.run(&format!("pool grow {pages}"))?;
        let second = insert(machine, "256M")?;
        pauses(machine)?;
        taken_online(machine, &second)?;
        machine.unplug(&first)?;
        machine.wait_line("is being given up")?;
        pauses(machine)?;
        machine.wait_gone(&first)?;
        machine.run("pool check")?;
        machine.run(&format!("pool shrink {pages}"))?;
        unplug(machine, &second)?;
        end_well(machine)
    })
}

/// On Power a system reset overwrites the registers that an interrupt's first instructions need, and QEMU often gives both
/// at once: no kernel can continue then.
fn continues_after_nmi(lab: &Lab) -> bool {
    lab.arch() == Arch::X86_64
}

fn nmis_in_the_middle_of_an_unplug_are_logged_for_each_cpu_and_change_nothing(
    lab: &Lab,
) -> Result<()> {
    let config = lab.room(&["256M"])?.word("budget=1");
    let cpus = config.cpus;
    lab.begun(&config, |machine| {
        let taken = begin_unplug(lab, machine)?;
        for _ in 0..NMIS {
            machine.qmp("inject-nmi", json!({}))?;
            // The main loop has logged this one when it replies.
            machine.run("stats")?;
        }
        (0..cpus).try_for_each(|cpu| {
            machine.wait_line(&format!("NMI: CPU {cpu} was at 0x")).map(|_| ())
        })?;
        machine.wait_gone(&taken.dimm)?;
        machine.run("pool check")?;
        let pages = taken.dimm.size / lab.page() * 3 / 10;
        machine.run(&format!("pool shrink {pages}"))?;
        end_well(machine)
    })
}

fn a_power_button_that_is_pressed_in_the_middle_of_an_unplug_turns_the_machine_off(
    lab: &Lab,
) -> Result<()> {
    lab.begun(&lab.room(&["256M"])?.word("budget=1"), |machine| {
        begin_unplug(lab, machine)?;
        machine.qmp("system_powerdown", json!({}))?;
        machine.wait_end(Exit::Left(0))
    })
}
