//! The PL011 serial port (PrimeCell UART technical reference manual, ARM DDI 0183G, chapter 3).

// UNSAFETY: device registers.
#![expect(unsafe_code)]

use super::Aarch64;
use crate::contract::{self, Layout, Mmio};
use hotmem_paging::addr::{PhysAddr, PhysRange};

/// The address on QEMU's `virt` machine (`hw/arm/virt.c`, `VIRT_UART`).
const AT: PhysAddr = PhysAddr::new(0x0900_0000);
const BYTES: u64 = 0x1000;

// Registers, by offset (table 3-1).
const DATA: u64 = 0x00;
const FLAGS: u64 = 0x18;
const INTEGER_DIVISOR: u64 = 0x24;
const FRACTIONAL_DIVISOR: u64 = 0x28;
const LINE_CONTROL: u64 = 0x2c;
const CONTROL: u64 = 0x30;
const INTERRUPT_MASK: u64 = 0x38;
const INTERRUPT_CLEAR: u64 = 0x44;

const RECEIVE_EMPTY: u32 = 1 << 4;
const TRANSMIT_FULL: u32 = 1 << 5;
const EIGHT_BITS: u32 = 0b11 << 5;
const FIFOS: u32 = 1 << 4;
/// Receiver, transmitter, port.
const ENABLE: u32 = 1 << 9 | 1 << 8 | 1;
/// A byte was received; a byte has been waiting for a while.
const RECEIVE_INTERRUPTS: u32 = 1 << 4 | 1 << 6;
/// 115,200 baud from a clock of 24 MHz: 13 and 1/64.
const DIVISOR: (u32, u32) = (13, 1);
/// Polls before a byte is dropped: a port that is stuck must not hang the kernel.
const MAX_POLLS: u32 = 1 << 24;

/// The port at 115,200 baud, 8 data bits, no parity.
#[derive(Debug)]
pub struct Port(());

impl Port {
    fn register(offset: u64) -> *mut u32 {
        let at = Aarch64::DEVICE_BASE.add(AT.get() + offset).get() as usize;
        core::ptr::with_exposed_provenance_mut(at)
    }

    fn read(&self, register: u64) -> u32 {
        // SAFETY: by `open`'s contract the registers are mapped and ours; reading affects the port's
        // FIFO and status only.
        unsafe { Aarch64::load_register(Self::register(register)) }
    }

    fn write(&self, register: u64, value: u32) {
        // SAFETY: by `open`'s contract the registers are mapped and ours; the port reaches no memory.
        unsafe { Aarch64::store_register(Self::register(register), value) }
    }
}

impl contract::Port for Port {
    const ISA_IRQ: Option<u8> = None;

    fn registers() -> Option<PhysRange> {
        PhysRange::new(AT, BYTES)
    }

    unsafe fn open() -> Self {
        let port = Self(());
        port.write(CONTROL, 0);
        port.write(INTERRUPT_MASK, 0);
        port.write(INTERRUPT_CLEAR, 0x7ff);
        port.write(INTEGER_DIVISOR, DIVISOR.0);
        port.write(FRACTIONAL_DIVISOR, DIVISOR.1);
        // Turning the FIFOs on or off empties them: they stay as they are if input has arrived already.
        let fifos = if port.has_input() { port.read(LINE_CONTROL) & FIFOS } else { FIFOS };
        port.write(LINE_CONTROL, EIGHT_BITS | fifos);
        port.write(CONTROL, ENABLE);
        port
    }

    fn send(&mut self, byte: u8) {
        if (0..MAX_POLLS).any(|_| self.read(FLAGS) & TRANSMIT_FULL == 0) {
            self.write(DATA, byte.into());
        }
    }

    fn has_input(&self) -> bool {
        self.read(FLAGS) & RECEIVE_EMPTY == 0
    }

    fn receive(&mut self) -> Option<u8> {
        self.has_input().then(|| self.read(DATA) as u8)
    }

    fn interrupt_on_receive(&mut self) {
        self.write(INTERRUPT_MASK, RECEIVE_INTERRUPTS);
    }
}
