//! Interrupt controllers as the MADT describes them.

use hotmem::addr::{PhysAddr, PhysRange};

/// An interrupt controller, or a part of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Controller {
    /// The local APIC of each CPU (x86).
    LocalApic {
        /// Where its registers are.
        at: PhysAddr,
    },
    /// An I/O APIC (x86).
    IoApic {
        /// Where its registers are.
        at: PhysAddr,
        /// The global system interrupt of its first input.
        first: u32,
    },
    /// The distributor of a GIC (Arm).
    GicDistributor {
        /// Where its registers are.
        at: PhysAddr,
        /// The version of the GIC architecture; 0 if firmware does not say.
        version: u8,
    },
    /// The CPU interface of a GIC, for version 2 (Arm).
    GicCpuInterface {
        /// Where its registers are.
        at: PhysAddr,
    },
    /// A row of redistributors of a GIC, for version 3 (Arm).
    GicRedistributors {
        /// Where their registers are.
        range: PhysRange,
    },
}
