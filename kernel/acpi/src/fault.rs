//! What can go wrong with ACPI as an event source: at the start, and with one device.

use hotmem::PhysRange;
use hotmem_aml::resource::ResourceError;
use hotmem_aml::{AmlError, HostError};

use super::error::TableError;
use super::mode::ModeError;
use hotmem_hotplug::DeviceId;

hotmem::errors! {
    /// Why ACPI cannot be used at all.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    #[non_exhaustive]
    pub enum StartError {
        /// A table is missing or broken.
        Table(error: TableError) => "{error}",
        /// The byte code cannot be loaded, or its devices cannot be listed.
        Aml(error: AmlError) => "{error}",
        /// The machine stays in legacy mode.
        Mode(error: ModeError) => "{error}",
        /// An event register cannot be reached.
        Register(error: HostError) => "event registers: {error}",
        /// The kernel heap is too small for the tables.
        OutOfHeap => "the kernel heap has no room for the ACPI tables",
    }
}

impl From<TableError> for StartError {
    fn from(error: TableError) -> Self {
        Self::Table(error)
    }
}

impl From<AmlError> for StartError {
    fn from(error: AmlError) -> Self {
        Self::Aml(error)
    }
}

hotmem::errors! {
    /// What is wrong with one memory device.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    #[non_exhaustive]
    pub enum DeviceError {
        /// No device has this number.
        Unknown(device: DeviceId) => "there is no {device}",
        /// A method failed; its name.
        Method(name: &'static str, error: AmlError) => "{name}: {error}",
        /// The device has no such method or object.
        Missing(name: &'static str) => "the device has no {name}",
        /// `_CRS` returned something that is not a buffer.
        NoBuffer => "_CRS is not a buffer",
        /// The buffer of `_CRS` is broken.
        Resource(error: ResourceError) => "_CRS: {error}",
        /// A range of `_CRS` contradicts itself, or passes the end of the address space.
        Range {
            /// The first address it names.
            min: u64,
            /// The last address it names.
            max: u64,
            /// Its length, in bytes.
            length: u64,
        } => "_CRS names memory from {min:#x} to {max:#x} of {length:#x} bytes",
        /// `_CRS` names more ranges than the kernel has room for.
        TooManyRanges => "_CRS names too many ranges",
        /// `_CRS` names no memory.
        NoMemory => "_CRS names no memory",
        /// Memory of the device is persistent memory, too: a region of the NFIT.
        Persistent(region: PhysRange) =>
            "_CRS names memory of {region}, which is persistent memory of the NFIT",
        /// The device was announced, but its `_STA` says that it is not there.
        Absent(status: u64) => "announced, but _STA is {status:#x}",
    }
}
