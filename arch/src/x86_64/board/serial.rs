//! The serial port of a guest: a 16450 (PC16550D data sheet, section 8, without FIFOs) whose output is ready at once,
//! and which holds one byte of input. It requests no interrupt.

const DATA: u16 = 0;
const INTERRUPT_ENABLE: u16 = 1;
const INTERRUPT_ID: u16 = 2;
const LINE_CONTROL: u16 = 3;
const MODEM_CONTROL: u16 = 4;
const LINE_STATUS: u16 = 5;
const MODEM_STATUS: u16 = 6;
const SCRATCH: u16 = 7;

const DIVISOR_LATCH: u8 = 1 << 7;
const NO_INTERRUPT: u8 = 1;
const TRANSMITTER_EMPTY: u8 = 3 << 5;
const DATA_READY: u8 = 1;
/// In the modem control: what is sent and the four outputs come back.
const LOOP: u8 = 1 << 4;
/// The modem is there: carrier, ready, clear to send.
const MODEM_THERE: u8 = 0xb0;

/// The registers that keep what is written to them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Serial {
    divisor: [u8; 2],
    interrupts: u8,
    line: u8,
    modem: u8,
    scratch: u8,
    received: Option<u8>,
}

impl Serial {
    const fn shows_divisor(&self) -> bool {
        self.line & DIVISOR_LATCH != 0
    }

    /// Receives a byte; `false` if the last one was not read yet.
    pub(crate) const fn receive(&mut self, byte: u8) -> bool {
        let is_free = self.received.is_none();
        if is_free {
            self.received = Some(byte);
        }
        is_free
    }

    /// Reads the register `offset`.
    pub(crate) fn read(&mut self, offset: u16) -> u8 {
        match offset {
            DATA if self.shows_divisor() => self.divisor[0],
            INTERRUPT_ENABLE if self.shows_divisor() => self.divisor[1],
            DATA => self.received.take().unwrap_or(0),
            INTERRUPT_ENABLE => self.interrupts,
            INTERRUPT_ID => NO_INTERRUPT,
            LINE_CONTROL => self.line,
            MODEM_CONTROL => self.modem,
            LINE_STATUS if self.received.is_some() => TRANSMITTER_EMPTY | DATA_READY,
            LINE_STATUS => TRANSMITTER_EMPTY,
            MODEM_STATUS if self.modem & LOOP != 0 => self.modem_status_of_loop(),
            MODEM_STATUS => MODEM_THERE,
            SCRATCH => self.scratch,
            _ => 0xff,
        }
    }

    /// In a loop the inputs show the outputs: CTS is RTS, DSR is DTR, RI is OUT1, DCD is OUT2.
    const fn modem_status_of_loop(&self) -> u8 {
        let (dtr, rts) = (self.modem & 1, self.modem >> 1 & 1);
        rts << 4 | dtr << 5 | (self.modem & 0b1100) << 4
    }

    /// Writes the register `offset`. Returns a byte that was sent.
    pub(crate) const fn write(&mut self, offset: u16, value: u8) -> Option<u8> {
        match offset {
            DATA if self.shows_divisor() => self.divisor[0] = value,
            INTERRUPT_ENABLE if self.shows_divisor() => self.divisor[1] = value,
            DATA if self.modem & LOOP == 0 => return Some(value),
            INTERRUPT_ENABLE => self.interrupts = value & 0xf,
            LINE_CONTROL => self.line = value,
            MODEM_CONTROL => self.modem = value & 0x1f,
            SCRATCH => self.scratch = value,
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_comes_out_and_the_divisor_does_not() {
        let mut port = Serial::default();
        assert_eq!(port.write(DATA, b'a'), Some(b'a'));
        assert_eq!(port.write(LINE_CONTROL, DIVISOR_LATCH | 3), None);
        assert_eq!([port.write(DATA, 1), port.write(INTERRUPT_ENABLE, 2)], [None, None]);
        assert_eq!([port.read(DATA), port.read(INTERRUPT_ENABLE)], [1, 2]);
        port.write(LINE_CONTROL, 3);
        assert_eq!([port.read(DATA), port.read(INTERRUPT_ENABLE)], [0, 0]);
        assert_eq!(port.write(DATA, b'b'), Some(b'b'));
        assert_eq!(port.read(LINE_STATUS), 0x60);
    }

    #[test]
    fn a_byte_is_received_when_the_last_one_was_read() {
        let mut port = Serial::default();
        assert_eq!([port.receive(b'a'), port.receive(b'b')], [true, false]);
        assert_eq!(port.read(LINE_STATUS), 0x61);
        port.write(LINE_CONTROL, DIVISOR_LATCH);
        assert_eq!(port.read(DATA), 0, "the divisor");
        port.write(LINE_CONTROL, 0);
        assert_eq!([port.read(DATA), port.read(DATA), port.read(LINE_STATUS)], [b'a', 0, 0x60]);
        assert!(port.receive(b'b'));
    }

    // What Linux (drivers/tty/serial/8250, autoconfig) tries, to find a port.
    #[test]
    fn a_driver_finds_a_16450() {
        let mut port = Serial::default();
        for (written, read) in [(0, 0), (0x0f, 0x0f), (0xff, 0x0f)] {
            port.write(INTERRUPT_ENABLE, written);
            assert_eq!(port.read(INTERRUPT_ENABLE), read);
        }
        port.write(MODEM_CONTROL, LOOP | 0xa);
        assert_eq!(port.read(MODEM_STATUS) & 0xf0, 0x90);
        assert_eq!(port.write(DATA, b'x'), None, "in the loop nothing leaves");
        port.write(INTERRUPT_ID, 1);
        assert_eq!(port.read(INTERRUPT_ID) >> 6, 0, "without FIFOs");
        for value in [0xa5, 0x5a] {
            port.write(SCRATCH, value);
            assert_eq!(port.read(SCRATCH), value);
        }
    }
}
