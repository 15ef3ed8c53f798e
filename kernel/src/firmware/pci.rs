//! The PCI of a machine that ACPI tables describe, as the driver of a device accesses it.

// UNSAFETY: maps the registers of devices.
#![expect(unsafe_code)]

use crate::memory::{KernelMachine, Window};
use alloc::vec::Vec;
use core::cell::RefCell;
use core::fmt;
use hotmem::{Geometry, Mm, Pfn, PhysRange};
use hotmem_acpi::{AcpiSource, Madt, Mcfg};
use hotmem_arch::contract::Port as _;
use hotmem_arch::current::{Port, io};
use hotmem_arch::io::{PciFunction, Place};
use hotmem_hotplug::Line;
use hotmem_virtio_mem::pci::{ConfigSpace, Function, Registers, line_of, root_pin};

use super::hardware::KernelHardware;

/// Registers of functions: by ports, where a machine has these, else in memory.
pub(super) struct Pci<'a> {
    mm: &'a Mm<KernelMachine>,
    tables: Description<'a>,
    /// The buses whose registers were mapped, or cannot be.
    buses: RefCell<Vec<(u8, Option<Window>)>>,
}

/// What firmware describes.
#[derive(Clone, Copy, Default)]
pub(super) struct Description<'a> {
    /// Where the registers are.
    pub(super) mcfg: Option<Mcfg<'a>>,
    /// Where interrupts end that were ISA's.
    pub(super) madt: Option<Madt<'a>>,
}

impl<'a> Pci<'a> {
    pub(super) const fn new(mm: &'a Mm<KernelMachine>, tables: Description<'a>) -> Self {
        Self { mm, tables, buses: RefCell::new(Vec::new()) }
    }

    /// Where the interrupt line of a function ends: where firmware's byte code says, or, if it does not, the register where
    /// firmware of a PC keeps it.
    pub(super) fn line(
        &self,
        function: Function,
        acpi: Option<&mut AcpiSource<KernelHardware>>,
    ) -> Option<Line> {
        let root = acpi.and_then(|acpi| Some((acpi, root_pin(self, function)?)));
        let routed = root.map_or(Ok(None), |(acpi, (device, pin))| acpi.pci_line(device, pin));
        let routed = match routed {
            Ok(routed) => routed,
            Err(error) => {
                log::error!("PCI: the interrupt line of {function}: {error}");
                return None;
            }
        };
        routed.or_else(|| {
            Port::ISA_IRQ?;
            Some(self.tables.madt?.isa_line(line_of(self, function)?))
        })
    }

    /// Maps registers of a device, unless the range is memory of the kernel.
    pub(super) fn map(&self, range: PhysRange) -> Option<Window> {
        let last = range.start().checked_add(range.len().checked_sub(1)?)?;
        let [first, last] = [range.start(), last].map(KernelMachine::pfn);
        if (first.get()..=last.get()).any(|page| self.mm.is_ram(Pfn::new(page))) {
            return None;
        }
        // SAFETY: the range is inside of a base address register of a device, or of a configuration space in the MCFG, and
        // no RAM of the kernel; what is done to it is what the standard says these registers are for.
        unsafe { Window::map(range, self.mm.machine().tables()) }.ok()
    }

    /// Calls `f` with the registers of a bus in memory, and the place of a function's register there.
    fn on_bus<R>(
        &self,
        function: Function,
        offset: u8,
        f: impl FnOnce(&Window, usize) -> R,
    ) -> Option<R> {
        let Function { bus, device, function } = function;
        let mut buses = self.buses.borrow_mut();
        if !buses.iter().any(|&(known, _)| known == bus) {
            let range = self.tables.mcfg.and_then(|mcfg| mcfg.bus(0, bus));
            buses.push((bus, range.and_then(|range| self.map(range))));
        }
        let (_, window) = buses.iter().find(|&&(known, _)| known == bus)?;
        let at = usize::from(device) << 15 | usize::from(function) << 12 | usize::from(offset);
        Some(f(window.as_ref()?, at))
    }
}

fn place(function: Function, offset: u8) -> Place {
    let Function { bus, device, function } = function;
    Place::Pci(PciFunction { segment: 0, bus, device, function }, offset.into())
}

impl ConfigSpace for Pci<'_> {
    fn read(&self, function: Function, offset: u8) -> u32 {
        match io::read(place(function, offset), 4) {
            Ok(word) => word as u32,
            Err(_) => {
                let read = self.on_bus(function, offset, |bus, at| bus.load(at));
                read.flatten().unwrap_or(u32::MAX)
            }
        }
    }

    fn write(&self, function: Function, offset: u8, value: u32) {
        if io::write(place(function, offset), 4, value.into()).is_err() {
            // A function that was read can be written.
            let _ = self.on_bus(function, offset, |bus, at| bus.store(at, value));
        }
    }
}

impl fmt::Debug for Pci<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pci").field("mcfg", &self.tables.mcfg).finish_non_exhaustive()
    }
}

impl Registers for Window {
    fn read8(&self, offset: usize) -> u8 {
        self.load(offset).unwrap_or(u8::MAX)
    }

    fn read16(&self, offset: usize) -> u16 {
        self.load(offset).unwrap_or(u16::MAX)
    }

    fn read32(&self, offset: usize) -> u32 {
        self.load(offset).unwrap_or(u32::MAX)
    }

    fn write8(&self, offset: usize, value: u8) {
        let _ = self.store(offset, value);
    }

    fn write16(&self, offset: usize, value: u16) {
        let _ = self.store(offset, value);
    }

    fn write32(&self, offset: usize, value: u32) {
        let _ = self.store(offset, value);
    }
}
