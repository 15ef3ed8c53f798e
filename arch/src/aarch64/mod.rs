//! aarch64: page-table formats for three granules, TLB, CPU, trap, guest and GIC code, and the board of a Linux guest.

pub mod board;
pub mod exits;
pub mod gic;
pub mod layout;
pub mod linux;
pub mod pte;
pub mod stage2;
pub mod syndrome;

#[cfg(target_arch = "aarch64")]
mod cpu;
#[cfg(target_arch = "aarch64")]
mod current;
#[cfg(target_arch = "aarch64")]
pub mod el2;
#[cfg(target_arch = "aarch64")]
mod el2_switch;
#[cfg(target_arch = "aarch64")]
mod floats;
#[cfg(target_arch = "aarch64")]
pub mod frame;
#[cfg(target_arch = "aarch64")]
mod gic_cpu;
#[cfg(target_arch = "aarch64")]
mod gic_guest;
#[cfg(target_arch = "aarch64")]
pub mod irq;
#[cfg(target_arch = "aarch64")]
mod mmio;
#[cfg(target_arch = "aarch64")]
mod payload;
#[cfg(target_arch = "aarch64")]
pub mod pl011;
#[cfg(target_arch = "aarch64")]
mod pmu;
#[cfg(target_arch = "aarch64")]
mod probe;
#[cfg(target_arch = "aarch64")]
mod psci;
#[cfg(target_arch = "aarch64")]
mod start;
#[cfg(target_arch = "aarch64")]
mod switch;
#[cfg(target_arch = "aarch64")]
pub mod tables;
#[cfg(target_arch = "aarch64")]
mod timer;
#[cfg(target_arch = "aarch64")]
pub mod tlb;
#[cfg(target_arch = "aarch64")]
mod trap;

/// This architecture: implements the [contract](crate::contract).
#[derive(Clone, Copy, Debug)]
pub struct Aarch64;
