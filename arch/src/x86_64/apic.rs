//! Local APIC and I/O APIC (Intel SDM vol. 3A chapter 12; 82093AA data sheet).
//!
//! Both are windows of 32-bit registers, mapped uncached. The encoding of the registers is pure code and tested on
//! any host; the caller passes a window that reads and writes them.

use crate::irq::{Polarity, Registers, Trigger};
use core::fmt;

// Local APIC registers (SDM vol. 3A, table 12-1), by their offsets in the window.
const LOCAL_ID: usize = 0x20;
const TASK_PRIORITY: usize = 0x80;
const END_OF_INTERRUPT: usize = 0xb0;
const SPURIOUS_VECTOR: usize = 0xf0;
const COMMAND: usize = 0x300;
const COMMAND_HIGH: usize = 0x310;
const LVT_TIMER: usize = 0x320;
const LVT_LINT0: usize = 0x350;
const LVT_LINT1: usize = 0x360;
const INITIAL_COUNT: usize = 0x380;
const CURRENT_COUNT: usize = 0x390;
const DIVIDE: usize = 0x3e0;
const LVT_MASKED: u32 = 1 << 16;
const LVT_PERIODIC: u32 = 1 << 17;
/// The timer counts each 16th tick of its clock (figure 12-10).
const BY_16: u32 = 0b0011;
const LVT_NMI: u32 = 0b100 << 8;
const APIC_ENABLE: u32 = 1 << 8;

/// The register that selects how the APIC is accessed (SDM vol. 3A, 12.12.1), and its bits.
const APIC_BASE: u32 = 0x1b;
const BASE_X2APIC: u64 = 1 << 10;
const BASE_ENABLE: u64 = 1 << 11;
/// The model-specific register of the window's offset 0; the others follow, one for each 16 bytes (table 12-6).
const FIRST_MSR: u32 = 0x800;

// Fields of a command (SDM vol. 3A, figure 12-12): the delivery mode, the level, and that the command was not sent
// yet.
const FIXED: u32 = 0b000 << 8;
const NMI: u32 = 0b100 << 8;
const INIT: u32 = 0b101 << 8;
const START_UP: u32 = 0b110 << 8;
const ASSERT: u32 = 1 << 14;
const PENDING: u32 = 1 << 12;
/// Polls before a command counts as sent: it takes microseconds.
const MAX_POLLS: u32 = 100_000;

/// Bytes of a local APIC's window.
pub const LOCAL_APIC_BYTES: u64 = 0x1000;
/// Bytes of an I/O APIC's window.
pub const IO_APIC_BYTES: u64 = 0x20;

/// The model-specific registers of the CPU that runs this.
pub trait Msrs {
    /// Reads register `number`.
    fn read(&self, number: u32) -> u64;
    /// Writes register `number`.
    fn write(&self, number: u32, value: u64);
    /// Makes every earlier store visible to all CPUs before a register of the APIC is written. Such a write does not
    /// wait for stores by itself (SDM vol. 3A, 12.12.3).
    fn publish(&self);
}

/// How a local APIC is accessed. Each CPU has its own at the same address.
#[derive(Debug)]
pub enum Access<R, M> {
    /// By a window of registers (xAPIC).
    Window(R),
    /// By model-specific registers (x2APIC).
    Msrs(M),
}

/// The number of the model-specific register at `offset` of the window.
const fn msr(offset: usize) -> u32 {
    FIRST_MSR + (offset >> 4) as u32
}

/// A message from one CPU to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message {
    /// An interrupt of this vector.
    Vector(u8),
    /// An interrupt that cannot be masked.
    NonMaskable,
    /// Resets the CPU, which then waits for a start.
    Reset,
    /// Starts the CPU in this page of low memory.
    Start(u8),
}

impl Message {
    const fn command(self) -> u32 {
        match self {
            Self::Vector(vector) => ASSERT | FIXED | vector as u32,
            Self::NonMaskable => ASSERT | NMI,
            Self::Reset => ASSERT | INIT,
            Self::Start(page) => ASSERT | START_UP | page as u32,
        }
    }
}

/// The interrupt controller of a CPU.
#[derive(Debug)]
pub struct LocalApic<R, M>(Access<R, M>);

