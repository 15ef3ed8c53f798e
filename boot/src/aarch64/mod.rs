//! aarch64: QEMU's `virt` machine, which leaves the device tree in RAM and the ACPI tables in fw_cfg.
//!
//! ```text
//!   device tree --> RAM, where fw_cfg is
//!   fw_cfg      --> command line; ACPI tables, placed and linked as their script says
//! ```

#[cfg(all(bare, target_arch = "aarch64"))]
mod entry;
pub mod fw_cfg;
pub mod handoff;
pub mod layout;
#[cfg(all(bare, target_arch = "aarch64"))]
mod registers;
pub mod table_loader;
