//! Why a function cannot be used.

use core::fmt;

use hotmem::PhysRange;

/// Why a function cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PciError {
    /// It has no such registers.
    Missing(&'static str),
    /// Its registers are in a BAR that does not exist.
    NoBar {
        /// Which registers.
        what: &'static str,
        /// Which BAR.
        bar: u8,
    },
    /// Its registers are in a BAR that is not memory, or has no address.
    NoMemory {
        /// Which registers.
        what: &'static str,
        /// Which BAR.
        bar: u8,
    },
    /// Its registers are not in their BAR, or not aligned there, or fewer than there have to be.
    Outside {
        /// Which registers.
        what: &'static str,
        /// Where they start in the BAR.
        offset: u32,
        /// Their bytes.
        bytes: u32,
        /// Bytes of the BAR.
        bar: u64,
    },
    /// Registers cannot be mapped.
    Map(PhysRange),
    /// Registers that the driver needs have no address, and cannot get one.
    NoPlace {
        /// Their BAR.
        bar: u8,
        /// Their bytes.
        bytes: u64,
        /// Why not.
        why: NoPlace,
    },
}

/// Why registers get no address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NoPlace {
    /// No bridge leads from bus 0 to the bus of their function.
    NoBridge,
    /// A bridge on the way to their function does not keep its window.
    Closed,
    /// Firmware describes no window of bus 0.
    NoWindow,
    /// No window has so much room that no other function uses.
    NoRoom,
    /// Other functions have more registers than can be kept in mind, or the heap has no room for them.
    TooMany,
}

impl fmt::Display for NoPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoBridge => "no bridge leads to the function",
            Self::Closed => "a bridge on the way does not keep its window",
            Self::NoWindow => "firmware describes no window for it",
            Self::NoRoom => "no window has so much room",
            Self::TooMany => "other functions have too many registers",
        })
    }
}

impl fmt::Display for PciError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(what) => write!(f, "it has no registers for {what}"),
            Self::NoBar { what, bar } => {
                write!(f, "its registers for {what} are in BAR {bar}, which does not exist")
            }
            Self::NoMemory { what, bar } => {
                write!(f, "its registers for {what} are in BAR {bar}, which has no memory address")
            }
            Self::Outside { what, offset, bytes, bar } => write!(
                f,
                "its registers for {what} are {bytes:#x} bytes at {offset:#x} of a BAR of {bar:#x} bytes"
            ),
            Self::Map(range) => write!(f, "its registers at {range} cannot be mapped"),
            Self::NoPlace { bar, bytes, why } => {
                write!(f, "BAR {bar}, of {bytes:#x} bytes, has no address and gets none: {why}")
            }
        }
    }
}

impl core::error::Error for PciError {}
