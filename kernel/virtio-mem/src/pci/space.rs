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

/// Registers in memory: they are accessed as wide as they are.
pub trait Registers {
    /// Reads 8 bits; all ones past the end.
    fn read8(&self, offset: usize) -> u8;
    /// Reads 16 bits; all ones past the end.
    fn read16(&self, offset: usize) -> u16;
    /// Reads 32 bits; all ones past the end.
    fn read32(&self, offset: usize) -> u32;
    /// Writes 8 bits.
    fn write8(&self, offset: usize, value: u8);
    /// Writes 16 bits.
    fn write16(&self, offset: usize, value: u16);
    /// Writes 32 bits.
    fn write32(&self, offset: usize, value: u32);
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
