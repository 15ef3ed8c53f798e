//! What can go wrong with a piece of memory.

use super::connector::ConnectorError;
use super::log_entry::LogError;
use super::pieces::{DEVICES, MOST_BLOCKS, Piece};
use hotmem_hotplug::DeviceId;

hotmem::errors! {
    /// What can go wrong with a piece of memory.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    #[non_exhaustive]
    pub enum PaprError {
        /// A connector did not change its state.
        Connector(error: ConnectorError) => "{error}",
        /// A log could not be read.
        Log(error: LogError) => "{error}",
        /// The device tree does not describe the memory behind these connectors.
        NotDescribed(piece: Piece) => "{piece} are not described",
        /// These are more connectors than one piece of memory may have.
        TooLarge(piece: Piece) => "{piece} are more than {MOST_BLOCKS}",
        /// Some of these connectors, but not just these, are those of memory that is plugged already.
        Overlaps(piece: Piece) => "{piece} are in part plugged already",
        /// There are more pieces than can be numbered.
        TooMany => "more than {DEVICES} pieces of memory",
        /// No such piece is known.
        Unknown(device: DeviceId) => "{device} is not known",
        /// The hypervisor wants these connectors back already.
        Revoked(piece: Piece) => "removal of {piece} is requested already",
    }
}

impl PaprError {
    /// Whether the memory that was announced is not there, or its removal is requested already.
    pub(super) fn is_absent(&self) -> bool {
        match self {
            Self::Connector(error) => error.is_absent(),
            Self::Revoked(_) => true,
            _ => false,
        }
    }
}

impl From<ConnectorError> for PaprError {
    fn from(error: ConnectorError) -> Self {
        Self::Connector(error)
    }
}
