//! The board of a guest that runs Linux: what is behind its ports, its model-specific registers and CPUID.
//!
//! ```text
//!   exit of the guest --> Board: local APIC (with its timer), serial port, clock, power --> value, Effect or Refusal
//! ```
//!
//! All devices are reached by ports and registers, none by memory: so no instruction is decoded. Nothing here accesses a
//! register of the host or memory of the guest, and tests pass any values.

pub(crate) mod acpi;
pub(crate) mod apic;
pub(crate) mod command;
pub(crate) mod cpuid;
pub(crate) mod linux;
pub(crate) mod ports;
pub(crate) mod refusal;
pub(crate) mod registers;
mod serial;

use apic::LocalApic;
use ports::Ports;

/// The devices of a board.
#[derive(Clone, Debug)]
pub(crate) struct Board {
    pub(crate) apic: LocalApic,
    pub(crate) ports: Ports,
}

impl Board {
    /// The devices after a reset.
    pub(crate) fn new() -> Self {
        Self { apic: LocalApic::new(), ports: Ports::default() }
    }
}
