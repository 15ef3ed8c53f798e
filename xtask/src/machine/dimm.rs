//! Plugging and unplugging DIMMs by QMP, and the firmware's reports about each.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_json::{Value, json};

use super::region::Region;
use super::{Add, Machine, Offline, Online, Remove};
use crate::arch::Replies;
use crate::scratch::Scratch;
use crate::size::{DimmSpec, GIB, MIB};

/// What a guest is asked to do with a DIMM, by the `_OST` source event (ACPI 6.5, table 6.21).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Request {
    /// Notification value 1, device check.
    Insertion = 1,
    /// Notification value 3, ejection request.
    Ejection = 3,
}

/// `_OST` status "ejection in progress" (ACPI 6.5, table 6.22), which a final status follows.
pub(super) const IN_PROGRESS: u64 = 0x84;

/// The memory region for hot-plugged memory, among QEMU's objects. Its name and properties are the same in
/// every QEMU from 2.1 on, while the text of `info mtree` differs: newer ones also list the region as an
/// address space of that name.
const WINDOW: &str = "/machine/device-memory[0]";
/// What is wrong when it is not there.
const NO_WINDOW: &str = "the machine has no window for hot-plugged memory";

/// The type of memory devices that are no DIMMs, in QEMU's words.
const VIRTIO_MEM: &str = "virtio-mem";

/// A DIMM in a slot.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Dimm {
    /// QEMU's name for the device.
    pub(crate) id: String,
    /// QEMU's name for the memory behind it.
    #[serde(rename = "memdev")]
    pub(super) backend: String,
    /// Physical address.
    #[serde(rename = "addr")]
    pub(crate) start: u64,
    /// Size in bytes.
    pub(crate) size: u64,
    /// NUMA node, as the machine reports it.
    pub(crate) node: u64,
    pub(super) slot: u64,
}

impl Dimm {
    /// Does `event` report that this DIMM is gone?
    pub(super) fn is_deleted_by(&self, event: &Value) -> bool {
        event["event"] == "DEVICE_DELETED" && event["data"]["device"] == self.id.as_str()
    }

    /// Does `event` report that the guest keeps this DIMM? On pseries there is one for each refusal, by the name
    /// that this QEMU has for it.
    pub(super) fn is_kept_by(&self, event: &Value) -> bool {
        let refusal = matches!(
            event["event"].as_str(),
            Some("MEM_UNPLUG_ERROR" | "DEVICE_UNPLUG_GUEST_ERROR")
        );
        refusal && event["data"]["device"] == self.id.as_str()
    }
}

/// The status in `event` for a request about a DIMM. A device has no name in the event once it is gone, so DIMMs are
/// distinguished by their slots.
fn slot_status(event: &Value, dimm: &Dimm, request: Request) -> Option<u64> {
    let info = &event["data"]["info"];
    let ours = event["event"] == "ACPI_DEVICE_OST"
        && info["source"] == request as u64
        && info["slot"] == dimm.slot.to_string().as_str();
    info["status"].as_u64().filter(|_| ours)
}

impl Machine {
    /// Plugs a DIMM, filled with `fill` if given. The guest is notified; this does not wait for it.
    ///
    /// # Errors
    /// When there is no room for it or QEMU refuses it.
    pub(crate) fn plug(&mut self, spec: DimmSpec, fill: Option<u8>) -> Result<Dimm> {
        let start = self.region()?.place(spec.size.bytes())?;
        let plugged = self.plug_at(spec, fill, start);
        if plugged.is_err() {
            self.region()?.release(start);
        }
        plugged
    }

    /// Plugs a DIMM at the end of the window for DIMMs.
    ///
    /// # Errors
    /// When QEMU refuses it, there for example.
    pub(crate) fn plug_last(&mut self, spec: DimmSpec) -> Result<Dimm> {
        let start = self.region()?.take_last(spec.size.bytes());
        self.plug_at(spec, None, start)
    }

    /// Plugs a DIMM right behind another one, where the first of its memory may be in the same memory block.
    ///
    /// # Errors
    /// When QEMU refuses it, there for example.
    pub(crate) fn plug_behind(&mut self, before: &Dimm, spec: DimmSpec) -> Result<Dimm> {
        let start = before.start + before.size;
        self.region()?.take(start, spec.size.bytes());
        self.plug_at(spec, None, start)
    }

