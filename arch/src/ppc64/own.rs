//! What this CPU has of its own.

// UNSAFETY: follows the pointer in a register.
#![expect(unsafe_code)]

use crate::area::CpuArea;
use core::arch::asm;

/// The area of this CPU.
#[inline(always)]
pub(super) fn area() -> &'static CpuArea {
    let area: usize;
    // SAFETY: reads a register.
    unsafe { asm!("mfspr {}, 275", out(reg) area, options(nomem, nostack, preserves_flags)) };
    // SAFETY: `enter` was given a reference that lives for ever, and is the first that the kernel calls.
    unsafe { &*core::ptr::with_exposed_provenance::<CpuArea>(area) }
}
