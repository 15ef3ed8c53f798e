//! A bounded evaluator for AML, the byte code of ACPI's DSDT and SSDTs.
//!
//! ```text
//!  tables --Aml::load--> namespace + pools (kernel heap, fallible)         once, at boot
//!                             |
//!  event --> Aml::evaluate(host, node, args) --> Value                     any time after
//!                 |  ^                             (borrowed from the arena)
//!                 v  |
//!            trait Host: registers, Notify (only queued), time
//! ```
//!
//! Made for memory hotplug: a DIMM is added when memory is short, so evaluation must not need
//! any. What holds, whatever the tables say:
//!
//! - **No heap after load.** Everything methods create (locals, buffers, strings, packages,
//!   names) lies in pools that loading took and that every evaluation starts anew.
//! - **No panic.** Every access is checked, every sum that could overflow is too.
//! - **No hang, no deep stack.** Steps, nesting, calls and sleeping are bounded by [`Limits`].
//! - **Errors are over when they are reported.** Mutexes are released, names of methods gone;
//!   the next evaluation starts clean. Stores to the tables' own objects that happened before
//!   the error stay, as ACPI has it.
//!
//! Loading goes around faults: a term that cannot be loaded is left out with all that is inside it, and
//! [`LoadReport`] says which. What was left out does not exist for any method.
//!
//! Integers have 32 bits if the DSDT's revision is below 2 (ACPI 6.5, 5.2.11.1). `Load`,
//! `LoadTable` and `Unload` are not there: tables are loaded once. There is one evaluator and
//! nothing runs beside it, so every method is serialized and an `Acquire` waits for nothing but the
//! global lock, which firmware may hold ([`Host::take_global_lock`]).
//!
//! ```
//! use hotmem_aml::{Aml, Host, HostError, Io, Limits, NodeId, Space, Width};
//!
//! /// A machine without registers.
//! struct Bare;
//!
//! impl Io for Bare {
//!     fn read(&mut self, _: Space, _: u64, _: Width) -> Result<u64, HostError> {
//!         Err(HostError::Unsupported)
//!     }
//!     fn write(&mut self, _: Space, _: u64, _: Width, _: u64) -> Result<(), HostError> {
//!         Err(HostError::Unsupported)
//!     }
//!     fn stall(&mut self, _microseconds: u64) {}
//!     fn sleep(&mut self, _milliseconds: u64) {}
//!     fn timer(&mut self) -> u64 {
//!         0
//!     }
//! }
//!
//! impl Host for Bare {
//!     fn io(&mut self) -> &mut dyn Io {
//!         self
//!     }
//!     fn notify(&mut self, _: NodeId, _: u64) {}
//! }
//!
//! // DefinitionBlock ("", "DSDT", 2, "", "", 0) { Method (SIZE) { Return (0x28 << 1) } }
//! let body = b"\x14\x0cSIZE\x00\xa4\x79\x0a\x28\x01\x00";
//! let mut dsdt = [b"DSDT\x00\x00\x00\x00\x02".as_slice(), &[0; 27], body].concat();
//! dsdt[4] = dsdt.len() as u8;
//!
//! let mut aml = Aml::load(&mut Bare, &[&dsdt], Limits::default())?;
//! let size = aml.find("\\SIZE").ok_or("no such method")?;
//! assert_eq!(aml.integer(&mut Bare, size, &[])?, 80);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod aml;
mod code;
mod error;
mod exec;
mod host;
mod ids;
mod init;
mod limits;
mod loaded;
mod name;
mod namespace;
mod object;
mod opcode;
mod pool;
mod report;
pub mod resource;
mod value;

pub use aml::{Aml, Devices, GpeMethod, NodeKind, NodePath};
pub use error::{AmlError, ErrorKind, Place, Pool};
pub use host::{Host, HostError, Io, PciAddress, Space, Width};
pub use ids::HardwareId;
pub use init::InitReport;
pub use limits::{Limits, Usage};
pub use loaded::Loaded;
pub use name::{NameSeg, NodeId};
pub use report::{Extent, LoadReport, Skipped};
pub use value::{Arg, Package, Value};
