//! Guests of this kernel: where they run, and the monitor's commands on them.
//!
//! ```text
//!   one CPU:      main loop: [event, console, a slice of each guest] ...    the timer ends a slice
//!   several CPUs: each guest is a job of another CPU, which leaves it when it is interrupted
//! ```

mod show;

use crate::cpus::work::{self, Job, NotDone};
use crate::cpus::{caller, table, tick};
use crate::interrupts;
use crate::lock::relax;
use crate::memory::{self, KernelMachine};
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use core::fmt;
use hotmem::{NodeId, Order};
use hotmem_arch::contract::Misdeed;
use hotmem_arch::current::{Arch, cpu};
use hotmem_lab::monitor::{CpuError, VmCommand, VmName};
use hotmem_vm::{Name, Platform, Slice, VmId, Vms};
use spin::Once;

/// Pages that an eject examines or moves before guests run again: a batch.
pub(crate) const BUDGET: u64 = 64;

/// How often the timer ends slices, in a second; guests of other CPUs run as long between two steps of an eject.
const SLICES: u64 = 500;

/// This kernel, for its guests.
#[derive(Debug)]
pub(crate) struct Hypervisor;

impl Platform for Hypervisor {
    type Guests = Arch;

    fn instructions() -> u64 {
        cpu::instructions()
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

/// The guests, whose memory gets its owners with the first call.
fn vms() -> Result<&'static KernelVms, String> {
    let register = || {
        let vms = Vms::register(memory::manager()?);
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

/// Waits for the time of a slice, if a guest runs on another CPU. Without this pause an eject would give it no time
/// between two moves.
pub(crate) fn let_others_run() {
    if !run() {
        return;
    }
    let begun = cpu::timestamp();
    while cpu::timestamp().wrapping_sub(begun) < cpu::timestamp_hertz() / SLICES {
        relax();
    }
}

/// Runs each guest of this CPU for a slice. Returns whether there is one.
pub(crate) fn slices() -> bool {
    let Some(vms) = known().filter(|vms| vms.runs_on(cpu::number())) else { return false };
    let has_timer = tick::is_on();
    if !has_timer {
        interrupts::set_timer(Some(SLICES));
    }
    let any = vms.slices();
    if !has_timer {
        interrupts::set_timer(None);
    }
    any
}

/// Runs a guest on this CPU until it ends or is paused.
fn run_here(id: VmId) {
    let Some(vms) = known() else { return };
    loop {
        match vms.slice(id) {
            Slice::Idle => return,
            Slice::Waits => relax(),
            Slice::More => {}
        }
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
        VmCommand::Create { name: word, bytes, node } => create(vms, name(word)?, bytes, node),
        VmCommand::Run { name, rounds, misdeed } => {
            let misdeed = match misdeed {
                None => Misdeed::None,
                Some(word) => misdeed_of(word)?,
            };
            start(vms, find(name)?, rounds, misdeed)
        }
        VmCommand::Pause(name) => vms.pause(find(name)?).map_err(text),
        VmCommand::Kill(name) => vms.kill(find(name)?).map_err(text),
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

fn create(vms: &KernelVms, name: Name, bytes: u64, node: Option<NodeId>) -> Result<(), String> {
    vms.create(name, bytes, Order::ZERO, node).map(drop).map_err(text)
}

/// The misdeed with this name.
fn misdeed_of(word: VmName) -> Result<Misdeed, String> {
    let found = Misdeed::ALL.iter().find(|(name, _)| *name == word.as_str());
    let unknown = || "a misdeed is store, firmware, call, wait or jump".into();
    found.map(|(_, misdeed)| *misdeed).ok_or_else(unknown)
}

/// Starts a guest on another CPU that has no job, or on this one.
fn start(vms: &'static KernelVms, id: VmId, rounds: u64, misdeed: Misdeed) -> Result<(), String> {
    if let Some(entry) = table::others().find(|entry| !work::is_given(entry)) {
        vms.start(id, rounds, misdeed, entry.number()).map_err(text)?;
        let job: Arc<Job> = Arc::new(move || run_here(id));
        return work::begin_on(entry, job).or_else(|NotDone(cpu)| {
            vms.pause(id).map_err(text)?;
            Err(text(CpuError::NotDone(cpu)))
        });
    }
    if interrupts::own_hardware().is_none() {
        return Err("the first CPU has no timer that would end the guest's slices".into());
    }
    vms.start(id, rounds, misdeed, cpu::number()).map_err(text)
}
