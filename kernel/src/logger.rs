//! The `log` backend: a line on the console with the time since boot.

use crate::console;
use core::sync::atomic::{AtomicU64, Ordering};
use hotmem_arch::current::cpu;
use log::{LevelFilter, Log, Metadata, Record};

struct ConsoleLog;

/// Ticks at boot, and in a microsecond (0: not known yet, and times are shown as 0).
static BOOT_TICKS: AtomicU64 = AtomicU64::new(0);
static TICKS_PER_MICROSECOND: AtomicU64 = AtomicU64::new(0);

/// Microseconds since [`init`].
fn now() -> u64 {
    let ticks = cpu::timestamp().wrapping_sub(BOOT_TICKS.load(Ordering::Relaxed));
    ticks.checked_div(TICKS_PER_MICROSECOND.load(Ordering::Relaxed)).unwrap_or(0)
}

impl Log for ConsoleLog {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            let now = now();
            let (seconds, micros) = (now / 1_000_000, now % 1_000_000);
            let (level, text) = (record.level(), record.args());
            console::line(format_args!("[{seconds:5}.{micros:06}] {level:5} {text}"));
        }
    }

    fn flush(&self) {}
}

/// Takes over the clock's frequency, once it is known, or cannot become known.
pub(crate) fn set_clock() {
    TICKS_PER_MICROSECOND.store(cpu::timestamp_hertz() / 1_000_000, Ordering::Relaxed);
}

/// Starts logging at `info`, with times counted from now.
pub(crate) fn init() {
    BOOT_TICKS.store(cpu::timestamp(), Ordering::Relaxed);
    if cpu::timestamp_is_known() {
        set_clock();
    }
    if log::set_logger(&ConsoleLog).is_ok() {
        log::set_max_level(LevelFilter::Info);
    }
}
