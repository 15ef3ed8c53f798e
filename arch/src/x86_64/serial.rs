//! The 16550 serial port (PC16550D data sheet, National Semiconductor 1995, section 8).

// UNSAFETY: device registers in port space.
#![expect(unsafe_code)]

use super::port;
use crate::contract;
use hotmem_paging::addr::PhysRange;

// Registers, by offset (table 4 of the data sheet).
const DATA: u16 = 0;
const INTERRUPT_ENABLE: u16 = 1;
const FIFO_CONTROL: u16 = 2;
const LINE_CONTROL: u16 = 3;
const MODEM_CONTROL: u16 = 4;
const LINE_STATUS: u16 = 5;

const DIVISOR_LATCH: u8 = 1 << 7;
const EIGHT_BITS: u8 = 3;
const RECEIVED_DATA_INTERRUPT: u8 = 1;
/// DTR, RTS and OUT2: the last one gates the interrupt line on a PC.
const MODEM_READY: u8 = 0x0b;
/// Enable and clear both FIFOs, interrupt at one byte.
const FIFO_ON: u8 = 0x07;
const DATA_READY: u8 = 1 << 0;
const TRANSMIT_EMPTY: u8 = 1 << 5;
/// Polls before a byte is dropped: a missing port must not hang the kernel.
const MAX_POLLS: u32 = 1 << 24;

/// The first serial port of a PC.
pub const COM1: u16 = 0x3f8;

/// COM1 as a 16550 at 115,200 baud, 8 data bits, no parity.
#[derive(Debug)]
pub struct Port(());

impl Port {
    fn read(&self, register: u16) -> u8 {
        // SAFETY: by `open`'s contract the port is ours; reading affects its FIFO and status only.
        unsafe { port::read_u8(COM1 + register) }
    }

    fn write(&self, register: u16, value: u8) {
        // SAFETY: by `open`'s contract the port is ours; a 16550 reaches no memory.
        unsafe { port::write_u8(COM1 + register, value) }
    }
}

impl contract::Port for Port {
    const ISA_IRQ: Option<u8> = Some(4);

    fn registers() -> Option<PhysRange> {
        None
    }

    unsafe fn open() -> Self {
        let uart = Self(());
        uart.write(INTERRUPT_ENABLE, 0);
        uart.write(LINE_CONTROL, DIVISOR_LATCH);
        uart.write(DATA, 1);
        uart.write(INTERRUPT_ENABLE, 0);
        uart.write(LINE_CONTROL, EIGHT_BITS);
        // Turning the FIFOs on empties them: they stay as they are if input has arrived already.
        if !uart.has_input() {
            uart.write(FIFO_CONTROL, FIFO_ON);
        }
        uart.write(MODEM_CONTROL, MODEM_READY);
        uart
    }

    fn send(&mut self, byte: u8) {
        for _ in 0..MAX_POLLS {
            if self.read(LINE_STATUS) & TRANSMIT_EMPTY != 0 {
                self.write(DATA, byte);
                return;
            }
        }
    }

    fn has_input(&self) -> bool {
        let status = self.read(LINE_STATUS);
        // A missing port reads as all ones: that is not a byte.
        status & DATA_READY != 0 && status != 0xff
    }

    fn receive(&mut self) -> Option<u8> {
        self.has_input().then(|| self.read(DATA))
    }

    fn interrupt_on_receive(&mut self) {
        self.write(INTERRUPT_ENABLE, RECEIVED_DATA_INTERRUPT);
    }
}
