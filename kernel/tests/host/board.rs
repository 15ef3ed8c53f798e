//! The devices that the kernel reaches by ports and registers: a memory hotplug controller, and fixed ACPI hardware
//! or a device that reports events.

use hotmem::PhysAddr;
use hotmem_aml::{HostError, Io as _, Space, Width};
use hotmem_aml_fakes::{Controller, Layout};
use hotmem_arch::host::Device;
use hotmem_arch::io::{IoError, Place};

use crate::firmware::{DOORBELL, EVENT_LINE, MEMORY_HAPPENED, REGISTERS, SCI};
use crate::pci::{self, Functions};

const SMI_COMMAND: u64 = 0xB2;
const PM1_STATUS: u64 = 0x600;
const PM1_ENABLE: u64 = 0x602;
const PM1_CONTROL: u64 = 0x604;
const GPE_STATUS: u64 = 0x620;
const GPE_ENABLE: u64 = 0x628;
/// Bytes of each half of the general-purpose events.
const GPE_BYTES: u64 = GPE_ENABLE - GPE_STATUS;
const CONTROLLER: u64 = 0xA00;
/// The power button, in the fixed status register.
const POWER_BUTTON: u64 = 1 << 8;
/// The event for memory, as in `pc.asl`.
const MEMORY_EVENT: u64 = 1 << 3;

/// The registers.
#[derive(Debug)]
pub(crate) struct Board {
    pub(crate) controller: Controller,
    pub(crate) functions: Functions,
    /// Whether ACPI, not the firmware, owns the fixed hardware.
    acpi: bool,
    pm1: [u64; 2],
    gpe: [u64; 2],
    /// The line is active whatever the registers say.
    held: bool,
    /// Without fixed hardware: the events that no code has read yet.
    doorbell: Option<u64>,
}

impl Board {
    pub(crate) fn new(reduced: bool) -> Self {
        let layout = if reduced {
            Layout::qemu(Space::SystemMemory, REGISTERS.start().get())
        } else {
            Layout::qemu(Space::SystemIo, CONTROLLER)
        };
        let (controller, doorbell) = (Controller::new(layout, 2), reduced.then_some(0));
        let functions = Functions::default();
        Self { controller, functions, acpi: false, pm1: [0; 2], gpe: [0; 2], held: false, doorbell }
    }

    /// Raises the event for memory.
    pub(crate) fn raise_memory_event(&mut self) {
        match &mut self.doorbell {
            Some(happened) => *happened |= MEMORY_HAPPENED,
            None => self.gpe[0] |= MEMORY_EVENT,
        }
    }

    pub(crate) fn press_power_button(&mut self) {
        self.pm1[0] |= POWER_BUTTON;
    }

    pub(crate) fn hold_line(&mut self) {
        self.held = true;
    }

    /// A register of events, the byte of it at `port`, and whether writing ones clears it.
    fn events(&mut self, port: u64) -> Option<(&mut u64, u64, bool)> {
        Some(match port {
            PM1_STATUS..PM1_ENABLE => (&mut self.pm1[0], port - PM1_STATUS, true),
            PM1_ENABLE..PM1_CONTROL => (&mut self.pm1[1], port - PM1_ENABLE, false),
            GPE_STATUS..GPE_ENABLE => (&mut self.gpe[0], port - GPE_STATUS, true),
            _ if port.wrapping_sub(GPE_ENABLE) < GPE_BYTES => {
                (&mut self.gpe[1], port - GPE_ENABLE, false)
            }
            _ => return None,
        })
    }
}

fn width(bytes: u32) -> Result<Width, IoError> {
    let widths = [Width::Byte, Width::Word, Width::Dword, Width::Qword];
    widths.into_iter().find(|width| width.bytes() == bytes).ok_or(IoError::Unsupported)
}

fn mask(bytes: u32) -> u64 {
    u64::MAX >> (64 - 8 * bytes)
}

fn failed(_: HostError) -> IoError {
    IoError::Unsupported
}

impl Device for Board {
    fn read(&mut self, place: Place, bytes: u32) -> Result<u64, IoError> {
        let Place::Port(port) = place else { return Err(IoError::Unsupported) };
        if port == PM1_CONTROL {
            return Ok(self.acpi.into());
        }
        if let Some((register, byte, _)) = self.events(port) {
            return Ok(*register >> (8 * byte) & mask(bytes));
        }
        self.controller.read(Space::SystemIo, port, width(bytes)?).map_err(failed)
    }

    fn write(&mut self, place: Place, bytes: u32, value: u64) -> Result<(), IoError> {
        let Place::Port(port) = place else { return Err(IoError::Unsupported) };
        if port == SMI_COMMAND {
            self.acpi = true;
            return Ok(());
        }
        if let Some((register, byte, clears)) = self.events(port) {
            let (bits, all) = (value << (8 * byte), mask(bytes) << (8 * byte));
            *register = if clears { *register & !(bits & all) } else { *register & !all | bits };
            return Ok(());
        }
        self.controller.write(Space::SystemIo, port, width(bytes)?, value).map_err(failed)
    }

    fn load(&mut self, at: PhysAddr, bytes: u32) -> u64 {
        if let Some(happened) = self.doorbell.as_mut().filter(|_| at == DOORBELL) {
            return core::mem::take(happened);
        }
        if pci::SPACE.contains(at) {
            assert_eq!(bytes, 4);
            return self.functions.load(at).into();
        }
        if pci::REGISTERS.contains(at) {
            return 0;
        }
        let width = width(bytes).unwrap();
        self.controller.read(Space::SystemMemory, at.get(), width).unwrap()
    }

    fn store(&mut self, at: PhysAddr, bytes: u32, value: u64) {
        if pci::SPACE.contains(at) {
            assert_eq!(bytes, 4);
            return self.functions.store(at, value as u32);
        }
        if pci::REGISTERS.contains(at) {
            return;
        }
        let width = width(bytes).unwrap();
        self.controller.write(Space::SystemMemory, at.get(), width, value).unwrap();
    }

    fn line(&self) -> (u32, bool) {
        if let Some(happened) = self.doorbell {
            return (EVENT_LINE, happened != 0);
        }
        let happened = |[status, enable]: [u64; 2]| status & enable != 0;
        (SCI, self.held || self.acpi && (happened(self.pm1) || happened(self.gpe)))
    }
}
