//! Adding memory when no memory is left: an add that needs none works, and one that needs some fails without
//! a trace.

use anyhow::{Context, Result, bail, ensure};

use super::lab::{
    Lab, add, alloc, blocks_of, check_nothing_elsewhere, exhaust, free, insert, leave_verified,
    plug, refused, remove, take_all, taken, unchanged, unowned, unplug_taken,
};
use super::{Scenario, scenarios};
use crate::machine::{Block, Config, Dimm, Machine, Request};
use crate::size::{DimmSpec, GIB, KIB, MIB, Size};

pub(crate) const SCENARIOS: &[Scenario] = scenarios![
    a_gibibyte_is_added_with_no_free_page_left,
    at18_an_add_that_runs_out_of_memory_at_any_point_leaves_no_trace if tables_run_out,
    a_boot_placed_add_that_runs_out_of_memory_at_any_point_leaves_no_trace,
    an_operation_that_fails_at_any_step_leaves_everything_as_it_was,
    an_offline_that_fails_at_any_step_keeps_the_pages_in_use_wherever_they_are,
    a_dimm_comes_and_goes_whichever_call_of_firmware_failed_before,
];

/// More steps than any operation here has.
const MOST_STEPS: u64 = 100;
/// More calls of firmware than a request about one DIMM takes.
const MOST_CALLS: u64 = 300;
/// Commands after which a request about one DIMM has ended: before each letter the kernel takes a step of it.
const COMMANDS: u64 = 5;
/// How often a DIMM is asked back that stays because of one call that failed.
const REQUESTS: u64 = 4;
/// Extents in use of a block that goes offline.
const EXTENTS: u64 = 16;

/// An operation, and what undoes it.
struct Act {
    name: &'static str,
    command: String,
    undo: Vec<String>,
}

impl Act {
    fn new(name: &'static str, command: String, undo: &[&str]) -> Self {
        Self { name, command, undo: undo.iter().map(|&line| line.to_owned()).collect() }
    }

    /// Does it with its step `nth` failing. Returns whether there is such a step, and whether it was refused.
    fn with_fault(&self, machine: &mut Machine, nth: u64) -> Result<(bool, bool)> {
        machine.run(&format!("fault {} {nth}", self.name))?;
        let reply = machine.command(&self.command)?;
        machine.unread_steps()?;
        let found = reply.lines.iter().find_map(|line| line.strip_prefix("fault: "));
        let found = found.with_context(|| format!("`{}` met no fault", self.command))?;
        let failed = found.strip_prefix(&format!("step {nth} of {} failed: ", self.name)).is_some();
        let is_refused = reply.error.is_some();
        ensure!(failed || !is_refused, "{}, and no step failed: {:?}", self.command, reply.error);
        Ok((failed, is_refused))
    }

    /// Has each of its steps fail until it meets no fault, `check`s after each refusal, and does it at last. Returns how
    /// many steps it has.
    fn fail_each(
        &self,
        machine: &mut Machine,
        check: impl Fn(&mut Machine) -> Result<()>,
    ) -> Result<u64> {
        for nth in 1..MOST_STEPS {
            machine.run("snapshot save")?;
            let (failed, is_refused) = self.with_fault(machine, nth)?;
            let context = || format!("step {nth} of {} failed", self.name);
            if is_refused {
                check(machine).with_context(context)?;
                continue;
            }
            machine.run("verify").with_context(context)?;
            if !failed {
                ensure!(nth > 1, "{} has no step that can fail", self.name);
                return Ok(nth - 1);
            }
            for line in &self.undo {
                machine.run(line)?;
            }
            machine.unread_steps()?;
        }
        bail!("{} does not end", self.name)
    }
}

fn an_operation_that_fails_at_any_step_leaves_everything_as_it_was(lab: &Lab) -> Result<()> {
    lab.begun(&small(lab, lab.room(&["256M"])?), |machine| {
        let start = unowned(machine, "256M")?;
        let (block, size) = (start / lab.block(), 2 * lab.block());
        let (range, online) = (format!("{start:#x} {size:#x}"), format!("online {block}"));
        let (offline, remove) = (format!("offline {block}"), format!("remove {range}"));
        let add = |placement| format!("add {range} {placement}");
        let mut all = 0;
        let mut each = |machine: &mut Machine, act: Act| -> Result<()> {
            all += act.fail_each(machine, unchanged)?;
            Ok(())
        };
        for placement in ["boot", "block", "device"] {
            each(machine, Act::new("add", add(placement), &[&remove]))?;
            each(machine, Act::new("online", online.clone(), &[&offline]))?;
            each(machine, Act::new("offline", offline.clone(), &[&online]))?;
            if placement == "device" {
                let undo = [remove.as_str(), &add(placement)];
                each(machine, Act::new("convert", format!("convert {range} block"), &undo))?;
            }
            each(machine, Act::new("remove", remove.clone(), &[&add(placement)]))?;
        }
        ensure!(all >= 30, "only {all} steps failed");
        leave_verified(machine)
    })
}

