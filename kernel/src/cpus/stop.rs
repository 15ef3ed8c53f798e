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
    let (begun, ticks) = (cpu::timestamp(), cpu::timestamp_hertz() / PATIENCE);
    let in_time = || {
        cpu::relax();
        cpu::timestamp().wrapping_sub(begun) <= ticks
    };
    table::others().for_each(|entry| {
        try_again(|| caller::call(entry, Call::Stop).is_ok(), in_time);
    });
    try_again(|| !table::has_others(), in_time);
}

/// Does `what` until it succeeds, once at least, and again as long as it is `in_time`.
fn try_again(what: impl Fn() -> bool, in_time: impl Fn() -> bool) {
    while !what() && in_time() {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::cell::Cell;

    #[test]
    fn a_cpu_that_cannot_be_called_for_a_moment_is_called_again_but_not_for_ever() {
        let (tries, turns) = (Cell::new(0), Cell::new(0));
        let succeed_at = |last: u32| {
            tries.set(tries.get() + 1);
            tries.get() == last
        };
        let in_time = || {
            turns.set(turns.get() + 1);
            turns.get() <= 5
        };
        // Another CPU holds the lock, and gives it up.
        try_again(|| succeed_at(3), in_time);
        assert_eq!((tries.take(), turns.get()), (3, 2));
        // This one holds it: the next CPUs are tried once each.
        try_again(|| succeed_at(0), in_time);
        assert_eq!((tries.take(), turns.get()), (4, 6));
        try_again(|| succeed_at(0), in_time);
        assert_eq!(tries.take(), 1);
    }
}
