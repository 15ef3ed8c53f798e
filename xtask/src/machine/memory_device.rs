//! Memory devices of the paravirtual kind (virtio-mem): the host requests a size, and the kernel follows.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use serde_json::json;

use super::Machine;

/// What a memory device is like, as the kernel says.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct MemoryDevice {
    /// Physical address of its region.
    pub(crate) start: u64,
    /// Bytes that memory comes and goes in.
    pub(crate) unit: u64,
    /// Bytes that the host requests, as far as the kernel has seen.
    pub(crate) requested: u64,
    /// Bytes that are plugged.
    pub(crate) plugged: u64,
    /// What is wrong with it, if anything is.
    pub(crate) fault: Option<String>,
}

/// What the kernel says of all of them.
#[derive(Debug, Deserialize)]
struct MemoryReport {
    virtio_mem: Vec<MemoryDevice>,
    why: Option<String>,
    short: bool,
}

impl Machine {
    /// Requests `bytes` of memory device `number`; this does not wait for the kernel.
    ///
    /// # Errors
    /// When QEMU refuses it.
    pub(crate) fn request_memory(&mut self, number: usize, bytes: u64) -> Result<()> {
        let arguments = json!({"path": path(number), "property": "requested-size", "value": bytes});
        self.qmp("qom-set", arguments).map(drop)
    }

    /// Requests `bytes` of memory device `number` again, so that the kernel tries at once what it was refused: it does so after
    /// another size, and sees what is plugged requested before.
    ///
    /// # Errors
    /// When QEMU refuses it, or the kernel does not see that in time.
    pub(crate) fn request_memory_again(
        &mut self,
        number: usize,
        bytes: u64,
        within: Duration,
    ) -> Result<()> {
        let plugged = self.device_memory(number)?;
        self.request_memory(number, plugged)?;
        let deadline = Instant::now() + within;
        loop {
            let (devices, _) = self.memory_devices()?;
            let device = devices.get(number).with_context(|| format!("no device {number}"))?;
            if device.requested == plugged {
                return self.request_memory(number, bytes);
            }
            ensure!(Instant::now() < deadline, "{plugged:#x} bytes are requested of {device:?}");
        }
    }

    /// Bytes that are plugged of memory device `number`, as QEMU reports them.
    ///
    /// # Errors
    /// When QEMU does not say.
    pub(crate) fn device_memory(&mut self, number: usize) -> Result<u64> {
        let size = self.qmp("qom-get", json!({"path": path(number), "property": "size"}))?;
        size.as_u64().with_context(|| format!("QEMU says that the size is {size}"))
    }

    /// Waits until exactly `bytes` are plugged of memory device `number`.
    ///
    /// # Errors
    /// When that does not happen in time; the error has the size, and what the kernel says.
    pub(crate) fn wait_memory(
        &mut self,
        number: usize,
        bytes: u64,
        within: Duration,
    ) -> Result<()> {
        let deadline = Instant::now() + within;
        loop {
            let plugged = self.device_memory(number)?;
            if plugged == bytes {
                return Ok(());
            }
            if Instant::now() >= deadline {
                let said = self.run("firmware")?.join("; ");
                bail!("{plugged:#x} bytes are plugged instead of {bytes:#x}: {said}");
            }
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// The memory devices as the kernel has them, and why it did not give up memory, if it did not.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub(crate) fn memory_devices(&mut self) -> Result<(Vec<MemoryDevice>, Option<String>)> {
        let MemoryReport { virtio_mem, why, .. } = self.memory_report()?;
        Ok((virtio_mem, why))
    }

    /// Whether the kernel, which plugs memory by need, is short of it.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub(crate) fn memory_is_short(&mut self) -> Result<bool> {
        Ok(self.memory_report()?.short)
    }

    fn memory_report(&mut self) -> Result<MemoryReport> {
        let all = self.json("firmware --json")?;
        let parts = all.as_array().map_or(std::slice::from_ref(&all), Vec::as_slice);
        let part = parts.iter().find(|part| part.get("virtio_mem").is_some());
        let part = part.with_context(|| format!("no memory devices in {all}"))?;
        MemoryReport::deserialize(part)
            .with_context(|| format!("cannot read what the kernel says of memory devices: {part}"))
    }
}

fn path(number: usize) -> String {
    format!("/machine/peripheral/vmem{number}")
}
