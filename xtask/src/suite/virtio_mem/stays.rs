//! Memory that cannot go, and what goes beside it.

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::super::lab::Lab;
use super::pool::{Pool, SOON, follow, has_small_pages, small};
use crate::machine::{Machine, Step};

/// Pages that cannot move are in a block, which is one piece: units leave between them, and it stays online.
pub(super) fn a_block_with_pages_that_stay_shrinks_by_units_and_stays_online(
    lab: &Lab,
) -> Result<()> {
    lab.with(&small(lab, &["1G"])?, |machine| {
        let mut pool = Pool::new(machine)?;
        let (unit, block) = (pool.unit, pool.block);
        follow(machine, 0, block)?;
        let first = machine.memory_devices()?.0.first().context("no memory device")?.start / block;
        pool.hold(machine, block / 2 / pool.page)?;
        let pinned = [5, 3000, 7000, 12_000];
        pinned
            .iter()
            .try_for_each(|handle| machine.run(&format!("pool pin {handle}")).map(drop))?;
        for units in (1..=8).chain([20, 28]) {
            machine.request_memory(0, block - units * unit)?;
            machine.wait_memory(0, block - units * unit, SOON)?;
            machine.run("verify").with_context(|| format!("{units} units less"))?;
            machine.run("pool check")?;
            for step in machine.unread_steps()? {
                let Step::Offline(offline) = step else { continue };
                let blocks = offline.more["blocks"].as_array().context("a step without blocks")?;
                let online = |one: &Value| one["block"] == first && one["state"] == "online";
                ensure!(blocks.iter().all(online), "{units} units less: {offline:?}");
            }
        }
        pinned.iter().try_for_each(|at| machine.run(&format!("pool unpin {at}")).map(drop))?;
        pool.hold(machine, 0)?;
        follow(machine, 0, 0)
    })
}

pub(super) fn what_cannot_go_stays_with_a_reason_and_goes_later(lab: &Lab) -> Result<()> {
    let block = lab.block();
    lab.with(&small(lab, &["1G"])?, |machine| {
        follow(machine, 0, 4 * block)?;
        machine.run("pool grow 40")?;
        machine.run("pool pin 7")?;
        machine.request_memory(0, 0)?;
        // The unit with the page, and the one before it if the memmap would lie on the page; or the block.
        let unit = machine.memory_devices()?.0.first().context("no memory device")?.unit;
        let most = if has_small_pages(lab) { 2 * unit } else { block };
        wait_until(machine, |machine| {
            let (devices, why) = machine.memory_devices()?;
            let few = devices.iter().all(|device| (1..=most).contains(&device.plugged));
            Ok(few && why.is_some())
        })?;
        let (devices, why) = machine.memory_devices()?;
        let why = why.context("the kernel gives no reason")?;
        ensure!(why.contains("cannot go") && why.contains("held by pool"), "{why}");
        ensure!(devices.iter().all(|device| device.fault.is_none()), "{devices:?}");
        machine.run("pool check")?;
        machine.run("verify")?;
        machine.run("pool unpin 7")?;
        // It is tried again when the kernel is awake, after a second at the earliest.
        wait_until(machine, |machine| Ok(machine.device_memory(0)? == 0))?;
        machine.run("pool shrink 40")?;
        machine.unread_steps()
    })
}

/// Keeps the kernel awake until `is_so`.
fn wait_until(
    machine: &mut Machine,
    mut is_so: impl FnMut(&mut Machine) -> Result<bool>,
) -> Result<()> {
    for _ in 0..10_000 {
        if is_so(machine)? {
            return Ok(());
        }
        machine.run("pool check")?;
    }
    bail!("it stays: {:?}", machine.memory_devices()?)
}
