//! Memory that follows the size that the host requests of a virtio-mem device.

mod need;
mod pool;
mod stays;

use anyhow::{Context, Result, ensure};

use self::need::{
    memory_grows_by_need_up_to_what_is_requested_and_shrinks_when_it_is_free,
    memory_that_another_cpu_uses_while_the_first_one_sleeps_wakes_it_to_grow,
};
use self::pool::{Pool, SOON, follow, has_pci, has_small_blocks, has_small_pages, small};
use self::stays::{
    a_block_with_pages_that_stay_shrinks_by_units_and_stays_online,
    what_cannot_go_stays_with_a_reason_and_goes_later,
};
use super::lab::{Lab, Storm, Taken, end_well};
use super::{Scenario, on_x86_64, scenarios};
use crate::arch::Arch;
use crate::machine::{Config, LABELS, Machine, Nvdimm, Step};
use crate::size::{GIB, MIB};
use hotmem_storm::Random;

pub(crate) const SCENARIOS: &[Scenario] = scenarios![
    a_small_machine_grows_by_gigabytes_and_takes_no_memory_for_it if has_pci =>
        |lab| lab.with(&small(lab, &["4G"])?, grow_and_shrink),
    a_pc_with_an_old_mainboard_follows_requests if on_x86_64 =>
        |lab| lab.with(&Config { board: "pc", ..small(lab, &["4G"])? }, grow_and_shrink),
    sizes_at_random_are_reached_whenever_there_is_room_with_half_of_it_in_use if has_small_blocks =>
        |lab| at_random(lab, &small(lab, &["1G"])?, follow_at_random),
    steps_of_a_unit_are_followed_both_ways_and_the_rest_of_the_block_stays_online if has_small_pages,
    a_block_with_pages_that_stay_shrinks_by_units_and_stays_online if has_small_pages,
    what_cannot_go_stays_with_a_reason_and_goes_later if has_pci,
    two_devices_on_two_nodes_follow_their_own_requests if has_pci,
    memory_devices_behind_bridges_follow_requests if has_pci,
    each_interrupt_controller_wakes_the_kernel_for_a_request if |lab| lab.arch() == Arch::Aarch64,
    a_64th_of_what_is_plugged_holds_its_descriptors_whatever_its_size if has_small_pages,
    a_dimm_and_a_memory_device_do_not_disturb_each_other if has_pci,
    dimms_a_memory_device_an_nvdimm_and_an_operator_change_memory_at_random if has_small_blocks,
    memory_grows_by_need_up_to_what_is_requested_and_shrinks_when_it_is_free if has_small_blocks,
    memory_that_another_cpu_uses_while_the_first_one_sleeps_wakes_it_to_grow if has_small_blocks,
];

/// Changes at random on one machine: more of them take several, each with its own timeout.
const ROUNDS_EACH: u64 = 100;

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
    Ok(())
}

/// Runs `changes`, as many as there are to be, on as many machines as that takes.
fn at_random(
    lab: &Lab,
    config: &Config,
    changes: fn(&mut Machine, &mut Pool, &mut Random, u64) -> Result<()>,
) -> Result<()> {
    let Storm { seed, changes: all, .. } = lab.storm();
    for first in (0..all).step_by(usize::try_from(ROUNDS_EACH)?) {
        let seed = seed.wrapping_add(first / ROUNDS_EACH);
        let count = ROUNDS_EACH.min(all - first);
        lab.begun(config, |machine| {
            let mut pool = Pool::new(machine)?;
            changes(machine, &mut pool, &mut Random::new(seed), count)
        })
        .with_context(|| format!("again with: --seed {seed} --rounds {count}"))?;
    }
    Ok(())
}

fn follow_at_random(
    machine: &mut Machine,
    pool: &mut Pool,
    random: &mut Random,
    count: u64,
) -> Result<()> {
    let block = pool.block;
    let mut refused = 0;
    for round in 0..count {
        // Whole blocks half of the time, units otherwise.
        let unit = if random.one_in(2) { block } else { pool.unit };
        let bytes = match round {
            // All of it, and then what half of it does not fit into.
            0 => GIB,
            1 => block,
            _ => random.below(1025) * MIB / unit * unit,
        };
        refused += u64::from(pool.request(machine, bytes)?);
        machine.wait_memory(0, bytes, SOON).with_context(|| format!("round {round}"))?;
        machine.run("verify").with_context(|| format!("an invariant is broken at {bytes:#x}"))?;
        machine.run("pool check")?;
        machine.unread_steps()?;
        pool.hold(machine, pool.half(bytes))?;
    }
    ensure!(count < 2 || refused > 0, "nothing was refused");
    pool.hold(machine, 0)?;
    follow(machine, 0, 0)?;
    end_well(machine)
}

fn steps_of_a_unit_are_followed_both_ways_and_the_rest_of_the_block_stays_online(
    lab: &Lab,
) -> Result<()> {
    lab.with(&small(lab, &["1G"])?, |machine| {
        let mut pool = Pool::new(machine)?;
        let (unit, block) = (pool.unit, pool.block);
        for size in (1..=8).chain((1..8).rev()).map(|units| units * unit) {
            step(machine, &mut pool, size)?;
        }
        // From a block in one piece, too.
        pool.hold(machine, 0)?;
        follow(machine, 0, 0)?;
        follow(machine, 0, block)?;
        for size in (1..=6).chain((3..6).rev()).map(|units| block - units * unit) {
            step(machine, &mut pool, size)?;
        }
        pool.hold(machine, 0)?;
        follow(machine, 0, 0)
    })
}

