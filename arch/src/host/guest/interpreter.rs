//! A virtual CPU in software, with an instruction set of its own.
//!
//! ```text
//!   63      56 55      48 47      40 39      32 31                        0
//!  +----------+----------+----------+----------+---------------------------+
//!  | operation|     a    |     b    |     c    | immediate, signed         |
//!  +----------+----------+----------+----------+---------------------------+
//! ```
//!
//! An instruction is fetched from the guest's memory, as data is: through the second-stage tables.

use crate::contract::{Access, GuestCall, GuestExit};
use core::fmt;
use hotmem_paging::addr::GuestAddr;

/// The operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Op {
    /// a = immediate
    Set = 1,
    /// a = a << 32 | immediate, unsigned
    Extend,
    /// a = b + c
    Add,
    /// a = b + immediate
    AddTo,
    /// a = b - c
    Subtract,
    /// a = b * c
    Multiply,
    /// a = b rotated to the left by one
    Rotate,
    /// a = the larger of b and c
    Larger,
    /// a = the word at b + immediate
    Load,
    /// the word at b + immediate = a
    Store,
    /// continue `immediate` instructions on if a is not b
    JumpUnlike,
    /// continue `immediate` instructions on if a is less than b
    JumpBelow,
    /// a = the counter
    Time,
    /// call the host: register 0 is the number, 1 to 5 are the arguments
    Call,
    /// wait for an interrupt
    Wait,
    /// continue at b
    JumpTo,
    /// call firmware
    Firmware,
}

const OPS: [Op; 17] = [
    Op::Set,
    Op::Extend,
    Op::Add,
    Op::AddTo,
    Op::Subtract,
    Op::Multiply,
    Op::Rotate,
    Op::Larger,
    Op::Load,
    Op::Store,
    Op::JumpUnlike,
    Op::JumpBelow,
    Op::Time,
    Op::Call,
    Op::Wait,
    Op::JumpTo,
    Op::Firmware,
];

/// Bytes of an instruction.
const BYTES: u64 = 8;
/// General registers.
const REGISTERS: usize = 17;

/// The instruction `op a, b, c, immediate`.
pub const fn instruction(op: Op, [a, b, c]: [u8; 3], immediate: i32) -> u64 {
    (op as u64) << 56
        | (a as u64) << 48
        | (b as u64) << 40
        | (c as u64) << 32
        | immediate as u32 as u64
}

/// The memory that a guest sees, and the counter.
pub trait Bus {
    /// The word at `at`; `None` if no leaf allows the access.
    fn load(&mut self, at: GuestAddr, access: Access) -> Option<u64>;

    /// Stores a word; `None` if no leaf allows that.
    fn store(&mut self, at: GuestAddr, value: u64) -> Option<()>;

    /// The counter.
    fn time(&mut self) -> u64;
}

/// The registers of a guest.
#[derive(Clone, Debug, Default)]
pub struct Interpreter {
    registers: [u64; REGISTERS],
    pc: u64,
}

impl Interpreter {
    /// One that begins at `entry`, with `arguments` in the first registers.
    pub fn new(entry: GuestAddr, arguments: [u64; 4]) -> Self {
        let mut this = Self { registers: [0; REGISTERS], pc: entry.get() };
        this.registers.iter_mut().zip(arguments).for_each(|(register, value)| *register = value);
        this
    }

    /// Runs up to `limit` instructions; after them an interrupt of the host is due.
    pub fn run(&mut self, bus: &mut impl Bus, limit: u64) -> GuestExit {
        (0..limit).find_map(|_| self.step(bus).err()).unwrap_or(GuestExit::Interrupt)
    }

    /// Returns `value` from the last call.
    pub fn reply(&mut self, value: u64) {
        self.set(0, value);
    }

    fn get(&self, register: u8) -> u64 {
        self.registers.get(usize::from(register)).copied().unwrap_or(0)
    }

    fn set(&mut self, register: u8, value: u64) {
        if let Some(register) = self.registers.get_mut(usize::from(register)) {
            *register = value;
        }
    }

    /// Runs an instruction. The program counter stays at one that faults.
    fn step(&mut self, bus: &mut impl Bus) -> Result<(), GuestExit> {
        let word = word_at(self.pc)?;
        let word = bus.load(word, Access::Fetch).ok_or(fault(self.pc, Access::Fetch))?;
        let [op, a, b, c, ..] = word.to_be_bytes();
        let immediate = i64::from(word as u32 as i32) as u64;
        let Some(&op) = OPS.iter().find(|known| **known as u8 == op) else {
            return Err(GuestExit::Stopped("its instruction is unknown", word));
        };
        let (left, right) = (self.get(b), self.get(c));
        let mut next = self.pc.wrapping_add(BYTES);
        let target = self.pc.wrapping_add(immediate.wrapping_mul(BYTES));
        let mut exit = Ok(());
        match op {
            Op::Set => self.set(a, immediate),
            Op::Extend => self.set(a, self.get(a) << 32 | u64::from(word as u32)),
            Op::Add => self.set(a, left.wrapping_add(right)),
            Op::AddTo => self.set(a, left.wrapping_add(immediate)),
            Op::Subtract => self.set(a, left.wrapping_sub(right)),
            Op::Multiply => self.set(a, left.wrapping_mul(right)),
            Op::Rotate => self.set(a, left.rotate_left(1)),
            Op::Larger => self.set(a, left.max(right)),
            Op::Load => {
                let at = left.wrapping_add(immediate);
                let value = bus.load(word_at(at)?, Access::Read);
                self.set(a, value.ok_or(fault(at, Access::Read))?);
            }
            Op::Store => {
                let at = left.wrapping_add(immediate);
                let stored = bus.store(word_at(at)?, self.get(a));
                stored.ok_or(fault(at, Access::Write))?;
            }
            Op::JumpUnlike if self.get(a) != left => next = target,
            Op::JumpBelow if self.get(a) < left => next = target,
            Op::JumpUnlike | Op::JumpBelow => {}
            Op::Time => self.set(a, bus.time()),
            Op::Call => exit = Err(GuestExit::Call(self.call())),
            Op::Wait => exit = Err(GuestExit::Wait),
            Op::JumpTo => next = left,
            Op::Firmware => {
                return Err(GuestExit::Stopped("it called secure firmware", word));
            }
        }
        self.pc = next;
        exit
    }

    fn call(&self) -> GuestCall {
        let [number, first, second, third, fourth, fifth, ..] = self.registers;
        GuestCall { number, arguments: [first, second, third, fourth, fifth] }
    }
}

impl fmt::Display for Interpreter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pc {:#x} registers {:x?}", self.pc, self.registers)
    }
}

fn fault(at: u64, access: Access) -> GuestExit {
    GuestExit::Fault { at: GuestAddr::new(at), access }
}

/// The word at `at`, which must be aligned.
fn word_at(at: u64) -> Result<GuestAddr, GuestExit> {
    let word = GuestAddr::new(at);
    let stopped = GuestExit::Stopped("its access is misaligned", at);
    if word.is_aligned(BYTES) { Ok(word) } else { Err(stopped) }
}
