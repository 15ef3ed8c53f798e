//! A machine that is described by a POWER hypervisor's device tree.

use super::{Events, MemoryPlan};
use crate::acpi::Line;
use crate::acpi::Physical;
use crate::console;
use crate::events::EventSource;
use crate::interrupts::{self, EVENT_LINES, Target};
use crate::memory::{FirmwareMemory, KernelMachine, KernelTables, nodes};
use crate::papr::{Board, PaprSource, Services, TreeError};
use alloc::boxed::Box;
use hotmem::{Mm, PhysRange};
use hotmem_arch::current::rtas::{self, Rtas};
use hotmem_arch::described;
use hotmem_arch::irq::{Controller, Polarity, Trigger};
use hotmem_arch::rtas::NoRtas;
use hotmem_boot::RangeList;

impl Services for Rtas {
    fn call(&mut self, token: u32, args: &[u32], rets: &mut [u32]) -> Result<(), NoRtas> {
        Self::call(self, token, args, rets)
    }

    fn buffer(&mut self) -> &mut [u8] {
        Self::buffer(self)
    }

    fn buffer_address(&self) -> u32 {
        Self::buffer_address(self)
    }
}

fn board(tree: PhysRange, tables: &KernelTables, ram: &RangeList) -> Result<Board, TreeError> {
    let memory = FirmwareMemory::new(tables, ram);
    Board::read(memory.bytes(tree).ok_or(TreeError::Broken)?)
}

/// Reads where memory is and may come, how the machine can be left, and what it does not say itself.
pub(super) fn plan(
    tree: PhysRange,
    tables: &KernelTables,
    ram: &RangeList,
) -> Result<MemoryPlan, TreeError> {
    let board = board(tree, tables, ram)?;
    rtas::set_exits(board.tokens.power_off, board.tokens.os_term);
    if let Some(hertz) = board.timebase_hertz {
        described::set_timebase_hertz(hertz);
    }
    if let Some(terminal) = board.console {
        described::set_terminal(terminal.unit);
    }
    let window = board.window().collect();
    Ok(MemoryPlan { ram: nodes::assign(ram, &board.ram), window })
}

/// Takes over the interrupts and starts the event source.
pub(super) fn events(tree: PhysRange, mm: &'static Mm<KernelMachine>, ram: &RangeList) -> Events {
    let board = board(tree, mm.machine().tables(), ram);
    let (board, services) = match (board, Rtas::take()) {
        (Ok(board), Some(services)) => (board, services),
        (Err(error), _) => {
            log::error!("no memory hotplug: {error}");
            return Events { source: EventSource::None, console_line: None };
        }
        (_, None) => {
            log::error!("no memory hotplug: no run-time services");
            return Events { source: EventSource::None, console_line: None };
        }
    };
    let console = board.console.and_then(|terminal| terminal.source);
    let mut source = PaprSource::new(board, services, &EVENT_LINES);
    if let Err(error) = interrupts::init(core::iter::once(Controller::Presentation), mm) {
        log::error!("interrupt controllers: {error}");
    }
    let console_line = console.and_then(|number| connect_console(number, &mut source));
    Events { source: EventSource::Papr(Box::new(source)), console_line }
}

/// The line of a source: all of them are edge-triggered.
pub(crate) fn line(number: u32) -> Line {
    Line { gsi: number, trigger: Trigger::Edge, polarity: Polarity::ActiveHigh }
}

/// Lets the console interrupt; answers with its line.
fn connect_console(number: u32, source: &mut PaprSource<Rtas>) -> Option<Line> {
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
