//! The names by which the kernel knows the architecture it runs on.

pub use crate::ppc64::tlb::BroadcastTlb as CpuTlb;
pub use crate::ppc64::{console, cpu, io, irq, layout, probe, rtas, tables, trap};

/// The format of the kernel's tables.
pub type Format = crate::ppc64::pte::Radix<{ layout::PAGE_SHIFT }>;
