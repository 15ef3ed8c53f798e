//! The ports of a guest: a serial port, a clock that stands still, the port that turns the machine off, and the one by
//! which programs leave an emulator (QEMU's `isa-debug-exit`), as this kernel does.

use super::acpi;
use super::serial::Serial;

/// The first serial port of a PC.
const COM1: u16 = 0x3f8;
const COM1_LAST: u16 = COM1 + 7;

/// The counters of the interval timer, which read as 0: a guest that calibrates its clock by them gives up at once.
const COUNTERS: u16 = 0x40;
const LAST_COUNTER: u16 = 0x42;

/// The port of the exit device; what this kernel writes there if all is well.
const EXIT: u16 = 0xf4;
const EXIT_GOOD: u8 = 0x10;

/// Index and data of the clock (MC146818 data sheet).
const CLOCK_INDEX: u16 = 0x70;
const CLOCK_DATA: u16 = 0x71;
/// In the index: non-maskable interrupts are off.
const INDEX_BITS: u8 = 0x7f;

/// An access to ports (AMD APM vol. 2, 15.10.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Access {
    pub(crate) port: u16,
    /// 1, 2 or 4.
    pub(crate) bytes: u8,
    pub(crate) is_input: bool,
    /// INS or OUTS.
    pub(crate) is_string: bool,
}

impl Access {
    /// The access that an exit describes by its first word.
    pub(crate) const fn of(info: u64) -> Self {
        let bytes = match info >> 4 & 7 {
            1 => 1,
            2 => 2,
            _ => 4,
        };
        let (is_input, is_string) = (info & 1 != 0, info & 1 << 2 != 0);
        Self { port: (info >> 16) as u16, bytes, is_input, is_string }
    }

    /// The ports that it covers, with the position of each in the value.
    fn ports(self) -> impl Iterator<Item = (u16, u32)> {
        (0..u16::from(self.bytes))
            .map(move |index| (self.port.wrapping_add(index), u32::from(index) * 8))
    }

    /// RAX after an input of `value`, if it was `rax`.
    pub(crate) const fn merged(self, rax: u64, value: u32) -> u64 {
        let value = value as u64;
        match self.bytes {
            1 => rax & !0xff | value & 0xff,
            2 => rax & !0xffff | value & 0xffff,
            // A 32-bit result clears the upper half.
            _ => value,
        }
    }
}

/// What an output does outside of the board.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Nothing.
    None,
    /// The serial port sends a byte.
    Send(u8),
    /// The guest turns its machine off.
    Off,
    /// The guest restarts its machine.
    Restart,
    /// The guest leaves its machine with this value, which is not the good one.
    Fail(u8),
}

/// The devices behind the ports.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ports {
    serial: Serial,
    clock_index: u8,
}

impl Ports {
    /// The serial port receives a byte; `false` if it has no room.
    pub(crate) const fn receive(&mut self, byte: u8) -> bool {
        self.serial.receive(byte)
    }

    /// Reads ports. Those without a device read as ones.
    pub(crate) fn input(&mut self, access: Access) -> u32 {
        let mut byte = |port| match port {
            COM1..=COM1_LAST => self.serial.read(port - COM1),
            COUNTERS..=LAST_COUNTER | acpi::SLEEP_STATUS => 0,
            CLOCK_DATA => clock(self.clock_index),
            _ => 0xff,
        };
        access.ports().fold(0, |value, (port, at)| value | u32::from(byte(port)) << at)
    }

    /// Writes `value` to ports. The devices are so far apart that one access has one effect at most.
    pub(crate) fn output(&mut self, access: Access, value: u32) -> Effect {
        access.ports().fold(Effect::None, |effect, (port, at)| {
            match self.output_byte(port, (value >> at) as u8) {
                Effect::None => effect,
                other => other,
            }
        })
    }

    fn output_byte(&mut self, port: u16, value: u8) -> Effect {
        match port {
            COM1..=COM1_LAST => match self.serial.write(port - COM1, value) {
                Some(byte) => Effect::Send(byte),
                None => Effect::None,
            },
            CLOCK_INDEX => {
                self.clock_index = value & INDEX_BITS;
                Effect::None
            }
            EXIT if value == EXIT_GOOD => Effect::Off,
            EXIT => Effect::Fail(value),
            acpi::SLEEP_CONTROL if value & acpi::SLEEP_ENABLE != 0 => Effect::Off,
            acpi::RESET if value == acpi::RESET_VALUE => Effect::Restart,
            _ => Effect::None,
        }
    }
}

/// A register of the clock. It is 2000-01-01, midnight, for ever: so a guest's output does not depend on the day.
const fn clock(index: u8) -> u8 {
    match index {
        // Day of the week (a Saturday), day, month.
        6 => 7,
        7 | 8 => 1,
        // A divider of 32768 Hz, no update under way; 24 hours, decimal digits; the time is valid; the century.
        0x0a => 0x26,
        0x0b => 0x02,
        0x0d => 0x80,
        0x32 => 0x20,
        _ => 0,
    }
}

#[cfg(test)]
mod tests;
