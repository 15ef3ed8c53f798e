//! Memory that follows the size that the host requests of a virtio-mem device.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::lab::{Lab, end_well, finish};
use super::{Scenario, on_x86_64, scenarios};
use crate::arch::Arch;
use crate::machine::{Config, Machine};
use crate::random::Random;
use crate::size::{GIB, MIB};

pub(crate) const SCENARIOS: &[Scenario] = scenarios![
    a_small_machine_grows_by_gigabytes_and_takes_no_memory_for_it if has_pci,
    a_pc_with_an_old_mainboard_follows_requests if on_x86_64,
    memory_grows_and_shrinks_thirty_times_with_half_of_it_in_use if has_small_blocks,
    what_cannot_go_stays_with_a_reason_and_goes_later if has_pci,
    two_devices_on_two_nodes_follow_their_own_requests if has_pci,
    a_64th_of_what_is_plugged_holds_its_descriptors_whatever_its_size if has_small_pages,
    a_dimm_and_a_memory_device_do_not_disturb_each_other if has_pci,
];

/// How long the kernel may take for a request.
const SOON: Duration = Duration::from_secs(60);

/// Whether the machine can have the device, and the kernel finds it.
fn has_pci(lab: &Lab) -> bool {
    lab.arch() != Arch::Ppc64
}

/// Whether a gigabyte is several blocks.
fn has_small_blocks(lab: &Lab) -> bool {
    has_pci(lab) && lab.block() <= 128 * MIB
}

/// Whether a descriptor is a 64th of its page.
fn has_small_pages(lab: &Lab) -> bool {
    has_small_blocks(lab) && lab.page() == 4096
}

/// A machine with 64 MiB of boot memory, or what its firmware needs, and memory devices of these sizes: a gigabyte is
/// eight blocks.
fn small(lab: &Lab, devices: &[&str]) -> Result<Config> {
    let devices = devices.iter().map(|size| lab.dimm(size)).collect::<Result<Vec<_>>>()?;
    let mut config = lab.room(&[])?.memory_devices(&devices);
    config.memory = lab.memory(64 * MIB);
    Ok(config)
}

/// The host requests a size, and gets it; every invariant holds.
fn follow(machine: &mut Machine, device: usize, bytes: u64) -> Result<()> {
    machine.request_memory(device, bytes)?;
    machine.wait_memory(device, bytes, SOON)?;
    machine.run("verify").with_context(|| format!("an invariant is broken at {bytes:#x}"))?;
    machine.unread_steps()?;
    Ok(())
}

/// Bytes that the allocator has, and bytes that hold descriptors of their own range, of all blocks past boot memory.
fn managed(machine: &mut Machine) -> Result<(u64, u64)> {
    let stats = machine.json("stats --json")?;
    let bytes = |name: &str| {
        stats[name].as_u64().with_context(|| format!("`stats --json` lacks `{name}`: {stats}"))
    };
    Ok((bytes("managed_bytes")?, bytes("memmap_bytes")?))
}

fn grow_and_shrink(machine: &mut Machine) -> Result<()> {
    let free = machine.boot_free()?;
    let (devices, _) = machine.memory_devices()?;
    let unit = devices.first().context("no memory device")?.unit;
    let block = machine.geometry()?.block;
    for bytes in [unit, block + unit, 4 * GIB, GIB + 3 * unit, 4 * GIB, 0] {
        follow(machine, 0, bytes)?;
        let now = machine.boot_free()?;
        ensure!(now == free, "{bytes:#x} bytes took {} of boot memory", free - now);
    }
    finish(machine)
}

fn a_small_machine_grows_by_gigabytes_and_takes_no_memory_for_it(lab: &Lab) -> Result<()> {
    lab.with(&small(lab, &["4G"])?, grow_and_shrink)
}

fn a_pc_with_an_old_mainboard_follows_requests(lab: &Lab) -> Result<()> {
    let config = Config { board: "pc", ..small(lab, &["4G"])? };
    lab.with(&config, grow_and_shrink)
}

