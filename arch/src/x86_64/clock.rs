//! Measures the rate of the time stamp counter with the interval timer.

// UNSAFETY: drives the programmable interval timer.
#![expect(unsafe_code)]

use super::port;

// Intel 8254 data sheet; the PC wires channel 2 to port 61h (gate: bit 0, speaker: bit 1, output: bit 5).
const CHANNEL_0: u16 = 0x40;
const CHANNEL_2: u16 = 0x42;
const MODE: u16 = 0x43;
const SYSTEM_CONTROL: u16 = 0x61;
/// Channel 2, both bytes, mode 0 (output rises at the end of the count), binary.
const ONE_SHOT_CHANNEL_2: u8 = 0xb0;
/// The same for channel 0.
const ONE_SHOT_CHANNEL_0: u8 = 0x30;
/// Latches status and count of channel 0 for the next three reads.
const READ_BACK_CHANNEL_0: u8 = 0xc2;
/// In the status: the output is high, so the count has ended.
const STATUS_OUTPUT: u8 = 1 << 7;
/// In the status: the number that was written is not in the counter yet.
const STATUS_NOT_LOADED: u8 = 1 << 6;
const PIT_HERTZ: u64 = 1_193_182;
/// A hundredth of a second.
const COUNT: u16 = (PIT_HERTZ / 100) as u16;
const OUTPUT: u8 = 1 << 5;
/// Polls before the timer counts as missing.
const OUTPUT_POLLS: u32 = 10_000_000;
/// Polls of a count before the timer counts as stopped: each takes four accesses to ports, and fewer than this many
/// fit a hundredth of a second.
const COUNT_POLLS: u32 = 1_000_000;
/// Attempts, since a count may end between two polls, as when the host had other work.
const ATTEMPTS: u32 = 3;

fn write(register: u16, value: u8) {
    // SAFETY: channel 2 drives the speaker and nothing else: no interrupt, no memory.
    unsafe { port::write_u8(register, value) };
}

fn control() -> u8 {
    // SAFETY: reading the system control port has no side effect.
    unsafe { port::read_u8(SYSTEM_CONTROL) }
}

/// The ticks of the time stamp counter in a second, measured against the interval timer; `now` reads the counter.
/// `None` for a timer that the machine lacks.
pub(super) fn measure_timestamp_hertz(now: fn() -> u64) -> Option<u64> {
    by_output(now).or_else(|| {
        (0..ATTEMPTS).find_map(|_| {
            start_channel_0();
            by_count(sample_channel_0, now)
        })
    })
}

/// Measures by the output of channel 2, which the system control port shows; some machines (QEMU's `microvm`) have
/// the timer but not that port.
fn by_output(now: fn() -> u64) -> Option<u64> {
    write(SYSTEM_CONTROL, control() & !2 | 1);
    write(MODE, ONE_SHOT_CHANNEL_2);
    write(CHANNEL_2, COUNT.to_le_bytes()[0]);
    write(CHANNEL_2, COUNT.to_le_bytes()[1]);

    // The output is low while the timer counts. On a machine without the timer the port reads as all ones.
    if control() & OUTPUT != 0 {
        return None;
    }
    let start = now();
    (0..OUTPUT_POLLS).find(|_| control() & OUTPUT != 0)?;
    let ticks = now().wrapping_sub(start);
    ticks.checked_mul(100).filter(|&hertz| hertz != 0)
}

/// Has channel 0 count down once from its largest number; this channel needs no gate. Its interrupt, at the end of
/// the count, is masked as long as no driver uses it.
fn start_channel_0() {
    write(MODE, ONE_SHOT_CHANNEL_0);
    write(CHANNEL_0, u8::MAX);
    write(CHANNEL_0, u8::MAX);
}

/// Status and count of channel 0, read at one moment.
fn sample_channel_0() -> (u8, u16) {
    write(MODE, READ_BACK_CHANNEL_0);
    let [status, low, high] = [(); 3].map(|()| {
        // SAFETY: reads what the command above has latched, which has no other effect.
        unsafe { port::read_u8(CHANNEL_0) }
    });
    (status, u16::from_le_bytes([low, high]))
}

/// Measures how often the clock `now` ticks in a second, by the count that `sample` returns; `None` if nothing
/// counts, or if the count ended between two polls.
fn by_count(mut sample: impl FnMut() -> (u8, u16), mut now: impl FnMut() -> u64) -> Option<u64> {
    let mut first = None;
    for _ in 0..COUNT_POLLS {
        let (status, count) = sample();
        if status & STATUS_OUTPUT != 0 {
            return None;
        }
        if status & STATUS_NOT_LOADED != 0 {
            continue;
        }
        let (begin, start) = *first.get_or_insert_with(|| (count, now()));
        let passed = u64::from(begin.wrapping_sub(count));
        if passed >= u64::from(COUNT) {
            let ticks = u128::from(now().wrapping_sub(start));
            let hertz = u64::try_from(ticks * u128::from(PIT_HERTZ) / u128::from(passed)).ok()?;
            return (hertz != 0).then_some(hertz);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::cell::Cell;

    /// Measures a clock of 2 GHz, where each poll of the timer takes `look` of its ticks.
    fn measured(look: u64, sample: impl Fn(u64) -> (u8, u16)) -> Option<u64> {
        let passed = Cell::new(0);
        let timer = || {
            passed.set(passed.get() + look);
            sample(passed.get())
        };
        by_count(timer, || passed.get() * 2_000_000_000 / PIT_HERTZ)
    }

    /// A timer that follows the data sheet, which loads its count with the third tick.
    fn timer(passed: u64) -> (u8, u16) {
        let ended = if passed > 0xffff { STATUS_OUTPUT } else { 0 };
        let loading = if passed < 3 { STATUS_NOT_LOADED } else { 0 };
        (ended | loading, 0xffff_u16.wrapping_sub(passed as u16))
    }

    #[test]
    fn a_clock_is_measured_by_the_count_alone() {
        for look in [1, 7, 20_000] {
            let hertz = measured(look, timer).unwrap();
            assert!(hertz.abs_diff(2_000_000_000) < 1_000_000, "{look}: {hertz}");
        }
    }

    #[test]
    fn a_count_that_ended_between_two_polls_measures_nothing() {
        assert_eq!(measured(60_000, timer), None);
    }

    #[test]
    fn a_missing_or_stopped_timer_measures_nothing() {
        assert_eq!(measured(1, |_| (0xff, 0xffff)), None);
        assert_eq!(measured(1, |_| (0, 0x1234)), None);
        assert_eq!(measured(1, |_| (STATUS_NOT_LOADED, 0)), None);
    }
}
