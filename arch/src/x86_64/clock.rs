//! How fast the time stamp counter ticks.

// UNSAFETY: drives the programmable interval timer.
#![expect(unsafe_code)]

use super::{cpu, port};

// Intel 8254 data sheet; the PC wires channel 2 to port 61h (gate: bit 0, speaker: bit 1, output: bit 5).
const CHANNEL_2: u16 = 0x42;
const MODE: u16 = 0x43;
const SYSTEM_CONTROL: u16 = 0x61;
/// Channel 2, both bytes, mode 0 (output rises at the end of the count), binary.
const ONE_SHOT_CHANNEL_2: u8 = 0xb0;
const PIT_HERTZ: u64 = 1_193_182;
/// A hundredth of a second.
const COUNT: u16 = (PIT_HERTZ / 100) as u16;
const OUTPUT: u8 = 1 << 5;
/// Polls before the timer counts as not there.
const PATIENCE: u32 = 10_000_000;

fn write(register: u16, value: u8) {
    // SAFETY: channel 2 drives the speaker and nothing else: no interrupt, no memory.
    unsafe { port::write_u8(register, value) };
}

fn control() -> u8 {
    // SAFETY: reading the system control port has no side effect.
    unsafe { port::read_u8(SYSTEM_CONTROL) }
}

/// Ticks of the time stamp counter in a second, measured against the interval timer; `None` if there
/// is no such timer.
pub(super) fn measure_timestamp_hertz() -> Option<u64> {
    write(SYSTEM_CONTROL, control() & !2 | 1);
    write(MODE, ONE_SHOT_CHANNEL_2);
    write(CHANNEL_2, COUNT.to_le_bytes()[0]);
    write(CHANNEL_2, COUNT.to_le_bytes()[1]);

    // The output is low while the timer counts. Where there is no timer the port reads as all ones.
    if control() & OUTPUT != 0 {
        return None;
    }
    let start = cpu::timestamp();
    (0..PATIENCE).find(|_| control() & OUTPUT != 0)?;
    let ticks = cpu::timestamp().wrapping_sub(start);
    ticks.checked_mul(100).filter(|&hertz| hertz != 0)
}
