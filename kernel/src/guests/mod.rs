//! Guests of this kernel: where they run, and the monitor's commands on them.
//!
//! ```text
//!   one CPU:      main loop: [event, console, a slice of each guest] ...    the timer ends a slice
//!   several CPUs: each virtual CPU is a job of another CPU, which leaves it when it is interrupted
//!   a guest that waits for its timer: the CPU sleeps until then, if it has nothing else to do
//! ```

mod show;

use crate::cpus::table::Entry;
use crate::cpus::work::{self, Job};
use crate::cpus::{caller, idle, table, tick};
use crate::interrupts;
use crate::lock::relax;
use crate::memory::{self, KernelMachine, module};
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use hotmem::{Geometry, NodeId, Order};
use hotmem_arch::contract::{LinuxFiles, Misdeed};
use hotmem_arch::current::{Arch, cpu};
use hotmem_lab::monitor::{CpuError, VmCommand, VmName, VmProgram};
use hotmem_vm::{
    MAX_VCPUS, Name, OwnFiles, Platform, Program, Slice, State, VcpuId, VmError, VmId, Vms, archive,
};
use spin::Once;

/// Pages that an eject examines or moves before guests run again: a batch.
pub(crate) const BUDGET: u64 = 64;

/// How often the timer ends slices, in a second; guests of other CPUs run as long between two steps of an eject.
const SLICES: u64 = 500;

/// How often the timer wakes a CPU at most, in a second: more often, it might do nothing else.
const FASTEST: u64 = 10_000;

/// This kernel, for its guests.
#[derive(Debug)]
pub(crate) struct Hypervisor;

impl Platform for Hypervisor {
    type Guests = Arch;

    fn instructions() -> u64 {
        cpu::instructions()
    }

    fn timestamp() -> u64 {
        cpu::timestamp()
    }

    fn disable_interrupts() {
        cpu::disable_interrupts();
    }

    fn enable_interrupts() {
        cpu::enable_interrupts();
    }

    fn kick(number: usize) {
        if let Some(entry) = table::get(number).filter(|entry| entry.number() != cpu::number()) {
            caller::attend(entry);
        }
    }
}

type KernelVms = Vms<KernelMachine, Hypervisor>;

static VMS: Once<Option<KernelVms>> = Once::new();

/// What guests leave is not cleared.
static LEFT: AtomicBool = AtomicBool::new(false);

/// Has what guests leave cleared, or not.
pub(crate) fn set_scrub(scrub: bool) {
    LEFT.store(!scrub, Ordering::Relaxed);
    if let Some(vms) = known() {
        vms.set_scrub(scrub);
    }
}

/// The guests, whose memory gets its owners with the first call.
fn vms() -> Result<&'static KernelVms, String> {
    let register = || {
        let vms = Vms::register(memory::manager()?);
        if let Ok(vms) = &vms {
            vms.set_scrub(!LEFT.load(Ordering::Relaxed));
        }
        vms.inspect_err(|error| log::error!("guests: {error}")).ok()
    };
    VMS.call_once(register).as_ref().ok_or_else(|| "guests cannot own memory".into())
}

/// The guests, if there ever were any.
fn known() -> Option<&'static KernelVms> {
    VMS.get().and_then(Option::as_ref)
}

/// Whether a guest runs on any CPU.
pub(crate) fn run() -> bool {
    known().is_some_and(Vms::runs)
}

/// The batches of moves after which guests had time.
static PACED: AtomicU64 = AtomicU64::new(0);

/// Sleeps for the time of a slice, if a guest runs on another CPU and memory was moved since the last time. Without
/// this pause an eject would give it no time between two moves. A CPU that polled would take time from the others where
/// CPUs are threads of a busy host, or take turns.
pub(crate) fn let_others_run() {
    let batches = known().map_or(0, Vms::batches);
    if PACED.swap(batches, Ordering::Relaxed) == batches || !run() {
        return;
    }
    let until = cpu::timestamp().saturating_add(cpu::timestamp_hertz() / SLICES);
    // With another use of the timer, or without one, nothing would end the sleep.
    let polls = tick::is_on() || interrupts::own_hardware().is_none();
    set_timer(Some(SLICES));
    while cpu::timestamp() < until {
        if polls {
            relax();
        } else {
            sleep_until(until, || true);
        }
    }
    set_timer(None);
}

/// When the first CPU wakes for a guest whose timer is due then; `u64::MAX` for none.
static DUE: AtomicU64 = AtomicU64::new(u64::MAX);

