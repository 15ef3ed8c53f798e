//! What a CPU or its console cannot be asked, and only firmware's description leads to: noted by whoever
//! reads that, used by an architecture that needs it.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// 0 stands for "not described" in all of them.
static TIMEBASE_HERTZ: AtomicU64 = AtomicU64::new(0);
static TERMINAL: AtomicU32 = AtomicU32::new(0);

/// Notes how often the timebase ticks in a second (`timebase-frequency` of a CPU's node; what the ACPI timer
/// shows of the time stamp counter).
pub fn set_timebase_hertz(hertz: u64) {
    // Relaxed: the number is all there is to see.
    TIMEBASE_HERTZ.store(hertz, Ordering::Relaxed);
}

/// How often the timebase ticks in a second, if that is described.
pub fn timebase_hertz() -> Option<u64> {
    Some(TIMEBASE_HERTZ.load(Ordering::Relaxed)).filter(|&hertz| hertz != 0)
}

/// Notes the unit address of the virtual terminal that is the console (`reg` of its node).
pub fn set_terminal(unit: u32) {
    TERMINAL.store(unit, Ordering::Relaxed);
}

/// The unit address of the console, if that is described.
pub fn terminal() -> Option<u32> {
    Some(TERMINAL.load(Ordering::Relaxed)).filter(|&unit| unit != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_described_is_remembered() {
        assert_eq!((timebase_hertz(), terminal()), (None, None));
        set_timebase_hertz(512_000_000);
        set_terminal(0x7100_0000);
        assert_eq!((timebase_hertz(), terminal()), (Some(512_000_000), Some(0x7100_0000)));
    }
}
