//! What a CPU does that is not the first: it runs the job in its mailbox, clears pages ahead, and sleeps.

use super::table::Entry;
use super::work;
use crate::memory;
use core::sync::atomic::Ordering;
use hotmem::Mm;
use hotmem_arch::current::cpu;

/// Works for ever.
pub(super) fn run(own: &'static Entry) -> ! {
    loop {
        cpu::enable_interrupts();
        work::run_given(own);
        while !work::is_given(own) && memory::manager().is_some_and(Mm::zero_ahead) {}
        cpu::disable_interrupts();
        if !work::is_given(own) {
            sleep(own);
        }
    }
}

/// Sleeps until an interrupt, which must be off, and notes how long.
pub(crate) fn sleep(own: &Entry) {
    let begun = cpu::timestamp();
    cpu::enable_interrupts_and_wait();
    own.idle.fetch_add(cpu::timestamp().wrapping_sub(begun), Ordering::Relaxed);
}
