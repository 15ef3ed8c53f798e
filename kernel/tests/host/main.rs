//! The kernel on the fake machine of the host: it starts, serves, and ends, from hand-off to exit.
//!
//! A kernel's statics start once, so each test is a process of its own. The machine is a PC built by these modules:
//! RAM, firmware's tables, a hotplug controller like QEMU's, an interrupt line, a serial line.
#![cfg(acpi)]
#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]

mod alone;
mod board;
mod boot;
mod devices;
mod firmware;
mod guests;
mod hotplug;
mod pc;
mod pci;
mod traps;