impl<R: Registers, M: Msrs> LocalApic<R, M> {
    /// Takes over the APIC with this access, and enables that of the CPU that runs this.
    pub fn take(access: Access<R, M>, spurious: u8) -> Self {
        let apic = Self(access);
        apic.enable(spurious);
        apic
    }

    /// Enables the APIC of the CPU that runs this: spurious interrupts go to `spurious`, LINT1 is NMI, the rest is
    /// masked.
    pub fn enable(&self, spurious: u8) {
        if let Access::Msrs(msrs) = &self.0 {
            msrs.write(APIC_BASE, msrs.read(APIC_BASE) | BASE_ENABLE | BASE_X2APIC);
        }
        self.write(LVT_TIMER, LVT_MASKED);
        self.write(LVT_LINT0, LVT_MASKED);
        self.write(LVT_LINT1, LVT_NMI);
        self.write(TASK_PRIORITY, 0);
        self.write(SPURIOUS_VECTOR, APIC_ENABLE | u32::from(spurious));
    }

    /// The id of the APIC of the CPU that runs this; interrupts are sent to it by this id.
    pub fn id(&self) -> u32 {
        let id = self.read(LOCAL_ID);
        match self.0 {
            Access::Window(_) => id >> 24,
            Access::Msrs(_) => id,
        }
    }

    /// Ends the interrupt being served.
    pub fn end_of_interrupt(&self) {
        self.write(END_OF_INTERRUPT, 0);
    }

    /// Starts the timer of the CPU that runs this without interrupts; [`counted`](Self::counted) then returns its
    /// progress.
    pub fn count(&self) {
        self.set_timer(LVT_MASKED, u32::MAX);
    }

    /// Ticks that the timer has counted since [`count`](Self::count).
    pub fn counted(&self) -> u32 {
        u32::MAX - self.read(CURRENT_COUNT)
    }

    /// Has the timer raise `vector` on the CPU that runs this each time it has counted `count`.
    pub fn start_timer(&self, vector: u8, count: u32) {
        self.set_timer(LVT_PERIODIC | u32::from(vector), count);
    }

    /// Stops the timer of the CPU that runs this.
    pub fn stop_timer(&self) {
        self.set_timer(LVT_MASKED, 0);
    }

    fn set_timer(&self, mode: u32, count: u32) {
        self.write(DIVIDE, BY_16);
        self.write(LVT_TIMER, mode);
        self.write(INITIAL_COUNT, count);
    }

    /// Sends `message` to the APIC `to`; returns whether that APIC can be addressed. The caller must keep out
    /// interrupts whose handlers send, too.
    pub fn send(&self, to: u32, message: Message) -> bool {
        let command = message.command();
        match &self.0 {
            Access::Msrs(msrs) => {
                // All bits set address every CPU.
                if to == u32::MAX {
                    return false;
                }
                msrs.publish();
                msrs.write(msr(COMMAND), u64::from(to) << 32 | u64::from(command))
            }
            Access::Window(registers) => {
                // Eight bits; all of them set address every CPU.
                if to >= 0xff {
                    return false;
                }
                registers.write(COMMAND_HIGH, to << 24);
                registers.write(COMMAND, command);
                let sent = || registers.read(COMMAND) & PENDING == 0;
                let _ = (0..MAX_POLLS).any(|_| sent());
            }
        }
        true
    }

    fn read(&self, offset: usize) -> u32 {
        match &self.0 {
            Access::Window(registers) => registers.read(offset),
            Access::Msrs(msrs) => msrs.read(msr(offset)) as u32,
        }
    }

    fn write(&self, offset: usize, value: u32) {
        match &self.0 {
            Access::Window(registers) => registers.write(offset, value),
            Access::Msrs(msrs) => msrs.write(msr(offset), value.into()),
        }
    }
}

/// The routing of one input of an I/O APIC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// The vector raised.
    pub vector: u8,
    /// The local APIC that receives it.
    pub destination: u8,
    /// How the line signals.
    pub trigger: Trigger,
    /// The active level.
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

/// The I/O APIC does not have this input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoSuchInput {
    /// The requested input.
    pub input: u32,
    /// The number of inputs.
    pub inputs: u32,
}

impl fmt::Display for NoSuchInput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the I/O APIC has {} inputs, no input {}", self.inputs, self.input)
    }
}

