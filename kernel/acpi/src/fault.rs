//! What can go wrong with ACPI as an event source: at the start, and with one device.

use core::fmt;

use hotmem::PhysRange;
use hotmem_aml::resource::ResourceError;
use hotmem_aml::{AmlError, HostError};

use super::error::TableError;
use super::mode::ModeError;
use hotmem_hotplug::DeviceId;

/// Why ACPI cannot be used at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StartError {
    /// A table is missing or broken.
    Table(TableError),
    /// The byte code cannot be loaded, or its devices cannot be listed.
    Aml(AmlError),
    /// The machine stays in legacy mode.
    Mode(ModeError),
    /// An event register cannot be reached.
    Register(HostError),
    /// The kernel heap is too small for the tables.
    OutOfHeap,
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Table(error) => error.fmt(f),
            Self::Aml(error) => error.fmt(f),
            Self::Mode(error) => error.fmt(f),
            Self::Register(error) => write!(f, "event registers: {error}"),
            Self::OutOfHeap => f.write_str("the kernel heap has no room for the ACPI tables"),
        }
    }
}

impl core::error::Error for StartError {}

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

/// What is wrong with one memory device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DeviceError {
    /// There is no such device.
    Unknown(DeviceId),
    /// A method failed; its name.
    Method(&'static str, AmlError),
    /// The device has no such method or object.
    Missing(&'static str),
    /// `_CRS` returned something that is not a buffer.
    NoBuffer,
    /// The buffer of `_CRS` is broken.
    Resource(ResourceError),
    /// A range of `_CRS` contradicts itself, or passes the end of the address space.
    Range {
        /// The first address it names.
        min: u64,
        /// The last address it names.
        max: u64,
        /// Its length, in bytes.
        length: u64,
    },
    /// `_CRS` names more ranges than the kernel has room for.
    TooManyRanges,
    /// `_CRS` names no memory.
    NoMemory,
    /// Memory of the device is persistent memory, too: a region of the NFIT.
    Persistent(PhysRange),
    /// The device was announced, but its `_STA` says that it is not there.
    Absent(u64),
}

impl fmt::Display for DeviceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Unknown(device) => write!(f, "there is no {device}"),
            Self::Method(name, error) => write!(f, "{name}: {error}"),
            Self::Missing(name) => write!(f, "the device has no {name}"),
            Self::NoBuffer => f.write_str("_CRS is not a buffer"),
            Self::Resource(error) => write!(f, "_CRS: {error}"),
            Self::Range { min, max, length } => {
                write!(f, "_CRS names memory from {min:#x} to {max:#x} of {length:#x} bytes")
            }
            Self::TooManyRanges => f.write_str("_CRS names too many ranges"),
            Self::NoMemory => f.write_str("_CRS names no memory"),
            Self::Persistent(region) => {
                write!(f, "_CRS names memory of {region}, which is persistent memory of the NFIT")
            }
            Self::Absent(status) => write!(f, "announced, but _STA is {status:#x}"),
        }
    }
}

impl core::error::Error for DeviceError {}
