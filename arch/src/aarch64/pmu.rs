//! The cycle counter (Arm ARM D11): with QEMU's `-icount shift=0` an instruction takes a cycle.

// UNSAFETY: system registers.
#![expect(unsafe_code)]

use core::arch::asm;

/// PMCR_EL0: enable, reset cycles, count all 64 bits.
const ENABLE: u64 = 1 << 0 | 1 << 2 | 1 << 6;
/// The cycle counter's bit in PMCNTENSET_EL0.
const CYCLES: u64 = 1 << 31;
/// PMCCFILTR_EL0.NSH: count at EL2 as well.
const AT_EL2: u64 = 1 << 27;

/// Starts the counter, at every exception level that the kernel runs at.
pub(super) fn start() {
    // SAFETY: the kernel uses the counter nowhere else, and the counter raises no interrupt.
    unsafe {
        asm!(
            "msr pmccfiltr_el0, {filter}",
            "msr pmcntenset_el0, {cycles}",
            "msr pmcr_el0, {enable}",
            "isb",
            filter = in(reg) AT_EL2,
            cycles = in(reg) CYCLES,
            enable = in(reg) ENABLE,
            options(nomem, nostack, preserves_flags),
        );
    }
}

/// Cycles since [`start`].
pub(super) fn cycles() -> u64 {
    let cycles;
    // SAFETY: reading the counter has no side effect; the compiler does not move the read across other `asm!`.
    unsafe { asm!("mrs {}, pmccntr_el0", out(reg) cycles, options(nostack, preserves_flags)) };
    cycles
}