/// The interrupt controller that lines of devices end in.
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

    /// The number of inputs.
    pub fn inputs(&self) -> u32 {
        (self.get(VERSION) >> 16 & 0xff) + 1
    }

    /// Sets the route of `input`, and unmasks it.
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
        // The destination first, since the low word unmasks the input.
        self.set(REDIRECTION + 2 * input + 1, (entry >> 32) as u32);
        self.set(REDIRECTION + 2 * input, entry as u32);
        Ok(())
    }

    /// Masks or unmasks `input`; does nothing for an input that the controller lacks.
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

    /// A local APIC that records what is written, by offset in the window or by number of the register.
    #[derive(Default)]
    struct Noted(RefCell<std::vec::Vec<(u64, u64)>>);

    impl Registers for &Noted {
        fn read(&self, offset: usize) -> u32 {
            match offset {
                LOCAL_ID => 3 << 24,
                CURRENT_COUNT => u32::MAX - 1000,
                _ => 0,
            }
        }

        fn write(&self, offset: usize, value: u32) {
            self.0.borrow_mut().push((offset as u64, value.into()));
        }
    }

    impl Msrs for &Noted {
        fn read(&self, number: u32) -> u64 {
            match number {
                0x1b => 0xfee0_0900,
                0x802 => 0x1_0003,
                0x839 => 0xffff_fc17,
                _ => panic!("register {number:#x} is read"),
            }
        }

        fn write(&self, number: u32, value: u64) {
            self.0.borrow_mut().push((number.into(), value));
        }

        fn publish(&self) {
            self.0.borrow_mut().push(PUBLISHED);
        }
    }

    /// A fence, in the record of writes.
    const PUBLISHED: (u64, u64) = (u64::MAX, 0);

    type Apic<'n> = LocalApic<&'n Noted, &'n Noted>;

    #[test]
    fn an_apic_in_a_window_is_enabled_and_sends_by_two_words() {
        let noted = Noted::default();
        let apic = Apic::take(Access::Window(&noted), 0xff);
        assert_eq!(noted.0.take().last(), Some(&(0xf0, 0x1ff)));
        assert_eq!(apic.id(), 3);
        for (message, low) in [
            (Message::Vector(0x30), 0x4030),
            (Message::NonMaskable, 0x4400),
            (Message::Reset, 0x4500),
            (Message::Start(8), 0x4608),
        ] {
            assert!(apic.send(2, message));
            assert_eq!(noted.0.take(), [(0x310, 2 << 24), (0x300, low)], "{message:?}");
        }
        assert!(!apic.send(0xff, Message::Reset), "0xff addresses every CPU");
        assert!(!apic.send(0x100, Message::Reset));
        assert_eq!(noted.0.take(), []);
    }

    #[test]
    fn an_x2apic_is_turned_on_first_and_sends_by_one_word_after_all_stores() {
        let noted = Noted::default();
        let apic = Apic::take(Access::Msrs(&noted), 0xff);
        let written = noted.0.take();
        assert_eq!(written.first(), Some(&(0x1b, 0xfee0_0d00)), "enabled, as x2APIC");
        assert_eq!(written.last(), Some(&(0x80f, 0x1ff)));
        assert_eq!(apic.id(), 0x1_0003);
        assert!(apic.send(0x1_0004, Message::Start(0x9f)));
        assert_eq!(noted.0.take(), [PUBLISHED, (0x830, 0x1_0004 << 32 | 0x469f)]);
        apic.end_of_interrupt();
        assert_eq!(noted.0.take(), [(0x80b, 0)]);
    }

    #[test]
    fn a_timer_is_measured_without_interrupts_and_then_repeats() {
        let noted = Noted::default();
        let apic = Apic::take(Access::Window(&noted), 0xff);
        noted.0.take();
        apic.count();
        assert_eq!(noted.0.take(), [(0x3e0, 3), (0x320, 0x1_0000), (0x380, 0xffff_ffff)]);
        assert_eq!(apic.counted(), 1000);
        let apic = Apic::take(Access::Msrs(&noted), 0xff);
        assert_eq!(apic.counted(), 1000);
        noted.0.take();
        apic.start_timer(0xef, 50);
        assert_eq!(noted.0.take(), [(0x83e, 3), (0x832, 0x2_00ef), (0x838, 50)]);
        apic.stop_timer();
        assert_eq!(noted.0.take(), [(0x83e, 3), (0x832, 0x1_0000), (0x838, 0)]);
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
