//! Timers: the timer's handler on each CPU calls a function.

use super::table;
use super::work::{self, NotDone};
use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, Ordering};
use spin::Once;

/// The function that every timer interrupt calls, in the handler.
static ON_TICK: Once<fn()> = Once::new();

/// Whether the timers are on.
static ON: AtomicBool = AtomicBool::new(false);

/// Whether the timers are on.
pub(crate) fn is_on() -> bool {
    ON.load(Ordering::Relaxed)
}

/// Called by the handler of the timer interrupt.
pub(crate) fn run() {
    table::own().ticks.fetch_add(1, Ordering::Relaxed);
    if let Some(on_tick) = ON_TICK.get().filter(|_| is_on()) {
        on_tick();
    }
}

/// Has the timer of each CPU that is up call `on_tick` `hertz` times a second, or turns the timers off. `set_own` does
/// that with the timer of the CPU that calls it. Only the first `on_tick` counts.
///
/// # Errors
///
/// [`NotDone`] with a CPU that has another job, and no timer has changed; or with one that does not change its timer.
pub(crate) fn set_all(
    hertz: Option<u64>,
    on_tick: fn(),
    set_own: fn(Option<u64>),
) -> Result<(), NotDone> {
    ON_TICK.call_once(|| on_tick);
    let set_own = move || set_own(hertz);
    work::begin_on_others(&(Arc::new(set_own) as Arc<work::Job>))?;
    // If no timer changes, they keep their use, such as ending the slices of guests.
    ON.store(hertz.is_some(), Ordering::Relaxed);
    set_own();
    work::wait_for_others()
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use crate::cpus::table::State;
    use crate::cpus::work::Why;
    use hotmem::NodeId;
    use hotmem_arch::host::Machine;

    #[test]
    fn timers_keep_their_use_if_a_cpu_has_another_job() {
        let (done, ended) = std::sync::mpsc::channel();
        Machine::new().power_on(move || {
            table::enter_first();
            let other = table::claim(7, NodeId::ZERO).expect("there is room");
            other.set(State::Up);
            work::keep_busy(other);
            let refused = set_all(Some(100), || (), |_| panic!("a timer changes"));
            assert_eq!(refused, Err(NotDone { cpu: other.number(), why: Why::Busy }));
            assert!(!is_on());
            done.send(()).unwrap();
        });
        ended.recv().expect("the CPU has not panicked");
    }
}
