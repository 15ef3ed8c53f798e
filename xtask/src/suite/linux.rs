//! Linux guests, unmodified, whose memory is pulled while they boot and compute.

use anyhow::{Result, ensure};

use super::lab::{Lab, Taken, plug, unplug};
use super::{Scenario, runs_guests, runs_kernels, scenarios};
use crate::linux::{self, Wanted};
use crate::machine::{Config, Log, Machine, Module};
use crate::root;

pub(crate) const SCENARIOS: &[Scenario] = scenarios![
    linux_boots_and_computes_while_its_dimms_are_pulled_and_writes_the_same if runs_kernels,
    linux_on_two_virtual_cpus_computes_on_each_while_its_dimm_is_pulled if runs_kernels,
    a_linux_guest_without_a_kernel_is_refused_by_name if runs_guests,
];

/// Memory of the guest, and of each DIMM.
const SIZE: &str = "192M";
const DIMM: &str = "256M";
/// Rounds of the program before it turns the machine off, or before the next pull.
const ROUNDS: u64 = 20;
/// Rounds that are waited for at a time.
const STEP: usize = 200;
/// Cycles of memory in a storm for each pull, and the most pulls.
const CYCLES: u64 = 30;
const MOST: u64 = 6;

/// Takes a DIMM out from under the guest.
fn take_away(machine: &mut Machine, dimm: &Taken) -> Result<()> {
    unplug(machine, &dimm.dimm)?;
    let (guest, blocks) = (machine.guest("g")?, machine.blocks_of_dimm(&dimm.dimm)?);
    ensure!(guest.bytes_in(blocks) == 0, "the guest still lies there: {guest:?}");
    Ok(())
}

/// Lets the guest go on up to a round, or until it has turned itself off; kills it. Returns how many pages were moved.
fn to_round(machine: &mut Machine, log: &mut Log, round: Option<u64>) -> Result<u64> {
    let guest = match round {
        None => machine.wait_power_off("g", log)?,
        Some(round) => {
            // In steps, each of which has to come in time: on a slow machine the rounds are many.
            let begun = log.round().map_or(0, |round| round.number);
            for at in (begun..round).step_by(STEP).skip(1).chain([round]) {
                machine.wait_log("g", log, "far enough", |log| log.has_round(at))?;
            }
            machine.run("vm pause g")?;
            machine.wait_log("g", log, "paused", |_| true)?
        }
    };
    let last = log.last_round()?;
    ensure!(last.wrong_words == 0 && last.number >= round.unwrap_or(ROUNDS), "{last:?}");
    machine.run("verify")?;
    machine.run("vm kill g")?;
    Ok(guest.pages_moved)
}

/// The first pull begins when the kernel has written its first line, the others when its program has computed for some
/// rounds more.
fn linux_boots_and_computes_while_its_dimms_are_pulled_and_writes_the_same(
    lab: &Lab,
) -> Result<()> {
    let pulls = (lab.storm().cycles / CYCLES).clamp(1, MOST);
    let config = Config { cpus: 2, ..lab.room(&[DIMM, DIMM])? };
    let rounds = if pulls == 1 { ROUNDS } else { 0 };
    let wanted = Wanted { mib: 32, rounds, ..Wanted::default() };
    let Some(module) = module(&config, &wanted)? else { return Ok(()) };
    lab.with(&config.module(module), |machine| {
        let first = plug(machine, DIMM)?;
        machine.run(&format!("vm create g {SIZE} linux"))?;
        let mut second = plug(machine, DIMM)?;
        machine.run("vm run g")?;
        let mut log = Log::default();
        machine.wait_log("g", &mut log, "booting", |log| log.read > 0)?;
        ensure!(log.round().is_none(), "its program computes already");
        take_away(machine, &first)?;
        let moved = machine.guest("g")?.pages_moved;
        ensure!(moved >= 192 * 1024 * 1024 / lab.page(), "{moved} pages moved");
        for _ in 1..pulls {
            let next = plug(machine, DIMM)?;
            let rounds = log.round().map_or(0, |round| round.number) + ROUNDS;
            machine.wait_log("g", &mut log, "computing", |log| log.has_round(rounds))?;
            take_away(machine, &second)?;
            second = next;
        }
        let last = log.round().map_or(0, |round| round.number) + ROUNDS;
        let moved = to_round(machine, &mut log, if pulls == 1 { None } else { Some(last) })?;
        ensure!(moved > 0, "no page moved");

        machine.run(&format!("vm create g {SIZE} linux"))?;
        machine.run("vm run g")?;
        let mut undisturbed = Log::default();
        let last = if pulls == 1 { None } else { Some(log.last_round()?.number) };
        let moved = to_round(machine, &mut undisturbed, last)?;
        ensure!(moved == 0, "{moved} pages moved without a pull");
        let undisturbed = last.map_or(undisturbed.clone(), |last| undisturbed.up_to(last));
        let same = log.compare(&undisturbed)?;
        ensure!(same > 100, "a kernel writes more than {same} lines");
        unplug(machine, &second.dimm)
    })
}

/// The module for a guest; `None` on a machine without a network, or without apt, which runs all other scenarios.
fn module(config: &Config, wanted: &Wanted) -> Result<Option<Module>> {
    let root = root::workspace_root()?;
    if let Err(error) = linux::debian_kernel(&root, config.image) {
        eprintln!("left out, since there is no kernel to boot: {error:#}");
        return Ok(None);
    }
    linux::module(&root, config.image, wanted).map(Some)
}

/// The program goes on at another CPU in each round.
fn linux_on_two_virtual_cpus_computes_on_each_while_its_dimm_is_pulled(lab: &Lab) -> Result<()> {
    let config = Config { cpus: 3, ..lab.room(&[DIMM, DIMM])? };
    let wanted = Wanted { mib: 32, rounds: 0, ..Wanted::default() };
    let Some(module) = module(&config, &wanted)? else { return Ok(()) };
    lab.with(&config.module(module), |machine| {
        let first = plug(machine, DIMM)?;
        machine.run(&format!("vm create g {SIZE} --vcpus 2 linux"))?;
        let second = plug(machine, DIMM)?;
        machine.run("vm run g")?;
        let mut log = Log::default();
        machine.wait_log("g", &mut log, "computing", |log| log.has_round(2))?;
        ensure!(log.cpus() == 2, "the guest uses {} CPUs: {:?}", log.cpus(), log.tail(20));
        let before = log.last_round()?.number;
        take_away(machine, &first)?;
        let enough = before + 4;
        machine.wait_log("g", &mut log, "going on", |log| log.has_round(enough))?;
        let guest = machine.guest("g")?;
        ensure!(guest.pages_moved >= guest.bytes / lab.page(), "{guest:?}");
        ensure!(log.last_round()?.wrong_words == 0, "{guest:?}");
        machine.run("verify")?;
        machine.run("vm kill g")?;
        unplug(machine, &second.dimm)
    })
}

fn a_linux_guest_without_a_kernel_is_refused_by_name(lab: &Lab) -> Result<()> {
    lab.with(&lab.room(&[DIMM])?, |machine| {
        let why = machine.refused("vm create g 1M linux")?;
        ensure!(why.starts_with("the kernel was booted without a module"), "{why}");
        let none = machine.guests()?;
        ensure!(none.is_empty(), "{none:?}");
        Ok(())
    })
}