    fn plug_at(&mut self, spec: DimmSpec, fill: Option<u8>, start: u64) -> Result<Dimm> {
        let number = self.dimms_made;
        self.dimms_made += 1;
        let (id, backend) = (format!("dimm{number}"), format!("mem{number}"));

        self.make_backend(&backend, spec.size.bytes(), fill)?;
        let mut device = json!({"driver": "pc-dimm", "id": id, "memdev": backend, "addr": start});
        if let Some(node) = spec.node {
            device["node"] = json!(node);
        }
        if let Err(refusal) = self.qmp("device_add", device) {
            self.qmp("object-del", json!({"id": backend}))?;
            return Err(refusal);
        }
        let dimms = self.dimms()?;
        dimms.into_iter().find(|dimm| dimm.id == id).with_context(|| format!("QEMU lost {id}"))
    }

    /// Makes memory for a DIMM; a fill takes a file, because no other memory has contents beforehand.
    fn make_backend(&mut self, id: &str, size: u64, fill: Option<u8>) -> Result<()> {
        let Some(byte) = fill else {
            return self.qmp("object-add", backend_arguments(id, size, None)).map(|_| ());
        };
        let dir = backing_dir()?;
        let path = dir.path().join(id);
        write_filled(&path, size, byte)
            .with_context(|| format!("cannot fill {}", path.display()))?;
        // QEMU keeps the file open: its name goes with the directory, here and now.
        self.qmp("object-add", backend_arguments(id, size, Some(&path)))?;
        self.files.insert(id.to_owned(), File::open(&path)?);
        Ok(())
    }

    /// The file behind a DIMM that was plugged with a fill: it can be read when the DIMM is gone, too.
    ///
    /// # Errors
    /// When there is none.
    pub(crate) fn file_behind(&self, dimm: &Dimm) -> Result<File> {
        let file = self.files.get(&dimm.backend).context("no file is behind this DIMM")?;
        Ok(file.try_clone()?)
    }

    /// Requests the unplug of a DIMM from the guest.
    ///
    /// # Errors
    /// When QEMU refuses to ask.
    pub(crate) fn unplug(&mut self, dimm: &Dimm) -> Result<()> {
        self.qmp("device_del", json!({"id": dimm.id})).map(|_| ())
    }

    /// Waits until a DIMM is gone, and frees the memory behind it.
    ///
    /// # Errors
    /// When it stays, or the guest reported before that it stays.
    pub(crate) fn wait_deleted(&mut self, dimm: &Dimm) -> Result<()> {
        let what = format!("DEVICE_DELETED of {}", dimm.id);
        self.event(&what, |event| dimm.is_deleted_by(event).then_some(()))?;
        let kept = self.qmp.take_event(|event| dimm.is_kept_by(event));
        ensure!(kept.is_none(), "{} is gone, but the guest reported that it stays", dimm.id);
        self.free(dimm)
    }

    /// Plugs a DIMM, which the kernel adds and puts online.
    ///
    /// # Errors
    /// When QEMU refuses it, or a step fails.
    pub(crate) fn plug_online(&mut self, spec: DimmSpec) -> Result<(Dimm, Add, Online)> {
        Ok((self.plug(spec, None)?, self.done()?, self.done()?))
    }

    /// Unplugs a DIMM, which the kernel gives up.
    ///
    /// # Errors
    /// When QEMU refuses it, a step fails, or the DIMM stays.
    pub(crate) fn unplug_gone(&mut self, dimm: &Dimm) -> Result<(Offline, Remove)> {
        self.unplug(dimm)?;
        self.wait_gone(dimm)
    }

    /// Waits until a DIMM is gone whose unplug was requested.
    ///
    /// # Errors
    /// When a step fails, or the DIMM stays.
    pub(crate) fn wait_gone(&mut self, dimm: &Dimm) -> Result<(Offline, Remove)> {
        let steps = (self.done()?, self.done()?);
        self.wait_deleted(dimm)?;
        Ok(steps)
    }

