//! The machines of these scenarios, the sizes that the host requests, and memory in use.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::super::lab::Lab;
use crate::arch::Arch;
use crate::machine::{Config, Machine};
use crate::size::{GIB, MIB};

/// How long the kernel may take for a request.
pub(super) const SOON: Duration = Duration::from_secs(60);

/// Bytes of the descriptor of a page.
pub(super) const DESCRIPTOR: u64 = 64;

/// Whether the machine can have the device, and the kernel finds it.
pub(super) fn has_pci(lab: &Lab) -> bool {
    lab.arch() != Arch::Ppc64
}

/// Whether a gigabyte is several blocks.
pub(super) fn has_small_blocks(lab: &Lab) -> bool {
    has_pci(lab) && lab.block() <= GIB / 8
}

/// Whether a descriptor is a 64th of its page.
pub(super) fn has_small_pages(lab: &Lab) -> bool {
    has_small_blocks(lab) && lab.page() == 4096
}

/// A machine with 64 MiB of boot memory, or what its firmware needs, and memory devices of these sizes: a gigabyte is
/// eight blocks.
pub(super) fn small(lab: &Lab, devices: &[&str]) -> Result<Config> {
    let devices = devices.iter().map(|size| lab.dimm(size)).collect::<Result<Vec<_>>>()?;
    let mut config = lab.room(&[])?.memory_devices(&devices);
    config.memory = lab.memory(64 * MIB);
    Ok(config)
}

/// The host requests a size, and gets it; every invariant holds.
pub(super) fn follow(machine: &mut Machine, device: usize, bytes: u64) -> Result<()> {
    machine.request_memory(device, bytes)?;
    machine.wait_memory(device, bytes, SOON)?;
    machine.run("verify").with_context(|| format!("an invariant is broken at {bytes:#x}"))?;
    machine.unread_steps()?;
    Ok(())
}

/// Pages in use, and how many fit: this does not depend on what the kernel says.
#[derive(Debug)]
pub(super) struct Pool {
    /// Bytes of a page.
    pub(super) page: u64,
    /// Bytes of a memory block.
    pub(super) block: u64,
    /// Bytes that sizes of the device are multiples of, as long as the kernel follows them.
    pub(super) unit: u64,
    /// Bytes of boot memory that are free without a pool.
    pub(super) boot: u64,
    /// Pages that it holds.
    pub(super) held: u64,
}

impl Pool {
    /// None, on this machine.
    pub(super) fn new(machine: &mut Machine) -> Result<Self> {
        let boot = machine.boot_free()?;
        let geometry = machine.geometry()?;
        let (devices, _) = machine.memory_devices()?;
        let unit = devices.first().context("no memory device")?.unit;
        Ok(Self { page: geometry.page, block: geometry.block, unit, boot, held: 0 })
    }

    /// Usable bytes of a device with so many bytes plugged: the rest is descriptors.
    pub(super) fn usable(&self, bytes: u64) -> u64 {
        bytes - bytes / self.page * DESCRIPTOR
    }

    /// Pages that half of a device with so many bytes plugged holds, and that certainly fit while a block of it moves.
    pub(super) fn half(&self, bytes: u64) -> u64 {
        let beside = self.usable(bytes / self.block * self.block) + self.boot / 2;
        (bytes / 2).min(beside) / self.page
    }

    /// Whether the pool cannot fit, whatever the kernel does.
    pub(super) fn is_too_large(&self, bytes: u64) -> bool {
        self.held * self.page > self.usable(bytes) + self.boot
    }

    /// Has the pool hold so many pages.
    pub(super) fn hold(&mut self, machine: &mut Machine, pages: u64) -> Result<()> {
        match pages.checked_sub(self.held) {
            Some(0) => {}
            Some(more) => drop(machine.run(&format!("pool grow {more}"))?),
            None => drop(machine.run(&format!("pool shrink {}", self.held - pages))?),
        }
        self.held = pages;
        Ok(())
    }

    /// The host requests a size. If the pool is too large for it, the size is not reached, which has a reason, and is requested
    /// again once the pool is small enough. Returns whether it was too large.
    pub(super) fn request(&mut self, machine: &mut Machine, bytes: u64) -> Result<bool> {
        let fits = self.half(bytes).min(self.held);
        let too_large = self.is_too_large(bytes);
        if too_large {
            machine.request_memory(0, bytes)?;
            let why = reason(machine, bytes)?;
            ensure!(why.contains("cannot go"), "{why}");
            let plugged = machine.device_memory(0)?;
            ensure!(plugged > bytes, "{plugged:#x} bytes hold {} pages", self.held);
        }
        // Whether a pool that is a little smaller fits may depend on the kernel.
        self.hold(machine, fits)?;
        if too_large {
            machine.request_memory_again(0, bytes, SOON)?;
        } else {
            machine.request_memory(0, bytes)?;
        }
        Ok(too_large)
    }
}

/// Waits until the kernel says why memory does not go for a request of `bytes`: a reason that it had before is one of the size
/// before.
pub(super) fn reason(machine: &mut Machine, bytes: u64) -> Result<String> {
    for _ in 0..10_000 {
        let (devices, why) = machine.memory_devices()?;
        ensure!(devices.iter().all(|device| device.fault.is_none()), "{devices:?}");
        let device = devices.first().context("no memory device")?;
        if let Some(why) = why.filter(|_| device.requested == bytes) {
            return Ok(why);
        }
    }
    bail!("the kernel gives no reason")
}
