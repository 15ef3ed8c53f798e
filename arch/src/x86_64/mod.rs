//! x86_64: page-table format, TLB, CPU and trap code.

pub mod apic;
pub mod layout;
pub mod npt;
pub mod pte;

#[cfg(any(test, target_arch = "x86_64"))]
mod board;
#[cfg(target_arch = "x86_64")]
mod clock;
#[cfg(target_arch = "x86_64")]
mod cpu;
#[cfg(target_arch = "x86_64")]
mod current;
#[cfg(target_arch = "x86_64")]
pub mod frame;
#[cfg(target_arch = "x86_64")]
mod guests;
#[cfg(target_arch = "x86_64")]
mod io;
#[cfg(target_arch = "x86_64")]
pub mod irq;
#[cfg(target_arch = "x86_64")]
mod landing;
#[cfg(target_arch = "x86_64")]
mod machine_check;
#[cfg(target_arch = "x86_64")]
mod payload;
#[cfg(target_arch = "x86_64")]
mod pic;
#[cfg(target_arch = "x86_64")]
mod port;
#[cfg(target_arch = "x86_64")]
mod probe;
#[cfg(target_arch = "x86_64")]
pub mod serial;
#[cfg(any(test, target_arch = "x86_64"))]
mod svm;
#[cfg(target_arch = "x86_64")]
pub mod tables;
#[cfg(target_arch = "x86_64")]
pub mod tlb;
#[cfg(target_arch = "x86_64")]
mod trap;

/// This architecture: implements the [contract](crate::contract).
#[derive(Clone, Copy, Debug)]
pub struct X86_64;
