//! The area of this CPU.

// UNSAFETY: dereferences the pointer in a register.
#![expect(unsafe_code)]

use crate::area::CpuArea;
use core::arch::asm;

/// The area of this CPU.
#[inline(always)]
pub(super) fn area() -> &'static CpuArea {
    let area: usize;
    // SAFETY: reads a register.
    unsafe { asm!("mfspr {}, 275", out(reg) area, options(nomem, nostack, preserves_flags)) };
    // SAFETY: `enter`, the first function that the kernel calls on a CPU, stored a `'static` reference in the
    // register.
    unsafe { &*core::ptr::with_exposed_provenance::<CpuArea>(area) }
}
