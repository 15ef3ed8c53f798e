//! The devices of a guest that runs a kernel: what its CPUs find beside their memory, and share.
//!
//! ```text
//!   0x0800_0000 distributor     0x080a_0000 redistributors    0x0900_0000 PL011, interrupt 33
//!   HVC: PSCI                   virtual timer: interrupt 27   system registers: see `system.rs`
//! ```
//!
//! All of it is pure code: the addresses and registers that a guest uses come in, an exit goes out. The hardware has the
//! CPU interface of the interrupt controller, and the timer.

pub mod acpi;
pub mod controller;
pub mod gic;
pub mod psci;
pub mod serial;
pub mod system;

use super::exits::{Cause, Next};
use super::syndrome::class;
use crate::contract::{Devices, GuestExit};
use controller::Controller;
pub use gic::MOST_CPUS;
use gic::{DISTRIBUTOR_BYTES, Gic, REDISTRIBUTOR_BYTES, receivers};
use serial::Serial;
use system::{IdRegisters, Outcome};

/// The distributor.
pub const DISTRIBUTOR: u64 = 0x0800_0000;
/// The redistributor of the first CPU, behind which those of the others are.
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
#[derive(Clone, Debug)]
pub struct Board {
    controller: Controller,
    cpus: usize,
    serial: Serial,
    /// CPUs that have to look at their interrupts: a bit for each.
    called: u64,
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

impl Devices for Board {
    fn new(cpus: usize) -> Self {
        let cpus = cpus.clamp(1, MOST_CPUS);
        Self { controller: Controller::new(cpus), cpus, serial: Serial::default(), called: 0 }
    }

    fn receive(&mut self, byte: u8) -> bool {
        self.serial.receive(byte)
    }
}

impl Board {
    /// The part of the interrupt controller of CPU `cpu`; that of the first one for a number that no CPU has.
    pub fn gic(&mut self, cpu: usize) -> &mut Gic {
        self.controller.part(cpu)
    }

    /// Brings the list registers of CPU `cpu` up to date before it runs.
    pub fn enter(&mut self, cpu: usize) -> &Gic {
        let called = self.controller.enter(cpu);
        self.call_others(cpu, called);
        self.controller.part(cpu)
    }

    /// Has CPUs other than `cpu` look at their interrupts.
    const fn call_others(&mut self, cpu: usize, called: u64) {
        self.called |= called & !(1 << (cpu & 63));
    }

    /// The CPUs that have to look at their interrupts since the last call: a bit for each.
    pub const fn take_called(&mut self) -> u64 {
        core::mem::replace(&mut self.called, 0)
    }

    /// Sets the lines of the devices for CPU `cpu`, at the time `now`.
    pub fn update(&mut self, cpu: usize, timer: Timer, now: u64) {
        let due = timer.due().is_some_and(|due| due <= now);
        self.gic(cpu).set_line(TIMER_LINE as usize, due);
        self.update_serial(cpu);
    }

    /// Sets the line of the serial port; the CPU that it interrupts looks at it if another one, `cpu`, changed it.
    fn update_serial(&mut self, cpu: usize) {
        let (line, is_active) = (SERIAL_LINE as usize, self.serial.interrupts());
        self.controller.set_line(line, is_active);
        if let Some(target) = self.controller.target(line).filter(|_| is_active) {
            self.call_others(cpu, 1 << target);
        }
    }

    /// The exit of CPU `cpu`, which waits for an interrupt, with its lines up to date.
    pub fn wait(&mut self, cpu: usize, timer: Timer) -> GuestExit {
        let awaits_input =
            self.controller.is_enabled(SERIAL_LINE as usize, cpu) && self.serial.awaits_input();
        let gic = self.gic(cpu);
        let due = timer.due().filter(|_| gic.is_enabled(TIMER_LINE as usize));
        match due {
            _ if gic.has_pending() => GuestExit::Emulated,
            Some(due) => GuestExit::WaitUntil(due),
            None if awaits_input => GuestExit::WaitUntil(u64::MAX),
            None if self.cpus > 1 => GuestExit::WaitForCpus,
            None => GuestExit::Wait,
        }
    }

    /// The exit of CPU `cpu` that `cause` describes, if that is a matter of the board, and where the guest continues. `x`
    /// are its registers.
    pub fn exit(
        &mut self,
        cpu: usize,
        cause: Cause,
        x: &mut [u64; 31],
        ids: &IdRegisters,
    ) -> Option<(GuestExit, Next)> {
        if !cause.vector.is_multiple_of(4) {
            return None;
        }
        match class(cause.syndrome) {
            0x16 => Some((psci::call(x), Next::Same)),
            0x18 => self.system_register(cpu, cause.syndrome, x, ids),
            0x24 => self.access(cpu, cause, x),
            _ => None,
        }
    }

