//! The kernel's first functions, and the order of initialisation.
//!
//! ```text
//!   main   (early stack, early tables)   console, log, heap, traps --> own page tables
//!   settled (own stack, own tables)      trap stacks, firmware tables, interrupts --> mm --> main loop
//! ```

// UNSAFETY: changes the page tables and the stack that are in use.
#![expect(unsafe_code)]

use crate::clock::InstructionClock;
use crate::cmdline::{Options, Scrub};
use crate::console::Screen;
use crate::cpus::{self, table};
use crate::firmware::{self, Events};
#[cfg(feature = "lab")]
use crate::guests;
use crate::lock::Mutex;
use crate::memory::distances;
use crate::memory::layout::Stack;
use crate::memory::{self, Boot, KernelMachine};
use crate::serve::Server;
use crate::{clock, console, heap, leave, logger, nmi, say, traps};
use core::{fmt, mem};
use hotmem::{BlockSize, BootMemory, Mm};
use hotmem_arch::current::cpu;
use hotmem_arch::machine_info::MachineInfo;
use hotmem_boot::ranges::CAPACITY;
use hotmem_boot::{BootInfo, HandoffError, exits};
use hotmem_hotplug::{Growth, Hotplug, Policy};

/// The state that `main` passes to `settled`, which starts on another stack.
static HANDED_ON: Mutex<Option<Handed>> = Mutex::new(None);

struct Handed {
    info: BootInfo,
    options: Options,
    block_size: BlockSize,
    boot: Boot,
}

/// The exit code of a kernel that refuses to start.
const CANNOT_START: u8 = 1;

/// Reports the reason why the kernel cannot start, and leaves the machine.
fn give_up(why: fmt::Arguments<'_>) -> ! {
    say!("hotmem: cannot start: {why}");
    leave::with(CANNOT_START)
}

/// Runs on the early stack and the early page tables, with interrupts off.
pub fn main(handoff: Result<BootInfo, HandoffError>) -> ! {
    table::enter_first();
    clock::note_start();
    let exits = exits::noted();
    let (power_off, os_term) = (exits.power_off, exits.os_term);
    MachineInfo { power_off, os_term, ..MachineInfo::default() }.note();
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
        log::warn!("command line: unknown option \"{}\"", word.escape_ascii());
    });
    if line.truncated() {
        log::warn!("command line: cut after {} bytes", line.as_bytes().len());
    }
    log::set_max_level(options.log);
    nmi::set_panics(options.nmi_panics);
    log::info!("hotmem {}: {} KiB of RAM", env!("CARGO_PKG_VERSION"), info.ram.bytes() >> 10);
    log_left_out(&info);
    enter_own_space(info, options)
}

/// Logs the memory that firmware describes and the kernel does not use.
fn log_left_out(info: &BootInfo) {
    let left_out = &info.left_out;
    if info.ram.dropped() != 0 {
        let kib = info.ram.dropped() >> 10;
        log::warn!("{kib} KiB of RAM are left unused: more than {CAPACITY} separate ranges");
    }
    if left_out.hotpluggable != 0 {
        let kib = left_out.hotpluggable >> 10;
        log::warn!("{kib} KiB of memory are marked hotpluggable: the kernel does not use them");
    }
    if left_out.unplaced != 0 {
        let (count, first) = (left_out.unplaced, left_out.first_unplaced);
        log::warn!(
            "reserved-memory: {count} entries without an address are ignored, the first is {first:?}"
        );
    }
}