fn memory_grows_and_shrinks_thirty_times_with_half_of_it_in_use(lab: &Lab) -> Result<()> {
    lab.with(&small(lab, &["1G"])?, |machine| {
        let mut random = Random::new(lab.storm().seed);
        let mut held = 0;
        for round in 0..30 {
            // Whole blocks half of the time, units otherwise. At least what is in use fits beside a block that moves.
            let unit = if random.one_in(2) { 128 * MIB } else { 4 * MIB };
            let bytes = (256 * MIB + random.below(769) * MIB) / unit * unit;
            let most = bytes / 2 / lab.page();
            if held > most {
                machine.run(&format!("pool shrink {}", held - most))?;
                held = most;
            }
            follow(machine, 0, bytes).with_context(|| format!("round {round}"))?;
            machine.run("pool check")?;
            if held < most {
                machine.run(&format!("pool grow {}", most - held))?;
                held = most;
            }
        }
        machine.run(&format!("pool shrink {held}"))?;
        follow(machine, 0, 0)?;
        end_well(machine)
    })
}

fn what_cannot_go_stays_with_a_reason_and_goes_later(lab: &Lab) -> Result<()> {
    let block = lab.block();
    lab.with(&small(lab, &["1G"])?, |machine| {
        follow(machine, 0, 4 * block)?;
        machine.run("pool grow 40")?;
        machine.run("pool pin 7")?;
        machine.request_memory(0, 0)?;
        machine.wait_memory(0, block, SOON)?;
        let (devices, why) = machine.memory_devices()?;
        let why = why.context("the kernel gives no reason")?;
        ensure!(why.contains("cannot go") && why.contains("held by pool"), "{why}");
        ensure!(devices.iter().all(|device| device.fault.is_none()), "{devices:?}");
        machine.run("pool check")?;
        machine.run("verify")?;
        machine.run("pool unpin 7")?;
        // It is tried again when the kernel is awake, after a second at the earliest.
        let mut left = 10_000;
        while machine.device_memory(0)? != 0 {
            machine.run("pool check")?;
            left -= 1;
            ensure!(left > 0, "it stays: {:?}", machine.memory_devices()?);
        }
        machine.run("pool shrink 40")?;
        machine.unread_steps()?;
        finish(machine)
    })
}

fn two_devices_on_two_nodes_follow_their_own_requests(lab: &Lab) -> Result<()> {
    let size = lab.block();
    lab.with(&small(lab, &["1G@1", "1G@0"])?, |machine| {
        for [first, second] in [[3, 0], [3, 2], [1, 4], [0, 4], [0, 0]] {
            follow(machine, 0, first * size)?;
            follow(machine, 1, second * size)?;
            let (devices, _) = machine.memory_devices()?;
            ensure!(
                devices.iter().map(|device| device.plugged / size).eq([first, second]),
                "{devices:?}"
            );
            for block in machine.json("blocks --json")?.as_array().context("no list of blocks")? {
                let of = devices.iter().position(|device| {
                    let start = block["block"].as_u64().unwrap_or_default() * size;
                    (device.start..device.start + 8 * size).contains(&start)
                });
                let node = of.map_or(0, |device| [1, 0][device]);
                ensure!(block["node"] == node, "{block} is not on node {node}");
            }
        }
        finish(machine)
    })
}

fn a_64th_of_what_is_plugged_holds_its_descriptors_whatever_its_size(lab: &Lab) -> Result<()> {
    lab.with(&small(lab, &["1G"])?, |machine| {
        let (before, none) = managed(machine)?;
        ensure!(none == 0, "boot memory holds descriptors of its own: {none:#x}");
        for bytes in [2 * MIB, 4 * MIB, 64 * MIB, 128 * MIB] {
            follow(machine, 0, bytes)?;
            let (all, memmap) = managed(machine)?;
            let usable = all - before;
            ensure!(
                (usable, memmap) == (bytes - bytes / 64, bytes / 64),
                "of {bytes:#x} bytes {usable:#x} are usable, and {memmap:#x} hold descriptors"
            );
            follow(machine, 0, 0)?;
        }
        let (devices, _) = machine.memory_devices()?;
        ensure!(devices.iter().all(|device| device.unit == 2 * MIB), "{devices:?}");
        finish(machine)
    })
}

fn a_dimm_and_a_memory_device_do_not_disturb_each_other(lab: &Lab) -> Result<()> {
    let devices = [lab.dimm("1G")?];
    let config = lab.room(&["256M"])?.memory_devices(&devices);
    let (block, part) = (lab.block(), 64 * MIB);
    lab.with(&config, |machine| {
        follow(machine, 0, 2 * block + part)?;
        let taken = super::lab::plug(machine, "256M")?;
        follow(machine, 0, 3 * block + part)?;
        super::lab::unplug(machine, &taken.dimm)?;
        machine.unread_steps()?;
        follow(machine, 0, part)?;
        follow(machine, 0, 0)?;
        finish(machine)
    })
}