/// Runs each guest of the first CPU for a slice. Returns whether one of them goes on. If all of them sleep, the timer
/// interrupts when the first of them is [due](is_due).
pub(crate) fn slices() -> bool {
    let slept = DUE.swap(u64::MAX, Ordering::Relaxed) != u64::MAX;
    let Some(vms) = known().filter(|vms| vms.runs_on(cpu::number())) else {
        if slept {
            set_timer(None);
        }
        return false;
    };
    set_timer(Some(SLICES));
    let slice = vms.slices();
    if let Slice::Sleeps(until) = slice {
        // One that sleeps without end sleeps all the same.
        DUE.store(until.min(u64::MAX - 1), Ordering::Relaxed);
        set_timer(Some(hertz_until(until)));
    } else {
        set_timer(None);
    }
    matches!(slice, Slice::More | Slice::Waits)
}

/// Whether a guest of the first CPU must run, though it slept.
pub(crate) fn is_due() -> bool {
    DUE.load(Ordering::Relaxed) <= cpu::timestamp()
}

/// How often in a second the timer interrupts if it does so at `until` the first time, or earlier if that is far away.
fn hertz_until(until: u64) -> u64 {
    let ticks = until.saturating_sub(cpu::timestamp()).max(1);
    cpu::timestamp_hertz().div_ceil(ticks).min(FASTEST)
}

/// Changes the timer of this CPU, unless it has another use.
fn set_timer(hertz: Option<u64>) {
    if !tick::is_on() {
        interrupts::set_timer(hertz);
    }
}

/// Runs a virtual CPU on this CPU until its guest ends or is paused.
fn run_here(at: VcpuId) {
    let Some(vms) = known() else { return };
    let hertz = vms.needs_ticks(at.vm).then_some(SLICES);
    set_timer(hertz);
    loop {
        match vms.slice(at) {
            Slice::Idle => break,
            Slice::Off => sleep_until(u64::MAX, || vms.is_off(at)),
            Slice::Waits => relax(),
            Slice::More => {}
            Slice::Sleeps(until) => {
                set_timer(Some(hertz_until(until)));
                sleep_until(until, || vms.state(at.vm) == State::Runs && !vms.is_woken(at));
                set_timer(hertz);
            }
        }
    }
    set_timer(None);
}

/// Sleeps until an interrupt comes, unless the clock shows `until`, or `wants` does not hold.
fn sleep_until(until: u64, wants: impl FnOnce() -> bool) {
    cpu::disable_interrupts();
    if wants() && cpu::timestamp() < until {
        idle::sleep(table::own());
    } else {
        cpu::enable_interrupts();
    }
}

fn text(error: impl fmt::Display) -> String {
    error.to_string()
}

fn name(word: VmName) -> Result<Name, String> {
    let name = Name::new(word.as_str());
    name.ok_or_else(|| "a name has letters, digits, dots, dashes and underscores".into())
}

/// Carries out a command of the monitor.
///
/// # Errors
///
/// The reason why it is refused.
pub(crate) fn command(command: VmCommand, out: &mut dyn fmt::Write) -> Result<(), String> {
    let vms = vms()?;
    let find = |word| vms.find(name(word)?).map_err(text);
    match command {
        VmCommand::List { json } => {
            let mut list = String::new();
            let show = if json { show::json } else { show::text };
            show(vms.status(), &mut list).map_err(text)?;
            // At once: a CPU that stops a guest writes to the log meanwhile.
            out.write_str(&list).map_err(text)
        }
        VmCommand::Create { name: word, bytes, extent, node, vcpus, program } => {
            let order = order_of(extent)?;
            create(vms, name(word)?, (bytes, order), node, vcpus, program)
        }
        VmCommand::Run { name, rounds, bytes, misdeed } => {
            let misdeed = match misdeed {
                None => Misdeed::None,
                Some(word) => misdeed_of(word)?,
            };
            let id = find(name)?;
            vms.limit_work(id, bytes).map_err(text)?;
            start(vms, id, rounds, misdeed)
        }
        VmCommand::Pause(name) => vms.pause(find(name)?).map_err(text),
        VmCommand::Kill(name) => vms.kill(find(name)?).map_err(text),
        VmCommand::Console { name, from } => {
            let (range, lines) = vms.console(find(name)?, from);
            let mut text_of = String::new();
            show::console(&range, &lines, &mut text_of).map_err(text)?;
            out.write_str(&text_of).map_err(text)
        }
        VmCommand::Type { name, line } => {
            vms.type_line(find(name)?, line.as_str().as_bytes()).map_err(text)
        }
        VmCommand::Log(name) => {
            let mut log = vms.log(find(name)?);
            log.push('\n');
            out.write_str(&log).map_err(text)
        }
        VmCommand::Verify => verify(),
    }
}

/// Checks the invariants of guests.
///
/// # Errors
///
/// The first one that does not hold.
pub(crate) fn verify() -> Result<(), String> {
    known().map_or(Ok(()), Vms::verify).map_err(text)
}

