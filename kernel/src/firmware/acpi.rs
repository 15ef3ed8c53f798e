//! A machine that is described by ACPI tables.

use super::hardware::KernelHardware;
use super::pci::{Description, Pci, is_in_memory};
use super::virtio::{MemoryDevices, memory_devices};
use super::{Events, MemoryPlan, warn_of_no_events};
use crate::console;
use crate::cpus::describe::Described;
use crate::interrupts::{self, EVENT_LINES, Target};
use crate::memory::distances::Distances;
use crate::memory::layout::PHYS_LIMIT;
use crate::memory::{FirmwareMemory, KernelMachine, KernelTables, nodes};
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;
use hotmem::paging::ReadPhys;
use hotmem::{Mm, NodeId, PhysAddr, PhysRange};
use hotmem_acpi::nvdimm::{Bounds, Nfit, Regions};
use hotmem_acpi::{
    AcpiSource, Controller, Fadt, Madt, Mcfg, PowerOff, Processor, Slit, Spcr, Srat, Tables,
    node_of,
};
use hotmem_aml::Limits;
use hotmem_arch::contract::Port as _;
use hotmem_arch::current::{Port, cpu};
use hotmem_arch::irq;
use hotmem_arch::machine_info::{MachineInfo, Psci};
use hotmem_boot::{Firmware, RangeList};
use hotmem_hotplug::{HotplugSource, Line, OutOfHeap, Sources};

/// Processor entries read at most: a table may have thousands.
const CPUS_READ: usize = 256;

/// The sources of hotplug events: firmware, and memory devices.
pub(crate) type Source = Sources<Option<Box<AcpiSource<KernelHardware>>>, MemoryDevices>;

/// The root pointer of the tables.
fn rsdp(firmware: Firmware) -> Option<PhysAddr> {
    match firmware {
        Firmware::Acpi(rsdp) => Some(rsdp),
        Firmware::Papr(_) => None,
    }
}

/// Reads the tables that describe memory and the ranges for hotplug.
///
/// A broken table is ignored: all RAM is then on node 0, and no hotplug window is known.
///
/// # Errors
///
/// Text for a person, if another kind of firmware describes the machine.
pub(crate) fn plan(
    firmware: Firmware,
    tables: &KernelTables,
    ram: &RangeList,
) -> Result<MemoryPlan, &'static str> {
    let rsdp = rsdp(firmware).ok_or("this image needs ACPI tables")?;
    let memory = FirmwareMemory::new(tables, ram);
    let tables = Tables::new(&memory, rsdp);
    let distances = tables.as_ref().map(distances).unwrap_or_default();
    let srat = match &tables {
        Ok(tables) => Srat::find(tables),
        Err(error) => Err(*error),
    };
    let srat = srat.unwrap_or_else(|error| {
        log::warn!("{error}; all memory is on node 0, without a hotplug window");
        None
    });
    let affinities = srat.iter().flat_map(Srat::memory);
    let affinities =
        affinities.map(|near| (near.range, node_of(near.domain.into()), near.hot_pluggable));
    let (nodes, mut window) = nodes::plan(ram, &affinities.collect::<Vec<_>>());
    if let Ok(tables) = &tables {
        add_persistent(tables, ram, &mut window);
    }
    Ok(MemoryPlan { ram: nodes, window, distances })
}

/// The first address that there cannot be.
fn phys_limit() -> PhysAddr {
    PHYS_LIMIT.min(cpu::features().phys_limit)
}

/// Adds persistent memory to the ranges for hotplug: it may be added later. A fault of its table is reported then.
fn add_persistent<P: ReadPhys>(
    tables: &Tables<'_, P>,
    ram: &RangeList,
    window: &mut Vec<PhysRange>,
) {
    let Ok(Some(table)) = Nfit::find(tables) else { return };
    let Ok(mut regions) = Regions::new() else { return };
    let ram: Vec<PhysRange> = ram.iter().collect();
    regions.read(table, Bounds { ram: &ram, other: &[], limit: phys_limit() });
    for region in regions.sound() {
        if !window.iter().any(|range| range.covers(region.range)) {
            window.push(region.range);
        }
    }
}

/// The distances between nodes. Without a table, or with a broken one, each other node is equally far.
fn distances<P: ReadPhys>(tables: &Tables<'_, P>) -> Distances {
    let slit = Slit::find(tables).unwrap_or_else(|error| {
        log::warn!("acpi: {error}; all other nodes are taken as equally far");
        None
    });
    slit.map_or_else(Distances::default, |slit| {
        Distances::new(slit.count(), |from, to| slit.distance(from.get(), to.get()))
    })
}

