//! The host: a machine in the memory of a test, so that the kernel compiles, runs and is tested there.
//!
//! ```text
//!    test                                        CPU: a thread of the host
//!    plug, unplug, write  ------> memory <------ tables, pointers, probes
//!    set_line, act        ------> board  ------> traps, when interrupts are enabled
//!    type_in, wait_for    <-----> console <----> the kernel's port
//!    wait_for_exit        <------ exit
//! ```
//!
//! [`Machine::power_on`] starts the CPU; the functions of the contract act on the machine of the CPU that calls
//! them. Page tables have the format of x86_64, and the CPU caches the entries it read until a flush drops them.
//! Errors that would make a real machine misbehave fail the test: the use of a stale translation or of missing
//! memory, and unplugging memory that the CPU still translates to.

extern crate std;

mod board;
mod console;
mod cpu;
mod current;
mod guest;
mod irq;
mod layout;
mod machine;
mod memory;
mod traps;

pub use console::Port;
pub use cpu::HostTlb;
pub use guest::{Bus, Interpreter, Op, SoftPort, SoftVcpu, instruction};
pub use irq::Controllers;
pub use machine::{Device, Machine};
pub use traps::{CpuTables, Trap, TrapFrame};

/// This architecture: implements the [contract](crate::contract).
#[derive(Clone, Copy, Debug)]
pub struct Host;

#[cfg(test)]
mod tests;
