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
//! and no `cfg`: they see memory through [`Physical`] and registers through [`Hardware`], so all of
//! it runs on the host.

mod error;
mod fadt;
mod line;
mod madt;
mod physical;
mod root;
mod srat;
mod table;
#[cfg(test)]
mod tests;

pub use error::{Signature, TableError};
pub use fadt::{Block, Enable, Fadt};
pub use line::{Line, Polarity, Trigger};
pub use madt::{IoApic, Madt, Override};
pub use physical::Physical;
pub use root::Tables;
pub use srat::{Affinity, Srat};
pub use table::Table;
