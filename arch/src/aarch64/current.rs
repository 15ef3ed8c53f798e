//! The names by which the kernel knows the architecture it runs on.

pub use crate::aarch64::Aarch64 as Arch;
pub use crate::aarch64::pl011 as console;
pub use crate::aarch64::tlb::BroadcastTlb as CpuTlb;
pub use crate::aarch64::{cpu, io, irq, layout, tables, trap};
pub use crate::common::probe;
pub use crate::rtas::absent as rtas;

/// The format of the kernel's tables.
pub type Format = crate::aarch64::pte::Stage1<{ layout::PAGE_SHIFT }>;
