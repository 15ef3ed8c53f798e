//! Device interrupts: connected as firmware says, noted by the handler, served by the main loop.
//!
//! ```text
//!   line --> controllers --> trap --> handler: tell whom it is for, mask a level line
//!                                     main loop: serve, unmask
//! ```
//!
//! Of a device the handler does nothing else. The timer's, which the lab starts, calls a function that allocates and frees.

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

/// What the lines of hotplug events set when they interrupt.
pub static EVENT_LINES: Latch = Latch::new();
static INTERRUPTS: Mutex<Option<Interrupts>> = Mutex::new(None);

/// Whom an interrupt is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// The main loop, which looks by itself once it is awake.
    Wake,
    /// The line of the event source's with this index.
    Event(usize),
}

/// Why the registers of a controller cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RegisterError {
    /// They could not be mapped.
    Map(MapError),
    /// The kernel's own memory is there.
    Memory,
}

impl fmt::Display for RegisterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Map(error) => error.fmt(f),
            Self::Memory => f.write_str("that is memory"),
        }
    }
}

/// Why an interrupt could not be connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectError {
    /// The controllers could not be taken over.
    Take(TakeError<RegisterError>),
    /// No controller has an input for the line.
    NoInput(NoInput),
    /// As many lines as can be told apart are connected.
    Full(Line),
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Take(error) => error.fmt(f),
            Self::NoInput(error) => error.fmt(f),
            Self::Full(line) => write!(f, "{line} is one too many"),
        }
    }
}

/// A line, as the architecture's controllers know it.
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
    /// What each slot is for.
    connected: Vec<(Line, Target)>,
}

/// Runs `f` on the controllers, with interrupts off: the handler uses them too.
fn with<R>(f: impl FnOnce(&mut Interrupts) -> R) -> Option<R> {
    INTERRUPTS.lock().as_mut().map(f)
}

/// Has the interrupts of other CPUs come to this one.
///
/// # Errors
///
/// [`NoCpu`] if there are no controllers, or they have no part for it.
pub(crate) fn join() -> Result<(), NoCpu> {
    with(|interrupts| interrupts.controllers.join()).unwrap_or(Err(NoCpu(0)))
}

/// What firmware calls the CPU that runs; `None` without interrupt controllers.
pub(crate) fn own_hardware() -> Option<u64> {
    with(|interrupts| interrupts.controllers.own_hardware())
}

/// Calls a CPU. One that dies calls others to stop, and may hold the lock of this one: to stop, a CPU is called without a
/// wait for that.
///
/// # Errors
///
/// [`NoCpu`] if it cannot be addressed, or is to stop while the lock is held.
fn call(hardware: u64, call: Call) -> Result<(), NoCpu> {
    let none = NoCpu(hardware);
    if call == Call::Stop {
        let interrupts = INTERRUPTS.try_lock().ok_or(none)?;
        return interrupts.as_ref().ok_or(none)?.controllers.call(hardware, call);
    }
    with(|interrupts| interrupts.controllers.call(hardware, call)).unwrap_or(Err(none))
}

/// Has a CPU begin, on its way to `launch`.
///
/// # Safety
///
/// As for [`Controllers::start`](hotmem_arch::contract::Controllers::start).
///
/// # Errors
///
/// [`NoCpu`] if it cannot be addressed.
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

/// Has a CPU that did not come stay away, where that can be had. Returns whether it never comes any more.
pub(crate) fn reset(hardware: u64) -> bool {
    with(|interrupts| interrupts.controllers.reset(hardware)).unwrap_or(false)
}

/// Maps a controller's registers, unless the kernel's own memory is there, whatever firmware says.
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

/// Lets `line` interrupt, and `target` know of it.
///
/// # Errors
///
/// [`ConnectError`] if there is no such input, or no slot left.
pub fn connect(line: Line, target: Target) -> Result<(), ConnectError> {
    with(|interrupts| {
        let slot = interrupts.connected.len();
        if slot >= Controllers::<Window>::SLOTS {
            return Err(ConnectError::Full(line));
        }
        interrupts.controllers.connect(slot, input(line)).map_err(ConnectError::NoInput)?;
        interrupts.connected.push((line, target));
        Ok(())
    })
    .unwrap_or(Err(ConnectError::NoInput(NoInput(input(line)))))
}

/// Called by the trap handler, with interrupts off.
pub(crate) fn handle(frame: &TrapFrame) {
    // Without the lock: the CPU that asks may wait for it.
    match serve(frame) {
        Some(Source::Cpu) => tlb::serve(),
        #[cfg(feature = "lab")]
        Some(Source::Timer) => crate::cpus::tick::run(),
        _ => {}
    }
}

/// Takes the interrupt that a trap stands for, notes whom it is for, and finishes it. Returns who asked for it.
fn serve(frame: &TrapFrame) -> Option<Source> {
    let now = cpu::instructions();
    let interrupts = INTERRUPTS.lock();
    let Interrupts { controllers, connected } = interrupts.as_ref()?;
    let claim = controllers.claim(frame)?;
    if let Source::Slot(slot) = claim.from
        && let Some(&(line, target)) = connected.get(slot)
    {
        if line.trigger == Trigger::Level {
            controllers.set_masked(input(line), true);
        }
        if let Target::Event(index) = target {
            EVENT_LINES.raise(index, now);
        }
    }
    controllers.finish(claim);
    Some(claim.from)
}

/// Has the timer of this CPU interrupt it so many times in a second, or no more.
#[cfg(feature = "lab")]
pub(crate) fn set_timer(hertz: Option<u64>) {
    let _ = with(|interrupts| match hertz {
        Some(hertz) => interrupts.controllers.start_timer(hertz),
        None => interrupts.controllers.stop_timer(),
    });
}

/// Lets a level-triggered line interrupt again, now that its cause was served.
pub fn unmask(line: Line) {
    let _ = with(|interrupts| interrupts.controllers.set_masked(input(line), false));
}
