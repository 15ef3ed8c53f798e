//! A machine that is described by a POWER hypervisor's device tree.

// UNSAFETY: passes a safety contract on.
#![expect(unsafe_code)]

use super::{Events, MemoryPlan, warn_of_no_events};
use crate::console;
use crate::cpus::describe::Described;
use crate::interrupts::{self, EVENT_LINES, Target};
use crate::memory::distances::Distances;
use crate::memory::{FirmwareMemory, KernelMachine, KernelTables, nodes};
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;
use hotmem::paging::ReadPhys;
use hotmem::{Mm, NodeId, PhysRange};
use hotmem_arch::contract::Rtas as _;
use hotmem_arch::current::Rtas;
use hotmem_arch::irq::Controller;
use hotmem_arch::machine_info::MachineInfo;
use hotmem_boot::{Firmware, RangeList, tree};
use hotmem_hotplug::{Line, Polarity, Trigger};
use hotmem_papr::{Board, NoRtas, PaprSource, Services, TreeError};

/// The source of hotplug events.
pub(crate) type Source = Option<Box<PaprSource<RunTime>>>;

/// The reason why firmware's description is unusable.
#[derive(Clone, Copy, Debug)]
pub(crate) enum PlanError {
    /// The device tree is broken.
    Broken,
    /// The device tree lacks what the kernel needs.
    Tree(TreeError),
    /// Another kind of firmware describes the machine.
    OtherFirmware,
}

impl fmt::Display for PlanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Broken => f.write_str("the device tree is broken"),
            Self::Tree(error) => error.fmt(f),
            Self::OtherFirmware => f.write_str("this image needs a hypervisor's device tree"),
        }
    }
}

/// The status of a service that fails (PAPR, 7.2.6: -1).
const HARDWARE_ERROR: u32 = u32::MAX;

/// The run-time services of this machine.
#[derive(Debug)]
pub(crate) struct RunTime(Rtas);

impl Services for RunTime {
    unsafe fn call(&mut self, token: u32, args: &[u32], rets: &mut [u32]) -> Result<(), NoRtas> {
        if !super::is_allowed() {
            rets.iter_mut().take(1).for_each(|status| *status = HARDWARE_ERROR);
            return Ok(());
        }
        // SAFETY: by the contract of this function.
        unsafe { self.0.call(token, args, rets) }.map_err(|_| NoRtas)
    }

    fn buffer(&mut self) -> &mut [u8] {
        self.0.buffer()
    }

    fn buffer_address(&self) -> u32 {
        self.0.buffer_address()
    }
}

/// The device tree of the machine.
fn tree(firmware: Firmware) -> Option<PhysRange> {
    match firmware {
        Firmware::Papr(tree) => Some(tree),
        Firmware::Acpi(_) => None,
    }
}

fn board(at: PhysRange, tables: &KernelTables, ram: &RangeList) -> Result<Board, PlanError> {
    let memory = FirmwareMemory::new(tables, ram);
    let tree = memory.bytes(at).and_then(tree::open).ok_or(PlanError::Broken)?;
    Board::read(&tree).map_err(PlanError::Tree)
}

/// The server number of the CPU that boots, from the tree's header (Devicetree Specification 0.4, 5.2).
fn boot_cpu(tree: PhysRange, tables: &KernelTables, ram: &RangeList) -> Option<u32> {
    const BOOT_CPU: usize = 28;
    let memory = FirmwareMemory::new(tables, ram);
    let word = memory.bytes(tree)?.get(BOOT_CPU..)?.first_chunk()?;
    Some(u32::from_be_bytes(*word))
}