/// Takes over the interrupts and starts ACPI.
///
/// If that fails, the machine can still be examined.
pub(crate) fn events(
    firmware: Firmware,
    mm: &'static Mm<KernelMachine>,
    ram: &RangeList,
) -> Events {
    let none = || Events {
        source: Sources::new(None, memory_devices(mm, &Pci::new(mm, Description::default()), None)),
        console_line: None,
        cpus: Vec::new(),
    };
    let Some(rsdp) = rsdp(firmware) else { return none() };
    let memory = FirmwareMemory::new(mm.machine().tables(), ram);
    let tables = match Tables::new(&memory, rsdp) {
        Ok(tables) => tables,
        Err(error) => {
            log::error!("firmware tables: {error}");
            return none();
        }
    };
    match Fadt::find(&tables) {
        Ok(fadt) => {
            MachineInfo { psci: psci(fadt.power_off), ..MachineInfo::default() }.note();
            measure_clock(&fadt, mm);
        }
        Err(error) => log::error!("firmware tables: {error}"),
    }
    let madt = find_madt(&tables);
    let console_line = madt.and_then(|madt| take_interrupts(&tables, &madt, mm));
    let cpus = madt.map(|madt| described(&tables, &madt)).unwrap_or_default();
    let mut source = start(&tables, mm);
    if let Some(source) = source.as_deref_mut() {
        find_pmem(source, &tables, ram);
    }
    // After the clock is known, and the controllers take messages.
    let mcfg = found("PCI", Mcfg::find(&tables)).filter(|_| is_in_memory());
    let acpi = source.as_deref_mut().filter(|_| mcfg.is_some());
    let mainboard = acpi.map(|acpi| found("PCI: the mainboard's resources", acpi.mainboard()));
    let mainboard = mainboard.unwrap_or_default();
    let persistent = source.as_deref().map(|acpi| acpi.persistent_ranges().collect::<Vec<_>>());
    let persistent = persistent.unwrap_or_default();
    let described = Description { mcfg, madt, mainboard: &mainboard, persistent: &persistent };
    let pci = Pci::new(mm, described);
    let devices = memory_devices(mm, &pci, source.as_deref_mut());
    if let (Some(acpi), Some(devices)) = (source.as_deref_mut(), devices.as_deref())
        && acpi.keep_out(devices.regions()).is_err()
    {
        log::error!("acpi: no heap to keep persistent memory out of that of other devices");
    }
    Events { source: Sources::new(source, devices), console_line, cpus }
}

/// Starts ACPI's driver. A failure is reported.
fn start<P: ReadPhys>(
    tables: &Tables<'_, P>,
    mm: &'static Mm<KernelMachine>,
) -> Option<Box<AcpiSource<KernelHardware>>> {
    let failed = |error: &dyn fmt::Display| log::error!("no memory hotplug: {error}");
    let hardware = KernelHardware::new(mm, cpu::timestamp_hertz());
    let hardware = hardware.inspect_err(|error| failed(error)).ok()?;
    let source = AcpiSource::new(tables, hardware, &EVENT_LINES, Limits::default());
    source.inspect_err(|error| failed(error)).ok().map(Box::new)
}

/// Finds the persistent memory, which is used on the operator's request.
fn find_pmem<P: ReadPhys>(
    source: &mut AcpiSource<KernelHardware>,
    tables: &Tables<'_, P>,
    ram: &RangeList,
) {
    let ram: Vec<PhysRange> = ram.iter().collect();
    match source.find_pmem(tables, &ram, phys_limit()) {
        Ok(()) => match source.persistent_count() {
            0 => {}
            count => log::info!("acpi: {count} regions of persistent memory"),
        },
        Err(OutOfHeap) => log::error!("acpi: no heap for the regions of persistent memory"),
    }
}

/// Connects and enables the interrupts of events; returns how many events there may be for what is plugged or requested now.
/// Failures are reported, and the rest continues.
pub(crate) fn arm(source: &mut Source) -> usize {
    let (firmware, devices) = source.parts_mut();
    let expected = devices.as_ref().map_or(0, |devices| devices.expected_events());
    expected + arm_firmware(firmware)
}

