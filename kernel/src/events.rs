//! The source of hotplug events on this machine: ACPI, or none where ACPI does not work.

use crate::acpi::{AcpiSource, DeviceError};
use crate::hardware::KernelHardware;
use crate::hotplug::{Clock, DeviceId, Event, HotplugSource, Outcome};
use crate::interrupts::{self, Target};
use alloc::boxed::Box;
use core::fmt;
use hotmem_arch::current::cpu;

/// Where hotplug events come from. Without a source the monitor still works.
#[derive(Debug)]
pub enum EventSource {
    /// The firmware's ACPI tables.
    Acpi(Box<AcpiSource<KernelHardware>>),
    /// No hotplug.
    None,
}

impl EventSource {
    /// Connects the interrupts of events and lets them come; answers with the number of memory
    /// devices there can be. What does not work is reported, and the rest goes on.
    pub(crate) fn arm(&mut self) -> usize {
        let Self::Acpi(acpi) = self else { return 0 };
        for (index, &line) in acpi.lines().iter().enumerate() {
            if let Err(error) = interrupts::connect(line, Target::Acpi(index)) {
                log::error!("acpi: {error}");
            }
        }
        if let Err(error) = acpi.arm() {
            log::error!("no memory hotplug events: {error}");
        }
        let devices = acpi.device_count();
        log::info!("acpi: {devices} memory devices");
        devices
    }
}

impl HotplugSource for EventSource {
    type Error = DeviceError;

    fn next_event(&mut self) -> Option<Event<DeviceError>> {
        match self {
            Self::Acpi(acpi) => acpi.next_event(),
            Self::None => None,
        }
    }

    fn has_work(&self) -> bool {
        match self {
            Self::Acpi(acpi) => acpi.has_work(),
            Self::None => false,
        }
    }

    fn answer(&mut self, device: DeviceId, outcome: Outcome) -> Result<Option<u32>, DeviceError> {
        match self {
            Self::Acpi(acpi) => acpi.answer(device, outcome),
            Self::None => Err(DeviceError::Unknown(device)),
        }
    }

    fn eject(&mut self, device: DeviceId) -> Result<(), DeviceError> {
        match self {
            Self::Acpi(acpi) => acpi.eject(device),
            Self::None => Err(DeviceError::Unknown(device)),
        }
    }

    fn label(&self, device: DeviceId) -> impl fmt::Display + '_ {
        fmt::from_fn(move |f| match self {
            Self::Acpi(acpi) => fmt::Display::fmt(&acpi.label(device), f),
            Self::None => write!(f, "memory device {}", device.0),
        })
    }
}

/// Counts instructions by the CPU's counter, where the machine was started so that it does.
#[derive(Clone, Copy, Debug)]
pub struct InstructionClock {
    /// Whether the counter counts instructions (`-icount` of QEMU, with the command line's word).
    pub counts: bool,
}

impl Clock for InstructionClock {
    fn instructions(&self) -> Option<u64> {
        self.counts.then(cpu::instructions)
    }
}
