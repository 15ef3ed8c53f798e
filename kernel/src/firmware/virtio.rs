//! Memory devices on the PCI bus: found, started, and a source of events beside firmware's.

use super::hardware::KernelHardware;
use super::pci::Pci;
use crate::cpus::pressure::PRESSURE;
use crate::interrupts::{self, MEMORY_DEVICES, Target};
use crate::memory::{KernelMachine, Window};
use alloc::boxed::Box;
use alloc::vec::Vec;
use hotmem::Mm;
use hotmem_acpi::AcpiSource;
use hotmem_arch::current::cpu;
use hotmem_hotplug::{Line, Trigger};
use hotmem_virtio_mem::pci::{
    Function, Message, PciError, PciTransport, Places, Signals, find, number_buses, silence,
};
use hotmem_virtio_mem::{Board, VirtioMemSource};

/// The memory of virtio-mem devices; `None` if the machine has none.
pub(crate) type MemoryDevices =
    Option<Box<VirtioMemSource<'static, KernelMachine, PciTransport<Window>, KernelBoard>>>;

/// The clock that bounds waits for devices, and their interrupt lines.
#[derive(Clone, Debug, Default)]
pub(crate) struct KernelBoard {
    lines: Vec<Line>,
}

impl Board for KernelBoard {
    fn ticks(&self) -> u64 {
        cpu::timestamp()
    }

    fn per_second(&self) -> u64 {
        cpu::timestamp_hertz()
    }

    fn unmask(&self) {
        self.lines.iter().for_each(|&line| interrupts::unmask(line));
    }
}

/// Finds the devices, and starts each: what fails is logged, and the rest continues.
pub(super) fn memory_devices(
    mm: &'static Mm<KernelMachine>,
    pci: &Pci<'_>,
    mut acpi: Option<&mut AcpiSource<KernelHardware>>,
) -> MemoryDevices {
    number_buses(pci, last_bus(pci, acpi.as_deref_mut()));
    let found = find(pci);
    if found.more != 0 {
        log::error!("virtio-mem: {} more devices are not used", found.more);
    }
    found.functions().next()?;
    let windows = acpi.as_deref_mut().map(AcpiSource::pci_windows).unwrap_or(Ok(Vec::new()));
    let windows = windows.unwrap_or_else(|error| {
        log::error!("PCI: the windows of bus 0: {error}");
        Vec::new()
    });
    let mut places = Places::new(&windows);
    let message = interrupts::message(Target::Memory);
    let message = message.map(|message| Message { address: message.address, data: message.data });
    let (mut transports, mut lines) = (Vec::new(), Vec::new());
    for function in found.functions() {
        let line = pci.line(function, acpi.as_deref_mut());
        let line = line.filter(|line| !is_of_firmware(function, *line, acpi.as_deref()));
        match transport(pci, function, &mut places, message, line, &mut lines) {
            Ok(transport) => transports.push((function, transport)),
            Err(error) => {
                log::error!("virtio-mem at {function}: {error}");
                silence(pci, function);
            }
        }
    }
    start(mm, pci, transports, KernelBoard { lines })
}

/// The last bus that may be numbered: of those that can be reached and that the bridge to bus 0 has.
fn last_bus(pci: &Pci<'_>, acpi: Option<&mut AcpiSource<KernelHardware>>) -> u8 {
    let of_bridge = acpi.map_or(Ok(None), AcpiSource::pci_last_bus).unwrap_or_else(|error| {
        log::error!("PCI: the buses behind bus 0: {error}");
        None
    });
    of_bridge.map_or(pci.last_bus(), |last| last.min(pci.last_bus()))
}

/// The registers of a function, and its interrupt connected.
fn transport(
    pci: &Pci<'_>,
    function: Function,
    places: &mut Places<'_>,
    message: Option<Message>,
    line: Option<Line>,
    lines: &mut Vec<Line>,
) -> Result<PciTransport<Window>, PciError> {
    if places.place(pci, function)? != 0 {
        log::info!("virtio-mem at {function}: its registers had no address, and were placed");
    }
    let signals = Signals { message, line: line.is_some() };
    let mut transport = PciTransport::new(pci, function, signals, |range| pci.map(range))?;
    if transport.uses_line() && !line.is_some_and(|line| connect(function, line, lines)) {
        transport.give_up_line(pci, function);
    }
    Ok(transport)
}

/// Starts the devices. One that is not used does not interrupt: it would do so for ever.
fn start(
    mm: &'static Mm<KernelMachine>,
    pci: &Pci<'_>,
    transports: Vec<(Function, PciTransport<Window>)>,
    board: KernelBoard,
) -> MemoryDevices {
    let mut source = VirtioMemSource::new(mm, board, &MEMORY_DEVICES);
    source.watch_by(&PRESSURE);
    source.keep_out(pci.persistent());
    for (function, transport) in transports {
        match source.start(transport) {
            Ok(true) => {}
            Ok(false) => {
                log::warn!("virtio-mem at {function}: no interrupt: it cannot wake the kernel")
            }
            Err(error) => {
                log::error!("virtio-mem at {function}: {error}");
                silence(pci, function);
            }
        }
    }
    (source.device_count() != 0).then(|| Box::new(source))
}

/// Whether the events of ACPI have the line, which is connected after those of devices: one that a device holds active would
/// be theirs for ever.
fn is_of_firmware(
    function: Function,
    line: Line,
    acpi: Option<&AcpiSource<KernelHardware>>,
) -> bool {
    let shared = acpi.is_some_and(|acpi| acpi.lines().iter().any(|event| event.gsi == line.gsi));
    if shared {
        log::error!("virtio-mem at {function}: {line} is the line of ACPI's events");
    }
    shared
}

/// Connects the interrupt line of a function, unless it is connected already. Returns whether it is.
fn connect(function: Function, line: Line, lines: &mut Vec<Line>) -> bool {
    // A PCI line is active as long as one of its devices does not release it.
    let line = Line { trigger: Trigger::Level, ..line };
    if lines.contains(&line) {
        return true;
    }
    if interrupts::is_connected(line) {
        log::error!("virtio-mem at {function}: {line} is in use");
        return false;
    }
    match interrupts::connect(line, Target::Memory) {
        Ok(()) => {
            lines.push(line);
            true
        }
        Err(error) => {
            log::error!("virtio-mem at {function}: {error}");
            false
        }
    }
}
