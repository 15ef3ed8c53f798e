//! The prompt: input from the console goes to the lab's monitor.

use crate::clock::InstructionClock;
use crate::console::{self, Screen};
use crate::cpus::start;
use crate::cpus::table::{self, Entry, State};
use crate::cpus::tick;
use crate::cpus::work::{self, Job, NotDone};
use crate::firmware::KernelHotplug;
use crate::lock::{self, Mutex};
use crate::memory::KernelMachine;
use crate::memory::steps::{FAULTS, FIRMWARE};
use crate::{guests, heap, interrupts, leave, memory, protection};
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};
use hotmem::{Machine as _, Mm, TooManyOwners, VirtAddr};
use hotmem_arch::current::cpu;
use hotmem_arch::current::probe::probe_read;
use hotmem_hotplug::Clock;
use hotmem_lab::monitor::{
    After, Breach, CpuError, CpuJob, CpuShown, Crash, Did, Edit, Hold, LineEditor, Machinery,
    Monitor, Sites, VmCommand, allocate_and_free,
};

/// The text before a command.
const PROMPT: &str = "hotmem> ";

/// Adds to the counters of this CPU.
fn count(Did { allocated, freed }: Did) {
    let own = table::own();
    own.allocated.fetch_add(allocated, Ordering::Relaxed);
    own.freed.fetch_add(freed, Ordering::Relaxed);
}

/// A job of the monitor, after which the counters of the CPU that ran it are updated.
fn counted(job: &Arc<CpuJob>) -> Arc<Job> {
    let job = Arc::clone(job);
    Arc::new(move || count(job(lock::relax)))
}

/// Whether accesses that fault in a handler return to it: after the first one, the next needs a stack, too.
fn faults_return() -> bool {
    let nowhere = VirtAddr::new(0);
    (0..2).all(|_| probe_read(nowhere).is_err())
}

/// The function that the timer interrupt calls, in its handler.
fn on_tick() {
    if let Some(mm) = memory::manager().filter(|_| faults_return()) {
        debug_assert!(mm.machine().in_handler(), "in_handler is set in a handler");
        count(allocate_and_free(mm));
    }
}

/// The CPU with this number, which has to be up.
fn up(number: usize) -> Result<&'static Entry, CpuError> {
    let up = table::get(number).filter(|entry| entry.state() == State::Up);
    up.ok_or(CpuError::NotUp(number))
}

impl From<NotDone> for CpuError {
    fn from(NotDone { cpu, why }: NotDone) -> Self {
        Self::NotDone(cpu, why.text())
    }
}

impl Machinery for InstructionClock {
    fn instructions(&self) -> Option<u64> {
        Clock::instructions(self)
    }

    fn holds(&self) -> Option<Vec<Hold>> {
        #[cfg(feature = "holds")]
        return Some(crate::holds::longest().collect());
        #[cfg(not(feature = "holds"))]
        None
    }

    fn age(&self, stamp: u64) -> u64 {
        let ticks = cpu::timestamp().wrapping_sub(stamp);
        ticks / (cpu::timestamp_hertz() / 1000).max(1)
    }

    fn mode(&self) -> impl fmt::Display {
        cpu::mode()
    }

    fn peek(&self, at: VirtAddr) -> Option<u64> {
        probe_read(at).ok()
    }

    fn peek_on(&self, number: usize, at: VirtAddr) -> Result<Option<u64>, CpuError> {
        let entry = up(number)?;
        let word = Arc::new(Mutex::new(None));
        let read = Arc::clone(&word);
        let job = Arc::new(move || *read.lock() = probe_read(at).ok());
        work::run_on(entry, job)?;
        let word = *word.lock();
        Ok(word)
    }

    fn heap(&self) -> (u64, u64) {
        let (used, free) = heap::usage();
        (used as u64, free as u64)
    }

    fn try_protection(&self) -> Result<(), Breach> {
        protection::check()
    }

