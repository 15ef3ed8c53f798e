//! The decrementer (book III, chapter 8): it always counts, and interrupts below zero.

// UNSAFETY: sets the decrementer.
#![expect(unsafe_code)]

use super::{Ppc64, own};
use crate::contract::Clock;
use core::arch::asm;
use core::sync::atomic::Ordering;

/// The longest period.
pub(super) const FAR: u64 = 0x7fff_ffff;

/// The shortest period: QEMU interrupts at once for less, and keeps the old value of the decrementer.
const NEAR: u64 = 3;

fn set(ticks: u64) {
    // SAFETY: sets the decrementer, whose interrupt has a vector.
    unsafe { asm!("mtdec {}", in(reg) ticks, options(nomem, nostack, preserves_flags)) };
}

/// Has the decrementer interrupt this CPU `hertz` times a second.
pub(super) fn start(hertz: u64) {
    let ticks = (Ppc64::timestamp_hertz() / hertz.max(1)).clamp(1, FAR);
    own::area().timer.store(ticks, Ordering::Relaxed);
    set(ticks);
}

/// Has the decrementer interrupt as rarely as possible.
pub(super) fn stop() {
    own::area().timer.store(0, Ordering::Relaxed);
    set(FAR);
}

/// The decrementer's interrupt handler, which also ends the interrupt: starts the next period. Returns whether the
/// timer was started.
pub(super) fn go_on() -> bool {
    let ticks = own::area().timer.load(Ordering::Relaxed);
    set(if ticks == 0 { FAR } else { ticks });
    ticks != 0
}

/// The value of the timebase at which the decrementer interrupts; now, if it is below zero already.
pub(super) fn deadline() -> u64 {
    let left: u64;
    // SAFETY: reads a register.
    unsafe { asm!("mfdec {}", out(reg) left, options(nomem, nostack, preserves_flags)) };
    // A large decrementer is negative here, one of 32 bits is above the longest period.
    let left = if left > FAR { 0 } else { left };
    Ppc64::timestamp().wrapping_add(left)
}

/// Has the decrementer interrupt when the timebase is `deadline`; at once, if that is over.
pub(super) fn set_deadline(deadline: u64) {
    let left = deadline.saturating_sub(Ppc64::timestamp());
    set(left.clamp(NEAR, FAR));
}
