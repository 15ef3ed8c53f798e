//! The devices of a guest that runs Linux: what it finds beside its memory.
//!
//! ```text
//!   0x0800_0000 distributor     0x080a_0000 redistributor     0x0900_0000 PL011, interrupt 33
//!   HVC: PSCI                   virtual timer: interrupt 27   system registers: see `system.rs`
//! ```
//!
//! All of it is pure code: the addresses and registers that a guest uses come in, an exit goes out. The hardware has the
//! CPU interface of the interrupt controller, and the timer.

pub mod acpi;
pub mod gic;
pub mod psci;
pub mod serial;
pub mod system;

use super::exits::{Cause, Next};
use super::syndrome::class;
use crate::contract::GuestExit;
use gic::{DISTRIBUTOR_BYTES, Gic, REDISTRIBUTOR_BYTES};
use serial::Serial;
use system::{IdRegisters, Outcome};

/// The distributor.
pub const DISTRIBUTOR: u64 = 0x0800_0000;
/// The redistributor.
pub const REDISTRIBUTOR: u64 = 0x080a_0000;
/// The serial port.
pub const SERIAL: u64 = 0x0900_0000;
/// Bytes of its registers.
pub const SERIAL_BYTES: u64 = 0x1000;
/// Its interrupt.
pub const SERIAL_LINE: u32 = 33;
/// The interrupt of the virtual timer.
pub const TIMER_LINE: u32 = 27;

/// ISS of a data abort: it describes the access (ISV), sign extension (SSE), a register of 64 bits (SF), a store (WnR).
const DESCRIBED: u64 = 1 << 24;
const SIGNED: u64 = 1 << 21;
const WIDE: u64 = 1 << 15;
const STORE: u64 = 1 << 6;

/// The devices.
#[derive(Clone, Debug, Default)]
pub struct Board {
    /// The interrupt controller.
    pub gic: Gic,
    serial: Serial,
}

/// The timer of a guest, as the guest set it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timer {
    /// CNTV_CTL_EL0.
    pub control: u64,
    /// CNTV_CVAL_EL0.
    pub at: u64,
}

impl Timer {
    /// When it interrupts; `None` for never.
    pub const fn due(&self) -> Option<u64> {
        // ENABLE, not IMASK.
        if self.control & 0b11 == 0b01 { Some(self.at) } else { None }
    }
}

impl Board {
    /// Sets the lines of the devices, at the time `now`.
    pub fn update(&mut self, timer: Timer, now: u64) {
        self.gic.set_line(TIMER_LINE as usize, timer.due().is_some_and(|due| due <= now));
        self.gic.set_line(SERIAL_LINE as usize, self.serial.interrupts());
    }

    /// The exit of a guest that waits for an interrupt, with its lines up to date.
    pub fn wait(&self, timer: Timer) -> GuestExit {
        let due = timer.due().filter(|_| self.gic.is_enabled(TIMER_LINE as usize));
        match due {
            _ if self.gic.has_pending() => GuestExit::Emulated,
            Some(due) => GuestExit::WaitUntil(due),
            None if self.awaits_input() => GuestExit::WaitUntil(u64::MAX),
            None => GuestExit::Wait,
        }
    }

    /// Whether a byte for its serial port would wake the guest.
    fn awaits_input(&self) -> bool {
        self.gic.is_enabled(SERIAL_LINE as usize) && self.serial.awaits_input()
    }

    /// The serial port receives a byte; `false` if it has no room.
    pub fn receive(&mut self, byte: u8) -> bool {
        self.serial.receive(byte)
    }

    /// The exit that `cause` describes, if that is a matter of the board, and where the guest continues. `x` are its
    /// registers.
    pub fn exit(
        &mut self,
        cause: Cause,
        x: &mut [u64; 31],
        ids: &IdRegisters,
    ) -> Option<(GuestExit, Next)> {
        if !cause.vector.is_multiple_of(4) {
            return None;
        }
        match class(cause.syndrome) {
            0x16 => Some((psci::call(x), Next::Same)),
            0x18 => self.system_register(cause.syndrome, x, ids),
            0x24 => self.access(cause, x),
            _ => None,
        }
    }

