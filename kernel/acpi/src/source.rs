//! What is kept of a machine with ACPI.

use alloc::vec::Vec;

use hotmem_aml::Aml;
use hotmem_hotplug::{Latch, Line};

use super::device::Devices;
use super::error::TableError;
use super::facs::GlobalLock;
use super::fadt::Fadt;
use super::handlers::Handlers;
use super::nvdimm::Pmem;
use super::parent::Round;
use super::srat::Affinity;

/// The memory devices and events of a machine with ACPI.
#[derive(Debug)]
pub struct AcpiSource<H> {
    pub(super) aml: Aml,
    pub(super) hardware: H,
    pub(super) fadt: Fadt,
    pub(super) handlers: Handlers,
    pub(super) devices: Devices,
    /// The lock that firmware shares.
    pub(super) lock: Option<GlobalLock>,
    /// The request about a container that is under way.
    pub(super) round: Option<Round>,
    /// Tables that were left out, and why.
    pub(super) left_out: Vec<TableError>,
    /// Which memory is near which domain, for devices that do not say.
    pub(super) affinity: Vec<Affinity>,
    pub(super) latch: &'static Latch,
    /// Persistent memory, if [`find_pmem`](Self::find_pmem) found some.
    pub(super) pmem: Pmem,
}

impl<H> AcpiSource<H> {
    /// The interrupt lines to set up. Their position is what [`Latch::raise`] wants.
    pub fn lines(&self) -> &[Line] {
        &self.handlers.lines
    }

    /// How many memory devices the tables describe, there or not.
    pub fn device_count(&self) -> usize {
        self.devices.len()
    }

    /// The evaluator, to look things up in.
    pub const fn aml(&self) -> &Aml {
        &self.aml
    }
}
