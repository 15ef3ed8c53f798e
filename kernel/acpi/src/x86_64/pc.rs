//! The hardware of a PC, ready for use.

// UNSAFETY: accesses ports and registers that byte code names, and reads the time stamp counter.
#![expect(unsafe_code)]

use core::arch::x86_64::_rdtsc;
use core::fmt;

use hotmem::PhysAddr;
use hotmem::paging::ReadPhys;
use hotmem_aml::{HostError, Io, Space, Width};
use hotmem_hotplug::Line;

use super::registers::{input, output, port, select};
use crate::registers::Registers;
use crate::{Fadt, Hardware, MappedHardware, Tables};

/// The frequency of a time stamp counter that cannot be measured: waits then take longer, not shorter.
const FASTEST: u64 = 5_000_000_000;

/// The ports and the PCI configuration space of a PC, and its time, by the time stamp counter. `unmask` lets a line
/// interrupt again.
///
/// Byte code may not access the interrupt controllers (8259), and the first serial port.
///
/// ```no_run
/// # #![allow(unsafe_code)]
/// # use hotmem::paging::ReadPhys;
/// # fn unmask(_interrupt: u32) {}
/// use hotmem_acpi::{PcHardware, Tables};
///
/// /// # Safety
/// ///
/// /// As for [`PcHardware::new`].
/// unsafe fn hardware<P: ReadPhys>(tables: &Tables<'_, P>) -> impl hotmem_acpi::Hardware {
///     // SAFETY: the caller's promise.
///     unsafe { PcHardware::new(tables, |line| unmask(line.gsi)) }
/// }
/// ```
pub struct PcHardware<U> {
    /// Registers in memory, and the time.
    mapped: MappedHardware<U>,
}

impl<U: FnMut(&Line)> PcHardware<U> {
    /// The hardware of the machine that `tables` describe. Measures the time stamp counter, which takes some
    /// milliseconds.
    ///
    /// # Safety
    ///
    /// The code runs at privilege level 0, and the machine is a PC. No other code uses the ports of the devices that
    /// firmware's byte code drives, nor PCI configuration space while byte code runs.
    pub unsafe fn new<P: ReadPhys>(tables: &Tables<'_, P>, unmask: U) -> Self {
        // SAFETY: no register is found, and the caller vouches for the devices.
        let mapped = unsafe { MappedHardware::new(|_| None, (ticks, FASTEST), unmask) };
        let mut hardware = Self { mapped };
        let timer = Fadt::find(tables).ok().and_then(|fadt| fadt.pm_timer);
        if let Some(hertz) = timer.and_then(|timer| timer.measure(&mut hardware, ticks)) {
            hardware.mapped.counter = (ticks, hertz);
        }
        hardware
    }

    /// The same, with registers in memory.
    ///
    /// # Safety
    ///
    /// The pointers that `registers` returns are valid for loads and stores of that many bytes, for ever, and lead to
    /// no memory of the kernel's.
    #[must_use]
    pub unsafe fn with_registers(mut self, registers: Registers) -> Self {
        self.mapped.registers = registers;
        self
    }

    /// The port by which a place outside of memory is accessed.
    fn place(space: Space, address: u64, width: Width) -> Result<u16, HostError> {
        match space {
            Space::SystemIo => port(address, width),
            // SAFETY: by the contract of `new`.
            Space::PciConfig(function) => unsafe { select(function, address, width) },
            Space::SystemMemory | Space::Other(_) => Err(HostError::Unsupported),
        }
    }
}

/// The time stamp counter.
fn ticks() -> u64 {
    // SAFETY: every CPU with 64-bit mode has it, and the kernel may read it.
    unsafe { _rdtsc() }
}

impl<U: FnMut(&Line)> Io for PcHardware<U> {
    fn read(&mut self, space: Space, address: u64, width: Width) -> Result<u64, HostError> {
        if space == Space::SystemMemory {
            return self.mapped.read(space, address, width);
        }
        let port = Self::place(space, address, width)?;
        // SAFETY: by the contract of `new`; the port is not the kernel's.
        unsafe { input(port, width) }
    }

    fn write(
        &mut self,
        space: Space,
        address: u64,
        width: Width,
        value: u64,
    ) -> Result<(), HostError> {
        if space == Space::SystemMemory {
            return self.mapped.write(space, address, width, value);
        }
        let port = Self::place(space, address, width)?;
        // SAFETY: as for `read`.
        unsafe { output(port, width, value) }
    }

    fn stall(&mut self, microseconds: u64) {
        self.mapped.stall(microseconds);
    }

    fn sleep(&mut self, milliseconds: u64) {
        self.mapped.sleep(milliseconds);
    }

    fn timer(&mut self) -> u64 {
        self.mapped.timer()
    }
}

impl<U: FnMut(&Line)> Hardware for PcHardware<U> {
    fn compare_exchange(&mut self, at: PhysAddr, old: u32, new: u32) -> Result<u32, HostError> {
        self.mapped.compare_exchange(at, old, new)
    }

    fn unmask(&mut self, line: &Line) {
        self.mapped.unmask(line);
    }
}

impl<U> fmt::Debug for PcHardware<U> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PcHardware").field("mapped", &self.mapped).finish()
    }
}
