//! From the first instruction to one [`BootInfo`]: entry assembly, linker scripts, firmware hand-off.
//!
//! ```text
//!   firmware --(entry point, start info)--> entry assembly --> parse, copy --> kernel's main(BootInfo)
//! ```
//!
//! Firmware's hand-off lies in memory that the kernel will reuse, and may be invalid: it is copied and checked
//! here, before anything else runs, and the original is not read again. The parsers are plain host code; only
//! the entry itself needs `cfg(bare)`. On the host the kernel's address space is laid out as on x86_64.
#![no_std]

pub mod aarch64;
#[cfg(all(bare, target_arch = "aarch64"))]
#[path = "aarch64/current.rs"]
pub mod current;
#[cfg(all(bare, target_arch = "powerpc64"))]
#[path = "ppc64/current.rs"]
pub mod current;
#[cfg(any(not(bare), target_arch = "x86_64"))]
#[path = "x86_64/current.rs"]
pub mod current;
pub mod efi;
pub mod exits;
pub mod image;
pub mod info;
#[cfg(bare)]
mod main_entry;
pub mod ppc64;
pub mod ranges;
pub mod start_info;
pub mod tree;
pub mod x86_64;

pub use info::{BootInfo, CommandLine, Firmware, HandoffError, LeftOut};
pub use ranges::RangeList;
