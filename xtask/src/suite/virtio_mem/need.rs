//! Memory that is plugged when it is short, and given back when it is not.

use anyhow::{Result, bail, ensure};

use super::super::lab::Lab;
use super::pool::{Pool, SOON, follow, small};
use crate::machine::{Config, Machine};
use crate::size::GIB;

pub(super) fn memory_grows_by_need_up_to_what_is_requested_and_shrinks_when_it_is_free(
    lab: &Lab,
) -> Result<()> {
    let config = small(lab, &["1G"])?.word("virtio_mem=need:1M,2M");
    lab.with(&config, |machine| {
        let mut pool = Pool::new(machine)?;
        ensure!(machine.run("virtio_mem")? == ["need 1048576 2097152"], "the word was not read");
        let (low, high) = (pool.boot / 2, pool.boot / 4 * 3);
        machine.run(&format!("virtio_mem need {low} {high}"))?;
        offer(machine, pool.block)?;
        ensure!(machine.device_memory(0)? == 0, "memory is not short, and was plugged");

        // Until all that the host requests is plugged, and memory is short all the same.
        use_until(machine, &mut pool, low / 2, |machine| {
            Ok(machine.memory_is_short()? && machine.memory_devices()?.1.is_some())
        })?;
        let (devices, why) = machine.memory_devices()?;
        let full = "memory is short, and all that is requested is plugged";
        ensure!(why.as_ref().is_some_and(|why| why.contains(full)), "{why:?}: {devices:?}");
        ensure!(machine.device_memory(0)? == pool.block, "{devices:?}");

        // The host requests more: the kernel takes as much of it as ends that.
        let offered = 4 * pool.block;
        offer(machine, offered)?;
        use_until(machine, &mut pool, low / 2, |machine| {
            Ok(machine.device_memory(0)? > 2 * offered / 4)
        })?;
        ensure!(!machine.memory_is_short()?, "memory is still short");
        ensure!(machine.device_memory(0)? < offered, "all of it is plugged");
        pool.hold(machine, 0)?;
        machine.wait_memory(0, 0, SOON)?;
        machine.run("verify")?;
        machine.unread_steps()?;
        machine.run("virtio_mem eager")?;
        machine.wait_memory(0, offered, SOON)?;
        follow(machine, 0, 0)
    })
}

pub(super) fn memory_that_another_cpu_uses_while_the_first_one_sleeps_wakes_it_to_grow(
    lab: &Lab,
) -> Result<()> {
    let config = small(lab, &["1G"])?.word("virtio_mem=need:1M,2M");
    lab.with(&Config { cpus: 2, ..config }, |machine| {
        let (pool, free) = (Pool::new(machine)?, machine.boot_free()?);
        machine.run(&format!("virtio_mem need {} {}", free / 2, free / 8 * 5))?;
        offer(machine, pool.unit)?;
        for _ in 0..3 {
            ensure!(machine.device_memory(0)? == 0, "memory is not short, and was plugged");
            machine.run(&format!("cpus hold {}", free / 4 * 3 / pool.page))?;
            // Nothing is typed meanwhile: only the other CPU can wake the first one.
            machine.wait_memory(0, pool.unit, SOON)?;
            machine.run("cpus rest")?;
            machine.wait_memory(0, 0, SOON)?;
            machine.run("verify")?;
            machine.unread_steps()?;
        }
        machine.run("virtio_mem eager")?;
        follow(machine, 0, 0)
    })
}

/// The host requests a size, which the kernel sees.
fn offer(machine: &mut Machine, bytes: u64) -> Result<()> {
    machine.request_memory(0, bytes)?;
    for _ in 0..10_000 {
        if machine.memory_devices()?.0.iter().all(|device| device.requested == bytes) {
            return machine.run("verify").map(drop);
        }
    }
    bail!("the kernel does not see that {bytes:#x} bytes are requested")
}

/// Has the pool hold `step` bytes more at a time, until `enough`. After each step memory is checked.
fn use_until(
    machine: &mut Machine,
    pool: &mut Pool,
    step: u64,
    mut enough: impl FnMut(&mut Machine) -> Result<bool>,
) -> Result<()> {
    let most = GIB / step;
    for _ in 0..most {
        if enough(machine)? {
            return machine.run("pool check").map(drop);
        }
        pool.hold(machine, pool.held + step / pool.page)?;
        machine.run("verify")?;
        machine.unread_steps()?;
    }
    bail!("{} pages in use are not enough: {:?}", pool.held, machine.memory_devices()?)
}
