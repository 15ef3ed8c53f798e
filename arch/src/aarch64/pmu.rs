//! The cycle counter (Arm ARM D11): with QEMU's `-icount shift=0` an instruction takes a cycle. A CPU without counters of
//! performance, such as that of a guest, has the clock instead.

// UNSAFETY: system registers.
#![expect(unsafe_code)]

use super::Aarch64;
use crate::contract::Clock;
use aarch64_cpu::registers::{ID_AA64DFR0_EL1, Readable};
use core::arch::asm;
use core::sync::atomic::{AtomicBool, Ordering};

/// PMCR_EL0: enable, reset cycles, count all 64 bits.
const ENABLE: u64 = 1 << 0 | 1 << 2 | 1 << 6;
/// The cycle counter's bit in PMCNTENSET_EL0.
const CYCLES: u64 = 1 << 31;
/// PMCCFILTR_EL0.NSH: count at EL2 as well.
const AT_EL2: u64 = 1 << 27;

/// The CPU lacks the counter.
static LACKS_COUNTER: AtomicBool = AtomicBool::new(false);

/// Whether the CPU has the counter (ID_AA64DFR0_EL1.PMUVer: 15 is one of its maker's own).
fn is_there() -> bool {
    !matches!(ID_AA64DFR0_EL1.read(ID_AA64DFR0_EL1::PMUVer), 0 | 15)
}

/// Starts the counter, at every exception level that the kernel runs at.
pub(super) fn start() {
    if !is_there() {
        LACKS_COUNTER.store(true, Ordering::Relaxed);
        return;
    }
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

/// Cycles since [`start`], or ticks of the clock.
pub(super) fn cycles() -> u64 {
    if LACKS_COUNTER.load(Ordering::Relaxed) {
        return Aarch64::timestamp();
    }
    let cycles;
    // SAFETY: reading the counter has no side effect; the compiler does not move the read across other `asm!`.
    unsafe { asm!("mrs {}, pmccntr_el0", out(reg) cycles, options(nostack, preserves_flags)) };
    cycles
}
