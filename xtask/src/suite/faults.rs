//! Adding memory when there is none left: it needs none, and where it would, it fails without a trace.

use anyhow::{Result, ensure};

use super::lab::{
    Lab, add, check_add, exhaust, free, insert, leave, plug, refused, remove, take_all, unchanged,
    unowned, unplug_taken,
};
use super::{Scenario, scenarios};
use crate::machine::{Config, Machine};
use crate::size::{KIB, MIB};

pub(crate) const SCENARIOS: &[Scenario] = scenarios![
    a_gibibyte_is_added_with_no_free_page_left,
    at18_an_add_that_runs_out_of_memory_at_any_point_leaves_no_trace if tables_run_out,
    a_boot_placed_add_that_runs_out_of_memory_at_any_point_leaves_no_trace if Lab::has_unowned,
];

/// Can a DIMM need more tables than are set aside? Larger pages make larger tables, which map terabytes.
fn tables_run_out(lab: &Lab) -> bool {
    lab.has_unowned() && lab.page() == 4 * KIB
}

/// A machine of 64 MiB, so that little memory has to be taken away.
fn small(lab: &Lab, mut config: Config) -> Config {
    config.memory = lab.memory(64 * MIB);
    config
}

fn a_gibibyte_is_added_with_no_free_page_left(lab: &Lab) -> Result<()> {
    for placement in ["device", "block"] {
        let config = small(lab, lab.room(&["1G"])?).word(format_args!("placement={placement}"));
        lab.with(&config, |machine| {
            let pages = exhaust(machine)?;
            machine.run("snapshot save")?;
            let taken = plug(machine, "1G")?;
            ensure!(
                taken.add.system_bytes == 0,
                "the add took {} bytes elsewhere",
                taken.add.system_bytes
            );
            unplug_taken(machine, &taken)?;
            unchanged(machine)?;
            pages.into_iter().try_for_each(|pfn| free(machine, pfn))?;
            machine.run("verify")?;
            leave(machine)
        })?;
    }
    Ok(())
}

fn at18_an_add_that_runs_out_of_memory_at_any_point_leaves_no_trace(lab: &Lab) -> Result<()> {
    // The tables set aside at boot are a share of 32 MiB. A first DIMM larger than they can map takes them
    // all, so that the next add has to find pages of its own.
    let mut config = lab.room(&["160G", "8G"])?.word("policy=offline");
    config.memory = lab.memory(32 * MIB);
    config.window += config.alignment();
    lab.with(&config, |machine| {
        let large = insert(machine, "160G")?;
        let taken = machine.next_add()?;
        check_add(machine, &taken, &large)?;
        ensure!(taken.system_bytes > 0, "the tables set aside were enough for 160 GiB");
        let start = unowned(machine, "8G")?;
        fails_until_it_fits(machine, start, 64 * lab.block(), "device")
    })
}

fn a_boot_placed_add_that_runs_out_of_memory_at_any_point_leaves_no_trace(lab: &Lab) -> Result<()> {
    lab.with(&small(lab, lab.room_unowned(&["128M"])?), |machine| {
        let start = unowned(machine, "128M")?;
        fails_until_it_fits(machine, start, lab.block(), "boot")
    })
}

/// Takes all memory, then gives back page by page until an add succeeds: each add before has to fail
/// at another point, and to leave everything as it was.
fn fails_until_it_fits(
    machine: &mut Machine,
    start: u64,
    size: u64,
    placement: &str,
) -> Result<()> {
    let mut pages = exhaust_to_pages(machine)?;
    let mut failures = 0;
    loop {
        machine.run("snapshot save")?;
        let command = format!("add {start:#x} {size:#x} {placement}");
        if machine.command(&command)?.error.is_none() {
            machine.next_step()?;
            break;
        }
        let steps = machine.unread_steps()?;
        ensure!(
            steps.iter().all(|step| step.error().is_some()),
            "a failed add reports a good step"
        );
        unchanged(machine)?;
        failures += 1;

        let pfn = pages.pop();
        ensure!(pfn.is_some(), "the add fails with all memory free");
        free(machine, pfn.unwrap_or_default())?;
    }
    ensure!(failures > 0, "the add succeeded with no free page: it had nothing to run out of");

    remove(machine, start, size)?;
    unchanged(machine)?;
    refused(machine, &format!("remove {start:#x} {size:#x}"))?;
    add(machine, start, size, placement)?;
    remove(machine, start, size)?;
    pages.into_iter().try_for_each(|pfn| free(machine, pfn))?;
    machine.run("verify")?;
    leave(machine)
}

/// Takes all memory; the last thousand pages one by one, so that they can be given back one by one.
fn exhaust_to_pages(machine: &mut Machine) -> Result<Vec<u64>> {
    const SINGLE: u32 = 1024;
    let mut single = Vec::new();
    for _ in 0..SINGLE {
        single.extend(super::lab::alloc(machine, 0)?);
    }
    // That may have been all, where pages are large.
    let mut pages = take_all(machine)?;
    pages.append(&mut single);
    Ok(pages)
}
