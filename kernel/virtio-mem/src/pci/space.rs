//! What the driver needs of a machine with PCI.

use core::fmt;

/// A function of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Function {
    /// Its bus.
    pub bus: u8,
    /// Its device, 0 to 31.
    pub device: u8,
    /// Its number in the device, 0 to 7.
    pub function: u8,
}

impl Function {
    /// Where the register at `offset` is in a configuration space in memory, in bytes from that of bus 0 on
    /// (PCI Express 6.0, 7.2.2).
    pub fn place(self, offset: u8) -> usize {
        let [bus, device, function] = [self.bus, self.device, self.function].map(usize::from);
        bus << 20 | device << 15 | function << 12 | usize::from(offset)
    }
}

impl fmt::Display for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02x}:{:02x}.{}", self.bus, self.device, self.function)
    }
}

/// The configuration space of PCI.
pub trait ConfigSpace {
    /// The 32 bits at `offset`, a multiple of 4 below 256; all ones if nothing is there.
    fn read(&self, function: Function, offset: u8) -> u32;

    /// Writes 32 bits.
    fn write(&self, function: Function, offset: u8, value: u32);
}

/// How wide a register is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    /// 8 bits.
    Byte,
    /// 16 bits.
    Half,
    /// 32 bits.
    Word,
}

impl Width {
    /// Its bytes.
    pub const fn bytes(self) -> u64 {
        match self {
            Self::Byte => 1,
            Self::Half => 2,
            Self::Word => 4,
        }
    }
}

/// Registers in memory: they are accessed as wide as they are.
pub trait Registers {
    /// Reads the register at `offset`, its bits from the lowest on; all ones past the end.
    fn read(&self, offset: usize, width: Width) -> u32;

    /// Writes the lowest bits of `value`, `width` of them; past the end, it writes nothing.
    fn write(&self, offset: usize, width: Width, value: u32);

    /// Reads 8 bits; all ones past the end.
    fn read8(&self, offset: usize) -> u8 {
        self.read(offset, Width::Byte) as u8
    }

    /// Reads 16 bits; all ones past the end.
    fn read16(&self, offset: usize) -> u16 {
        self.read(offset, Width::Half) as u16
    }

    /// Reads 32 bits; all ones past the end.
    fn read32(&self, offset: usize) -> u32 {
        self.read(offset, Width::Word)
    }

    /// Writes 8 bits.
    fn write8(&self, offset: usize, value: u8) {
        self.write(offset, Width::Byte, value.into());
    }

    /// Writes 16 bits.
    fn write16(&self, offset: usize, value: u16) {
        self.write(offset, Width::Half, value.into());
    }

    /// Writes 32 bits.
    fn write32(&self, offset: usize, value: u32) {
        self.write(offset, Width::Word, value);
    }
}

/// The 16 bits at `offset`, a multiple of 2.
pub(super) fn read16(space: &impl ConfigSpace, function: Function, offset: u8) -> u16 {
    (space.read(function, offset & !3) >> (8 * u32::from(offset & 2))) as u16
}

/// The 8 bits at `offset`.
pub(super) fn read8(space: &impl ConfigSpace, function: Function, offset: u8) -> u8 {
    (space.read(function, offset & !3) >> (8 * u32::from(offset & 3))) as u8
}

/// Changes the 16 bits at `offset`, a multiple of 4, and nothing behind them.
///
/// What is behind them may have bits that a write of ones clears: 0 is written there, as these registers ask for.
pub(super) fn write_low(space: &impl ConfigSpace, function: Function, offset: u8, value: u16) {
    space.write(function, offset, value.into());
}
