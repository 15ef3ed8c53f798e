//! Starts other CPUs.
//!
//! ```text
//!   Absent --> Starting --- the CPU ---> Arriving --- own traps, own interrupts ---> Up
//!                 |------ too late, the one that started it ---> Missing
//!                 \------ refused, or it can never come any more ---> Absent, if it was
//! ```
//!
//! Both sides leave `Starting` by the same exchange: a CPU that comes after the starter gave it up stops at once. A
//! number is free again when its CPU can never come any more: firmware refused the start, or the CPU that did not
//! come was reset. Otherwise the number is kept for this CPU, which uses the launch, the stacks and the area of its
//! number whenever it comes. These are the same for each start, so a number has one launch for any number of starts.

// UNSAFETY: writes the page that a CPU begins in, and identity-maps it.
#![expect(unsafe_code)]

use super::describe::{self, Described, choose};
use super::idle;
use super::table::{self, Entry, NoEntry, State};
use crate::lock::Mutex;
use crate::memory::layout::{CPUS, PAGE, Stack};
use crate::memory::stacks::{self, StackError};
use crate::memory::{KernelMachine, tlb};
use crate::{interrupts, traps};
use alloc::vec::Vec;
use core::cell::Cell;
use core::fmt;
use hotmem::paging::{Attr, Mapping};
use hotmem::{
    Geometry, Mm, Order, OwnMapError, Pages, Pfn, PhysAddr, PhysMem, Request, VirtAddr, VirtRange,
};
use hotmem_arch::current::cpu::{self, LANDING_LIMIT, Launch};
use hotmem_arch::irq::NoCpu;
use spin::Once;

/// The launch of each CPU, by number.
static LAUNCHES: [Once<Launch>; CPUS] = [const { Once::new() }; CPUS];

/// Seconds to wait for a CPU: it takes milliseconds, on a busy host tenths of a second.
const TIMEOUT_SECONDS: u64 = 3;

/// The reason why a CPU did not come up.
#[derive(Clone, Copy, Debug)]
pub(crate) enum StartError {
    /// It runs already, or the kernel has no room for another CPU.
    NoEntry(NoEntry),
    /// It has no stacks.
    Stacks(StackError),
    /// There is no free page that it could begin in.
    NoLanding,
    /// The page that it begins in is not mapped.
    Landing(OwnMapError),
    /// The launch or the landing page cannot be used, for this reason.
    Launch(&'static str),
    /// It cannot be interrupted.
    Unknown(NoCpu),
    /// It did not come.
    Missing,
    /// It came, but was not ready in time.
    Stuck,
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoEntry(error) => error.fmt(f),
            Self::Stacks(error) => error.fmt(f),
            Self::NoLanding => f.write_str("no page of low memory is free"),
            Self::Landing(error) => write!(f, "the landing page is not mapped: {error}"),
            Self::Launch(what) => f.write_str(what),
            Self::Unknown(error) => error.fmt(f),
            Self::Missing => write!(f, "it did not start within {TIMEOUT_SECONDS} s"),
            Self::Stuck => write!(f, "it started, but was not ready within {TIMEOUT_SECONDS} s"),
        }
    }
}

/// Starts the CPUs that firmware describes besides this one. Logs and leaves out each CPU that does not come.
pub(crate) fn start_all(mm: &'static Mm<KernelMachine>, described: Vec<Described>) {
    let described = describe::note(described);
    let Some(own) = interrupts::own_hardware() else { return };
    table::own().identify(own, describe::node_of(own));
    if described.len() < 2 {
        return;
    }
    tlb::join();
    // The page is set aside now, since low memory may be in use when another CPU is started.
    *LANDING.lock() = low_page(mm);
    let (chosen, left_out) = choose(described.iter().copied(), own, CPUS - 1);
    left_out.iter().for_each(|left_out| log::warn!("{left_out}"));
    for hardware in chosen {
        if let Err(error) = start(mm, hardware) {
            log::error!("CPU {hardware:#x} is left out: {error}");
        }
    }
    let up = table::all().filter(|entry| entry.state() == State::Up).count();
    log::info!("cpu: {up} up");
}

/// Starts the CPU with the firmware id `hardware`. Returns its number.
///
/// # Errors
///
/// [`StartError`]
pub(crate) fn start(mm: &'static Mm<KernelMachine>, hardware: u64) -> Result<usize, StartError> {
    let node = describe::node_of(hardware);
    let entry = table::claim(hardware, node).map_err(StartError::NoEntry)?;
    stacks::add(mm, entry.number()).map_err(StartError::Stacks)?;
    let root = mm.machine().tables().root();
    let launch = launch_of(entry, root);
    if LANDING_LIMIT.is_none() {
        begin(entry, None, launch)?;
        return Ok(entry.number());
    }
    // A statement of its own: as part of the next expression, it would hold the lock during the search.
    let kept = LANDING.lock().take();
    let page = kept.or_else(|| low_page(mm)).ok_or(StartError::NoLanding)?;
    let (page, came) = land(mm, entry, page, launch);
    *LANDING.lock() = page;
    came.map(|()| entry.number())
}