/// Continues in [`settled`] on the kernel's own tables and stack.
fn enter_own_space(info: BootInfo, options: Options) -> ! {
    let block_size = match BlockSize::new::<KernelMachine>(options.block_bytes) {
        Ok(block_size) => block_size,
        Err(error) => give_up(format_args!("command line: {error}")),
    };
    let features = cpu::features();
    if let Some(what) = features.missing {
        give_up(format_args!("this CPU does not have {what}"));
    }
    let boot =
        match memory::prepare(&info, &features, block_size, options.kernelcore, options.module) {
            Ok(boot) => boot,
            Err(error) => give_up(format_args!("page tables: {error}")),
        };
    let root = boot.tables().root();
    *HANDED_ON.lock() = Some(Handed { info, options, block_size, boot });

    cpu::set_up();
    // SAFETY: the tree maps the image at its address, all of RAM, and the stack, which is not in use yet. Nothing
    // refers to the early stack any more: `settled` finds its state in a static.
    unsafe { cpu::switch(root, Stack::kernel(0).top(), settled) }
}

/// Runs on the kernel's own stack.
extern "C" fn settled() -> ! {
    let Some(Handed { info, options, block_size, mut boot }) = HANDED_ON.lock().take() else {
        give_up(format_args!("`main` left no state"))
    };
    boot.settle();
    traps::init(Some(boot.trap_stacks()));
    log::info!("cpu: {}", cpu::mode());

    let ram = boot.ram;
    let plan = match firmware::plan(info.firmware, boot.tables(), &ram) {
        Ok(plan) => plan,
        Err(error) => give_up(format_args!("firmware tables: {error}")),
    };
    distances::set(plan.distances);
    let kernelcore = options.kernelcore;
    let memory = BootMemory { ram: &plan.ram, block_size, window: &plan.window, kernelcore };
    let mm = match memory::take_over(boot, &memory) {
        Ok(mm) => mm,
        Err(error) => give_up(format_args!("memory: {error}")),
    };
    let mut events = firmware::events(info.firmware, mm, &ram);
    set_clock();
    cpus::start::start_all(mm, mem::take(&mut events.cpus));
    serve(mm, &options, events)
}

/// Has the log use the clock, whose frequency firmware's tables may have given.
fn set_clock() {
    logger::set_clock();
    if !cpu::timestamp_is_known() {
        let hertz = cpu::timestamp_hertz();
        log::warn!("clock: unknown frequency: {hertz} Hz and all times are guesses");
    }
}

/// Arms the events and serves them.
fn serve(
    mm: &'static Mm<KernelMachine>,
    options: &Options,
    Events { mut source, console_line, .. }: Events,
) -> ! {
    let devices = firmware::arm(&mut source);
    let clock = InstructionClock { counts: options.icount };
    mm.set_auto_online(options.policy);
    mm.set_self_hosting(options.self_hosting);
    mm.set_whole_blocks(options.whole_blocks);
    let policy = Policy { placement: options.placement };
    let Ok(mut hotplug) = Hotplug::new(source, mm, clock, policy) else {
        give_up(format_args!("the kernel heap is too small for the hotplug tables"))
    };
    if options.growth != Growth::default()
        && let Err(error) = hotplug.set_growth(options.growth)
    {
        log::error!("virtio_mem={}: {error}", options.growth);
    }
    hotplug.set_budget(options.budget);
    hotplug.set_scrub(options.scrub == Scrub::All);
    #[cfg(feature = "lab")]
    guests::set_scrub(options.scrub != Scrub::Off);
    // Memory that was plugged before is part of the machine when it becomes ready: at most one event for each
    // device, so that a source which is never silent does not delay the monitor for ever.
    for _ in 0..devices {
        if !hotplug.run_one(&mut Screen) {
            break;
        }
    }
    if options.icount {
        say!("hotmem: boot took {} instructions", clock::since_start());
    }
    say!("hotmem: ready");
    #[cfg(feature = "lab")]
    let prompt = match crate::prompt::Prompt::new(mm) {
        Ok(prompt) => prompt,
        Err(error) => give_up(format_args!("monitor: {error}")),
    };
    Server {
        mm,
        hotplug,
        budget: options.budget,
        #[cfg(feature = "lab")]
        prompt,
        #[cfg(feature = "lab")]
        clock,
        console_line,
    }
    .run()
}
