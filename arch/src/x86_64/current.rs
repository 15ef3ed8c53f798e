//! The names by which the kernel knows the architecture it runs on.

pub use crate::common::probe;
pub use crate::rtas::absent as rtas;
pub use crate::x86_64::X86_64 as Arch;
pub use crate::x86_64::pte::X86Pte4 as Format;
pub use crate::x86_64::serial as console;
pub use crate::x86_64::tlb::LocalTlb as CpuTlb;
pub use crate::x86_64::{cpu, io, irq, layout, tables, trap};
