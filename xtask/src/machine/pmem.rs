//! Persistent memory, as the kernel sees it.

use anyhow::Result;
use serde::Deserialize;
use serde_json::json;

use super::dimm::backend_arguments;
use super::{Machine, Nvdimm};

/// A region of persistent memory, as the kernel lists it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Pmem {
    pub(crate) start: u64,
    pub(crate) bytes: u64,
    pub(crate) node: u64,
    pub(crate) state: String,
    pub(crate) holds: String,
    pub(crate) why: String,
}

impl Machine {
    /// The persistent memory as the kernel lists it.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub(crate) fn pmem(&mut self) -> Result<Vec<Pmem>> {
        self.read("pmem list --json")
    }

    /// Plugs an NVDIMM of QEMU's own memory, where QEMU likes. The guest is notified; this does not wait for it. QEMU has no way
    /// to unplug one.
    ///
    /// # Errors
    /// When QEMU refuses it.
    pub(crate) fn plug_nvdimm(&mut self, nvdimm: &Nvdimm) -> Result<()> {
        let number = self.dimms_made;
        self.dimms_made += 1;
        let backend = format!("nvmem{number}-later");
        self.qmp("object-add", backend_arguments(&backend, nvdimm.memory(), None))?;
        let mut device = json!({
            "driver": "nvdimm", "id": format!("nvdimm{number}-later"), "memdev": backend,
        });
        if nvdimm.labels != 0 {
            device["label-size"] = json!(nvdimm.labels);
        }
        if let Some(node) = nvdimm.node {
            device["node"] = json!(node);
        }
        self.qmp("device_add", device).map(drop)
    }
}
