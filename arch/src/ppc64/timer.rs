//! The decrementer (book III, chapter 8): it always counts, and interrupts below zero.

// UNSAFETY: sets the decrementer.
#![expect(unsafe_code)]

use super::{Ppc64, own};
use crate::contract::Clock;
use core::arch::asm;
use core::sync::atomic::Ordering;

/// The longest period.
const FAR: u64 = 0x7fff_ffff;

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
