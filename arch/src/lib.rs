//! Everything that differs between instruction sets.
//!
//! The pure bit code of every architecture compiles on every host, so that its tests run anywhere; only code that
//! executes special instructions is limited to its own architecture. [`contract`] lists the traits that each
//! architecture implements, and the kernel calls [`current`], the architecture that it runs on: in a build that is
//! not for bare metal, `host`.
#![no_std]

pub mod aarch64;
pub mod area;
mod common;
pub mod contract;
pub mod current;
#[cfg(not(bare))]
pub mod host;
pub mod io;
pub mod irq;
pub mod machine_info;
pub mod mmio;
mod page_size;
pub mod ppc64;
pub mod x86_64;
