//! The clock that measures operations, and the way to the main loop.

use core::sync::atomic::{AtomicU64, Ordering};
use hotmem_arch::current::cpu;
use hotmem_hotplug::Clock;

/// The time stamp at the start.
static START: AtomicU64 = AtomicU64::new(0);

/// Notes that the kernel starts.
pub(crate) fn note_start() {
    START.store(cpu::timestamp(), Ordering::Relaxed);
}

/// Instructions since the start, on a machine that counts them: each takes a nanosecond. The time stamp counts from the
/// start on every architecture, and is exact to its ticks.
pub(crate) fn since_start() -> u64 {
    let ticks = cpu::timestamp().wrapping_sub(START.load(Ordering::Relaxed));
    (u128::from(ticks) * 1_000_000_000 / u128::from(cpu::timestamp_hertz().max(1))) as u64
}

/// Counts instructions with the CPU's counter, if the machine was started for that.
#[derive(Clone, Copy, Debug)]
pub struct InstructionClock {
    /// Whether the counter counts instructions (`-icount` of QEMU, and the option on the command line).
    pub counts: bool,
}

impl Clock for InstructionClock {
    fn instructions(&self) -> Option<u64> {
        self.counts.then(cpu::instructions)
    }
}
