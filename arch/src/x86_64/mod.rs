//! x86_64: page-table format, TLB, CPU and trap code.

pub mod pte;
#[cfg(target_arch = "x86_64")]
pub mod tlb;
