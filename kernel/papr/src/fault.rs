//! What can go wrong with a piece of memory.

use super::connector::ConnectorError;
use super::log_entry::LogError;
use super::pieces::{DEVICES, MOST_BLOCKS};
use core::fmt;
use hotmem_hotplug::DeviceId;

/// What can go wrong with a piece of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PaprError {
    /// A connector did not change its state.
    Connector(ConnectorError),
    /// A log could not be read.
    Log(LogError),
    /// The device tree does not describe the memory behind these connectors.
    NotDescribed {
        /// The first.
        connector: u32,
        /// How many.
        count: u32,
    },
    /// These are more connectors than one piece of memory may have.
    TooLarge {
        /// The first.
        connector: u32,
        /// How many.
        count: u32,
    },
    /// Some of these connectors, but not just these, are those of memory that is plugged already.
    Overlaps {
        /// The first.
        connector: u32,
        /// How many.
        count: u32,
    },
    /// There are more pieces than can be numbered.
    TooMany,
    /// No such piece is known.
    Unknown(DeviceId),
    /// The hypervisor wants these connectors back already.
    Revoked {
        /// The first.
        connector: u32,
        /// How many.
        count: u32,
    },
}

impl fmt::Display for PaprError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connector(error) => error.fmt(f),
            Self::Log(error) => error.fmt(f),
            Self::NotDescribed { connector, count } => {
                write!(f, "{count} connectors from {connector:#x} on are not described")
            }
            Self::TooLarge { connector, count } => {
                write!(f, "{count} connectors from {connector:#x} on are more than {MOST_BLOCKS}")
            }
            Self::Overlaps { connector, count } => {
                write!(f, "{count} connectors from {connector:#x} on are in part plugged already")
            }
            Self::TooMany => write!(f, "more than {DEVICES} pieces of memory"),
            Self::Revoked { connector, count } => {
                write!(
                    f,
                    "removal of {count} connectors from {connector:#x} on is requested already"
                )
            }
            Self::Unknown(device) => write!(f, "{device} is not known"),
        }
    }
}

impl PaprError {
    /// Whether the memory that was announced is not there, or its removal is requested already.
    pub(super) fn is_absent(&self) -> bool {
        match self {
            Self::Connector(error) => error.is_absent(),
            Self::Revoked { .. } => true,
            _ => false,
        }
    }
}

impl From<ConnectorError> for PaprError {
    fn from(error: ConnectorError) -> Self {
        Self::Connector(error)
    }
}
