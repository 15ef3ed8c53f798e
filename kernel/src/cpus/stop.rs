//! A CPU panics: the others stop, so that it alone reports the reason.

use super::caller;
use super::table::{self, State};
use core::sync::atomic::{AtomicUsize, Ordering};
use hotmem_arch::current::cpu;
use hotmem_arch::irq::Call;

/// The number of the CPU that panics, plus one.
static DYING: AtomicUsize = AtomicUsize::new(0);

/// The others have 1/`STOP_FRACTION` of a second to stop: a CPU with interrupts disabled may not receive the request.
const STOP_FRACTION: u64 = 10;

/// The order of a panic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Death {
    /// The first one: reported, after the others have stopped.
    First,
    /// A panic while this CPU reports the first one.
    Second,
}

/// Called by a CPU that panics, with interrupts off. If another CPU panics already, this one stops here.
pub(crate) fn die() -> Death {
    let own = table::own();
    let me = own.number() + 1;
    // SeqCst: the second CPU must see the first.
    match DYING.compare_exchange(0, me, Ordering::SeqCst, Ordering::SeqCst) {
        Ok(_) => Death::First,
        Err(first) if first == me => Death::Second,
        Err(_) => stop_here(),
    }
}

/// Stops this CPU if another one panics.
pub(crate) fn stop_if_another_dies() {
    let dying = DYING.load(Ordering::SeqCst);
    if dying != 0 && dying != cpu::number() + 1 {
        stop_here();
    }
}

fn stop_here() -> ! {
    table::own().set(State::Stopped);
    cpu::halt()
}

/// Asks all others to stop, and waits for them for a moment.
pub(crate) fn stop_others() {
    let (begun, ticks) = (cpu::timestamp(), cpu::timestamp_hertz() / STOP_FRACTION);
    let in_time = || {
        cpu::relax();
        cpu::timestamp().wrapping_sub(begun) <= ticks
    };
    table::others().for_each(|entry| {
        try_again(|| caller::call(entry, Call::Stop).is_ok(), in_time);
    });
    try_again(|| !table::has_others(), in_time);
}

/// Calls `what` until it succeeds, at least once, and only while `in_time` returns `true`.
fn try_again(what: impl Fn() -> bool, in_time: impl Fn() -> bool) {
    while !what() && in_time() {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::cell::Cell;

    #[test]
    fn a_cpu_that_cannot_be_called_for_a_moment_is_called_again_for_a_limited_time() {
        let (tries, turns) = (Cell::new(0), Cell::new(0));
        let succeed_at = |last: u32| {
            tries.set(tries.get() + 1);
            tries.get() == last
        };
        let in_time = || {
            turns.set(turns.get() + 1);
            turns.get() <= 5
        };
        // Another CPU holds the lock, and releases it.
        try_again(|| succeed_at(3), in_time);
        assert_eq!((tries.take(), turns.get()), (3, 2));
        // This CPU holds it: each of the next CPUs is tried once.
        try_again(|| succeed_at(0), in_time);
        assert_eq!((tries.take(), turns.get()), (4, 6));
        try_again(|| succeed_at(0), in_time);
        assert_eq!(tries.take(), 1);
    }
}
