//! One CPU dies: the others stop, so that it alone says why.

use super::caller;
use super::table::{self, State};
use core::sync::atomic::{AtomicUsize, Ordering};
use hotmem_arch::current::cpu;
use hotmem_arch::irq::Call;

/// The number of the CPU that dies, plus one.
static DYING: AtomicUsize = AtomicUsize::new(0);

/// Parts of a second that the others have to stop: one that lets no interrupts in may not be told.
const PATIENCE: u64 = 10;

/// Which death this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Death {
    /// The first one: to be reported, once the others have stopped.
    First,
    /// One while this CPU reports the first.
    Second,
}

/// To be called by a CPU that dies, with interrupts off. If another one does already, this one stops here.
pub(crate) fn die() -> Death {
    let own = table::own();
    let me = own.number() + 1;
    // SeqCst: whoever comes second must find the first.
    match DYING.compare_exchange(0, me, Ordering::SeqCst, Ordering::SeqCst) {
        Ok(_) => Death::First,
        Err(first) if first == me => Death::Second,
        Err(_) => stop_here(),
    }
}

/// Stops this CPU if another one dies.
pub(crate) fn stop_if_told() {
    let dying = DYING.load(Ordering::SeqCst);
    if dying != 0 && dying != cpu::number() + 1 {
        stop_here();
    }
}

fn stop_here() -> ! {
    table::own().set(State::Stopped);
    cpu::halt()
}

/// Has all others stop, and waits for that a moment.
pub(crate) fn stop_others() {
    table::others().for_each(|entry| caller::call(entry, Call::Stop));
    let (begun, ticks) = (cpu::timestamp(), cpu::timestamp_hertz() / PATIENCE);
    while table::has_others() && cpu::timestamp().wrapping_sub(begun) <= ticks {
        cpu::relax();
    }
}
