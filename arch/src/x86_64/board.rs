//! The board of a guest that runs a kernel: what is behind its ports, its model-specific registers and CPUID.
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

use crate::contract::{CpuSet, Devices};
use apic::{MOST_CPUS, Vectors};
use ports::Ports;

/// What the CPUs of a guest share: each has a local APIC of its own besides.
#[derive(Clone, Debug)]
pub struct Board {
    pub(crate) ports: Ports,
    cpus: usize,
    /// What CPUs sent to each, and it did not request yet.
    mail: [Vectors; MOST_CPUS],
}

impl Devices for Board {
    fn new(cpus: usize) -> Self {
        Self { ports: Ports::default(), cpus, mail: [Vectors::default(); MOST_CPUS] }
    }

    fn receive(&mut self, byte: u8) -> bool {
        self.ports.receive(byte)
    }
}

impl Board {
    /// Whether the guest has several CPUs.
    pub(crate) const fn has_others(&self) -> bool {
        self.cpus > 1
    }

    /// Sends `vector` to those of `cpus` that there are; returns these.
    pub(crate) fn send(&mut self, cpus: CpuSet, vector: u8) -> CpuSet {
        let mut sent = 0;
        for (number, mail) in self.mail.iter_mut().enumerate().take(self.cpus) {
            if cpus.contains(number) {
                mail.set(vector, true);
                sent |= 1 << number;
            }
        }
        CpuSet::of_bits(sent)
    }

    /// Whether another CPU sent something to CPU `number`.
    pub(crate) fn has_mail(&self, number: usize) -> bool {
        self.mail.get(number).is_some_and(|mail| *mail != Vectors::default())
    }

    /// Takes what others sent to CPU `number`.
    pub(crate) fn take_mail(&mut self, number: usize) -> Vectors {
        self.mail.get_mut(number).map(core::mem::take).unwrap_or_default()
    }
}
