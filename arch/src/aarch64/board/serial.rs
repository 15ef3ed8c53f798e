//! The guest's serial port: a PL011 (Arm DDI 0183G) that sends at once, and holds one byte that it received.

/// The interrupts for room in the transmit FIFO, for bytes in the receive FIFO, and for one that has waited there.
const TRANSMIT: u32 = 1 << 5;
const RECEIVE: u32 = 1 << 4 | 1 << 6;
/// In UARTFR: the transmit FIFO is empty; the receive FIFO is.
const SENT: u32 = 1 << 7;
const NO_INPUT: u32 = 1 << 4;

/// The port.
#[derive(Clone, Debug, Default)]
pub struct Serial {
    /// UARTIBRD, UARTFBRD, UARTLCR_H, UARTCR, UARTIFLS.
    settings: [u32; 5],
    mask: u32,
    raised: u32,
    received: Option<u8>,
}

impl Serial {
    /// Whether its line is active.
    pub fn interrupts(&self) -> bool {
        self.raised & self.mask != 0
    }

    /// Whether its line becomes active when a byte is received.
    pub fn awaits_input(&self) -> bool {
        self.mask & RECEIVE != 0
    }

    /// Receives a byte; `false` if the last one was not read yet.
    pub fn receive(&mut self, byte: u8) -> bool {
        let is_free = self.received.is_none();
        if is_free {
            self.received = Some(byte);
            self.raised |= RECEIVE;
        }
        is_free
    }

    fn take(&mut self) -> u32 {
        self.raised &= !RECEIVE;
        self.received.take().map_or(0, u32::from)
    }

    /// Reads the register at `offset`.
    pub fn read(&mut self, offset: u64) -> u64 {
        u64::from(match offset {
            0x000 => self.take(),
            0x018 if self.received.is_some() => SENT,
            0x018 => SENT | NO_INPUT,
            0x024..=0x034 => self.setting(offset).copied().unwrap_or(0),
            0x038 => self.mask,
            0x03c => self.raised,
            0x040 => self.raised & self.mask,
            // The identification of a PL011, revision 3 (3.3.15 to 3.3.22).
            0xfe0 => 0x11,
            0xfe4 => 0x10,
            0xfe8 => 0x34,
            0xff0 => 0x0d,
            0xff4 => 0xf0,
            0xff8 => 0x05,
            0xffc => 0xb1,
            _ => 0,
        })
    }

    fn setting(&self, offset: u64) -> Option<&u32> {
        self.settings.get((offset.checked_sub(0x024)? / 4) as usize)
    }

    /// Writes the register at `offset`. Returns the byte that the guest sends, if it does.
    pub fn write(&mut self, offset: u64, value: u64) -> Option<u8> {
        let word = value as u32;
        match offset {
            0x000 => {
                self.raised |= TRANSMIT;
                return Some(word as u8);
            }
            0x024..=0x034 => {
                let place = self.settings.get_mut(((offset - 0x024) / 4) as usize);
                *place? = word & 0xffff;
            }
            0x038 => self.mask = word & 0x7ff,
            0x044 => self.raised &= !word,
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_is_sent_at_once_and_its_interrupt_lasts_until_it_is_cleared() {
        let mut serial = Serial::default();
        assert_eq!(serial.write(0x000, 0x1_0041), Some(b'A'));
        assert!(!serial.interrupts());
        assert_eq!(serial.write(0x038, 0x70), None);
        assert!(serial.interrupts());
        assert_eq!((serial.read(0x03c), serial.read(0x040)), (0x20, 0x20));
        serial.write(0x044, 0x7ff);
        assert!(!serial.interrupts());
        // The flags never say that it is full or busy.
        assert_eq!(serial.read(0x018) & (1 << 5 | 1 << 3), 0);
    }

    #[test]
    fn a_byte_that_is_received_interrupts_until_it_is_read() {
        let mut serial = Serial::default();
        assert!(!serial.awaits_input());
        serial.write(0x038, 0x50);
        assert!(serial.awaits_input() && !serial.interrupts());
        assert_eq!([serial.receive(b'a'), serial.receive(b'b')], [true, false]);
        assert!(serial.interrupts());
        assert_eq!(serial.read(0x018) & 1 << 4, 0);
        assert_eq!((serial.read(0x000), serial.read(0x018) & 1 << 4), (b'a'.into(), 1 << 4));
        assert!(!serial.interrupts() && serial.receive(b'b'));
    }

    #[test]
    fn settings_are_read_back_and_its_identification_is_that_of_a_pl011() {
        let mut serial = Serial::default();
        serial.write(0x030, 0x301);
        assert_eq!((serial.read(0x030), serial.read(0x02c)), (0x301, 0));
        let id = [0xfe0, 0xfe4, 0xfe8, 0xfec].map(|at| serial.read(at));
        assert_eq!(id, [0x11, 0x10, 0x34, 0x00]);
    }
}
