//! A machine that is described by ACPI tables.

use super::{Events, MemoryPlan};
use crate::acpi::{AcpiSource, Fadt, Line, Madt, Physical, Spcr, Srat, TableError, Tables};
use crate::console;
use crate::events::EventSource;
use crate::hardware::KernelHardware;
use crate::interrupts::{self, EVENT_LINES, Target};
use crate::memory::{FirmwareMemory, KernelMachine, KernelTables, nodes};
use alloc::boxed::Box;
use alloc::vec::Vec;
use hotmem::{Mm, NodeId, PhysAddr};
use hotmem_aml::Limits;
use hotmem_arch::current::console::ISA_IRQ;
use hotmem_arch::current::cpu;
use hotmem_arch::exit::set_power_off;
use hotmem_boot::RangeList;

/// The node of a proximity domain; those past what the kernel can tell apart share node 0.
fn node_of(domain: u32) -> NodeId {
    NodeId::new(domain).unwrap_or_else(|| {
        log::warn!("proximity domain {domain} is past the last node, taken as node 0");
        NodeId::default()
    })
}

/// Reads the tables that say where memory is and may come.
pub(super) fn plan(
    rsdp: PhysAddr,
    tables: &KernelTables,
    ram: &RangeList,
) -> Result<MemoryPlan, TableError> {
    let memory = FirmwareMemory::new(tables, ram);
    let srat = Srat::find(&Tables::new(&memory, rsdp)?)?;
    let affinities: Vec<_> = srat.iter().flat_map(Srat::memory).collect();

    let fixed = affinities.iter().filter(|affinity| !affinity.hot_pluggable);
    let fixed: Vec<_> = fixed.map(|fixed| (fixed.range, node_of(fixed.domain))).collect();
    let window = affinities.iter().filter(|affinity| affinity.hot_pluggable);
    let window = window.map(|affinity| affinity.range).collect();
    Ok(MemoryPlan { ram: nodes::assign(ram, &fixed), window })
}

/// Takes over the interrupts and starts ACPI.
pub(super) fn events(rsdp: PhysAddr, mm: &'static Mm<KernelMachine>, ram: &RangeList) -> Events {
    let memory = FirmwareMemory::new(mm.machine().tables(), ram);
    let tables = match Tables::new(&memory, rsdp) {
        Ok(tables) => tables,
        Err(error) => {
            log::error!("firmware tables: {error}");
            return Events { source: EventSource::None, console_line: None };
        }
    };
    match Fadt::find(&tables) {
        Ok(fadt) => set_power_off(fadt.power_off),
        Err(error) => log::error!("firmware tables: {error}"),
    }
    let console_line = take_interrupts(&tables, mm);
    let hardware = KernelHardware::new(mm, cpu::timestamp_hertz());
    let source = match AcpiSource::new(&tables, hardware, &EVENT_LINES, Limits::default()) {
        Ok(source) => EventSource::Acpi(Box::new(source)),
        Err(error) => {
            log::error!("no memory hotplug: {error}");
            EventSource::None
        }
    };
    Events { source, console_line }
}

/// The line of the console: the one that firmware names, else the machine's old one.
fn console_line<P: Physical>(tables: &Tables<'_, P>, madt: &Madt<'_>) -> Option<Line> {
    let named = Spcr::find(tables).unwrap_or_else(|error| {
        log::error!("console interrupt: {error}");
        None
    });
    named.and_then(|spcr| spcr.line()).or_else(|| Some(madt.isa_line(ISA_IRQ?)))
}

/// Takes over the interrupt controllers, and lets the console interrupt; answers with its line.
fn take_interrupts<P: Physical>(tables: &Tables<'_, P>, mm: &Mm<KernelMachine>) -> Option<Line> {
    let madt = match Madt::find(tables) {
        Ok(Some(madt)) => madt,
        Ok(None) => {
            log::warn!("no MADT: the kernel runs without interrupts");
            return None;
        }
        Err(error) => {
            log::error!("interrupt controllers: {error}");
            return None;
        }
    };
    if let Err(error) = interrupts::init(madt.controllers(), mm) {
        log::error!("interrupt controllers: {error}");
        return None;
    }
    let line = console_line(tables, &madt)?;
    if let Err(error) = interrupts::connect(line, Target::Wake) {
        log::error!("console interrupt: {error}");
        return None;
    }
    console::interrupt_on_receive();
    Some(line)
}
