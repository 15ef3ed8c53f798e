//! Guests: virtual CPUs whose memory is movable memory of the manager. A guest runs the payload, Linux, or this kernel.
//!
//! ```text
//!   monitor --> Vms: create, run, pause, kill, list
//!                |
//!                +-- Space: the second-stage tables of a guest, and what moves <--- Pages, Frames: owners that the
//!                |                                                                  manager asks to move memory
//!                +-- Runner: each virtual CPU, on a CPU --> switch (the file with `unsafe`) --> guest --> exit
//! ```
//!
//! The manager's word of an extent names the guest and its place there ([`word`]), so an extent moves without a
//! search. While it moves, the guest has no translation for it; an access faults, waits until the move is over, and
//! is repeated. The tables move, too (`frames.rs`): with its root, a guest's memory takes none that is never removed.

#![cfg_attr(not(test), no_std)]

extern crate alloc;

mod ahead;
pub mod archive;
mod console;
mod cpus;
mod create;
mod devices;
mod enabled;
mod exits;
mod figures;
mod frames;
mod held;
mod host;
mod id;
pub mod image;
mod kill;
mod life;
mod name;
mod pages;
mod platform;
mod program;
mod residence;
mod run;
mod runs;
mod slice;
mod space;
mod state_pages;
mod status;
mod stops;
mod switch;
mod sync;
#[cfg(test)]
mod tests;
mod typed;
mod vcpus;
mod verify;
mod vms;
pub mod word;

pub use figures::Figures;
pub use id::{MAX_VCPUS, MAX_VMS, VcpuId, VmId};
pub use name::Name;
pub use platform::Platform;
pub use program::{OwnFiles, Program};
pub use slice::Slice;
pub use space::Moved;
pub use status::{State, VmStatus};
pub use vcpus::{Power, VcpuStatus};
pub use verify::Violation;
pub use vms::{VmError, Vms};

use hotmem::Machine;

/// A machine whose memory manager can be shared with an owner of pages, for ever.
pub trait Shared: Machine + Send + Sync + 'static {}

impl<M: Machine + Send + Sync + 'static> Shared for M {}