    fn cpus(&self) -> impl Iterator<Item = CpuShown> {
        let per_millisecond = (cpu::timestamp_hertz() / 1000).max(1);
        table::all().map(move |entry| {
            let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
            CpuShown {
                number: entry.number(),
                hardware: entry.hardware(),
                node: entry.node(),
                state: entry.state().name(),
                did: Did { allocated: read(&entry.allocated), freed: read(&entry.freed) },
                flushes: read(&entry.flushes),
                idle: read(&entry.idle) / per_millisecond,
                ticks: read(&entry.ticks),
            }
        })
    }

    fn begin_on_others(&self, job: &Arc<CpuJob>) -> Result<(), CpuError> {
        Ok(work::begin_on_others(&counted(job))?)
    }

    fn first_sleeps() -> bool {
        table::get(0).is_some_and(|first| first.sleeps.load(Ordering::Acquire))
    }

    fn do_here(&self, job: &CpuJob) {
        count(job(lock::relax));
    }

    fn do_on(&self, number: usize, job: &Arc<CpuJob>) -> Result<(), CpuError> {
        Ok(work::run_on(up(number)?, counted(job))?)
    }

    fn wait_for_others(&self) -> Result<(), CpuError> {
        Ok(work::wait_for_others()?)
    }

    fn tick(&self, hertz: Option<u64>) -> Result<(), CpuError> {
        Ok(tick::set_all(hertz, on_tick, interrupts::set_timer)?)
    }

    fn start_cpu(&self, hardware: u64) -> Result<usize, CpuError> {
        let not_started = |why: String| CpuError::NotStarted(hardware, why);
        let mm = memory::manager().ok_or_else(|| not_started("no memory".into()))?;
        start::start(mm, hardware).map_err(|error| not_started(error.to_string()))
    }

    fn vm(&self, command: VmCommand, out: &mut dyn fmt::Write) -> Result<(), String> {
        guests::command(command, out)
    }

    fn verify_guests(&self) -> Result<(), String> {
        guests::verify()
    }

    fn crash(&self, crash: Crash, cpu: usize) -> Result<(), CpuError> {
        let job = Arc::new(move || protection::crash(crash));
        Ok(work::begin_on(up(cpu)?, job)?)
    }
}

/// The monitor, and the line that is being typed.
#[derive(Debug)]
pub(crate) struct Prompt {
    monitor: Monitor<'static, KernelMachine>,
    editor: LineEditor,
}

impl Prompt {
    /// An empty line.
    ///
    /// # Errors
    ///
    /// [`TooManyOwners`] if the monitor cannot own movable pages.
    pub(crate) fn new(mm: &'static Mm<KernelMachine>) -> Result<Self, TooManyOwners> {
        Ok(Self {
            monitor: Monitor::new(mm, Sites { steps: &FAULTS, firmware: &FIRMWARE })?,
            editor: LineEditor::new(),
        })
    }

    /// Shows the prompt, with the text typed so far.
    pub(crate) fn show(&self) {
        console::prompt(PROMPT, self.editor.text());
    }

    /// Takes a typed byte; the end of a line runs its command.
    pub(crate) fn take(&mut self, byte: u8, hotplug: &mut KernelHotplug, clock: &InstructionClock) {
        match self.editor.push(byte) {
            Edit::Nothing => {}
            Edit::Added { line, text } => console::typed(PROMPT, line, text),
            Edit::Erased { line, characters } => console::erased(PROMPT, line, characters),
            Edit::Line(line) => {
                console::end_of_input(PROMPT, line.unwrap_or_default());
                let after = match line {
                    Ok(line) => self.monitor.run(line, hotplug, clock, &mut Screen),
                    Err(error) => {
                        console::line(format_args!("error: {error}"));
                        After::Prompt
                    }
                };
                if let After::Exit(code) = after {
                    leave::with(code);
                }
            }
        }
    }
}
