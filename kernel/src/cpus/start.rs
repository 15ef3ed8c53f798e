//! How another CPU comes up.
//!
//! ```text
//!   Starting --- the CPU ---> Arriving --- own traps, own interrupts ---> Up
//!       \------ too late, the one that started it ---> Missing
//! ```
//!
//! Both sides leave `Starting` by the same exchange: a CPU that comes when it was given up stops at once.

// UNSAFETY: writes the page that a CPU begins in, and maps it where it is.
#![expect(unsafe_code)]

use super::describe::{Described, choose};
use super::idle;
use super::table::{self, Entry, State};
use crate::lock::Mutex;
use crate::memory::layout::{CPUS, PAGE, Stack};
use crate::memory::stacks::{self, StackError};
use crate::memory::{KernelMachine, tlb};
use crate::{interrupts, traps};
use alloc::boxed::Box;
use core::cell::Cell;
use core::fmt;
use hotmem::paging::{Attr, Mapping};
use hotmem::{
    Geometry, Mm, Order, OwnMapError, Pages, Pfn, PhysAddr, PhysMem, Request, VirtAddr, VirtRange,
};
use hotmem_arch::current::cpu::{self, LANDING_LIMIT, Launch};
use hotmem_arch::irq::NoCpu;

/// Seconds that a CPU may take to come: it takes milliseconds, on a host with other work tenths of a second.
const PATIENCE: u64 = 3;

/// Why a CPU did not come up.
#[derive(Clone, Copy, Debug)]
pub(crate) enum StartError {
    /// It runs, or there is no room for one more.
    NoRoom,
    /// It has no stacks.
    Stacks(StackError),
    /// There is no page that it could begin in.
    NoLanding,
    /// The page that it begins in is not mapped.
    Landing(OwnMapError),
    /// What is in the way of its start.
    Launch(&'static str),
    /// Nothing reaches it.
    Unknown(NoCpu),
    /// It did not come.
    Missing,
    /// It came, and was not ready in time.
    Stuck,
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoRoom => f.write_str("it runs, or there is no room for one more"),
            Self::Stacks(error) => error.fmt(f),
            Self::NoLanding => f.write_str("no page of low memory is free"),
            Self::Landing(error) => write!(f, "the page that it begins in: {error}"),
            Self::Launch(what) => f.write_str(what),
            Self::Unknown(error) => error.fmt(f),
            Self::Missing => write!(f, "it did not come within {PATIENCE} s"),
            Self::Stuck => write!(f, "it came, and was not ready within {PATIENCE} s"),
        }
    }
}

/// Starts the CPUs that firmware describes beside this one. Each that does not come is named and left out.
pub(crate) fn start_all(mm: &'static Mm<KernelMachine>, described: &[Described]) {
    let Some(own) = interrupts::own_hardware() else { return };
    table::own().set_hardware(own);
    if described.len() < 2 {
        return;
    }
    tlb::join();
    // Low memory may be in use later, when one more is started.
    *LANDING.lock() = low_page(mm);
    let (chosen, left_out) = choose(described.iter().copied(), own, CPUS - 1);
    left_out.iter().for_each(|left_out| log::warn!("{left_out}"));
    for hardware in chosen {
        if let Err(error) = start(mm, hardware) {
            log::error!("CPU {hardware:#x} is left out: {error}");
        }
    }
    let up = table::all().filter(|entry| entry.state() == State::Up).count();
    log::info!("cpu: {up} are up");
}

/// Starts the CPU that firmware calls `hardware`. Returns its number.
///
/// # Errors
///
/// [`StartError`]
pub(crate) fn start(mm: &'static Mm<KernelMachine>, hardware: u64) -> Result<usize, StartError> {
    let entry = table::claim(hardware).ok_or(StartError::NoRoom)?;
    entry.set(State::Missing);
    stacks::add(mm, entry.number()).map_err(StartError::Stacks)?;
    // One that comes too late finds it still.
    let (root, top) = (mm.machine().tables().root(), Stack::kernel(entry.number()).top());
    let launch = Box::leak(Box::new(Launch::new(root, top, &entry.area, arrive)));
    if LANDING_LIMIT.is_none() {
        begin(entry, None, launch)?;
        return Ok(entry.number());
    }
    let page = LANDING.lock().take().or_else(|| low_page(mm)).ok_or(StartError::NoLanding)?;
    let (page, came) = land(mm, entry, page, launch);
    *LANDING.lock() = page;
    came.map(|()| entry.number())
}