fn create(
    vms: &KernelVms,
    name: Name,
    (bytes, order): (u64, Order),
    node: Option<NodeId>,
    vcpus: u64,
    program: VmProgram,
) -> Result<(), String> {
    let vcpus = usize::try_from(vcpus).unwrap_or(usize::MAX);
    let program = match program {
        VmProgram::Payload => Program::Payload,
        VmProgram::Linux => Program::Linux(linux_files()?),
        VmProgram::Own => Program::Own(own_files()?),
    };
    // One may run on the first CPU, as long as that has time. Several would wait for one another.
    let (needs, has) = (vcpus, table::others().count());
    if (2..=MAX_VCPUS).contains(&needs) && has < needs {
        return Err(text(VmError::Cpus { needs, has }));
    }
    vms.create(name, bytes, order, node, vcpus, &program).map(drop).map_err(text)
}

/// The order of extents of so many bytes.
fn order_of(extent: Option<u64>) -> Result<Order, String> {
    let bytes = extent.unwrap_or(KernelMachine::PAGE_BYTES);
    let order = Order::fitting((bytes / KernelMachine::PAGE_BYTES).max(1));
    if order.pages() * KernelMachine::PAGE_BYTES == bytes {
        return Ok(order);
    }
    let (least, most) = (KernelMachine::PAGE_BYTES, Order::MAX.pages() * KernelMachine::PAGE_BYTES);
    Err(alloc::format!(
        "an extent of {bytes:#x} bytes is not a power of two from {least:#x} to {most:#x} bytes"
    ))
}

/// A file of the archive that this kernel was booted with; `None` if the archive lacks it.
fn file(name: &str) -> Result<Option<&'static [u8]>, String> {
    let module = module::bytes();
    let module = module.ok_or("the kernel was booted without a module (initrdmem=ADDRESS,SIZE)")?;
    Ok(archive::find(module, name))
}

/// The same, of a file that has to be there.
fn needed(name: &str) -> Result<&'static [u8], String> {
    file(name)?
        .ok_or_else(|| alloc::format!("the module has no file {name}, or is not a cpio archive"))
}

/// The files of a Linux guest.
fn linux_files() -> Result<LinuxFiles<'static>, String> {
    let command_line = file("cmdline")?.unwrap_or_default().trim_ascii();
    Ok(LinuxFiles { kernel: needed("kernel")?, initrd: needed("initrd")?, command_line })
}

/// The files of this kernel as a guest.
fn own_files() -> Result<OwnFiles<'static>, String> {
    let words = file("words")?.unwrap_or_default().trim_ascii();
    Ok(OwnFiles { image: needed("image")?, words })
}

/// The misdeed with this name.
fn misdeed_of(word: VmName) -> Result<Misdeed, String> {
    let found = Misdeed::ALL.iter().find(|(name, _)| *name == word.as_str());
    let unknown = || "a misdeed is store, firmware, call, wait, jump, search or emulator".into();
    found.map(|(_, misdeed)| *misdeed).ok_or_else(unknown)
}

/// Starts a guest: each virtual CPU on a CPU that has no job, but not the first one; or on that, if it is the only one
/// of its guest.
fn start(vms: &'static KernelVms, id: VmId, rounds: u64, misdeed: Misdeed) -> Result<(), String> {
    let vcpus = vms.vcpu_count(id);
    let entries = free_cpus(vcpus);
    if entries.is_empty() && vcpus == 1 {
        if interrupts::own_hardware().is_none() {
            return Err("the first CPU has no timer that would end the guest's slices".into());
        }
        return vms.start(id, rounds, misdeed, &[cpu::number()]).map_err(text);
    }
    let numbers: Vec<usize> = entries.iter().map(|entry| entry.number()).collect();
    vms.start(id, rounds, misdeed, &numbers).map_err(text)?;
    for (number, entry) in entries.into_iter().enumerate() {
        let at = VcpuId { vm: id, number };
        let job: Arc<Job> = Arc::new(move || run_here(at));
        if let Err(error) = work::begin_on(entry, job) {
            vms.pause(id).map_err(text)?;
            return Err(text(CpuError::from(error)));
        }
    }
    Ok(())
}

/// CPUs without a job but the first, `count` if there are so many. A CPU whose guest has just ended leaves its job soon.
fn free_cpus(count: usize) -> Vec<&'static Entry> {
    let (begun, ticks) = (cpu::timestamp(), cpu::timestamp_hertz() / work::LEAVES);
    loop {
        let free = table::others().filter(|entry| !work::is_given(entry));
        let free: Vec<_> = free.take(count).collect();
        let waits = count > 1 && cpu::timestamp().wrapping_sub(begun) < ticks;
        if free.len() == count || !waits {
            return free;
        }
        relax();
    }
}
