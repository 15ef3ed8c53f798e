//! ppc64: radix page tables, and a guest of a POWER hypervisor: hypercalls for console, interrupts and
//! RTAS (Linux on Power Architecture Reference, "LoPAR").

pub mod layout;
pub mod nested;
pub mod partition;
pub mod pte;

#[cfg(target_arch = "powerpc64")]
pub mod console;
#[cfg(target_arch = "powerpc64")]
mod copy;
#[cfg(target_arch = "powerpc64")]
mod cpu;
#[cfg(target_arch = "powerpc64")]
mod current;
#[cfg(target_arch = "powerpc64")]
pub mod frame;
#[cfg(target_arch = "powerpc64")]
pub mod guests;
#[cfg(target_arch = "powerpc64")]
mod hcall;
#[cfg(target_arch = "powerpc64")]
pub mod irq;
#[cfg(target_arch = "powerpc64")]
pub mod own;
#[cfg(target_arch = "powerpc64")]
mod payload;
#[cfg(target_arch = "powerpc64")]
mod probe;
#[cfg(target_arch = "powerpc64")]
mod rtas;
#[cfg(target_arch = "powerpc64")]
mod start;
#[cfg(target_arch = "powerpc64")]
mod switch;
#[cfg(target_arch = "powerpc64")]
pub mod tables;
#[cfg(target_arch = "powerpc64")]
mod timer;
#[cfg(target_arch = "powerpc64")]
pub mod tlb;
#[cfg(target_arch = "powerpc64")]
mod trap;

/// This architecture: implements the [contract](crate::contract).
#[derive(Clone, Copy, Debug)]
pub struct Ppc64;
