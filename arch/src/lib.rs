//! What differs from one instruction set to another.
//!
//! The pure bit code of every architecture compiles on every host, so that its tests run anywhere;
//! only what executes instructions is limited to its own. The kernel asks [`current`] for whatever
//! it runs on: every architecture has the same names there.
#![no_std]

pub mod aarch64;
mod common;
pub mod contract;
#[cfg(target_arch = "aarch64")]
#[path = "aarch64/current.rs"]
pub mod current;
#[cfg(target_arch = "powerpc64")]
#[path = "ppc64/current.rs"]
pub mod current;
#[cfg(target_arch = "x86_64")]
#[path = "x86_64/current.rs"]
pub mod current;
pub mod exit;
pub mod io;
pub mod irq;
pub mod machine_info;
mod page_size;
pub mod ppc64;
pub mod rtas;
pub mod x86_64;
