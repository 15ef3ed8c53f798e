//! Device interrupts: connected as firmware describes them, recorded by the handler, served by the main loop.
//!
//! ```text
//!   line --> controllers --> trap --> handler: set a flag, mask a level line
//!                                     main loop: serve, unmask
//! ```
//!
//! For devices the handler does nothing else. The handler of the timer, which the lab starts, calls a function that
//! allocates and frees.

// UNSAFETY: maps the interrupt controllers' registers.
#![expect(unsafe_code)]

use crate::cpus::caller;
use crate::lock::Mutex;
use crate::memory::{KernelMachine, Window, tlb};
use alloc::vec::Vec;
use core::fmt;
use hotmem::paging::MapError;
use hotmem::{Geometry, Mm, PhysAddr, PhysRange};
use hotmem_arch::contract::Controllers as _;
use hotmem_arch::current::cpu::Launch;
use hotmem_arch::current::{Controllers, TrapFrame, cpu};
use hotmem_arch::irq::{self, Call, Controller, NoCpu, NoInput, Source, TakeError};
use hotmem_hotplug::{Latch, Line, Polarity, Trigger};

/// The flags that the lines of hotplug events set when they interrupt.
pub static EVENT_LINES: Latch = Latch::new();
/// The flag that a message of a memory device sets.
pub static MEMORY_DEVICES: Latch = Latch::new();
static INTERRUPTS: Mutex<Option<Interrupts>> = Mutex::new(None);

/// The receiver of an interrupt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// The main loop, which checks its inputs once it is awake.
    Wake,
    /// The event source's line with this index.
    Event(usize),
    /// The memory devices.
    Memory,
}

/// The reason why the registers of a controller cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RegisterError {
    /// They could not be mapped.
    Map(MapError),
    /// The range is memory of the kernel.
    Memory,
}

impl fmt::Display for RegisterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Map(error) => error.fmt(f),
            Self::Memory => f.write_str("the range is RAM"),
        }
    }
}

/// The reason why an interrupt could not be connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectError {
    /// The controllers could not be taken over.
    Take(TakeError<RegisterError>),
    /// No controller has an input for the line.
    NoInput(Line),
    /// No slot is left for the line.
    Full(Line),
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Take(error) => error.fmt(f),
            Self::NoInput(line) => write!(f, "no interrupt controller has an input for {line}"),
            Self::Full(line) => write!(f, "no slot for {line}"),
        }
    }
}

/// A line, in the architecture's terms.
fn input(line: Line) -> irq::Line {
    let trigger = match line.trigger {
        Trigger::Edge => irq::Trigger::Edge,
        Trigger::Level => irq::Trigger::Level,
    };
    let polarity = match line.polarity {
        Polarity::ActiveHigh => irq::Polarity::ActiveHigh,
        Polarity::ActiveLow => irq::Polarity::ActiveLow,
    };
    irq::Line { gsi: line.gsi, trigger, polarity }
}

struct Interrupts {
    controllers: Controllers<Window>,
    /// The line of each slot, unless it is a message, and the receiver.
    connected: Vec<(Option<Line>, Target)>,
}

/// Calls `f` with the controllers, with interrupts off, since the handler uses them, too.
fn with<R>(f: impl FnOnce(&mut Interrupts) -> R) -> Option<R> {
    INTERRUPTS.lock().as_mut().map(f)
}

/// Enables the interrupts of other CPUs on this one.
///
/// # Errors
///
/// [`NoCpu`] if there are no controllers, or they cannot address this CPU.
pub(crate) fn join() -> Result<(), NoCpu> {
    with(|interrupts| interrupts.controllers.join()).unwrap_or(Err(NoCpu(0)))
}

/// The firmware's id of the CPU that runs this; `None` without interrupt controllers.
pub(crate) fn own_hardware() -> Option<u64> {
    with(|interrupts| interrupts.controllers.own_hardware())
}

/// Interrupts a CPU. A CPU that panics asks others to stop, and may hold the lock of this one: [`Call::Stop`] does
/// not wait for the lock.
///
/// # Errors
///
/// [`NoCpu`] if the CPU cannot be addressed, or for [`Call::Stop`] while the lock is held.
fn call(hardware: u64, call: Call) -> Result<(), NoCpu> {
    let none = NoCpu(hardware);
    if call == Call::Stop {
        let interrupts = INTERRUPTS.try_lock().ok_or(none)?;
        return interrupts.as_ref().ok_or(none)?.controllers.call(hardware, call);
    }
    with(|interrupts| interrupts.controllers.call(hardware, call)).unwrap_or(Err(none))
}

/// Starts a CPU, which then continues in `launch`.
///
/// # Safety
///
/// Those of [`Controllers::start`](hotmem_arch::contract::Controllers::start).
///
/// # Errors
///
/// [`NoCpu`] if the CPU cannot be addressed.
pub(crate) unsafe fn start(
    hardware: u64,
    landing: Option<PhysAddr>,
    launch: &'static Launch,
) -> Result<(), NoCpu> {
    // SAFETY: by the contract of this function.
    let start = |interrupts: &mut Interrupts| unsafe {
        interrupts.controllers.start(hardware, landing, launch)
    };
    with(start).unwrap_or(Err(NoCpu(hardware)))
}

