//! The generic timer (Arm ARM D12.2): at EL1 the virtual timer, which every hypervisor leaves to its guests; at EL2
//! the EL2 timer, which is accessed there by the names of EL1's physical timer (HCR_EL2.E2H).

// UNSAFETY: a system register without a name.
#![expect(unsafe_code)]

use super::{Aarch64, cpu};
use crate::contract::Clock;
use aarch64_cpu::asm::barrier;
use aarch64_cpu::registers::{
    CNTP_CTL_EL0, CNTP_TVAL_EL0, CNTV_CTL_EL0, CNTV_TVAL_EL0, CurrentEL, Readable, Writeable,
};
use core::arch::asm;
use core::sync::atomic::Ordering;

/// Private interrupts (Arm BSA, table 4).
const EL2_PHYSICAL: u32 = 26;
const VIRTUAL: u32 = 27;

/// Control: the timer is enabled, and its interrupt is not masked.
const ENABLE: u64 = 1;

fn is_at_el2() -> bool {
    CurrentEL.read(CurrentEL::EL) == 2
}

/// Turns the timer of guests off, and returns whether this CPU can have guests.
pub(super) fn stop_guests() -> bool {
    if is_at_el2() {
        // SAFETY: at EL2 with E2H this is CNTV_CTL_EL0, which the kernel does not use there.
        unsafe { asm!("msr S3_5_C14_C3_1, xzr", "isb", options(nomem, nostack, preserves_flags)) };
    }
    is_at_el2()
}

/// The interrupt of this CPU's timer.
pub(super) fn interrupt() -> u32 {
    if is_at_el2() { EL2_PHYSICAL } else { VIRTUAL }
}

/// Has the timer interrupt after `ticks` of the clock, or turns it off, by `control`.
fn set(ticks: u64, control: u64) {
    if is_at_el2() {
        CNTP_TVAL_EL0.set(ticks);
        CNTP_CTL_EL0.set(control);
    } else {
        CNTV_TVAL_EL0.set(ticks);
        CNTV_CTL_EL0.set(control);
    }
    // The interrupt line changes before the interrupt is finished.
    barrier::isb(barrier::SY);
}

/// Has the timer interrupt this CPU `hertz` times a second.
pub(super) fn start(hertz: u64) {
    let ticks = (Aarch64::timestamp_hertz() / hertz.max(1)).clamp(1, i32::MAX as u64);
    cpu::area().timer.store(ticks, Ordering::Relaxed);
    set(ticks, ENABLE);
}

/// Stops the timer.
pub(super) fn stop() {
    cpu::area().timer.store(0, Ordering::Relaxed);
    set(0, 0);
}

/// The timer's interrupt handler: starts the next period, unless the timer was stopped.
pub(super) fn go_on() {
    let ticks = cpu::area().timer.load(Ordering::Relaxed);
    set(ticks, if ticks == 0 { 0 } else { ENABLE });
}