    fn system_register(
        &mut self,
        syndrome: u64,
        x: &mut [u64; 31],
        ids: &IdRegisters,
    ) -> Option<(GuestExit, Next)> {
        let register = (syndrome >> 5 & 0x1f) as usize;
        if syndrome & 1 != 0 {
            let value = system::read(syndrome, ids)?;
            put(x, register, value);
        } else {
            match system::write(syndrome)? {
                Outcome::Ignored => {}
                Outcome::Send => self.gic.send(get(x, register)),
            }
        }
        Some((GuestExit::Emulated, Next::Following))
    }

    /// Emulates an access to the registers of a device. Returns `None` if no device has the address.
    fn access(&mut self, cause: Cause, x: &mut [u64; 31]) -> Option<(GuestExit, Next)> {
        let Cause { syndrome, .. } = cause;
        // A translation fault of the access itself, not of a walk.
        if syndrome & 0x3c != 0x04 || syndrome & 1 << 7 != 0 {
            return None;
        }
        let at = cause.page >> 4 << 12 & ((1 << 48) - 1) | cause.address & 0xfff;
        let device = device(at)?;
        if syndrome & DESCRIBED == 0 {
            let why = "it accessed a device by an instruction that the host does not decode";
            return Some((GuestExit::Stopped(why, at), Next::Same));
        }
        let (bytes, register) = (1 << (syndrome >> 22 & 3), (syndrome >> 16 & 0x1f) as usize);
        let exit = if syndrome & STORE != 0 {
            let value = get(x, register) & mask(bytes);
            self.store(device, bytes, value).map_or(GuestExit::Emulated, GuestExit::Console)
        } else {
            put(x, register, extended(self.load(device, bytes), bytes, syndrome));
            GuestExit::Emulated
        };
        Some((exit, Next::Following))
    }

    fn load(&mut self, (device, offset): (Device, u64), bytes: u64) -> u64 {
        let value = match device {
            Device::Distributor => self.gic.read_distributor(offset, bytes),
            Device::Redistributor => self.gic.read_redistributor(offset, bytes),
            Device::Serial => self.serial.read(offset),
        };
        value & mask(bytes)
    }

    /// Returns the byte that the serial port sends.
    fn store(&mut self, (device, offset): (Device, u64), bytes: u64, value: u64) -> Option<u8> {
        match device {
            Device::Distributor => self.gic.write_distributor(offset, bytes, value),
            Device::Redistributor => self.gic.write_redistributor(offset, bytes, value),
            Device::Serial => return self.serial.write(offset, value),
        }
        None
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Device {
    Distributor,
    Redistributor,
    Serial,
}

/// The device at an address, and the offset in its registers.
fn device(at: u64) -> Option<(Device, u64)> {
    let all = [
        (Device::Distributor, DISTRIBUTOR, DISTRIBUTOR_BYTES),
        (Device::Redistributor, REDISTRIBUTOR, REDISTRIBUTOR_BYTES),
        (Device::Serial, SERIAL, SERIAL_BYTES),
    ];
    all.into_iter().find_map(|(device, start, bytes)| {
        let offset = at.checked_sub(start).filter(|offset| *offset < bytes)?;
        Some((device, offset))
    })
}

/// The bits of `bytes` bytes, at most eight.
const fn mask(bytes: u64) -> u64 {
    u64::MAX >> (64 - 8 * bytes)
}

/// What a load of `bytes` bytes leaves in its register.
fn extended(value: u64, bytes: u64, syndrome: u64) -> u64 {
    let shift = 64 - 8 * bytes;
    let value =
        if syndrome & SIGNED != 0 { ((value << shift) as i64 >> shift) as u64 } else { value };
    if syndrome & WIDE != 0 { value } else { value & mask(4) }
}

/// A general register; number 31 is zero.
fn get(x: &[u64; 31], register: usize) -> u64 {
    x.get(register).copied().unwrap_or(0)
}

/// Sets a general register; number 31 stays zero.
fn put(x: &mut [u64; 31], register: usize, value: u64) {
    if let Some(register) = x.get_mut(register) {
        *register = value;
    }
}

#[cfg(test)]
mod tests;
