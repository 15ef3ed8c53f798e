//! Memory hotplug of a POWER hypervisor (LoPAR, chapter 13): events are logs that RTAS hands out, and
//! memory is plugged and unplugged in logical memory blocks, each behind a connector.
//!
//! ```text
//!   interrupt --> Latch --> next_event: check-exception --> one log --> add: usable, unisolate, configure
//!                                                                  \-> remove: Eject
//!                 eject:  isolate, unusable, connector by connector
//!                 reply: a refusal un-isolates the first connector: the hypervisor cancels
//! ```
//!
//! A log may be out of date when it is read: the hypervisor may request a device while it is being taken, and
//! what a log announced may be gone, or be another device. If a request is refused after a block was given
//! back, the hypervisor is left with half a device, so the kernel refuses only for a piece that is whole and
//! in use; everything else that the hypervisor requests is given up.
//!
//! What the device tree says is read once, into a [`Board`]; calls go through [`Services`], which tests
//! fake.
#![cfg_attr(not(test), no_std)]

extern crate alloc;

mod board;
mod connector;
mod distances;
mod fault;
mod held;
mod log_entry;
mod pieces;
mod queue;
mod removal;
mod source;
#[cfg(test)]
mod tests;
mod wanted;

pub use board::{Board, Cpu, Terminal, Tokens, TreeError};
pub use connector::{ConnectorError, NoRtas, Services};
pub use distances::Distances;
pub use fault::PaprError;
pub use log_entry::{Action, LogError, MemoryEvent};
pub use pieces::Piece;
pub use source::PaprSource;
