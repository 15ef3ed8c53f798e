//! The loop of every CPU except the first: it runs the job in its mailbox, and sleeps.

use super::table::Entry;
use super::work;
use core::sync::atomic::Ordering;
use hotmem_arch::current::cpu;

/// Runs for ever.
pub(super) fn run(own: &'static Entry) -> ! {
    loop {
        cpu::enable_interrupts();
        work::run_given(own);
        cpu::disable_interrupts();
        if !work::is_given(own) {
            sleep(own);
        }
    }
}

/// Sleeps until an interrupt, and adds the time slept. Interrupts must be off.
pub(crate) fn sleep(own: &Entry) {
    let begun = cpu::timestamp();
    own.sleeps.store(true, Ordering::Release);
    cpu::enable_interrupts_and_wait();
    own.sleeps.store(false, Ordering::Release);
    own.idle.fetch_add(cpu::timestamp().wrapping_sub(begun), Ordering::Relaxed);
}
