//! Our own kernel as a guest of itself, whose memory is pulled while it checks its pages.

use anyhow::{Context, Result, bail, ensure};

use super::lab::{Lab, plug, unplug};
use super::{Scenario, runs_guests, runs_kernels, scenarios};
use crate::linux;
use crate::machine::{Config, Cpu, Log};
use crate::{arch::Arch, root};

pub(crate) const SCENARIOS: &[Scenario] = scenarios![
    our_own_kernel_is_a_guest_that_checks_its_pages_while_its_dimm_is_pulled if runs_kernels,
    our_own_kernel_uses_memory_on_two_virtual_cpus_while_its_dimm_is_pulled if runs_kernels,
    our_own_kernel_without_its_image_is_refused_by_name if runs_guests,
];

/// Memory of the guest, and how much of it holds a pattern.
const SIZE: &str = "48M";
const PATTERN: u64 = 16 << 20;
/// Checks that are typed before the pull.
const CHECKS: u64 = 30;
const DIMM: &str = "128M";

fn our_own_kernel_is_a_guest_that_checks_its_pages_while_its_dimm_is_pulled(
    lab: &Lab,
) -> Result<()> {
    let config = Config { cpus: 2, ..lab.room(&[DIMM, DIMM])? };
    let module = linux::own_module(&root::workspace_root()?, config.image)?;
    lab.with(&config.module(module), |machine| {
        let first = plug(machine, DIMM)?;
        machine.run(&format!("vm create g {SIZE} self"))?;
        let (guest, blocks) = (machine.guest("g")?, machine.blocks_of_dimm(&first.dimm)?);
        ensure!(guest.bytes_in(blocks) == guest.bytes, "the guest lies elsewhere: {guest:?}");
        let second = plug(machine, DIMM)?;
        let why = machine.refused("vm run g 3")?;
        ensure!(why.contains("rounds and misdeeds are for the payload"), "{why}");
        machine.run("vm run g")?;
        let mut log = Log::default();
        machine.wait_log("g", &mut log, "ready", |log| log.has("hotmem: ready"))?;
        let grow = format!("pool grow {}", PATTERN / lab.page());
        machine.type_lines("g", &["pool", "verify", &grow])?;
        (0..CHECKS).try_for_each(|_| machine.type_lines("g", &["pool check"]))?;
        machine.wait_checks("g", &mut log, 1)?;

        unplug(machine, &first.dimm)?;
        // A guest that is fast has done the others by now.
        machine.type_lines("g", &["pool check"])?;
        machine.wait_checks("g", &mut log, CHECKS + 1)?;
        let (guest, blocks) = (machine.guest("g")?, machine.blocks_of_dimm(&first.dimm)?);
        ensure!(guest.bytes_in(blocks) == 0, "the guest still lies there: {guest:?}");
        ensure!(guest.pages_moved >= guest.bytes / lab.page(), "{guest:?}");
        machine.run("verify")?;

        // The guest knows nothing of it, and is no host of guests itself.
        machine.type_lines("g", &["verify", "firmware", "vm create x 1M"])?;
        machine
            .wait_log("g", &mut log, "refusing", |log| log.has("this machine runs no guests"))?;
        ensure!(log.has("memory devices: 0"), "{:?}", log.tail(9));
        leave(lab, machine, &mut log)?;
        machine.run("vm kill g")?;
        unplug(machine, &second.dimm)
    })
}

/// It starts its second CPU as on a real machine; then both hold pages and free them, again and again.
fn our_own_kernel_uses_memory_on_two_virtual_cpus_while_its_dimm_is_pulled(
    lab: &Lab,
) -> Result<()> {
    let config = Config { cpus: 3, ..lab.room(&[DIMM, DIMM])? };
    let module = linux::own_module(&root::workspace_root()?, config.image)?;
    lab.with(&config.module(module), |machine| {
        let first = plug(machine, DIMM)?;
        machine.run(&format!("vm create g {SIZE} --vcpus 2 self"))?;
        let second = plug(machine, DIMM)?;
        machine.run("vm run g")?;
        let mut log = Log::default();
        machine.wait_log("g", &mut log, "ready", |log| log.has("hotmem: ready"))?;
        let grow = format!("pool grow {}", PATTERN / lab.page());
        machine.type_lines("g", &["cpus churn", &grow])?;
        (0..CHECKS).try_for_each(|_| machine.type_lines("g", &["pool check"]))?;
        machine.wait_checks("g", &mut log, 1)?;
        unplug(machine, &first.dimm)?;
        machine.type_lines("g", &["pool check", "cpus rest", "cpus --json", "verify", "exit"])?;
        machine.wait_checks("g", &mut log, CHECKS + 1)?;
        let end = machine.wait_log("g", &mut log, "leaving", |_| false)?;
        machine.wait_log("g", &mut log, "done", |_| true)?;
        ensure!(end.pages_moved >= end.bytes / lab.page(), "{end:?}");
        let cpus = log.find("\"hardware\"").context("the guest lists no CPUs")?;
        let cpus: Vec<Cpu> = serde_json::from_str(cpus).with_context(|| cpus.to_owned())?;
        let [_, second_cpu] = cpus.as_slice() else { bail!("the guest has {cpus:?}") };
        let has_used = second_cpu.allocated > 0 && second_cpu.allocated == second_cpu.freed;
        ensure!(second_cpu.state == "up" && has_used, "{second_cpu:?}");
        machine.run("verify")?;
        machine.run("vm kill g")?;
        unplug(machine, &second.dimm)
    })
}

/// Has the guest leave its machine; on x86_64 it uses what its board lacks instead, and is stopped by name.
fn leave(lab: &Lab, machine: &mut crate::machine::Machine, log: &mut Log) -> Result<()> {
    if lab.arch() != Arch::X86_64 {
        machine.type_lines("g", &["exit"])?;
        machine.wait_log("g", log, "leaving", |_| false)?;
        return machine.run("verify").map(drop);
    }
    machine.type_lines("g", &["cpus tick 100"])?;
    machine.wait_guest("g", "stopped", |guest| guest.state == "stopped")?;
    let why = machine.run("vm log g")?;
    let said = why.iter().any(|line| line.starts_with("its APIC timer counts"));
    ensure!(said, "{why:?}");
    machine.run("verify").map(drop)
}

fn our_own_kernel_without_its_image_is_refused_by_name(lab: &Lab) -> Result<()> {
    lab.with(&lab.room(&[DIMM])?, |machine| {
        let why = machine.refused("vm create g 1M self")?;
        ensure!(why.starts_with("the kernel was booted without a module"), "{why}");
        machine.run("vm create g 1M")?;
        let why = machine.refused("vm type g pool")?;
        ensure!(why == "guest g runs the payload, which has no serial port", "{why}");
        machine.run("vm kill g")
    })
}
