//! What can go wrong with memory of the devices.

use core::fmt;

use hotmem_hotplug::DeviceId;

use super::fault::Fault;
use super::pieces::MOST_DEVICES;

/// What can go wrong with a piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum VirtioMemError {
    /// The device has a fault.
    Fault(Fault),
    /// The device requests the memory again.
    Withdrawn,
    /// The memory was to be spared, and has become short meanwhile.
    Needed,
    /// No piece has this number.
    Unknown(DeviceId),
    /// There are [`MOST_DEVICES`] already.
    TooMany,
}

impl fmt::Display for VirtioMemError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fault(fault) => fault.fmt(f),
            Self::Withdrawn => f.write_str("the device requests its memory again"),
            Self::Needed => f.write_str("memory has become short"),
            Self::Unknown(device) => write!(f, "{device} is not known"),
            Self::TooMany => write!(f, "more than {MOST_DEVICES} devices"),
        }
    }
}

impl core::error::Error for VirtioMemError {}
