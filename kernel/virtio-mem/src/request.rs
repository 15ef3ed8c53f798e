//! What is requested of a device (virtio 1.2, 5.15.6), and why it refuses.

use core::fmt;

use hotmem::PhysAddr;

/// What is requested.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Kind {
    /// To plug blocks.
    Plug = 0,
    /// To unplug blocks.
    Unplug = 1,
    /// To unplug all blocks.
    UnplugAll = 2,
    /// Whether blocks are plugged.
    State = 3,
}

/// A request to the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// What is requested.
    pub kind: Kind,
    /// The first block.
    pub start: PhysAddr,
    /// Blocks of the device.
    pub blocks: u16,
}

hotmem::errors! {
    /// Why a device refuses a request.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum Refusal {
        /// The request is not allowed now.
        Nack => "not allowed now",
        /// It is to be tried again later.
        Busy => "busy",
        /// The request is wrong.
        Error => "an error",
    }
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { start, blocks, .. } = self;
        match self.kind {
            Kind::Plug => write!(f, "to plug {blocks} blocks at {start}"),
            Kind::Unplug => write!(f, "to unplug {blocks} blocks at {start}"),
            Kind::UnplugAll => f.write_str("to unplug all blocks"),
            Kind::State => write!(f, "for the state of {blocks} blocks at {start}"),
        }
    }
}
