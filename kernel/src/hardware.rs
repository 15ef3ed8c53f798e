//! The machine's registers as ACPI's byte code reaches them.
//!
//! Firmware may touch devices, never memory or devices that the kernel itself uses: such an access is
//! refused, and the method that tried fails.

// UNSAFETY: performs the accesses that byte code asks for.
#![expect(unsafe_code)]

use crate::acpi::{Hardware, Line};
use crate::interrupts;
use crate::memory::{KernelMachine, Window};
use alloc::vec::Vec;
use hotmem::{Geometry, Mm, PhysAddr, PhysRange};
use hotmem_aml::{HostError, PciAddress, Space, Width};
use hotmem_arch::current::serial::COM1;
use hotmem_arch::current::{cpu, port};

/// Ports that are the kernel's own: its console, and the masks of the 8259s.
const OWN_PORTS: [(u16, u16); 3] = [(COM1, COM1 + 7), (0x20, 0x21), (0xa0, 0xa1)];
/// PCI configuration mechanism 1 (PCI Local Bus 3.0, 3.2.2.3.2).
const PCI_ADDRESS: u16 = 0xcf8;
const PCI_DATA: u16 = 0xcfc;
const PCI_ENABLE: u32 = 1 << 31;
/// Pages of device memory that byte code can use in all.
const PAGES: usize = 64;
const PAGE: u64 = KernelMachine::PAGE_BYTES;

/// Registers, time and interrupt lines of this machine.
#[derive(Debug)]
pub struct KernelHardware {
    mm: &'static Mm<KernelMachine>,
    /// The pages of device memory mapped so far.
    pages: Vec<(PhysAddr, Window)>,
    ticks_per_second: u64,
}

impl KernelHardware {
    /// The machine whose memory `mm` manages.
    pub fn new(mm: &'static Mm<KernelMachine>, ticks_per_second: u64) -> Self {
        Self { mm, pages: Vec::with_capacity(PAGES), ticks_per_second }
    }

    /// The window on the page that `address` is in, mapped if it was not yet.
    fn page(&mut self, address: PhysAddr) -> Result<&Window, HostError> {
        let at = address.align_down(PAGE);
        let known = self.pages.iter().position(|(page, _)| *page == at);
        let index = match known {
            Some(index) => index,
            None => {
                let window = self.map(at)?;
                self.pages.push((at, window));
                self.pages.len() - 1
            }
        };
        self.pages.get(index).map(|(_, window)| window).ok_or(HostError::Unsupported)
    }

    fn map(&self, page: PhysAddr) -> Result<Window, HostError> {
        if self.mm.is_ram(KernelMachine::pfn(page)) {
            return Err(HostError::Forbidden);
        }
        let range = PhysRange::new(page, PAGE).ok_or(HostError::Unsupported)?;
        if self.pages.len() == PAGES {
            return Err(HostError::Unsupported);
        }
        // SAFETY: the page is no memory of the kernel's; the tables say that these registers are
        // there, and the accesses are those that the firmware's own code makes to its devices.
        let window = unsafe { Window::map(range, self.mm.machine().tables()) };
        window.map_err(|_| HostError::Unsupported)
    }

    fn load(&mut self, address: u64, width: Width) -> Result<u64, HostError> {
        let (page, offset) = (self.page(PhysAddr::new(address))?, (address % PAGE) as usize);
        let value = match width {
            Width::Byte => page.load::<u8>(offset).map(u64::from),
            Width::Word => page.load::<u16>(offset).map(u64::from),
            Width::Dword => page.load::<u32>(offset).map(u64::from),
            Width::Qword => page.load::<u64>(offset),
        };
        value.ok_or(HostError::Unsupported)
    }

    fn store(&mut self, address: u64, width: Width, value: u64) -> Result<(), HostError> {
        let (page, offset) = (self.page(PhysAddr::new(address))?, (address % PAGE) as usize);
        let done = match width {
            Width::Byte => page.store(offset, value as u8),
            Width::Word => page.store(offset, value as u16),
            Width::Dword => page.store(offset, value as u32),
            Width::Qword => page.store(offset, value),
        };
        done.ok_or(HostError::Unsupported)
    }