    /// Waits until the guest reports that a DIMM stays whose unplug was requested; returns at once where that is
    /// reported by a status (see [`status`](Self::status)).
    ///
    /// # Errors
    /// When no report comes.
    pub(crate) fn wait_kept(&mut self, dimm: &Dimm) -> Result<()> {
        if self.about.replies == Replies::Ost {
            return Ok(());
        }
        let what = format!("that {} stays", dimm.id);
        self.event(&what, |event| dimm.is_kept_by(event).then_some(()))
    }

    /// Frees the memory and the address of `dimm` if it is gone by now; returns whether it is.
    ///
    /// # Errors
    /// When QEMU does not free the memory.
    pub(crate) fn reap(&mut self, dimm: &Dimm) -> Result<bool> {
        let gone = self.qmp.take_event(|event| dimm.is_deleted_by(event)).is_some();
        if gone {
            self.free(dimm)?;
        }
        Ok(gone)
    }

    /// Frees what stood behind a DIMM that is gone.
    pub(super) fn free(&mut self, dimm: &Dimm) -> Result<()> {
        self.qmp("object-del", json!({"id": dimm.backend}))?;
        self.files.remove(&dimm.backend);
        self.region()?.release(dimm.start);
        Ok(())
    }

    /// The final status that the guest reported to firmware for a request; `None` where firmware takes none.
    ///
    /// # Errors
    /// When it gives none.
    pub(crate) fn status(&mut self, dimm: &Dimm, request: Request) -> Result<Option<u64>> {
        self.statuses(dimm, request).map(|statuses| statuses.last().copied())
    }

    /// All statuses that the firmware gets for a request, from "in progress" to the end; none where the firmware
    /// takes no statuses.
    ///
    /// # Errors
    /// When no end comes.
    pub(crate) fn statuses(&mut self, dimm: &Dimm, request: Request) -> Result<Vec<u64>> {
        let mut statuses = Vec::new();
        if self.about.replies != Replies::Ost {
            return Ok(statuses);
        }
        let what = format!("ACPI_DEVICE_OST ({request:?} of {})", dimm.id);
        while statuses.last().is_none_or(|&last| last == IN_PROGRESS) {
            statuses.push(self.event(&what, |event| slot_status(event, dimm, request))?);
        }
        Ok(statuses)
    }

    /// All statuses that the firmware got for a request so far; none where the firmware takes no statuses.
    ///
    /// # Errors
    /// When QEMU does not reply.
    pub(crate) fn heard(&mut self, dimm: &Dimm, request: Request) -> Result<Vec<u64>> {
        // A reply comes behind the events before it.
        self.qmp("query-status", json!({}))?;
        let mut statuses = Vec::new();
        let mut status = |event: &Value| {
            let found = slot_status(event, dimm, request);
            statuses.extend(found);
            found.is_some()
        };
        while self.qmp.take_event(&mut status).is_some() {}
        Ok(statuses)
    }

    /// All DIMMs, as QEMU reports them.
    ///
    /// # Errors
    /// When QEMU's reply is not as expected.
    pub(crate) fn dimms(&mut self) -> Result<Vec<Dimm>> {
        let reply = self.qmp("query-memory-devices", json!({}))?;
        let devices = reply.as_array().context("query-memory-devices returned no list")?;
        let dimms = devices.iter().filter(|device| device["type"] != VIRTIO_MEM);
        dimms.map(|device| read_dimm(&device["data"])).collect()
    }

    /// The addresses that other memory devices have, whether memory is there or not: starts and sizes.
    fn other_memory(&mut self) -> Result<Vec<(u64, u64)>> {
        let reply = self.qmp("query-memory-devices", json!({}))?;
        let devices = reply.as_array().map(Vec::as_slice).unwrap_or_default();
        let others = devices.iter().filter(|device| device["type"] == VIRTIO_MEM);
        let range = |device: &Value| {
            let data = &device["data"];
            data["memaddr"].as_u64().zip(data["max-size"].as_u64())
        };
        others
            .map(|device| range(device).with_context(|| format!("{device} has no place")))
            .collect()
    }

