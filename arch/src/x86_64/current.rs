//! The names by which the kernel knows the architecture it runs on.

pub use crate::x86_64::pte::X86Pte4 as Format;
pub use crate::x86_64::tlb::LocalTlb as CpuTlb;
pub use crate::x86_64::{apic, cpu, pic, port, probe, serial, tables, trap};
