//! The names by which the kernel knows the architecture it runs on.

pub use crate::common::probe;
pub use crate::ppc64::Ppc64 as Arch;
pub use crate::ppc64::tlb::BroadcastTlb as CpuTlb;
pub use crate::ppc64::{console, cpu, io, irq, layout, rtas, tables, trap};

/// The format of the kernel's tables.
pub type Format = crate::ppc64::pte::Radix<{ layout::PAGE_SHIFT }>;

const _: () =
    assert!(layout::PAGE_SHIFT == 12 || layout::PAGE_SHIFT == 16, "HOTMEM_PAGE_SIZE is 64K or 4K");
