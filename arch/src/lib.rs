//! What differs from one instruction set to another.
//!
//! The pure bit code of every architecture compiles on every host, so that its tests run anywhere;
//! only what executes instructions is limited to its own. [`contract`] names what each of them gives,
//! and the kernel asks [`current`] for the one that it runs on: in a build that is not for bare metal, `host`.
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