fn an_offline_that_fails_at_any_step_keeps_the_pages_in_use_wherever_they_are(
    lab: &Lab,
) -> Result<()> {
    lab.begun(&small(lab, lab.room(&["256M"])?), |machine| {
        let start = unowned(machine, "256M")?;
        let block = start / lab.block();
        machine.run(&format!("add {start:#x} {:#x} block", lab.block()))?;
        let online = format!("online {block}");
        let (grow, shrink) = (format!("pool grow {EXTENTS}"), format!("pool shrink {EXTENTS}"));
        // No other block is movable, so they lie in this one, and move to boot memory.
        machine.run(&online)?;
        machine.run(&grow)?;
        let act = Act::new("offline", format!("offline {block}"), &[&online, &shrink, &grow]);
        let steps = act.fail_each(machine, |machine| {
            machine.run("verify")?;
            machine.run("pool check")?;
            let states = machine.blocks()?;
            let own = states.iter().find(|one| one.block == block);
            ensure!(
                own.is_some_and(|one| one.state.starts_with("online")),
                "block {block} is not online"
            );
            Ok(())
        })?;
        // The turn, the listener, and an extent at the least: its target, and its move.
        ensure!(steps >= 4, "only {steps} steps failed");
        machine.run("pool check")?;
        let pool = machine.run("pool")?.concat();
        ensure!(!pool.contains(" 0 moved so far"), "no page has moved: {pool}");
        leave_verified(machine)
    })
}

/// Makes a request of firmware with call `nth` from then on failing. Returns what it returned, and whether there was such
/// a call.
fn with_firmware_fault<T>(
    machine: &mut Machine,
    nth: u64,
    request: impl FnOnce(&mut Machine) -> Result<T>,
) -> Result<(T, bool)> {
    machine.run(&format!("fault firmware {nth}"))?;
    let requested = request(machine)?;
    come_to_rest(machine)?;
    let told = machine.run("fault off")?.concat();
    let failed = told.contains("a call of firmware failed");
    ensure!(failed || told.contains("firmware had "), "`fault off` says {told}");
    Ok((requested, failed))
}

/// Lets requests of firmware come to their end; their steps are not looked at.
fn come_to_rest(machine: &mut Machine) -> Result<()> {
    (0..COMMANDS).try_for_each(|_| machine.run("verify").map(drop))?;
    machine.unread_steps().map(drop)
}

/// Asks a DIMM back until it goes; memory is as it was before it came then.
fn take_back(machine: &mut Machine, dimm: &Dimm) -> Result<()> {
    let mut requests = 0;
    while !machine.reap(dimm)? {
        ensure!(requests < REQUESTS, "{} stays after {REQUESTS} requests", dimm.id);
        requests += 1;
        machine.ask_back(dimm)?;
        come_to_rest(machine)?;
    }
    unchanged(machine)
}

/// Plugs a DIMM with call `nth` failing, and checks what firmware was told; returns whether there was such a call.
fn comes_with_fault(machine: &mut Machine, nth: u64) -> Result<bool> {
    let (dimm, failed) = with_firmware_fault(machine, nth, |machine| insert(machine, "128M"))?;
    let online = |block: &Block| block.state.starts_with("online");
    let blocks = blocks_of(machine, &dimm)?;
    let in_use = !blocks.is_empty() && blocks.iter().all(online);
    let told = machine.heard(&dimm, Request::Insertion)?;
    ensure!(in_use || told.last() != Some(&0), "firmware was told that memory came: {blocks:?}");
    ensure!(in_use || failed, "{} did not come", dimm.id);
    take_back(machine, &dimm)?;
    // What came late is not about the next DIMM, which has the same slot.
    machine.heard(&dimm, Request::Insertion)?;
    Ok(failed)
}

/// Pulls a DIMM with call `nth` failing, and checks what firmware was told; returns whether there was such a call.
fn goes_with_fault(machine: &mut Machine, nth: u64) -> Result<bool> {
    let dimm = plug(machine, "128M")?.dimm;
    machine.heard(&dimm, Request::Ejection)?;
    let (_, failed) =
        with_firmware_fault(machine, nth, |machine| machine.ask_back(&dimm).map(drop))?;
    let told = machine.heard(&dimm, Request::Ejection)?;
    let gone = machine.reap(&dimm)?;
    let blocks = blocks_of(machine, &dimm)?;
    ensure!(!gone || blocks.is_empty(), "memory that is gone is used: {blocks:?}");
    ensure!(gone || told.last() != Some(&0), "firmware was told that a DIMM went that is there");
    ensure!(gone || failed, "{} did not go", dimm.id);
    if gone {
        unchanged(machine)?
    } else {
        take_back(machine, &dimm)?
    }
    Ok(failed)
}

fn a_dimm_comes_and_goes_whichever_call_of_firmware_failed_before(lab: &Lab) -> Result<()> {
    lab.begun(&small(lab, lab.room(&["128M"])?), |machine| {
        for with_fault in [comes_with_fault, goes_with_fault] {
            let mut call = 1;
            while with_fault(machine, call)
                .with_context(|| format!("call {call} of firmware failed"))?
            {
                call += 1;
                ensure!(call < MOST_CALLS, "firmware is called without an end");
            }
            ensure!(call > 4, "only {} calls of firmware failed", call - 1);
        }
        leave_verified(machine)
    })
}

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
        lab.begun(&config, |machine| {
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
    lab.begun(&Config { memory, ..config }, |machine| {
        let dimm = machine.plug(large, None)?;
        let taken = taken(machine, &dimm)?;
        ensure!(taken.system_bytes > 0, "the tables set aside were enough for {}", large.size);
        let start = unowned(machine, "8G")?;
        fails_until_it_fits(machine, start, 64 * lab.block(), "device")
    })
}

fn a_boot_placed_add_that_runs_out_of_memory_at_any_point_leaves_no_trace(lab: &Lab) -> Result<()> {
    lab.begun(&small(lab, lab.room(&["128M"])?), |machine| {
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