    fn system_register(
        &mut self,
        cpu: usize,
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
                Outcome::Send => self.send(cpu, get(x, register)),
            }
        }
        Some((GuestExit::Emulated, Next::Following))
    }

    /// CPU `cpu` sends an interrupt to CPUs.
    fn send(&mut self, cpu: usize, word: u64) {
        let receivers = receivers(word, cpu, self.cpus);
        for receiver in (0..self.cpus).filter(|receiver| receivers >> receiver & 1 != 0) {
            self.gic(receiver).send(word);
        }
        self.call_others(cpu, receivers);
    }

    /// Emulates an access of CPU `cpu` to the registers of a device. Returns `None` if no device has the address.
    fn access(&mut self, cpu: usize, cause: Cause, x: &mut [u64; 31]) -> Option<(GuestExit, Next)> {
        let Cause { syndrome, .. } = cause;
        // A translation fault of the access itself, not of a walk.
        if syndrome & 0x3c != 0x04 || syndrome & 1 << 7 != 0 {
            return None;
        }
        let at = cause.page >> 4 << 12 & ((1 << 48) - 1) | cause.address & 0xfff;
        let device = device(at, self.cpus)?;
        if syndrome & DESCRIBED == 0 {
            let why = "it accessed a device by an instruction that the host does not decode";
            return Some((GuestExit::Stopped(why, at), Next::Same));
        }
        let (bytes, register) = (1 << (syndrome >> 22 & 3), (syndrome >> 16 & 0x1f) as usize);
        let exit = if syndrome & STORE != 0 {
            let value = get(x, register) & mask(bytes);
            let sent = self.store(cpu, device, bytes, value);
            self.update_serial(cpu);
            sent.map_or(GuestExit::Emulated, GuestExit::Console)
        } else {
            put(x, register, extended(self.load(device, bytes), bytes, syndrome));
            GuestExit::Emulated
        };
        Some((exit, Next::Following))
    }

    fn load(&mut self, (device, offset): (Device, u64), bytes: u64) -> u64 {
        let value = match device {
            Device::Distributor => self.controller.read(offset, bytes),
            Device::Redistributor(cpu) => {
                let is_last = cpu + 1 == self.cpus;
                self.gic(cpu).read_redistributor(cpu as u64, is_last, offset, bytes)
            }
            Device::Serial => self.serial.read(offset),
        };
        value & mask(bytes)
    }

    /// CPU `cpu` stores to a register. Returns the byte that the serial port sends.
    fn store(
        &mut self,
        cpu: usize,
        (device, offset): (Device, u64),
        bytes: u64,
        value: u64,
    ) -> Option<u8> {
        match device {
            Device::Distributor => {
                let called = self.controller.write(offset, bytes, value);
                self.call_others(cpu, called);
            }
            Device::Redistributor(to) => {
                let gic = self.gic(to);
                gic.write_redistributor(offset, bytes, value);
                let called = u64::from(gic.has_pending()) << to;
                self.call_others(cpu, called);
            }
            Device::Serial => return self.serial.write(offset, value),
        }
        None
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Device {
    Distributor,
    /// That of the CPU with this number.
    Redistributor(usize),
    Serial,
}

/// The device at an address on a board with so many CPUs, and the offset in its registers.
fn device(at: u64, cpus: usize) -> Option<(Device, u64)> {
    let redistributors = REDISTRIBUTOR_BYTES * cpus as u64;
    let all = [
        (Device::Distributor, DISTRIBUTOR, DISTRIBUTOR_BYTES),
        (Device::Redistributor(0), REDISTRIBUTOR, redistributors),
        (Device::Serial, SERIAL, SERIAL_BYTES),
    ];
    let (device, offset) = all.into_iter().find_map(|(device, start, bytes)| {
        let offset = at.checked_sub(start).filter(|offset| *offset < bytes)?;
        Some((device, offset))
    })?;
    Some(match device {
        Device::Redistributor(_) => {
            let cpu = (offset / REDISTRIBUTOR_BYTES) as usize;
            (Device::Redistributor(cpu), offset % REDISTRIBUTOR_BYTES)
        }
        other => (other, offset),
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