    /// The window for DIMMs, asked for once.
    pub(super) fn region(&mut self) -> Result<&mut Region> {
        if self.region.is_none() {
            let [start, size] = ["addr", "size"]
                .map(|property| self.qmp("qom-get", json!({"path": WINDOW, "property": property})));
            let (start, size) = (start.context(NO_WINDOW)?, size.context(NO_WINDOW)?);
            let mut region = Region::read(&start, &size, self.about.dimm_alignment)?;
            for dimm in self.dimms()? {
                region.take(dimm.start, dimm.size);
            }
            for (start, size) in self.other_memory()? {
                region.take(start, size);
            }
            self.region = Some(region);
        }
        self.region.as_mut().context("no window for DIMMs")
    }
}

/// A directory for backing files: in memory where there is some for files, so that the disk does not set
/// the pace.
fn backing_dir() -> Result<Scratch> {
    let shared = Path::new("/dev/shm");
    if shared.is_dir() { Scratch::under(shared) } else { Scratch::new() }
}

/// Of more memory than this the kernel touches a sample only.
const SAMPLED: u64 = 4 * GIB;

/// Arguments of `object-add` for memory that takes no room until it is touched.
///
/// QEMU asks for huge pages for private memory, so that a byte touched here and there would bring all of it
/// into this host's. Shared memory comes page by page.
pub(super) fn backend_arguments(id: &str, size: u64, file: Option<&Path>) -> Value {
    let mut arguments =
        json!({"qom-type": "memory-backend-ram", "id": id, "size": size, "reserve": false});
    if size > SAMPLED {
        arguments["share"] = json!(true);
    }
    if let Some(path) = file {
        arguments["qom-type"] = json!("memory-backend-file");
        arguments["mem-path"] = json!(path.to_string_lossy());
        arguments["share"] = json!(true);
    }
    arguments
}

fn write_filled(path: &Path, size: u64, byte: u8) -> Result<()> {
    if byte == 0 {
        // Without room on the disk until it is written.
        return Ok(File::create(path)?.set_len(size)?);
    }
    let chunk = vec![byte; usize::try_from(size.min(MIB))?];
    let mut file = File::create(path)?;
    let mut left = size;
    while left > 0 {
        let count = usize::try_from(left.min(MIB))?;
        file.write_all(chunk.get(..count).unwrap_or_default())?;
        left -= left.min(MIB);
    }
    Ok(())
}

/// Reads one element of `query-memory-devices`.
fn read_dimm(data: &Value) -> Result<Dimm> {
    let dimm = Dimm::deserialize(data);
    let mut dimm = dimm.with_context(|| format!("cannot read the memory device {data}"))?;
    dimm.backend = dimm.backend.trim_start_matches("/objects/").to_owned();
    Ok(dimm)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_memory_device_is_read_as_qemu_describes_it() {
        let data = json!({"memdev": "/objects/mem0", "hotplugged": true, "addr": 4294967296_u64, "hotpluggable": true, "size": 104857600, "slot": 0, "node": 1, "id": "dimm0"});
        let dimm = read_dimm(&data).unwrap();
        assert_eq!(
            (dimm.backend.as_str(), dimm.start, dimm.size, dimm.node),
            ("mem0", 1 << 32, 100 << 20, 1)
        );
        assert!(read_dimm(&json!({"id": "x"})).is_err());
    }

    #[test]
    fn memory_is_not_reserved_and_may_come_from_a_file() {
        assert_eq!(backend_arguments("m", 1, None)["reserve"], false);
        assert!(backend_arguments("m", SAMPLED, None)["share"].is_null());
        assert_eq!(backend_arguments("m", SAMPLED + 1, None)["share"], true);
        let file = backend_arguments("m", 1, Some(Path::new("/f")));
        assert_eq!(
            (file["qom-type"].as_str(), file["mem-path"].as_str()),
            (Some("memory-backend-file"), Some("/f"))
        );
    }

    #[test]
    fn a_filled_file_holds_the_byte_to_its_odd_end() {
        let scratch = Scratch::new().unwrap();
        let path = scratch.path().join("fill");
        write_filled(&path, MIB + 3, 0xff).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        assert!(bytes.len() == (1 << 20) + 3 && bytes.iter().all(|&byte| byte == 0xff));
    }
}
