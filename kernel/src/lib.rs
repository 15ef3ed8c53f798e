//! The micro-hypervisor kernel: it owns every static, every lock and every device.
//!
//! ```text
//!   start --> heap, traps, page tables --> firmware tables --> mm, its boot memory --> main loop
//!                                                                 serial bytes ---> monitor
//!                                                                 firmware events -> hotplug
//! ```
//!
//! All of it compiles on the host, where the machine is `hotmem_arch`'s fake: there, tests start the kernel, and it
//! serves and ends. Only the panic handler and the global allocator exist in images alone.
#![cfg_attr(not(test), no_std)]

extern crate alloc;

pub mod backtrace;
pub mod clock;
pub mod cmdline;
pub mod console;
mod cpus;
mod firmware;
#[cfg(feature = "lab")]
mod guests;
mod heap;
#[cfg(any(feature = "holds", all(test, feature = "lab")))]
pub mod holds;
pub mod interrupts;
pub mod last_dump;
mod leave;
mod lock;
mod logger;
pub mod memory;
mod nmi;
mod panic;
#[cfg(feature = "lab")]
mod prompt;
#[cfg(feature = "lab")]
pub mod protection;
mod serve;
pub mod start;
pub mod symbols;
mod traps;
