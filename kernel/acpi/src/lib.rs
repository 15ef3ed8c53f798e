//! ACPI: the firmware's tables, and memory hotplug events out of them.
//!
//! ```text
//! RSDP -> XSDT/RSDT -> MADT  interrupt controllers, overrides
//!                   -> SRAT  nodes, hot-pluggable window
//!                   -> FADT  fixed hardware: SCI, GPE blocks, how to enable ACPI mode
//!                   -> DSDT, SSDTs (byte code for hotmem-aml)
//! ```
//!
//! Firmware is not trusted: every table is checked (signature, length, checksum, bounds) before it
//! is used, and what is wrong with it is an error that names the value. The parsers have no `unsafe`
//! and no `cfg`: they see memory through [`ReadPhys`](hotmem::paging::ReadPhys) and registers through [`Hardware`], so all of
//! it runs on the host.
#![cfg_attr(not(test), no_std)]

extern crate alloc;

mod answer;
mod bridge;
mod controller;
mod describe;
mod device;
mod error;
mod events;
mod facs;
mod fadt;
mod fault;
mod handlers;
mod hardware;
mod introduce;
mod madt;
mod mode;
mod parent;
mod presence;
mod report;
mod root;
mod round;
mod service;
mod source;
mod spcr;
mod srat;
mod start;
mod table;
#[cfg(test)]
mod tests;
mod timer;

pub use controller::Controller;
pub use error::{Signature, TableError};
pub use fadt::{Enable, Fadt, PowerOff};
pub use fault::{DeviceError, StartError};
pub use hardware::{Block, Hardware};
pub use madt::{IoApic, Madt, Override, Processor};
pub use mode::ModeError;
pub use root::Tables;
pub use source::AcpiSource;
pub use spcr::Spcr;
pub use srat::{Affinity, Srat, node_of};
pub use table::Table;
pub use timer::PmTimer;