/// Keeps a CPU away that did not come, if the controllers can do that. Returns whether it never comes any more.
pub(crate) fn reset(hardware: u64) -> bool {
    with(|interrupts| interrupts.controllers.reset(hardware)).unwrap_or(false)
}

/// Maps a controller's registers, unless the range is memory of the kernel, whatever firmware describes.
fn registers(range: PhysRange, mm: &Mm<KernelMachine>) -> Result<Window, RegisterError> {
    let last = range.start().checked_add(range.len().saturating_sub(1)).unwrap_or(range.start());
    let ends = [range.start(), last];
    if ends.iter().any(|&at| mm.is_ram(KernelMachine::pfn(at))) {
        return Err(RegisterError::Memory);
    }
    // SAFETY: firmware's tables say that a controller is there; what is done to it is what
    // controllers are for.
    let window = unsafe { Window::map(range, mm.machine().tables()) };
    window.map_err(RegisterError::Map)
}

/// Takes over the interrupt controllers that firmware describes, with everything masked.
///
/// # Errors
///
/// [`ConnectError::Take`] if their registers cannot be reached, or one is missing.
pub fn init(
    described: impl Iterator<Item = Controller>,
    mm: &Mm<KernelMachine>,
) -> Result<(), ConnectError> {
    let controllers = Controllers::take(described, |range| registers(range, mm));
    let controllers = controllers.map_err(ConnectError::Take)?;
    let interrupts = Interrupts { controllers, connected: Vec::new() };
    *INTERRUPTS.lock() = Some(interrupts);
    caller::set(call);
    Ok(())
}

/// Enables `line`, whose interrupts are reported to `target`.
///
/// # Errors
///
/// [`ConnectError`] if there is no such input, or no slot is left.
pub fn connect(line: Line, target: Target) -> Result<(), ConnectError> {
    with(|interrupts| {
        let slot = interrupts.connected.len();
        if slot >= Controllers::<Window>::SLOTS {
            return Err(ConnectError::Full(line));
        }
        let connected = interrupts.controllers.connect(slot, input(line));
        connected.map_err(|NoInput| ConnectError::NoInput(line))?;
        interrupts.connected.push((Some(line), target));
        Ok(())
    })
    .unwrap_or(Err(ConnectError::NoInput(line)))
}

/// Whether `line` is connected.
#[cfg(acpi)]
pub fn is_connected(line: Line) -> bool {
    let same = |&(other, _): &(Option<Line>, Target)| other.is_some_and(|at| at.gsi == line.gsi);
    with(|interrupts| interrupts.connected.iter().any(same)).unwrap_or(false)
}

/// The message by which devices interrupt, each time they have something to report to `target`; `None` if there are no
/// interrupts by messages, or no slot is left. All devices of a target use the same one.
#[cfg(acpi)]
pub fn message(target: Target) -> Option<irq::Message> {
    with(|interrupts| {
        let known = interrupts.connected.iter();
        let known = known.clone().position(|&(line, to)| line.is_none() && to == target);
        let slot = known.unwrap_or(interrupts.connected.len());
        let message = interrupts.controllers.message(slot);
        let message = message.filter(|_| slot < Controllers::<Window>::SLOTS)?;
        if known.is_none() {
            interrupts.connected.push((None, target));
        }
        Some(message)
    })
    .flatten()
}

/// Called by the trap handler, with interrupts off.
pub(crate) fn handle(frame: &TrapFrame) {
    // After the lock is released: the CPU that sent the request may wait for the lock.
    match serve(frame) {
        Some(Source::Cpu) => tlb::serve(),
        #[cfg(feature = "lab")]
        Some(Source::Timer) => crate::cpus::tick::run(),
        _ => {}
    }
}

/// Claims the interrupt that a trap reports, records it for its receiver, and finishes it. Returns the origin.
fn serve(frame: &TrapFrame) -> Option<Source> {
    let now = cpu::instructions();
    let interrupts = INTERRUPTS.lock();
    let Interrupts { controllers, connected } = interrupts.as_ref()?;
    let claim = controllers.claim(frame)?;
    if let Source::Slot(slot) = claim.from
        && let Some(&(line, target)) = connected.get(slot)
    {
        if let Some(line) = line
            && line.trigger == Trigger::Level
        {
            controllers.set_masked(input(line), true);
        }
        match target {
            Target::Event(index) => EVENT_LINES.raise(index, now),
            Target::Memory => MEMORY_DEVICES.raise(0, now),
            Target::Wake => {}
        }
    }
    controllers.finish(claim);
    Some(claim.from)
}

/// Has the timer of this CPU interrupt it `hertz` times a second, or turns the timer off.
#[cfg(feature = "lab")]
pub(crate) fn set_timer(hertz: Option<u64>) {
    let _ = with(|interrupts| match hertz {
        Some(hertz) => interrupts.controllers.start_timer(hertz),
        None => interrupts.controllers.stop_timer(),
    });
}

/// Unmasks a level-triggered line, now that its cause was served.
pub fn unmask(line: Line) {
    let _ = with(|interrupts| interrupts.controllers.set_masked(input(line), false));
}
