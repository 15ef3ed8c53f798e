//! ppc64: QEMU's `pseries` machine, entered by Open Firmware (VOF or SLOF).
//!
//! ```text
//!   Open Firmware --> command line
//!   negotiation with the hypervisor (CAS) --> device tree --> RAM, where everything else is
//! ```

#[cfg(all(bare, target_arch = "powerpc64"))]
mod entry;
pub mod granted;
pub mod handoff;
pub mod layout;
pub mod mem;
#[cfg(all(bare, target_arch = "powerpc64"))]
mod symbols;
