//! Local APIC and I/O APIC (Intel SDM vol. 3A chapter 12; 82093AA data sheet).
//!
//! Both are windows of 32-bit registers, mapped uncached. What a register means is pure and tested on
//! any host; who reads and writes it is whoever hands in the window.

use crate::irq::{Polarity, Registers, Trigger};
use core::fmt;

// Local APIC registers (SDM vol. 3A, table 12-1).
const LOCAL_ID: usize = 0x20;
const TASK_PRIORITY: usize = 0x80;
const END_OF_INTERRUPT: usize = 0xb0;
const SPURIOUS_VECTOR: usize = 0xf0;
const LVT_TIMER: usize = 0x320;
const LVT_LINT0: usize = 0x350;
const LVT_LINT1: usize = 0x360;
const LVT_MASKED: u32 = 1 << 16;
const LVT_NMI: u32 = 0b100 << 8;
const APIC_ENABLE: u32 = 1 << 8;

/// Bytes of a local APIC's window.
pub const LOCAL_APIC_BYTES: u64 = 0x1000;
/// Bytes of an I/O APIC's window.
pub const IO_APIC_BYTES: u64 = 0x20;

/// The interrupt controller of a CPU.
#[derive(Debug)]
pub struct LocalApic<R>(R);

impl<R: Registers> LocalApic<R> {
    /// Enables the APIC: spurious interrupts go to `spurious`, LINT1 is NMI, the rest is masked.
    pub fn enable(registers: R, spurious: u8) -> Self {
        registers.write(LVT_TIMER, LVT_MASKED);
        registers.write(LVT_LINT0, LVT_MASKED);
        registers.write(LVT_LINT1, LVT_NMI);
        registers.write(TASK_PRIORITY, 0);
        registers.write(SPURIOUS_VECTOR, APIC_ENABLE | u32::from(spurious));
        Self(registers)
    }

    /// The APIC's number, by which interrupts are sent to it.
    pub fn id(&self) -> u8 {
        (self.0.read(LOCAL_ID) >> 24) as u8
    }

    /// Says that the interrupt being served is done.
    pub fn end_of_interrupt(&self) {
        self.0.write(END_OF_INTERRUPT, 0);
    }
}

/// Where an I/O APIC sends one of its inputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// The vector raised.
    pub vector: u8,
    /// The local APIC that gets it.
    pub destination: u8,
    /// How the line signals.
    pub trigger: Trigger,
    /// What counts as asserted.
    pub polarity: Polarity,
}

impl Route {
    /// The redirection entry: fixed delivery, physical destination (82093AA, 3.2.4).
    pub const fn encode(self) -> u64 {
        let trigger = match self.trigger {
            Trigger::Edge => 0,
            Trigger::Level => 1 << 15,
        };
        let polarity = match self.polarity {
            Polarity::ActiveHigh => 0,
            Polarity::ActiveLow => 1 << 13,
        };
        self.vector as u64 | trigger | polarity | (self.destination as u64) << 56
    }
}

const INDEX: usize = 0x00;
const WINDOW: usize = 0x10;
const VERSION: u32 = 0x01;
const REDIRECTION: u32 = 0x10;
const MASKED: u32 = 1 << 16;

/// An input the I/O APIC does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoSuchInput {
    /// The input asked for.
    pub input: u32,
    /// Inputs there are.
    pub inputs: u32,
}

impl fmt::Display for NoSuchInput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the I/O APIC has {} inputs, not {}", self.inputs, self.input)
    }
}

/// The interrupt controller that devices' lines end in.
#[derive(Debug)]
pub struct IoApic<R>(R);

impl<R: Registers> IoApic<R> {
    /// Takes over the I/O APIC, with every input masked.
    pub fn masked(registers: R) -> Self {
        let apic = Self(registers);
        for input in 0..apic.inputs() {
            apic.set(REDIRECTION + 2 * input, MASKED);
        }
        apic
    }

    /// Inputs there are.
    pub fn inputs(&self) -> u32 {
        (self.get(VERSION) >> 16 & 0xff) + 1
    }

    /// Sends `input` along `route`, unmasked.
    ///
    /// # Errors
    ///
    /// [`NoSuchInput`] if there is no such input.
    pub fn route(&self, input: u32, route: Route) -> Result<(), NoSuchInput> {
        let inputs = self.inputs();
        if input >= inputs {
            return Err(NoSuchInput { input, inputs });
        }
        let entry = route.encode();
        // The destination first: the low word unmasks the input.
        self.set(REDIRECTION + 2 * input + 1, (entry >> 32) as u32);
        self.set(REDIRECTION + 2 * input, entry as u32);
        Ok(())
    }

    /// Masks `input` or unmasks it; an input that is not there stays away.
    pub fn set_masked(&self, input: u32, masked: bool) {
        if input < self.inputs() {
            let register = REDIRECTION + 2 * input;
            let entry = self.get(register) & !MASKED;
            self.set(register, entry | if masked { MASKED } else { 0 });
        }
    }

    fn get(&self, register: u32) -> u32 {
        self.0.write(INDEX, register);
        self.0.read(WINDOW)
    }

    fn set(&self, register: u32, value: u32) {
        self.0.write(INDEX, register);
        self.0.write(WINDOW, value);
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use core::cell::{Cell, RefCell};

    /// An I/O APIC with 24 inputs.
    struct Fake {
        index: Cell<u32>,
        registers: RefCell<[u32; 64]>,
    }

    impl Registers for &Fake {
        fn read(&self, offset: usize) -> u32 {
            assert_eq!(offset, WINDOW);
            self.registers.borrow()[self.index.get() as usize]
        }

        fn write(&self, offset: usize, value: u32) {
            match offset {
                INDEX => self.index.set(value),
                _ => self.registers.borrow_mut()[self.index.get() as usize] = value,
            }
        }
    }

    fn fake() -> Fake {
        let mut registers = [0; 64];
        registers[1] = 23 << 16 | 0x20;
        Fake { index: Cell::new(0), registers: RefCell::new(registers) }
    }

    #[test]
    fn a_route_has_the_bits_of_the_data_sheet() {
        let route = Route {
            vector: 0x31,
            destination: 2,
            trigger: Trigger::Level,
            polarity: Polarity::ActiveLow,
        };
        assert_eq!(route.encode(), 0x0200_0000_0000_a031);
        let route = Route { trigger: Trigger::Edge, polarity: Polarity::ActiveHigh, ..route };
        assert_eq!(route.encode(), 0x0200_0000_0000_0031);
    }

    #[test]
    fn every_input_is_masked_until_it_is_routed() {
        let fake = fake();
        let apic = IoApic::masked(&fake);
        assert!((0..24).all(|input| fake.registers.borrow()[0x10 + 2 * input] == MASKED));

        let route = Route {
            vector: 0x29,
            destination: 1,
            trigger: Trigger::Level,
            polarity: Polarity::ActiveHigh,
        };
        apic.route(9, route).unwrap();
        assert_eq!(fake.registers.borrow()[0x22..0x24], [0x8029, 0x0100_0000]);
        apic.set_masked(9, true);
        assert_eq!(fake.registers.borrow()[0x22..0x24], [0x1_8029, 0x0100_0000]);
        apic.set_masked(9, false);
        assert_eq!(fake.registers.borrow()[0x22..0x24], [0x8029, 0x0100_0000]);
        assert_eq!(apic.route(24, route), Err(NoSuchInput { input: 24, inputs: 24 }));
    }
}
