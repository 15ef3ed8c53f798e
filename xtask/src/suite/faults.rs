//! Adding memory when no memory is left: an add that needs none works, and one that needs some fails without
//! a trace.

use anyhow::{Context, Result, ensure};

use super::lab::{
    Lab, add, alloc, check_nothing_elsewhere, exhaust, free, leave_verified, plug, refused, remove,
    take_all, taken, unchanged, unowned, unplug_taken,
};
use super::{Scenario, scenarios};
use crate::machine::{Config, Machine};
use crate::size::{DimmSpec, GIB, KIB, MIB, Size};

pub(crate) const SCENARIOS: &[Scenario] = scenarios![
    a_gibibyte_is_added_with_no_free_page_left,
    at18_an_add_that_runs_out_of_memory_at_any_point_leaves_no_trace if tables_run_out,
    a_boot_placed_add_that_runs_out_of_memory_at_any_point_leaves_no_trace,
];

/// Can a DIMM need more tables than are set aside? Where pages are larger, or there is more boot memory at
/// the least, those map terabytes, of which there is no room for a snapshot.
fn tables_run_out(lab: &Lab) -> bool {
    lab.page() == 4 * KIB && lab.memory(LITTLE).bytes() == LITTLE
}

/// Boot memory of which the tables set aside map little.
const LITTLE: u64 = 32 * MIB;

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
            check_nothing_elsewhere(&taken.add)?;
            unplug_taken(machine, &taken)?;
            unchanged(machine)?;
            pages.into_iter().try_for_each(|pfn| free(machine, pfn))?;
            leave_verified(machine)
        })?;
    }
    Ok(())
}

fn at18_an_add_that_runs_out_of_memory_at_any_point_leaves_no_trace(lab: &Lab) -> Result<()> {
    // The tables set aside at boot take a 64th of boot memory, and each maps 512 leaves of 2 MiB. A first
    // DIMM larger than all of them can map takes them, so that the next add has to find pages of its own.
    let memory = lab.memory(LITTLE);
    let mapped = memory.bytes() / 64 / lab.page() * GIB;
    let large = DimmSpec { size: Size::new(mapped + mapped / 4), node: None };
    let config = lab.room(&[])?.room_for(&[large, lab.dimm("8G")?]).word("policy=offline");
    lab.with(&Config { memory, ..config }, |machine| {
        let dimm = machine.plug(large, None)?;
        let taken = taken(machine, &dimm)?;
        ensure!(taken.system_bytes > 0, "the tables set aside were enough for {}", large.size);
        let start = unowned(machine, "8G")?;
        fails_until_it_fits(machine, start, 64 * lab.block(), "device")
    })
}

fn a_boot_placed_add_that_runs_out_of_memory_at_any_point_leaves_no_trace(lab: &Lab) -> Result<()> {
    lab.with(&small(lab, lab.room(&["128M"])?), |machine| {
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

        free(machine, pages.pop().context("the add fails with all memory free")?)?;
    }
    ensure!(failures > 0, "the add succeeded with no free page: it had nothing to run out of");

    remove(machine, start, size)?;
    unchanged(machine)?;
    refused(machine, &format!("remove {start:#x} {size:#x}"))?;
    add(machine, start, size, placement)?;
    remove(machine, start, size)?;
    pages.into_iter().try_for_each(|pfn| free(machine, pfn))?;
    leave_verified(machine)
}

/// Takes all memory; the last thousand pages one by one, so that they can be given back one by one.
fn exhaust_to_pages(machine: &mut Machine) -> Result<Vec<u64>> {
    const SINGLE: u32 = 1024;
    let mut single = Vec::new();
    for _ in 0..SINGLE {
        single.extend(alloc(machine, 0)?);
    }
    // That may have been all, where pages are large.
    let mut pages = take_all(machine)?;
    pages.append(&mut single);
    Ok(pages)
}
