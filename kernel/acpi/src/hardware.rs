//! What ACPI asks of the machine.

use hotmem::{PhysAddr, PhysRange};
use hotmem_aml::{HostError, Io, Space, Width};
use hotmem_hotplug::Line;

/// Registers of the fixed hardware: `len` bytes at `address` in `space`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    /// Memory or I/O ports; no other space passes the checks.
    pub space: Space,
    /// The first register. `address + len` does not wrap, and stays below 64 KiB for ports.
    pub address: u64,
    /// Bytes.
    pub len: u8,
}

/// Registers, time and interrupt lines. The kernel implements it; tests implement models of devices.
///
/// A PC's byte code uses memory, I/O ports and, to initialise bridges and interrupt links, the configuration space of
/// PCI functions; that of a machine without ports uses memory. A space that the machine refuses
/// ([`HostError::Unsupported`]) costs the methods that access it: those that initialise devices are counted in the log,
/// and a memory device works if its own registers are in a space that is there.
pub trait Hardware: Io {
    /// Stores `new` in the 32-bit word at `address` if it holds `old`, in one access. The memory is
    /// firmware's, not the kernel's. Returns the word that was there.
    ///
    /// # Errors
    ///
    /// [`HostError`] if the machine cannot do that there.
    fn compare_exchange(&mut self, address: PhysAddr, old: u32, new: u32)
    -> Result<u32, HostError>;

    /// The first of the 64-bit words of `range`, which is whole pages, that is not zero. The memory is that of a device, and not
    /// in use as RAM. A machine where nothing may be there returns an error for words that cannot be read. Unless it is
    /// implemented, the words are read as byte code reads registers.
    ///
    /// # Errors
    ///
    /// [`HostError`] if one of them cannot be read.
    fn first_used(&mut self, range: PhysRange) -> Result<Option<PhysAddr>, HostError> {
        for at in (0..range.len() / 8).map(|word| range.start().add(8 * word)) {
            if self.read(Space::SystemMemory, at.get(), Width::Qword)? != 0 {
                return Ok(Some(at));
            }
        }
        Ok(None)
    }

    /// Lets a level-triggered line interrupt again, which the interrupt handler had masked.
    fn unmask(&mut self, line: &Line);
}

/// One byte of a block of fixed registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Byte {
    space: Space,
    address: u64,
}

impl Byte {
    /// The byte `offset` of a block, which has that many.
    pub(super) const fn of(block: Block, offset: u8) -> Self {
        Self { space: block.space, address: block.address.wrapping_add(offset as u64) }
    }

    pub(super) fn read(self, hardware: &mut impl Hardware) -> Result<u8, HostError> {
        Ok(hardware.read(self.space, self.address, Width::Byte)? as u8)
    }

    pub(super) fn write(self, hardware: &mut impl Hardware, value: u8) -> Result<(), HostError> {
        hardware.write(self.space, self.address, Width::Byte, value.into())
    }
}
