//! The machine's registers, as ACPI's byte code accesses them.
//!
//! Firmware may access devices, but neither memory nor devices that the kernel itself uses: such an access is
//! refused, and the method that tried it fails.

// UNSAFETY: makes the accesses that byte code asks for.
#![expect(unsafe_code)]

use crate::interrupts;
use crate::memory::samples::{Unreadable, first_used};
use crate::memory::windows::{NoRoom, Refused, Windows};
use crate::memory::{KernelMachine, Window};
use hotmem::{Geometry, Mm, PhysAddr, PhysRange};
use hotmem_acpi::Hardware;
use hotmem_aml::{HostError, Io, PciAddress, Space, Width};
use hotmem_arch::current::{cpu, io};
use hotmem_arch::io::{IoError, PciFunction, Place};
use hotmem_hotplug::Line;

/// Pages of device memory that byte code can use in total.
const PAGES: usize = 64;
const PAGE: u64 = KernelMachine::PAGE_BYTES;

/// Registers, time and interrupt lines of this machine.
#[derive(Debug)]
pub(crate) struct KernelHardware {
    mm: &'static Mm<KernelMachine>,
    /// The pages of device memory mapped so far.
    pages: Windows<Window>,
    ticks_per_second: u64,
}

impl KernelHardware {
    /// The machine whose memory `mm` manages.
    ///
    /// # Errors
    ///
    /// [`NoRoom`].
    pub(crate) fn new(
        mm: &'static Mm<KernelMachine>,
        ticks_per_second: u64,
    ) -> Result<Self, NoRoom> {
        Ok(Self { mm, pages: Windows::new(PAGES)?, ticks_per_second })
    }

    /// The window that contains `address`.
    fn page(&mut self, address: PhysAddr) -> Result<&Window, HostError> {
        let (mm, page) = (self.mm, address.align_down(PAGE));
        let is_ram = |page| mm.is_ram(KernelMachine::pfn(page));
        let window = self.pages.on(page, is_ram, |page| {
            let range = PhysRange::new(page, PAGE)?;
            // SAFETY: the page is not memory of the kernel; the tables say that these registers are there, and the
            // accesses are those that the firmware's own code makes to its devices.
            unsafe { Window::map(range, mm.machine().tables()) }.ok()
        });
        window.map_err(|refused| match refused {
            Refused::Ram => HostError::Forbidden,
            Refused::Unmapped => HostError::Unsupported,
            Refused::Full => {
                log::warn!(
                    "acpi: byte code uses more than {PAGES} pages of registers: {page} is refused"
                );
                HostError::Unsupported
            }
        })
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
            cpu::relax();
        }
    }
}

/// The place outside of memory that byte code names, in the architecture's terms.
fn place(space: Space, address: u64) -> Result<Place, HostError> {
    match space {
        Space::SystemIo => Ok(Place::Port(address)),
        Space::PciConfig(PciAddress { segment, bus, device, function, .. }) => {
            Ok(Place::Pci(PciFunction { segment, bus, device, function }, address))
        }
        Space::SystemMemory | Space::Other(_) => Err(HostError::Unsupported),
    }
}

/// Refuses an access that is to fail.
fn allowed() -> Result<(), HostError> {
    if super::is_allowed() { Ok(()) } else { Err(HostError::Unsupported) }
}

fn refused(error: IoError) -> HostError {
    match error {
        IoError::Unsupported => HostError::Unsupported,
        IoError::Forbidden => HostError::Forbidden,
    }
}

impl Io for KernelHardware {
    fn read(&mut self, space: Space, address: u64, width: Width) -> Result<u64, HostError> {
        allowed()?;
        match space {
            Space::SystemMemory => self.load(address, width),
            _ => io::read(place(space, address)?, width.bytes()).map_err(refused),
        }
    }

    fn write(
        &mut self,
        space: Space,
        address: u64,
        width: Width,
        value: u64,
    ) -> Result<(), HostError> {
        allowed()?;
        match space {
            Space::SystemMemory => self.store(address, width, value),
            _ => io::write(place(space, address)?, width.bytes(), value).map_err(refused),
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
}

impl Hardware for KernelHardware {
    fn compare_exchange(&mut self, at: PhysAddr, old: u32, new: u32) -> Result<u32, HostError> {
        let page = self.page(at)?;
        let seen = page.compare_exchange((at.get() % PAGE) as usize, old, new);
        seen.ok_or(HostError::Unsupported)
    }

    fn first_used(&mut self, range: PhysRange) -> Result<Option<PhysAddr>, HostError> {
        first_used(range, self.mm).map_err(|Unreadable| HostError::Unsupported)
    }

    fn unmask(&mut self, line: &Line) {
        interrupts::unmask(*line);
    }
}