/// Reads the memory, the hotplug windows, the way to leave the machine, and the facts that the machine itself does
/// not provide.
///
/// # Errors
///
/// The error in the tree.
pub(crate) fn plan(
    firmware: Firmware,
    tables: &KernelTables,
    ram: &RangeList,
) -> Result<MemoryPlan, PlanError> {
    let tree = tree(firmware).ok_or(PlanError::OtherFirmware)?;
    let board = board(tree, tables, ram)?;
    let info = MachineInfo {
        timebase_hertz: board.timebase_hertz,
        terminal: board.console.map(|terminal| terminal.unit),
        power_off: board.tokens.power_off,
        os_term: board.tokens.os_term,
        start_cpu: board.tokens.start_cpu,
        boot_cpu: boot_cpu(tree, tables, ram),
        ..MachineInfo::default()
    };
    info.note();
    let window = board.window().collect();
    let last = board.distances.nodes().map(NodeId::get).max();
    let count = last.map_or(0, |last| last as usize + 1);
    let distances = Distances::new(count, |from, to| board.distances.between(from, to));
    Ok(MemoryPlan { ram: nodes::assign(ram, &board.ram), window, distances })
}

/// Takes over the interrupts and starts the event source.
///
/// If that fails, the machine can still be examined.
pub(crate) fn events(
    firmware: Firmware,
    mm: &'static Mm<KernelMachine>,
    ram: &RangeList,
) -> Events {
    let none = Events { source: None, console_line: None, cpus: Vec::new() };
    let Some(tree) = tree(firmware) else { return none };
    let board = board(tree, mm.machine().tables(), ram);
    let (board, services) = match (board, Rtas::take()) {
        (Ok(board), Some(services)) => (board, services),
        (Err(error), _) => {
            log::error!("no memory hotplug: {error}");
            return none;
        }
        (_, None) => {
            log::error!("no memory hotplug: no run-time services");
            return none;
        }
    };
    let console = board.console.and_then(|terminal| terminal.source);
    let cpus = board.cpus.iter().map(|cpu| Described {
        hardware: cpu.server.into(),
        enabled: true,
        node: cpu.node,
    });
    let cpus = cpus.collect();
    let mut source = PaprSource::new(board, RunTime(services), &EVENT_LINES);
    if let Err(error) = interrupts::init(core::iter::once(Controller::Presentation), mm) {
        log::error!("interrupt controllers: {error}");
    }
    let console_line = console.and_then(|number| connect_console(number, &mut source));
    Events { source: Some(Box::new(source)), console_line, cpus }
}

/// Connects and enables the interrupts of events; returns the highest possible number of memory devices. Failures
/// are reported, and the rest continues.
pub(crate) fn arm(source: &mut Source) -> usize {
    let Some(papr) = source else {
        warn_of_no_events("the hypervisor's services could not be started");
        return 0;
    };
    if let Some(number) = papr.power_source() {
        connect(papr, number);
    }
    let connected = papr.event_source().is_some_and(|number| connect(papr, number));
    if !connected {
        log::warn!("papr: no event interrupt: polling for events");
    }
    // One step more, for the log entry that ends the list.
    papr.arm(!connected) + 1
}

/// Has an interrupt source of the hypervisor report events; returns whether it does.
fn connect(papr: &mut PaprSource<RunTime>, number: u32) -> bool {
    let connected = interrupts::connect(line(number), Target::Event(0));
    if let Err(error) = &connected {
        log::error!("papr: {error}");
    }
    let enabled = papr.enable(number);
    if let Err(error) = &enabled {
        log::error!("papr: {error}");
    }
    connected.is_ok() && enabled.is_ok()
}

/// The line of a source, which is always edge-triggered.
fn line(number: u32) -> Line {
    Line { gsi: number, trigger: Trigger::Edge, polarity: Polarity::ActiveHigh }
}

/// Enables the console's interrupt; returns its line.
fn connect_console(number: u32, source: &mut PaprSource<RunTime>) -> Option<Line> {
    if let Err(error) = interrupts::connect(line(number), Target::Wake) {
        log::error!("console interrupt: {error}");
        return None;
    }
    if let Err(error) = source.enable(number) {
        log::error!("console interrupt: {error}");
        return None;
    }
    console::interrupt_on_receive();
    Some(line(number))
}