/// The host requests a size within a block, with half of that in use, and gets it: what goes leaves a block that is
/// online all the time.
fn step(machine: &mut Machine, pool: &mut Pool, bytes: u64) -> Result<()> {
    let half = bytes / 2 / pool.page;
    pool.hold(machine, pool.held.min(half))?;
    machine.unread_steps()?;
    machine.request_memory(0, bytes)?;
    machine.wait_memory(0, bytes, SOON)?;
    machine.run("verify").with_context(|| format!("an invariant is broken at {bytes:#x}"))?;
    machine.run("pool check")?;
    for step in machine.unread_steps()? {
        let Step::Offline(offline) = step else { continue };
        let blocks = offline.more["blocks"].as_array().context("a step without blocks")?;
        ensure!(blocks.iter().all(|block| block["state"] == "online"), "{bytes:#x}: {offline:?}");
    }
    pool.hold(machine, half)
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
        Ok(())
    })
}

fn memory_devices_behind_bridges_follow_requests(lab: &Lab) -> Result<()> {
    const PORT: &str = "pcie-root-port";
    let chains: [&[_]; 3] =
        [&[PORT], &[PORT, "pcie-pci-bridge"], &[PORT, "pcie-pci-bridge", "pci-bridge"]];
    for bridges in chains {
        let config = Config { bridges, ..small(lab, &["1G", "1G"])? };
        lab.with(&config, |machine| {
            for [first, second] in [[1, 0], [1, 1], [0, 1], [0, 0]] {
                follow(machine, 0, first * lab.block())?;
                follow(machine, 1, second * lab.block())?;
            }
            Ok(())
        })
        .with_context(|| format!("behind {bridges:?}"))?;
    }
    Ok(())
}

fn each_interrupt_controller_wakes_the_kernel_for_a_request(lab: &Lab) -> Result<()> {
    for (gic, its) in [(2, true), (3, true), (3, false)] {
        // QEMU has such a port only where messages can be taken.
        let ports: &[&[_]] = if its { &[&[], &["pcie-root-port"]] } else { &[&[]] };
        for &bridges in ports {
            let config = Config { gic: Some(gic), its, bridges, ..small(lab, &["1G"])? };
            lab.with(&config, |machine| {
                machine.request_memory(0, lab.block())?;
                // Nothing else wakes it: no command is typed.
                machine.wait_line(": took ")?;
                machine.unread_steps()?;
                follow(machine, 0, 0)
            })
            .with_context(|| format!("GIC {gic}, ITS {its}, behind {bridges:?}"))?;
        }
    }
    Ok(())
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
        Ok(())
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
        follow(machine, 0, 0)
    })
}

fn dimms_a_memory_device_an_nvdimm_and_an_operator_change_memory_at_random(
    lab: &Lab,
) -> Result<()> {
    let bytes = lab.dimm("256M")?.size.bytes();
    let nvdimm = Nvdimm { bytes, labels: LABELS, file: None, node: None };
    let config = lab.room(&["256M"])?.memory_devices(&[lab.dimm("1G")?]).nvdimms(vec![nvdimm]);
    at_random(lab, &config, change_at_random)
}

fn change_at_random(
    machine: &mut Machine,
    pool: &mut Pool,
    random: &mut Random,
    count: u64,
) -> Result<()> {
    let Pool { page, block, unit, boot, .. } = *pool;
    let (mut dimm, mut has_nvdimm) = (None, false);
    for round in 0..count {
        let what = match random.below(5) {
            0 => {
                let bytes = random.below(GIB / unit + 1) * unit;
                follow(machine, 0, bytes).map(|()| "the host requests memory")
            }
            1 => match dimm.take() {
                None => {
                    dimm = Some(super::lab::plug(machine, "256M")?);
                    Ok("the host plugs a DIMM")
                }
                Some(Taken { dimm, .. }) => {
                    super::lab::unplug(machine, &dimm).map(|_| "the host unplugs a DIMM")
                }
            },
            2 if has_nvdimm => {
                has_nvdimm = false;
                super::pmem::remove(machine, 0).map(|()| "an operator gives the NVDIMM back")
            }
            2 => {
                has_nvdimm = true;
                super::pmem::add(machine, "pmem add 0").map(|_| "an operator uses the NVDIMM")
            }
            3 => switch_any(machine, random, block).map(|()| "an operator switches a block"),
            // Whatever goes, boot memory has room for half as much.
            _ => pool.hold(machine, random.below(boot / 2 / page)).map(|()| "a pool changes"),
        };
        let what = what.with_context(|| format!("round {round}"))?;
        let broken = || format!("round {round}: an invariant is broken after {what}");
        machine.run("verify").with_context(broken)?;
        machine.run("pool check")?;
        machine.unread_steps()?;
    }
    pool.hold(machine, 0)?;
    if let Some(Taken { dimm, .. }) = dimm {
        super::lab::unplug(machine, &dimm)?;
    }
    if has_nvdimm {
        super::pmem::remove(machine, 0)?;
    }
    follow(machine, 0, 0)?;
    end_well(machine)
}

/// An operator takes a block of the memory device offline, or brings one online. The kernel may refuse that.
fn switch_any(machine: &mut Machine, random: &mut Random, size: u64) -> Result<()> {
    let (devices, _) = machine.memory_devices()?;
    let first = devices.first().context("no memory device")?.start / size;
    let blocks = machine.blocks()?;
    let own: Vec<_> =
        blocks.iter().filter(|block| (first..first + GIB / size).contains(&block.block)).collect();
    let Some(block) = own.get(usize::try_from(random.below(own.len().max(1) as u64))?) else {
        return Ok(());
    };
    let operation = if block.state.starts_with("online") { "offline" } else { "online" };
    machine.command(&format!("{operation} {}", block.block)).map(drop)
}
