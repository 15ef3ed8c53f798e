//! The kernel's first functions, and the order in which everything comes up.
//!
//! ```text
//!   main   (early stack, early tables)   console, log, heap, traps --> own page tables
//!   settled (own stack, own tables)      trap stacks, firmware tables, interrupts --> mm --> main loop
//! ```

// UNSAFETY: changes the page tables and the stack under its own feet.
#![expect(unsafe_code)]

use crate::acpi::{AcpiSource, Line, Madt, Physical, Srat, TableError, Tables};
use crate::cmdline::Options;
use crate::console::Screen;
use crate::events::{EventSource, InstructionClock};
use crate::hardware::KernelHardware;
use crate::hotplug::{Hotplug, Policy};
use crate::interrupts::{self, ACPI_LINES, Target};
use crate::memory::layout::Stack;
use crate::memory::{self, Boot, FirmwareMemory, KernelMachine, KernelTables, nodes};
use crate::monitor::Monitor;
use crate::serve::Server;
use crate::{console, heap, logger, say, traps};
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;
use hotmem::{BlockSize, BootMemory, Geometry, Mm, NodeId, PhysAddr, PhysRange, ZoneKind};
use hotmem_aml::Limits;
use hotmem_arch::current::cpu::{self, Exit, Features};
use hotmem_arch::current::serial::COM1_IRQ;
use hotmem_boot::{BootInfo, Firmware, HandoffError, RangeList};
use spin::Mutex;

/// What `main` leaves for `settled`, which starts on another stack.
static HANDED_ON: Mutex<Option<Handed>> = Mutex::new(None);

struct Handed {
    info: BootInfo,
    options: Options,
    block_size: BlockSize,
    boot: Boot,
}

/// The exit code of a kernel that refuses to start.
const CANNOT_START: u8 = 1;

/// Reports what keeps the kernel from starting, and leaves the machine.
fn give_up(why: fmt::Arguments<'_>) -> ! {
    say!("hotmem: cannot start: {why}");
    cpu::exit(Exit::Code(CANNOT_START))
}

/// Runs on the early stack and the early page tables, with interrupts off.
pub fn main(handoff: Result<BootInfo, HandoffError>) -> ! {
    console::init();
    logger::init();
    heap::init();
    traps::init(None);
    let info = match handoff {
        Ok(info) => info,
        Err(error) => give_up(format_args!("the loader's hand-off is unusable: {error}")),
    };

    let line = info.command_line;
    let options = Options::parse(line.as_bytes(), |word| {
        log::warn!("command line: \"{}\" is no word of this kernel's", word.escape_ascii());
    });
    if line.truncated() {
        log::warn!("command line: cut after {} bytes", line.as_bytes().len());
    }
    log::set_max_level(options.log);
    log::info!("hotmem {}: {} KiB of RAM", env!("CARGO_PKG_VERSION"), info.ram.bytes() >> 10);
    enter_own_space(info, options)
}

/// Continues in [`settled`] on the kernel's own tables and stack.
fn enter_own_space(info: BootInfo, options: Options) -> ! {
    let block_size = match BlockSize::new::<KernelMachine>(options.block_bytes) {
        Ok(block_size) => block_size,
        Err(error) => give_up(format_args!("command line: {error}")),
    };
    let boot = match memory::prepare(&info, &Features::detect(), block_size) {
        Ok(boot) => boot,
        Err(error) => give_up(format_args!("page tables: {error}")),
    };
    let root = boot.tables().root();
    *HANDED_ON.lock() = Some(Handed { info, options, block_size, boot });

    cpu::enable_protection();
    // SAFETY: the tree shows the image where it runs, all of RAM, and the stack, which is nobody's yet.
    // Nothing refers to the early stack any more: what goes on was put into a static.
    unsafe { cpu::switch(root, Stack::Kernel.top(), settled) }
}

