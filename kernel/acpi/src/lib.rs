//! ACPI: the firmware's tables, and memory hotplug events out of them.
//!
//! ```text
//! RSDP -> XSDT/RSDT -> MADT  interrupt controllers, overrides
//!                   -> SRAT  nodes of memory and CPUs, hot-pluggable window
//!                   -> SLIT  distances of nodes
//!                   -> MCFG  where the configuration space of PCI is
//!                   -> NFIT  persistent memory (module [`nvdimm`])
//!                   -> FADT  fixed hardware: SCI, GPE blocks, how to enable ACPI mode
//!                   -> DSDT, SSDTs (byte code for hotmem-aml)
//! ```
//!
//! Firmware is not trusted: every table is checked (signature, length, checksum, bounds) before it
//! is used, and what is wrong with it is an error that names the value. The parsers have no `unsafe`
//! and no `cfg`: they see memory through [`ReadPhys`](hotmem::paging::ReadPhys) and registers through [`Hardware`], so all of
//! it runs on the host. For a PC there is a `PcHardware` (feature `x86_64`),
//! for a machine whose registers are in memory `MappedHardware`.
//!
//! The way from the root pointer to a source for `hotmem_hotplug::Hotplug`; the handler of each line masks it if it is
//! level-triggered, and raises its bit:
//!
//! ```no_run
//! use hotmem::PhysAddr;
//! use hotmem::paging::ReadPhys;
//! use hotmem_acpi::{AcpiSource, Hardware, StartError, Tables};
//! use hotmem_aml::Limits;
//! use hotmem_hotplug::{Latch, Line};
//!
//! static EVENTS: Latch = Latch::new();
//!
//! fn start<H: Hardware>(
//!     memory: &impl ReadPhys,
//!     rsdp: PhysAddr,
//!     hardware: H,
//!     connect: impl Fn(Line, fn()),
//! ) -> Result<AcpiSource<H>, StartError> {
//!     let tables = Tables::new(memory, rsdp)?;
//!     let mut source = AcpiSource::new(&tables, hardware, &EVENTS, Limits::default())?;
//!     // QEMU's q35 has one line, the SCI; a machine may have up to `MAX_LINES`.
//!     for &line in source.lines().iter().take(1) {
//!         connect(line, || EVENTS.raise(0, 0));
//!     }
//!     source.arm()?;
//!     Ok(source)
//! }
//! ```
#![cfg_attr(not(test), no_std)]

extern crate alloc;

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
mod lists;
mod madt;
mod mapped;
mod mcfg;
mod mode;
pub mod nvdimm;
mod ost;
mod parent;
mod pci;
mod pending;
mod presence;
mod registers;
mod report;
mod root;
mod round;
mod service;
mod slit;
mod source;
mod spcr;
mod srat;
mod start;
mod table;
#[cfg(test)]
mod tests;
mod timer;
#[cfg(feature = "x86_64")]
mod x86_64;

pub use controller::Controller;
pub use error::{Signature, TableError};
pub use fadt::{Enable, Fadt, PowerOff};
pub use fault::{DeviceError, StartError};
pub use hardware::{Block, Hardware};
pub use madt::{IoApic, Madt, Override, Processor};
pub use mapped::{Counter, MappedHardware};
pub use mcfg::Mcfg;
pub use mode::ModeError;
pub use pci::BridgeError;
pub use registers::Registers;
pub use root::Tables;
pub use slit::Slit;
pub use source::AcpiSource;
pub use spcr::Spcr;
pub use srat::{Affinity, Srat, node_of};
pub use table::Table;
pub use timer::PmTimer;
#[cfg(feature = "x86_64")]
pub use x86_64::*;