    fn spin(&self, microseconds: u64) {
        let ticks = microseconds.saturating_mul(self.ticks_per_second / 1_000_000);
        let start = cpu::timestamp();
        while cpu::timestamp().wrapping_sub(start) < ticks {
            core::hint::spin_loop();
        }
    }
}

/// The port at `address`, if `width` bytes there are firmware's to touch.
fn checked_port(address: u64, width: Width) -> Result<u16, HostError> {
    let first = u16::try_from(address).map_err(|_| HostError::Unsupported)?;
    let last = first.checked_add(width.bytes() as u16 - 1).ok_or(HostError::Unsupported)?;
    if OWN_PORTS.iter().any(|&(low, high)| first <= high && low <= last) {
        return Err(HostError::Forbidden);
    }
    Ok(first)
}

/// Reads a port that [`checked_port`] let through.
fn port_in(port: u16, width: Width) -> Result<u64, HostError> {
    match width {
        // SAFETY: the port is not the kernel's own, and firmware's own code asks for the access.
        Width::Byte => Ok(unsafe { port::read_u8(port) }.into()),
        // SAFETY: as above.
        Width::Word => Ok(unsafe { port::read_u16(port) }.into()),
        // SAFETY: as above.
        Width::Dword => Ok(unsafe { port::read_u32(port) }.into()),
        Width::Qword => Err(HostError::Unsupported),
    }
}

/// Writes a port that [`checked_port`] let through.
fn port_out(port: u16, width: Width, value: u64) -> Result<(), HostError> {
    match width {
        // SAFETY: the port is not the kernel's own, and firmware's own code asks for the access.
        Width::Byte => unsafe { port::write_u8(port, value as u8) },
        // SAFETY: as above.
        Width::Word => unsafe { port::write_u16(port, value as u16) },
        // SAFETY: as above.
        Width::Dword => unsafe { port::write_u32(port, value as u32) },
        Width::Qword => return Err(HostError::Unsupported),
    }
    Ok(())
}

/// Selects a register of PCI configuration space; answers with the port to access it through.
fn select(function: PciAddress, offset: u64, width: Width) -> Result<u16, HostError> {
    let offset = u32::try_from(offset).map_err(|_| HostError::Unsupported)?;
    if function.segment != 0 || offset > 0xff || !offset.is_multiple_of(width.bytes()) {
        return Err(HostError::Unsupported);
    }
    let device = u32::from(function.device & 0x1f) << 11 | u32::from(function.function & 7) << 8;
    let address = PCI_ENABLE | u32::from(function.bus) << 16 | device | offset & !3;
    port_out(PCI_ADDRESS, Width::Dword, address.into())?;
    Ok(PCI_DATA + (offset & 3) as u16)
}

impl Hardware for KernelHardware {
    fn read(&mut self, space: Space, address: u64, width: Width) -> Result<u64, HostError> {
        match space {
            Space::SystemMemory => self.load(address, width),
            Space::SystemIo => port_in(checked_port(address, width)?, width),
            Space::PciConfig(function) => port_in(select(function, address, width)?, width),
            Space::Other(_) => Err(HostError::Unsupported),
        }
    }

    fn write(
        &mut self,
        space: Space,
        address: u64,
        width: Width,
        value: u64,
    ) -> Result<(), HostError> {
        match space {
            Space::SystemMemory => self.store(address, width, value),
            Space::SystemIo => port_out(checked_port(address, width)?, width, value),
            Space::PciConfig(function) => port_out(select(function, address, width)?, width, value),
            Space::Other(_) => Err(HostError::Unsupported),
        }
    }

    fn stall(&mut self, microseconds: u64) {
        self.spin(microseconds);
    }

    fn sleep(&mut self, milliseconds: u64) {
        self.spin(milliseconds.saturating_mul(1000));
    }

    fn timer(&mut self) -> u64 {
        let per_unit = (self.ticks_per_second / 10_000_000).max(1);
        cpu::timestamp() / per_unit
    }

    fn unmask(&mut self, line: &Line) {
        interrupts::unmask(*line);
    }
}