/// Runs on the kernel's own stack.
extern "C" fn settled() -> ! {
    let Some(Handed { info, options, block_size, mut boot }) = HANDED_ON.lock().take() else {
        give_up(format_args!("nothing was handed on"))
    };
    boot.settle();
    traps::init(Some(boot.trap_stacks()));

    let Firmware::Acpi(rsdp) = info.firmware;
    let ram = boot.ram;
    let plan = match read_plan(rsdp, boot.tables(), &ram) {
        Ok(plan) => plan,
        Err(error) => give_up(format_args!("firmware tables: {error}")),
    };
    let memory = BootMemory { ram: &plan.ram, block_size, window: &plan.window };
    let mm = match memory::take_over(boot, &memory) {
        Ok(mm) => mm,
        Err(error) => give_up(format_args!("memory: {error}")),
    };
    let source = start_events(rsdp, mm, &ram);
    serve(mm, &options, source)
}

/// What firmware's tables say about memory.
struct MemoryPlan {
    ram: Vec<(PhysRange, NodeId)>,
    window: Vec<PhysRange>,
}

/// The node of a proximity domain; those past what the kernel can tell apart share node 0.
fn node_of(domain: u32) -> NodeId {
    NodeId::new(domain).unwrap_or_else(|| {
        log::warn!("proximity domain {domain} is past the last node, taken as node 0");
        NodeId::default()
    })
}

/// Reads the tables that say where memory is and may come.
fn read_plan(
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

/// Takes over the interrupts and starts ACPI. A machine where that fails can still be looked at.
fn start_events(
    rsdp: PhysAddr,
    mm: &'static Mm<KernelMachine>,
    ram: &RangeList,
) -> (EventSource, Option<Line>) {
    let memory = FirmwareMemory::new(mm.machine().tables(), ram);
    let tables = match Tables::new(&memory, rsdp) {
        Ok(tables) => tables,
        Err(error) => {
            log::error!("firmware tables: {error}");
            return (EventSource::None, None);
        }
    };
    let console_line = take_interrupts(&tables, mm);
    let hardware = KernelHardware::new(mm, cpu::timestamp_hertz());
    match AcpiSource::new(&tables, hardware, &ACPI_LINES, Limits::default()) {
        Ok(source) => (EventSource::Acpi(Box::new(source)), console_line),
        Err(error) => {
            log::error!("no memory hotplug: {error}");
            (EventSource::None, console_line)
        }
    }
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
    // Their registers are written: not where the kernel's own memory is, whatever the table says.
    let mut registers = madt.io_apics().map(|apic| apic.address).chain([madt.local_apic()]);
    if let Some(at) = registers.find(|&at| mm.is_ram(KernelMachine::pfn(at))) {
        log::error!("interrupt controllers: the MADT has one at {at}, which is memory");
        return None;
    }
    let line = madt.isa_line(COM1_IRQ);
    let connected = interrupts::init(&madt, mm.machine().tables())
        .and_then(|()| interrupts::connect(line, Target::Wake));
    if let Err(error) = connected {
        log::error!("console interrupt: {error}");
        return None;
    }
    console::interrupt_on_receive();
    Some(line)
}

/// Arms the events and serves them.
fn serve(
    mm: &'static Mm<KernelMachine>,
    options: &Options,
    (mut source, console_line): (EventSource, Option<Line>),
) -> ! {
    let mut devices = 0;
    if let EventSource::Acpi(acpi) = &mut source {
        for (index, &line) in acpi.lines().iter().enumerate() {
            if let Err(error) = interrupts::connect(line, Target::Acpi(index)) {
                log::error!("acpi: {error}");
            }
        }
        if let Err(error) = acpi.arm() {
            log::error!("no memory hotplug events: {error}");
        }
        devices = acpi.device_count();
        log::info!("acpi: {devices} memory devices");
    }

    let clock = InstructionClock { counts: options.icount };
    let online = options.auto_online.then_some(ZoneKind::Movable);
    let policy = Policy { placement: options.placement, online };
    let Ok(mut hotplug) = Hotplug::new(source, mm, clock, policy) else {
        give_up(format_args!("the kernel heap is too small for the hotplug tables"))
    };
    // What was plugged before is part of the machine that is then ready: an event for each device at
    // the most, so that a source which never falls silent does not keep the monitor away.
    for _ in 0..devices {
        if !hotplug.run_one(&mut Screen) {
            break;
        }
    }
    say!("hotmem: ready");
    Server { hotplug, monitor: Monitor::new(mm), clock, console_line }.run()
}
