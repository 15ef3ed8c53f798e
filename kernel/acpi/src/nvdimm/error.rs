//! What can be wrong with persistent memory and its labels.

use core::fmt;

use hotmem::PhysRange;
use hotmem_aml::AmlError;

use super::limits::{MOST_PARTS, MOST_REGIONS};

/// Why a part of the NFIT is not used. What is beside it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RegionError {
    /// A structure's length is not valid for its type, or passes the end of the table. What follows is left out.
    Length {
        /// The structure's place, in bytes from the first one.
        offset: u32,
        /// The length it claims, in bytes.
        length: u16,
    },
    /// A structure is too short for its kind.
    Short {
        /// The structure's place, in bytes from the first one.
        offset: u32,
        /// Its kind.
        kind: u16,
        /// The length it claims, in bytes.
        length: u16,
    },
    /// A range has the number 0, which stands for none.
    NoNumber,
    /// Several ranges have this number: parts may be of any of them.
    Repeated(u16),
    /// A range is empty.
    Empty(u16),
    /// A range passes the end of the address space.
    Wraps {
        /// Its number.
        index: u16,
        /// Its first address.
        base: u64,
        /// Its length, in bytes.
        length: u64,
    },
    /// A range passes the last physical address of the machine.
    Beyond(u16, PhysRange),
    /// RAM of the machine is in a range.
    Ram(u16, PhysRange),
    /// Addresses of another use are in a range: of registers, or that a host bridge forwards.
    Other(u16, PhysRange),
    /// Two ranges overlap: neither is used.
    Overlap(u16, u16),
    /// Two ranges, or one twice, have the same memory of the NVDIMM with this handle: neither is used.
    Shared(u16, u16, u32),
    /// Firmware could not map the memory of an NVDIMM, with this handle, in a range.
    NotMapped(u16, u32),
    /// There are more ranges than there is room for.
    TooManyRegions,
    /// There are more parts than there is room for: what is in a range of which one is missing is not known.
    TooManyParts(u16),
}

impl fmt::Display for RegionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Length { offset, length } => write!(
                f,
                "structure at {offset:#x} claims an impossible length of {length} bytes: it and what follows are left out"
            ),
            Self::Short { offset, kind, length } => {
                write!(
                    f,
                    "structure at {offset:#x} of kind {kind} is too short with {length} bytes"
                )
            }
            Self::NoNumber => f.write_str("a range has the number 0"),
            Self::Repeated(index) => write!(f, "several ranges have the number {index}"),
            Self::Empty(index) => write!(f, "range {index} is empty"),
            Self::Wraps { index, base, length } => {
                write!(
                    f,
                    "range {index} of {length:#x} bytes at {base:#x} passes the end of memory"
                )
            }
            Self::Beyond(index, range) => {
                write!(f, "range {index}, {range}, passes the last physical address")
            }
            Self::Ram(index, ram) => write!(f, "range {index} has RAM of the machine in it, {ram}"),
            Self::Other(index, other) => {
                write!(f, "range {index} has addresses of another use in it, {other}")
            }
            Self::Shared(index, other, handle) => {
                write!(f, "ranges {index} and {other} have the same memory of NVDIMM {handle:#x}")
            }
            Self::Overlap(index, other) => write!(f, "ranges {index} and {other} overlap"),
            Self::NotMapped(index, handle) => {
                write!(f, "range {index}: firmware could not map the memory of NVDIMM {handle:#x}")
            }
            Self::TooManyRegions => write!(f, "more than {MOST_REGIONS} ranges"),
            Self::TooManyParts(index) => {
                write!(f, "range {index} has a part past the {MOST_PARTS} that there is room for")
            }
        }
    }
}

impl core::error::Error for RegionError {}

/// Why it is not known what the labels of an NVDIMM say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LabelError {
    /// The byte code has no device for an NVDIMM with this handle.
    NoDevice(u32),
    /// The byte code has several devices for an NVDIMM with this handle.
    Devices(u32),
    /// The NVDIMM lacks one of the methods that are needed; its name.
    Missing(&'static str),
    /// A method failed; its name.
    Method(&'static str, AmlError),
    /// A method reports this status.
    Status(&'static str, u64),
    /// A method returns something else than it should.
    Value(&'static str),
    /// The label storage area is not empty, and holds no list of labels that adds up.
    NoIndex,
    /// One of the two lists of labels does not add up, and the other names no namespace.
    OneIndex,
    /// The list of labels has a version that is not known.
    Version(u16, u16),
    /// The label in this slot is in use, and makes no sense.
    Label(u32),
    /// There are more labels than are read.
    TooMany,
}

impl fmt::Display for LabelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::NoDevice(handle) => write!(f, "byte code has no device for NVDIMM {handle:#x}"),
            Self::Devices(handle) => {
                write!(f, "byte code has several devices for NVDIMM {handle:#x}")
            }
            Self::Missing(name) => write!(f, "{name} is missing"),
            Self::Method(name, error) => write!(f, "{name}: {error}"),
            Self::Status(name, status) => write!(f, "{name} reports status {status:#x}"),
            Self::Value(name) => write!(f, "{name} does not return what it should"),
            Self::NoIndex => f.write_str("the label storage area has no list that adds up"),
            Self::OneIndex => f.write_str("one of the two lists of labels does not add up"),
            Self::Version(major, minor) => {
                write!(f, "the labels have the unknown version {major}.{minor}")
            }
            Self::Label(slot) => write!(f, "the label in slot {slot} makes no sense"),
            Self::TooMany => f.write_str("there are more labels than are read"),
        }
    }
}

impl core::error::Error for LabelError {}