/// Starts a CPU and waits for it.
fn begin(
    entry: &'static Entry,
    landing: Option<PhysAddr>,
    launch: &'static Launch,
) -> Result<(), StartError> {
    entry.set(State::Starting);
    // SAFETY: the launch is this CPU's. A landing page is filled and mapped; it stays so if the CPU has come and is
    // not ready, and if it did not come, the CPU is reset before the page is unmapped.
    let started = unsafe { interrupts::start(entry.hardware(), landing, launch) };
    let came = started.map_err(StartError::Unknown).and_then(|()| wait_for(entry));
    if came.is_err() && !matches!(came, Err(StartError::Stuck)) {
        entry.set(State::Missing);
        interrupts::reset(entry.hardware());
    }
    came
}

/// Has a CPU begin in `page`. Returns that, unless something may be there still.
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
fn wait_for(entry: &Entry) -> Result<(), StartError> {
    if wait_until(|| !matches!(entry.state(), State::Starting | State::Arriving)) {
        return Ok(());
    }
    if entry.advance(State::Starting, State::Missing) {
        return Err(StartError::Missing);
    }
    // It has come in the last moment.
    if wait_until(|| entry.state() == State::Up) { Ok(()) } else { Err(StartError::Stuck) }
}

/// Waits for `what`; returns whether that came in time.
fn wait_until(what: impl Fn() -> bool) -> bool {
    let begun = cpu::timestamp();
    let ticks = cpu::timestamp_hertz().saturating_mul(PATIENCE);
    while !what() {
        if cpu::timestamp().wrapping_sub(begun) > ticks {
            return false;
        }
        cpu::relax();
    }
    true
}

/// A page of the kernel's.
type Page = Pages<'static, KernelMachine>;

/// The page that the next CPU begins in.
static LANDING: Mutex<Option<Page>> = Mutex::new(None);

/// A page that a CPU begins in, executable where it is and writable elsewhere, as long as a CPU may be in it.
#[must_use = "a landing page that is dropped stays mapped"]
struct Landing {
    mm: &'static Mm<KernelMachine>,
    page: Page,
    kept: Cell<bool>,
}

impl Landing {
    /// Writes the page, so that it leads to `launch`, and maps it.
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

    /// A CPU may be there for good.
    fn keep(&self) {
        self.kept.set(true);
    }

    /// Nothing runs there any more, unless it is kept. Returns the page, if it can be used again.
    fn unmap(self) -> Option<Page> {
        let range = VirtRange::new(VirtAddr::new(self.at().get()), PAGE).unwrap_or_default();
        if !self.kept.get() {
            // SAFETY: what `prepare` mapped; no CPU is in it.
            match unsafe { self.mm.unmap_own(range) } {
                Ok(()) => return Some(self.page),
                Err(error) => log::error!("the landing page {range} stays mapped: {error}"),
            }
        }
        let _ = self.page.into_raw();
        None
    }
}

/// Has `page` lead to `launch`, and maps it where it is.
fn prepare(
    mm: &'static Mm<KernelMachine>,
    page: &Page,
    launch: &'static Launch,
) -> Result<(), StartError> {
    let at = KernelMachine::address(page.pfn());
    let bytes = mm.machine().pointer(at).as_ptr();
    // SAFETY: the page is allocated and nothing else uses it; the linear map shows it.
    unsafe { bytes.write_bytes(0, PAGE as usize) };
    // SAFETY: as above, and all of it was just initialised.
    let bytes = unsafe { core::slice::from_raw_parts_mut(bytes, PAGE as usize) };
    cpu::fill_landing(bytes, at, launch).map_err(StartError::Launch)?;
    let virt = VirtAddr::new(at.get());
    let mapping = Mapping { virt, phys: at, len: PAGE, attr: Attr::EXECUTE, max_leaf: PAGE };
    // SAFETY: nothing else is mapped in the lower half, and what is there is the code that was just written.
    unsafe { mm.map_own(&mapping) }.map_err(StartError::Landing)
}

/// A page that a CPU can begin in, not the first one: no pointer is null then.
fn low_page(mm: &'static Mm<KernelMachine>) -> Option<Page> {
    let limit = LANDING_LIMIT?;
    let request = Request::from(Order::ZERO).below(Pfn::new(limit.get() / PAGE));
    let page = mm.alloc(request).ok()?;
    if page.pfn().get() != 0 {
        return Some(page);
    }
    mm.alloc(request).ok()
}

/// Where another CPU continues, on its own stack.
extern "C" fn arrive() -> ! {
    let own = table::own();
    if !own.advance(State::Starting, State::Arriving) {
        cpu::halt();
    }
    traps::init_here(stacks::for_traps(own.number()));
    if let Err(error) = interrupts::join() {
        log::error!("CPU {} cannot be called: {error}", own.number());
        cpu::halt();
    }
    tlb::join();
    own.set(State::Up);
    idle::run(own)
}
