//! The PCI of a machine that ACPI tables describe, as the driver of a device accesses it.

// UNSAFETY: maps the registers of devices.
#![expect(unsafe_code)]

use crate::memory::{KernelMachine, RESERVED_TABLES, Window, has_tables, was_read};
use core::cell::RefCell;
use core::fmt;
use hotmem::paging::MapError;
use hotmem::{Geometry, Mm, Pfn, PhysAddr, PhysRange};
use hotmem_acpi::{AcpiSource, Madt, Mcfg};
use hotmem_arch::contract::Port as _;
use hotmem_arch::current::{Port, io};
use hotmem_arch::io::{PciFunction, Place};
use hotmem_hotplug::Line;
use hotmem_virtio_mem::pci::{ConfigSpace, Function, Registers, Width, line_of, root_pin};

use super::buses::{Buses, MOST_BUSES, TooMany};
use super::hardware::KernelHardware;

/// Registers of functions: by ports, where a machine has these, else in memory.
pub(super) struct Pci<'a> {
    mm: &'a Mm<KernelMachine>,
    tables: Description<'a>,
    /// The buses whose registers are in memory.
    buses: RefCell<Buses<Window>>,
}

/// Why registers are not used.
#[derive(Clone, Copy, Debug)]
enum Refused {
    /// They would end past the address space.
    Address,
    /// Memory of the kernel is there.
    Ram(PhysAddr),
    /// Firmware's tables are there.
    Tables,
    /// Persistent memory is there.
    Persistent(PhysRange),
    /// The mainboard does not keep the addresses for itself: nothing may be there, or memory of firmware.
    NotReserved,
    /// Too few frames are left for tables.
    NoFrames,
    /// Too many buses are mapped.
    Buses(TooMany),
    /// They cannot be mapped.
    Map(MapError),
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address => f.write_str("they end past the last address"),
            Self::Ram(at) => write!(f, "memory of the kernel is at {at}"),
            Self::Tables => f.write_str("firmware's tables are there"),
            Self::Persistent(region) => write!(f, "persistent memory is there, {region}"),
            Self::NotReserved => {
                f.write_str("the mainboard's resources (PNP0C02) do not have these addresses")
            }
            Self::NoFrames => {
                write!(f, "the last {RESERVED_TABLES} frames for page tables are kept for devices")
            }
            Self::Buses(error) => error.fmt(f),
            Self::Map(error) => error.fmt(f),
        }
    }
}

/// What firmware describes.
#[derive(Clone, Copy, Default)]
pub(super) struct Description<'a> {
    /// Where the registers are.
    pub(super) mcfg: Option<Mcfg<'a>>,
    /// Where interrupts end that were ISA's.
    pub(super) madt: Option<Madt<'a>>,
    /// The addresses that the mainboard keeps for itself, those of registers of functions among them.
    pub(super) mainboard: &'a [PhysRange],
    /// Persistent memory.
    pub(super) persistent: &'a [PhysRange],
}

/// Whether registers of functions are in memory.
pub(super) fn is_in_memory() -> bool {
    io::read(place(Function { bus: 0, device: 0, function: 0 }, 0), 4).is_err()
}

impl<'a> Pci<'a> {
    pub(super) const fn new(mm: &'a Mm<KernelMachine>, tables: Description<'a>) -> Self {
        Self { mm, tables, buses: RefCell::new(Buses::new()) }
    }

    /// The last bus whose functions can be reached: in memory, no more than can be mapped.
    pub(super) fn last_bus(&self) -> u8 {
        let most = if is_in_memory() { MOST_BUSES - 1 } else { usize::from(u8::MAX) };
        let last = u8::try_from(most).unwrap_or(u8::MAX);
        let is_there = |bus: &u8| self.tables.mcfg.is_none_or(|mcfg| mcfg.bus(0, *bus).is_some());
        (0..=last).take_while(is_there).last().unwrap_or(0)
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

    /// Where persistent memory is.
    pub(super) fn persistent(&self) -> impl Iterator<Item = PhysRange> + '_ {
        self.tables.persistent.iter().copied()
    }

    /// Maps registers of a device, unless the range is memory of the kernel, persistent memory, or firmware's tables. The reason is logged.
    pub(super) fn map(&self, range: PhysRange) -> Option<Window> {
        let window = self.try_map(range);
        window.inspect_err(|why| log::error!("PCI: registers at {range}: {why}")).ok()
    }

    fn try_map(&self, range: PhysRange) -> Result<Window, Refused> {
        let last = range.len().checked_sub(1).and_then(|last| range.start().checked_add(last));
        let last = last.ok_or(Refused::Address)?;
        let [first, last] = [range.start(), last].map(KernelMachine::pfn);
        let mut pages = (first.get()..=last.get()).map(Pfn::new);
        if let Some(page) = pages.find(|&page| self.mm.is_ram(page)) {
            return Err(Refused::Ram(KernelMachine::address(page)));
        }
        let mut persistent = self.tables.persistent.iter();
        if let Some(&region) = persistent.find(|region| region.overlaps(range)) {
            return Err(Refused::Persistent(region));
        }
        if was_read(range, self.mm.machine().tables()) {
            return Err(Refused::Tables);
        }
        // SAFETY: the range is inside of a base address register of a device, or of a configuration space in the MCFG that
        // the mainboard keeps its addresses for, and neither RAM of the kernel nor firmware's tables; what is done to it is
        // what the standard says these registers are for.
        unsafe { Window::map(range, self.mm.machine().tables()) }.map_err(Refused::Map)
    }

    /// Maps the registers of the functions of a bus; `None` if the bus does not exist or cannot be used, which is logged.
    fn map_bus(&self, bus: u8, allowed: Result<(), TooMany>) -> Option<Window> {
        let range = self.tables.mcfg?.bus(0, bus)?;
        let is_reserved = || self.tables.mainboard.iter().any(|kept| kept.covers(range));
        let window = match allowed {
            Err(error) => Err(Refused::Buses(error)),
            Ok(()) if !is_reserved() => Err(Refused::NotReserved),
            Ok(()) if !has_tables() => Err(Refused::NoFrames),
            Ok(()) => self.try_map(range),
        };
        let log = |why: &Refused| log::error!("PCI: bus {bus} at {range} is not used: {why}");
        window.inspect_err(log).ok()
    }

    /// Calls `f` with the registers of a bus in memory, and the place of a function's register there.
    fn on_bus<R>(
        &self,
        function: Function,
        offset: u8,
        f: impl FnOnce(&Window, usize) -> R,
    ) -> Option<R> {
        let mut buses = self.buses.borrow_mut();
        let window = buses.on(function.bus, |allowed| self.map_bus(function.bus, allowed))?;
        Some(f(window, Function { bus: 0, ..function }.place(offset)))
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
    fn read(&self, offset: usize, width: Width) -> u32 {
        let read = match width {
            Width::Byte => self.load::<u8>(offset).map(u32::from),
            Width::Half => self.load::<u16>(offset).map(u32::from),
            Width::Word => self.load(offset),
        };
        read.unwrap_or(u32::MAX)
    }

    fn write(&self, offset: usize, width: Width, value: u32) {
        // A register outside of the window does not exist: the value can be dropped.
        let _ = match width {
            Width::Byte => self.store(offset, value as u8),
            Width::Half => self.store(offset, value as u16),
            Width::Word => self.store(offset, value),
        };
    }
}
