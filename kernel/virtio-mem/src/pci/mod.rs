//! The device on a PCI bus (virtio 1.2, 4.1): found, checked, and its registers mapped.
//!
//! ```text
//!   buses: numbered, if firmware did not
//!   scan: bus 0, and behind bridges --> function --> BARs: placed, if firmware did not --> capabilities --> PciTransport
//!                                                \-> interrupt for changes: a message (MSI-X), or the line
//! ```
//!
//! A function is as little trusted as the device: lists of capabilities end after their bound, and registers are only
//! mapped inside of a BAR, whose size the function itself decodes.

mod bars;
mod capabilities;
mod error;
mod mapped;
mod message;
mod number;
mod place;
mod polled;
mod scan;
mod space;
#[cfg(test)]
mod tests;
mod transport;
mod window;

pub use error::{NoPlace, PciError};
pub use mapped::{Ecam, MappedRegisters};
pub use message::Message;
pub use number::number_buses;
pub use place::Places;
pub use polled::start_polled;
pub use scan::{Found, find, root_pin};
pub use space::{ConfigSpace, Function, Registers, Width};
pub use transport::{PciTransport, Signals, line_of, silence};
