//! Persistent memory, as the kernel sees it.

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::dimm::backend_arguments;
use super::{Machine, Nvdimm};

/// A region of persistent memory, as the kernel lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
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
        let list = self.json("pmem list --json")?;
        list.as_array()
            .context("`pmem list` gives another value than a list")?
            .iter()
            .map(read)
            .collect()
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

fn read(region: &Value) -> Result<Pmem> {
    let text = |name: &str| region[name].as_str().map(str::to_owned);
    let read = || {
        Some(Pmem {
            start: region["start"].as_u64()?,
            bytes: region["bytes"].as_u64()?,
            node: region["node"].as_u64()?,
            state: text("state")?,
            holds: text("holds")?,
            why: text("why")?,
        })
    };
    read().with_context(|| format!("no persistent memory: {region}"))
}
