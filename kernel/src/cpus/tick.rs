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
/// [`NotDone`] with a CPU that has another job; the timers of others may have changed.
pub(crate) fn set_all(
    hertz: Option<u64>,
    on_tick: fn(),
    set_own: fn(Option<u64>),
) -> Result<(), NotDone> {
    ON_TICK.call_once(|| on_tick);
    ON.store(hertz.is_some(), Ordering::Relaxed);
    let set_own = move || set_own(hertz);
    work::begin_on_others(&(Arc::new(set_own) as Arc<work::Job>))?;
    set_own();
    work::wait_for_others()
}