/// The same for those of firmware: the highest possible number of its memory devices.
fn arm_firmware(source: &mut Option<Box<AcpiSource<KernelHardware>>>) -> usize {
    let Some(acpi) = source else {
        warn_of_no_events("ACPI could not be started");
        return 0;
    };
    let mut connected = 0;
    for (index, &line) in acpi.lines().iter().enumerate() {
        match interrupts::connect(line, Target::Event(index)) {
            Ok(()) => connected += 1,
            Err(error) => log::error!("acpi: {error}"),
        }
    }
    if let Err(error) = acpi.arm() {
        log::error!("some memory hotplug events are not delivered: {error}");
    }
    let devices = acpi.device_count();
    log::info!("acpi: {devices} memory devices");
    if devices == 0 {
        warn_of_no_events("ACPI names no memory device");
    } else if connected == 0 {
        warn_of_no_events("no interrupt of ACPI is connected");
    }
    devices
}

/// Measures the frequency of the time stamp counter, if no other source gives it.
fn measure_clock(fadt: &Fadt, mm: &'static Mm<KernelMachine>) {
    let Some(timer) = fadt.pm_timer.filter(|_| !cpu::timestamp_is_known()) else { return };
    let hardware = KernelHardware::new(mm, cpu::timestamp_hertz());
    let hardware = hardware.inspect_err(|error| log::error!("clock: {error}"));
    let Ok(mut hardware) = hardware else { return };
    if let Some(hertz) = timer.measure(&mut hardware, cpu::timestamp) {
        MachineInfo { timebase_hertz: Some(hertz), ..MachineInfo::default() }.note();
        log::info!("clock: {hertz} Hz, by the ACPI timer");
    }
}

/// The conduit that turns the machine off, in the architecture's terms.
fn psci(way: PowerOff) -> Option<Psci> {
    match way {
        PowerOff::No => None,
        PowerOff::PsciHvc => Some(Psci::Hvc),
        PowerOff::PsciSmc => Some(Psci::Smc),
    }
}

/// A controller, in the architecture's terms.
fn controller(described: Controller) -> irq::Controller {
    match described {
        Controller::LocalApic { at } => irq::Controller::LocalApic { at },
        Controller::IoApic { at, first } => irq::Controller::IoApic { at, first },
        Controller::GicDistributor { at, version } => {
            irq::Controller::GicDistributor { at, version }
        }
        Controller::GicCpuInterface { at } => irq::Controller::GicCpuInterface { at },
        Controller::GicRedistributors { range } => irq::Controller::GicRedistributors { range },
    }
}

/// The interrupt line of the console: the one that firmware names, else the traditional one of the machine.
fn console_line<P: ReadPhys>(tables: &Tables<'_, P>, madt: &Madt<'_>) -> Option<Line> {
    let named = found("console interrupt", Spcr::find(tables));
    named.and_then(|spcr| spcr.line()).or_else(|| Some(madt.isa_line(Port::ISA_IRQ?)))
}

/// The table of interrupt controllers and CPUs.
fn find_madt<'a, P: ReadPhys>(tables: &Tables<'a, P>) -> Option<Madt<'a>> {
    let madt = found("interrupt controllers", Madt::find(tables));
    if madt.is_none() {
        log::warn!("no MADT: the kernel runs without interrupts");
    }
    madt
}

/// What was `found`; nothing for an error, which is logged.
fn found<T: Default>(what: &str, found: Result<T, impl fmt::Display>) -> T {
    found.unwrap_or_else(|error| {
        log::error!("{what}: {error}");
        T::default()
    })
}

/// The CPUs, in the form that the kernel starts them from. One without a node is on node 0.
fn described<P: ReadPhys>(tables: &Tables<'_, P>, madt: &Madt<'_>) -> Vec<Described> {
    // An error was logged when the nodes of memory were read.
    let srat = Srat::find(tables).unwrap_or_default();
    let node = |processor: &Processor| {
        let domain = srat.and_then(|srat| srat.domain_of(processor));
        domain.map_or(NodeId::ZERO, |domain| node_of(domain.into()))
    };
    let processors = madt.processors().take(CPUS_READ);
    let described = processors.map(|processor| Described {
        hardware: processor.hardware,
        enabled: processor.enabled,
        node: node(&processor),
    });
    described.collect()
}

/// Takes over the interrupt controllers, and enables the console's interrupt; returns its line.
fn take_interrupts<P: ReadPhys>(
    tables: &Tables<'_, P>,
    madt: &Madt<'_>,
    mm: &Mm<KernelMachine>,
) -> Option<Line> {
    if let Err(error) = interrupts::init(madt.controllers().map(controller), mm) {
        log::error!("interrupt controllers: {error}");
        return None;
    }
    let line = console_line(tables, madt)?;
    if let Err(error) = interrupts::connect(line, Target::Wake) {
        log::error!("console interrupt: {error}");
        return None;
    }
    console::interrupt_on_receive();
    Some(line)
}
