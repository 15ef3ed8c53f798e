//! Memory hotplug by virtio-mem devices (virtio 1.2, 5.15). A device has a region of addresses and a size that the host
//! requests; the driver plugs and unplugs blocks of the region until so much is plugged.
//!
//! ```text
//!   interrupt --> Latch --> next_event: read the sizes
//!        requested > plugged:  choose free addresses --> PLUG, STATE --> Insert --> add, online
//!        requested < plugged:  choose what is in use least --> Eject --> offline, scrub, remove --> UNPLUG
//! ```
//!
//! The unit is the larger one of the device's block and a subsection. A *piece* is what is plugged at once: as many units
//! as are wanted, of one memory block. It is a device of its own for the driver of `hotmem-hotplug`, and holds its own
//! memmap at its head: growing needs no memory from elsewhere.
//!
//! ```text
//!   block   [M                              ]   a whole memory block is one piece
//!   block   [M      |M  |M         .........]   the last one grows in pieces of what is requested
//! ```
//!
//! A piece leaves whole, once its memory block is offline; what was to stay of it is added again at once. Before the
//! driver is asked to give a piece up, the manager predicts whether it can: the reason why not is in the log.
//!
//! The device is not trusted: each value is checked, each wait has an end, and a [`Fault`] names what was wrong. After one
//! that leaves it open what is plugged, nothing is requested of the device any more, and its memory stays in use.
#![cfg_attr(not(test), no_std)]

extern crate alloc;
#[cfg(all(feature = "testing", not(test)))]
extern crate std;

mod amounts;
mod config;
mod device;
mod error;
mod fault;
mod need;
mod part;
mod pause;
pub mod pci;
mod pieces;
mod plan;
mod queue;
mod report;
mod request;
mod shrink;
mod source;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
#[cfg(test)]
mod tests;
mod transport;
mod wire;

pub use config::{Region, Sizes};
pub use error::VirtioMemError;
pub use fault::Fault;
pub use pieces::{MOST_DEVICES, MOST_PIECES};
pub use request::{Kind, Refusal, Request};
pub use source::VirtioMemSource;
pub use transport::{Board, Rings, Transport};
