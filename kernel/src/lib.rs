//! The micro-hypervisor kernel: it owns every static, every lock and every device.
//!
//! ```text
//!   start --> heap, traps, page tables --> firmware tables --> mm, its boot memory --> main loop
//!                                                                 serial bytes ---> monitor
//!                                                                 firmware events -> hotplug
//! ```
//!
//! What decides something is plain code with tests on the host; modules under `cfg(bare)` connect it
//! to the machine.
#![cfg_attr(not(test), no_std)]

extern crate alloc;

pub mod cmdline;
pub mod last_dump;
pub mod memory;
pub mod symbols;

#[cfg(bare)]
pub mod backtrace;
#[cfg(bare)]
pub mod clock;
#[cfg(bare)]
pub mod console;
#[cfg(bare)]
mod firmware;
#[cfg(bare)]
mod heap;
#[cfg(bare)]
pub mod interrupts;
#[cfg(bare)]
mod logger;
#[cfg(bare)]
mod panic;
#[cfg(all(bare, feature = "lab"))]
mod prompt;
#[cfg(all(bare, feature = "lab"))]
pub mod protection;
#[cfg(bare)]
mod serve;
#[cfg(bare)]
pub mod start;
#[cfg(bare)]
mod traps;
