//! The kernel's first functions, and the order in which everything comes up.
//!
//! ```text
//!   main   (early stack, early tables)   console, log, heap, traps --> own page tables
//!   settled (own stack, own tables)      trap stacks, firmware tables, interrupts --> mm --> main loop
//! ```

// UNSAFETY: changes the page tables and the stack under its own feet.
#![expect(unsafe_code)]

use crate::acpi::{Madt, Srat, TableError, Tables};
use crate::cmdline::Options;
use crate::memory::layout::Stack;
use crate::memory::{self, Boot, FirmwareMemory, KernelMachine, nodes};
use crate::{console, heap, interrupts, logger, say, traps};
use alloc::vec::Vec;
use core::fmt;
use hotmem::{BlockSize, BootMemory, Mm, NodeId, PhysRange};
use hotmem_arch::current::cpu::{self, Exit, Features};
use hotmem_boot::{BootInfo, Firmware, HandoffError};
use spin::Mutex;

/// What `main` leaves for `settled`, which starts on another stack.
static HANDED_ON: Mutex<Option<(BootInfo, Options, Boot)>> = Mutex::new(None);

/// Reports what keeps the kernel from starting, and leaves the machine.
fn give_up(why: fmt::Arguments<'_>) -> ! {
    say!("hotmem: cannot start: {why}");
    cpu::exit(Exit::Panic)
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
    let boot = match memory::prepare(&info, &Features::detect(), options.block_bytes) {
        Ok(boot) => boot,
        Err(error) => give_up(format_args!("page tables: {error}")),
    };
    let root = boot.tables().root();
    *HANDED_ON.lock() = Some((info, options, boot));

    cpu::enable_protection();
    // SAFETY: the tree shows the image where it runs, all of RAM, and the stack, which is nobody's yet.
    // Nothing refers to the early stack any more: what goes on was put into a static.
    unsafe { cpu::switch(root, Stack::Kernel.top(), settled) }
}

/// Runs on the kernel's own stack.
extern "C" fn settled() -> ! {
    let Some((info, options, mut boot)) = HANDED_ON.lock().take() else {
        give_up(format_args!("nothing was handed on"))
    };
    boot.settle();
    traps::init(Some(boot.trap_stacks()));

    let plan = match read_firmware(&info, &mut boot) {
        Ok(plan) => plan,
        Err(error) => give_up(format_args!("firmware tables: {error}")),
    };
    let mm = match take_memory(boot, &options, &plan) {
        Ok(mm) => mm,
        Err(error) => give_up(format_args!("memory: {error}")),
    };
    log::info!("{:?}", mm.stats());
    say!("hotmem: ready");
    panic!("end of the road")
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

/// Reads the tables that say where memory and interrupts are, and takes over the interrupts.
fn read_firmware(info: &BootInfo, boot: &mut Boot) -> Result<MemoryPlan, TableError> {
    let Firmware::Acpi(rsdp) = info.firmware;
    let ram = boot.ram;
    let memory = FirmwareMemory::new(boot);
    let tables = Tables::new(&memory, rsdp)?;
    match Madt::find(&tables)? {
        Some(madt) => take_interrupts(&madt, &memory),
        None => log::warn!("no MADT: the kernel runs without interrupts"),
    }

    let srat = Srat::find(&tables)?;
    let affinities: Vec<_> = srat.iter().flat_map(Srat::memory).collect();
    let fixed = affinities.iter().filter(|affinity| !affinity.hot_pluggable);
    let fixed: Vec<_> = fixed.map(|fixed| (fixed.range, node_of(fixed.domain))).collect();
    let window = affinities.iter().filter(|affinity| affinity.hot_pluggable);
    let window = window.map(|affinity| affinity.range).collect();

    Ok(MemoryPlan { ram: nodes::assign(&ram, &fixed), window })
}

/// Takes over the interrupt controllers. A machine on which that fails can still be looked at.
fn take_interrupts(madt: &Madt<'_>, memory: &FirmwareMemory<'_>) {
    let (tables, frames) = memory.mapper();
    if let Err(error) = interrupts::init(madt, tables, frames) {
        log::error!("interrupt controllers: {error}");
    }
}

fn take_memory(
    boot: Boot,
    options: &Options,
    plan: &MemoryPlan,
) -> Result<&'static Mm<KernelMachine>, hotmem::BootError> {
    let block_size = BlockSize::new::<KernelMachine>(options.block_bytes)
        .map_err(hotmem::BootError::Geometry)?;
    let memory = BootMemory { ram: &plan.ram, block_size, window: &plan.window };
    memory::take_over(boot, &memory)
}