/// The launch of a CPU: the kernel's root table is the same for all starts.
fn launch_of(entry: &'static Entry, root: PhysAddr) -> &'static Launch {
    let top = Stack::kernel(entry.number()).top();
    let launch = &LAUNCHES[entry.number()];
    launch.call_once(|| Launch::new(root, top, &entry.area, arrive))
}

/// Starts a CPU and waits for it.
fn begin(
    entry: &'static Entry,
    landing: Option<PhysAddr>,
    launch: &'static Launch,
) -> Result<(), StartError> {
    let hardware = entry.hardware();
    // SAFETY: the launch is this CPU's. A landing page is filled and mapped; it stays so if the CPU has come and is
    // not ready, and if it did not come, the CPU is reset before the page is unmapped.
    let start = || unsafe { interrupts::start(hardware, landing, launch) };
    begin_with(entry, start, wait_until, || interrupts::reset(hardware))
}

/// Has `start` start a CPU, waits for the CPU with `wait`, and has `reset` keep it away if it does not come.
fn begin_with(
    entry: &Entry,
    start: impl FnOnce() -> Result<(), NoCpu>,
    wait: impl Fn(&dyn Fn() -> bool) -> bool,
    reset: impl FnOnce() -> bool,
) -> Result<(), StartError> {
    // Absent or Missing. In the latter case the CPU may still come from an earlier start.
    let before = entry.state();
    entry.set(State::Starting);
    if let Err(error) = start()
        && entry.advance(State::Starting, before)
    {
        return Err(StartError::Unknown(error));
    }
    let came = wait_for(entry, wait);
    if let Err(StartError::Missing) = came
        && reset()
    {
        entry.advance(State::Missing, State::Absent);
    }
    came
}

/// Starts a CPU in `page`. Returns the page, unless a CPU may still be in it.
fn land(
    mm: &'static Mm<KernelMachine>,
    entry: &'static Entry,
    page: Page,
    launch: &'static Launch,
) -> (Option<Page>, Result<(), StartError>) {
    let landing = match Landing::new(mm, page, launch) {
        Ok(landing) => landing,
        Err((page, error)) => return (Some(page), Err(error)),
    };
    let came = begin(entry, Some(landing.at()), launch);
    if let Err(StartError::Stuck) = came {
        landing.keep();
    }
    (landing.unmap(), came)
}

/// Waits until a CPU that was started is up.
fn wait_for(entry: &Entry, wait: impl Fn(&dyn Fn() -> bool) -> bool) -> Result<(), StartError> {
    if wait(&|| !matches!(entry.state(), State::Starting | State::Arriving)) {
        return Ok(());
    }
    if entry.advance(State::Starting, State::Missing) {
        return Err(StartError::Missing);
    }
    // The CPU has come at the last moment.
    if wait(&|| entry.state() == State::Up) { Ok(()) } else { Err(StartError::Stuck) }
}

/// Waits for `what`; returns whether that became true in time.
fn wait_until(what: &dyn Fn() -> bool) -> bool {
    let begun = cpu::timestamp();
    let ticks = cpu::timestamp_hertz().saturating_mul(TIMEOUT_SECONDS);
    while !what() {
        if cpu::timestamp().wrapping_sub(begun) > ticks {
            return false;
        }
        cpu::relax();
    }
    true
}

/// A page of the kernel.
type Page = Pages<'static, KernelMachine>;

/// The page that the next CPU begins in.
static LANDING: Mutex<Option<Page>> = Mutex::new(None);

/// A page that a CPU begins in, mapped executable at its physical address as long as a CPU may be in it, and
/// writable elsewhere.
#[must_use = "a landing page that is dropped stays mapped"]
struct Landing {
    mm: &'static Mm<KernelMachine>,
    page: Page,
    kept: Cell<bool>,
}

impl Landing {
    /// Writes code that leads to `launch` into the page, and maps it.
    fn new(
        mm: &'static Mm<KernelMachine>,
        page: Page,
        launch: &'static Launch,
    ) -> Result<Self, (Page, StartError)> {
        match prepare(mm, &page, launch) {
            Ok(()) => Ok(Self { mm, page, kept: Cell::new(false) }),
            Err(error) => Err((page, error)),
        }
    }

    fn at(&self) -> PhysAddr {
        KernelMachine::address(self.page.pfn())
    }

    /// Keeps the mapping for ever: a CPU may be in the page.
    fn keep(&self) {
        self.kept.set(true);
    }

    /// Unmaps the page, in which no CPU runs any more, unless it is kept. Returns the page, if it can be used again.
    fn unmap(self) -> Option<Page> {
        let range = VirtRange::new(VirtAddr::new(self.at().get()), PAGE).unwrap_or_default();
        if !self.kept.get() {
            // SAFETY: `prepare` mapped the range; no CPU is in it.
            match unsafe { self.mm.unmap_own(range) } {
                Ok(()) => return Some(self.page),
                Err(error) => log::error!("the landing page {range} stays mapped: {error}"),
            }
        }
        let _ = self.page.into_raw();
        None
    }
}

/// Writes code that leads to `launch` into `page`, and identity-maps it.
fn prepare(
    mm: &'static Mm<KernelMachine>,
    page: &Page,
    launch: &'static Launch,
) -> Result<(), StartError> {
    let at = KernelMachine::address(page.pfn());
    let bytes = mm.machine().pointer(at).as_ptr();
    // SAFETY: the page is allocated and only this function uses it; the linear map maps it.
    unsafe { bytes.write_bytes(0, PAGE as usize) };
    // SAFETY: as above, and every byte was just initialised.
    let bytes = unsafe { core::slice::from_raw_parts_mut(bytes, PAGE as usize) };
    cpu::fill_landing(bytes, at, launch).map_err(StartError::Launch)?;
    let virt = VirtAddr::new(at.get());
    let mapping = Mapping { virt, phys: at, len: PAGE, attr: Attr::EXECUTE, max_leaf: PAGE };
    // SAFETY: nothing else is mapped in the lower half, and the page holds the code that was just written.
    unsafe { mm.map_own(&mapping) }.map_err(StartError::Landing)
}

/// A page that a CPU can begin in, other than the first one, so that no pointer into it is null.
fn low_page(mm: &'static Mm<KernelMachine>) -> Option<Page> {
    let limit = LANDING_LIMIT?;
    let request = Request::from(Order::ZERO).below(Pfn::new(limit.get() / PAGE));
    let page = mm.alloc(request).ok()?;
    if page.pfn().get() != 0 {
        return Some(page);
    }
    mm.alloc(request).ok()
}

/// The function in which another CPU continues, on its own stack.
extern "C" fn arrive() -> ! {
    let own = table::own();
    if !own.advance(State::Starting, State::Arriving) {
        cpu::halt();
    }
    traps::init_here(stacks::for_traps(own.number()));
    if let Err(error) = interrupts::join() {
        log::error!("CPU {} cannot be interrupted: {error}", own.number());
        cpu::halt();
    }
    tlb::join();
    own.set(State::Up);
    idle::run(own)
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::cell::Cell;

    /// The state of the number of a CPU after a start, and the result of the start.
    fn after(
        before: State,
        start: impl FnOnce(&Entry) -> Result<(), NoCpu>,
        stays_away: bool,
    ) -> (State, Result<(), &'static str>, bool) {
        let (entry, was_reset) = (Entry::new(1), Cell::new(false));
        entry.set(before);
        let reset = || {
            was_reset.set(true);
            stays_away
        };
        // The wait does not repeat: a state that is not reached at once is never reached.
        let result = begin_with(&entry, || start(&entry), |what| what(), reset);
        let result = result.map_err(|error| match error {
            StartError::Unknown(_) => "unknown",
            StartError::Missing => "missing",
            StartError::Stuck => "stuck",
            _ => "other",
        });
        (entry.state(), result, was_reset.get())
    }

    const NONE: Result<(), NoCpu> = Err(NoCpu(1));

    #[test]
    fn a_number_is_free_again_if_its_cpu_can_never_come_and_kept_otherwise() {
        use State::{Absent, Missing};
        assert_eq!(after(Absent, |_| NONE, true), (Absent, Err("unknown"), false));
        assert_eq!(after(Absent, |_| Ok(()), true), (Absent, Err("missing"), true));
        assert_eq!(after(Absent, |_| Ok(()), false), (Missing, Err("missing"), true));
        // A CPU that was started before may still come, though firmware refuses to start it again.
        assert_eq!(after(Missing, |_| NONE, true), (Missing, Err("unknown"), false));
    }

    #[test]
    fn a_cpu_that_comes_while_firmware_refuses_to_start_it_again_is_up() {
        use State::{Arriving, Missing, Starting, Up};
        let comes = |to| {
            move |entry: &Entry| {
                assert!(entry.advance(Starting, Arriving));
                entry.set(to);
                NONE
            }
        };
        assert_eq!(after(Missing, comes(Up), true), (Up, Ok(()), false));
        assert_eq!(after(Missing, comes(Arriving), true), (Arriving, Err("stuck"), false));
    }
}
