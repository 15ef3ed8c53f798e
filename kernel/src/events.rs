//! The source of hotplug events on this machine: ACPI, a POWER hypervisor, or none where neither works.

use crate::acpi::{AcpiSource, DeviceError};
use crate::firmware::papr::line;
use crate::hardware::KernelHardware;
use crate::hotplug::{Clock, DeviceId, Event, HotplugSource, Outcome, Request};
use crate::interrupts::{self, Target};
use crate::papr::{PaprError, PaprSource};
use alloc::boxed::Box;
use core::fmt;
use hotmem_arch::current::cpu;
use hotmem_arch::current::rtas::Rtas;

/// Where hotplug events come from. Without a source the monitor still works.
#[derive(Debug)]
pub enum EventSource {
    /// The firmware's ACPI tables.
    Acpi(Box<AcpiSource<KernelHardware>>),
    /// A hypervisor's run-time services.
    Papr(Box<PaprSource<Rtas>>),
    /// No hotplug.
    None,
}

impl EventSource {
    /// Connects the interrupts of events and lets them come; answers with the number of memory
    /// devices there can be. What does not work is reported, and the rest goes on.
    pub(crate) fn arm(&mut self) -> usize {
        match self {
            Self::Acpi(acpi) => arm_acpi(acpi),
            Self::Papr(papr) => arm_papr(papr),
            Self::None => 0,
        }
    }
}

fn arm_acpi(acpi: &mut AcpiSource<KernelHardware>) -> usize {
    for (index, &line) in acpi.lines().iter().enumerate() {
        if let Err(error) = interrupts::connect(line, Target::Event(index)) {
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

fn arm_papr(papr: &mut PaprSource<Rtas>) -> usize {
    let connected = papr.event_source().is_some_and(|number| {
        let connected = interrupts::connect(line(number), Target::Event(0));
        if let Err(error) = &connected {
            log::error!("papr: {error}");
        }
        let enabled = papr.enable(number);
        if let Err(error) = &enabled {
            log::error!("papr: {error}");
        }
        connected.is_ok() && enabled.is_ok()
    });
    if !connected {
        log::warn!("papr: no interrupt tells of events: looking for them all the time");
    }
    // The log that says there are no more ends the first look.
    papr.arm(!connected) + 1
}

/// What can go wrong with a device of either source.
#[derive(Clone, Copy, Debug)]
pub enum SourceError {
    /// By ACPI.
    Acpi(DeviceError),
    /// By a hypervisor's services.
    Papr(PaprError),
    /// There is no source.
    NoSource(DeviceId),
}

impl fmt::Display for SourceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Acpi(error) => error.fmt(f),
            Self::Papr(error) => error.fmt(f),
            Self::NoSource(device) => write!(f, "memory device {} is not known", device.0),
        }
    }
}

/// The same event, with an error that either source can have.
fn widen<E>(event: Event<E>, into: impl FnOnce(E) -> SourceError) -> Event<SourceError> {
    let Event { device, request, since } = event;
    let request = match request {
        Request::Insert { ranges, node } => Request::Insert { ranges, node },
        Request::Unreadable(error) => Request::Unreadable(into(error)),
        Request::Eject => Request::Eject,
    };
    Event { device, request, since }
}

impl HotplugSource for EventSource {
    type Error = SourceError;

    fn next_event(&mut self) -> Option<Event<SourceError>> {
        match self {
            Self::Acpi(acpi) => acpi.next_event().map(|event| widen(event, SourceError::Acpi)),
            Self::Papr(papr) => papr.next_event().map(|event| widen(event, SourceError::Papr)),
            Self::None => None,
        }
    }

    fn has_work(&self) -> bool {
        match self {
            Self::Acpi(acpi) => acpi.has_work(),
            Self::Papr(papr) => papr.has_work(),
            Self::None => false,
        }
    }

    fn answer(&mut self, device: DeviceId, outcome: Outcome) -> Result<Option<u32>, SourceError> {
        match self {
            Self::Acpi(acpi) => acpi.answer(device, outcome).map_err(SourceError::Acpi),
            Self::Papr(papr) => papr.answer(device, outcome).map_err(SourceError::Papr),
            Self::None => Err(SourceError::NoSource(device)),
        }
    }

    fn eject(&mut self, device: DeviceId) -> Result<(), SourceError> {
        match self {
            Self::Acpi(acpi) => acpi.eject(device).map_err(SourceError::Acpi),
            Self::Papr(papr) => papr.eject(device).map_err(SourceError::Papr),
            Self::None => Err(SourceError::NoSource(device)),
        }
    }

    fn label(&self, device: DeviceId) -> impl fmt::Display + '_ {
        fmt::from_fn(move |f| match self {
            Self::Acpi(acpi) => fmt::Display::fmt(&acpi.label(device), f),
            Self::Papr(papr) => fmt::Display::fmt(&papr.label(device), f),
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
