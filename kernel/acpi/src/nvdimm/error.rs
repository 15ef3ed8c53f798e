//! What can be wrong with persistent memory and its labels.

use hotmem::PhysRange;
use hotmem_aml::AmlError;

use super::limits::{MOST_PARTS, MOST_REGIONS};

hotmem::errors! {
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
        } => "structure at {offset:#x} claims an impossible length of {length} bytes: it and what follows are left out",
        /// A structure is too short for its kind.
        Short {
            /// The structure's place, in bytes from the first one.
            offset: u32,
            /// Its kind.
            kind: u16,
            /// The length it claims, in bytes.
            length: u16,
        } => "structure at {offset:#x} of kind {kind} is too short with {length} bytes",
        /// A range has the number 0, which stands for none.
        NoNumber => "a range has the number 0",
        /// Several ranges have this number: parts may be of any of them.
        Repeated(index: u16) => "several ranges have the number {index}",
        /// A range is empty.
        Empty(index: u16) => "range {index} is empty",
        /// A range passes the end of the address space.
        Wraps {
            /// Its number.
            index: u16,
            /// Its first address.
            base: u64,
            /// Its length, in bytes.
            length: u64,
        } => "range {index} of {length:#x} bytes at {base:#x} passes the end of memory",
        /// A range passes the last physical address of the machine.
        Beyond(index: u16, range: PhysRange) =>
            "range {index}, {range}, passes the last physical address",
        /// RAM of the machine is in a range.
        Ram(index: u16, ram: PhysRange) => "range {index} has RAM of the machine in it, {ram}",
        /// Addresses of another use are in a range: of registers, or that a host bridge forwards.
        Other(index: u16, other: PhysRange) =>
            "range {index} has addresses of another use in it, {other}",
        /// Two ranges overlap: neither is used.
        Overlap(index: u16, other: u16) => "ranges {index} and {other} overlap",
        /// Two ranges, or one twice, have the same memory of the NVDIMM with this handle: neither is used.
        Shared(index: u16, other: u16, handle: u32) =>
            "ranges {index} and {other} have the same memory of NVDIMM {handle:#x}",
        /// Firmware could not map the memory of an NVDIMM, with this handle, in a range.
        NotMapped(index: u16, handle: u32) =>
            "range {index}: firmware could not map the memory of NVDIMM {handle:#x}",
        /// There are more ranges than there is room for.
        TooManyRegions => "more than {MOST_REGIONS} ranges",
        /// There are more parts than there is room for: what is in a range of which one is missing is not known.
        TooManyParts(index: u16) =>
            "range {index} has a part past the {MOST_PARTS} that there is room for",
    }

    /// Why it is not known what the labels of an NVDIMM say.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    #[non_exhaustive]
    pub enum LabelError {
        /// The byte code has no device for an NVDIMM with this handle.
        NoDevice(handle: u32) => "byte code has no device for NVDIMM {handle:#x}",
        /// The byte code has several devices for an NVDIMM with this handle.
        Devices(handle: u32) => "byte code has several devices for NVDIMM {handle:#x}",
        /// The NVDIMM lacks one of the methods that are needed; its name.
        Missing(name: &'static str) => "{name} is missing",
        /// A method failed; its name.
        Method(name: &'static str, error: AmlError) => "{name}: {error}",
        /// A method reports this status.
        Status(name: &'static str, status: u64) => "{name} reports status {status:#x}",
        /// A method returns something else than it should.
        Value(name: &'static str) => "{name} does not return what it should",
        /// The label storage area is not empty, and holds no list of labels that adds up.
        NoIndex => "the label storage area has no list that adds up",
        /// One of the two lists of labels does not add up, and the other names no namespace.
        OneIndex => "one of the two lists of labels does not add up",
        /// The list of labels has a version that is not known.
        Version(major: u16, minor: u16) => "the labels have the unknown version {major}.{minor}",
        /// The label in this slot is in use, and makes no sense.
        Label(slot: u32) => "the label in slot {slot} makes no sense",
        /// There are more labels than are read.
        TooMany => "there are more labels than are read",
    }
}
