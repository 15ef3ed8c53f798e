//! Jobs that several CPUs run at the same time.

use super::cpus::{CpuJob, Did};
use super::usage::{self, UseError};
use crate::movers::{Pool, PoolError, Shared};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::sync::atomic::{AtomicBool, Ordering};
use hotmem::lock::lock_api::Mutex;
use hotmem::{Machine, Mm, Mover, Order, OutOfMemory, Pages, Pfn, Request};

/// The first error of a job that several CPUs run.
pub(super) type Fault<M, E> = Arc<Mutex<<M as Machine>::Lock, Option<E>>>;

/// A job in which each CPU allocates up to `pages` pages of added memory, writes and checks and frees them.
pub(super) fn share<M: Shared>(
    mm: &'static Mm<M>,
    held: &Arc<Mover>,
    pages: u64,
) -> (Arc<CpuJob>, Fault<M, UseError>) {
    let (held, fault) = (Arc::clone(held), Arc::new(Mutex::new(None)));
    let first: Fault<M, UseError> = Arc::clone(&fault);
    let job = move |_: fn()| match usage::share(mm, &held, pages) {
        Ok(pages) => Did { allocated: pages, freed: pages },
        Err(error) => {
            first.lock().get_or_insert(error);
            Did::default()
        }
    };
    (Arc::new(job), fault)
}

/// The result of a CPU that allocates, once it is there.
pub(super) type Allocated<M> =
    Arc<Mutex<<M as Machine>::Lock, Option<Result<Pages<'static, M>, OutOfMemory>>>>;

/// A job that allocates unmovable memory, and its result.
pub(super) fn allocate<M: Shared>(mm: &'static Mm<M>, order: Order) -> (Arc<CpuJob>, Allocated<M>) {
    let found: Allocated<M> = Arc::new(Mutex::new(None));
    let result = Arc::clone(&found);
    let job = move |_: fn()| {
        let pages = mm.alloc(order);
        let allocated = if pages.is_ok() { order.pages() } else { 0 };
        *result.lock() = Some(pages);
        Did { allocated, freed: 0 }
    };
    (Arc::new(job), found)
}

/// The error that a CPU found while it allocated and freed.
#[derive(Clone, Copy, Debug)]
pub(super) enum ChurnError {
    Pool(PoolError),
    /// A page that was requested zeroed holds other content.
    NotZero(Pfn),
}

impl fmt::Display for ChurnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pool(error) => error.fmt(f),
            Self::NotZero(pfn) => write!(f, "{pfn} is not zero as requested"),
        }
    }
}

impl From<PoolError> for ChurnError {
    fn from(error: PoolError) -> Self {
        Self::Pool(error)
    }
}

/// CPUs that allocate and free until they are stopped.
#[derive(Debug)]
pub(super) struct Churning<M: Shared> {
    rests: Arc<AtomicBool>,
    fault: Fault<M, ChurnError>,
}

/// Extents that a CPU which churns holds at most, each of movable and unmovable memory.
const EXTENTS: usize = 16;

impl<M: Shared> Churning<M> {
    /// The job of each of the CPUs, and the value that stops it. With interrupts `masked`, a CPU serves flush requests
    /// only where it waits.
    pub(super) fn new(
        mm: &'static Mm<M>,
        pool: &Arc<Pool<M>>,
        masked: bool,
    ) -> (Arc<CpuJob>, Self) {
        let churning =
            Self { rests: Arc::new(AtomicBool::new(false)), fault: Arc::new(Mutex::new(None)) };
        let (rests, first) = (Arc::clone(&churning.rests), Arc::clone(&churning.fault));
        let pool = Arc::clone(pool);
        let job = move |relax: fn()| {
            let mut did = Did::default();
            // A lock of the kernel disables interrupts while it is held, and no other CPU has this one.
            let mask = Mutex::<M::Lock, ()>::new(());
            let _masked = masked.then(|| mask.lock());
            // At least once, however late it begins.
            loop {
                if let Err(error) = churn(mm, &pool, relax, &mut did) {
                    first.lock().get_or_insert(error);
                    break;
                }
                if rests.load(Ordering::Acquire) {
                    break;
                }
                // QEMU before 8.1 has CPUs take turns under icount, and one that never pauses uses up every turn.
                relax();
            }
            did
        };
        (Arc::new(job), churning)
    }

    /// The job of a CPU that holds `pages` pages of unmovable memory, from when the first CPU sleeps until it is stopped, and
    /// the value that stops it.
    pub(super) fn hold(
        mm: &'static Mm<M>,
        pages: u64,
        first_sleeps: fn() -> bool,
    ) -> (Arc<CpuJob>, Self) {
        let holding =
            Self { rests: Arc::new(AtomicBool::new(false)), fault: Arc::new(Mutex::new(None)) };
        let rests = Arc::clone(&holding.rests);
        let job = move |relax: fn()| {
            let rests = || rests.load(Ordering::Acquire);
            while !first_sleeps() && !rests() {
                relax();
            }
            let (mut held, mut did) = (Vec::new(), Did::default());
            while did.allocated < pages && !rests() && held.try_reserve(1).is_ok() {
                let Ok(extent) = mm.alloc(HELD) else { break };
                did.allocated += extent.order().pages();
                held.push(extent);
            }
            while !rests() {
                relax();
            }
            did.freed = did.allocated;
            did
        };
        (Arc::new(job), holding)
    }

    /// Has the CPUs stop.
    pub(super) fn rest(&self) {
        self.rests.store(true, Ordering::Release);
    }

    /// The first error, once the CPUs are done.
    pub(super) fn fault(&self) -> Option<ChurnError> {
        self.fault.lock().take()
    }
}

/// The extents that a CPU holds: of the largest order that caches have.
const HELD: Order = Order::fitting(8);
/// Extents that a handler holds at most.
const HANDLED: usize = 32;

/// Allocates unmovable memory of orders 0 to 3, and frees it: an interrupt handler may do this.
pub fn allocate_and_free<M: Shared>(mm: &Mm<M>) -> Did {
    let mut extents = [const { None }; HANDLED];
    let mut did = Did::default();
    for (index, extent) in extents.iter_mut().enumerate() {
        let order = Order::new(index as u8 % 4).unwrap_or(Order::ZERO);
        *extent = mm.alloc(order).ok();
        did.allocated += extent.as_ref().map_or(0, |pages| pages.order().pages());
    }
    for pages in extents.into_iter().flatten() {
        did.freed += pages.order().pages();
        drop(pages);
    }
    did
}

/// Allocates unmovable memory and, in part, movable memory, writes and checks and frees it. Every second unmovable
/// extent is requested zeroed.
fn churn<M: Shared>(
    mm: &'static Mm<M>,
    pool: &Pool<M>,
    relax: fn(),
    did: &mut Did,
) -> Result<(), ChurnError> {
    let mut moving = [const { None }; EXTENTS];
    let mut staying = [const { None }; EXTENTS];
    for (index, (moves, stays)) in moving.iter_mut().zip(&mut staying).enumerate() {
        let order = Order::new(index as u8 % 3).unwrap_or(Order::ZERO);
        let request = Request::from(order);
        let zeroed = index % 2 == 0;
        *stays = mm.alloc(if zeroed { request.zeroed() } else { request }).ok();
        *moves = pool.take(order).ok().map(|handle| (handle, order));
        let count = u64::from(stays.is_some()) + u64::from(moves.is_some());
        did.allocated += count * order.pages();
    }
    let mut zeroes = Ok(());
    for (index, pages) in staying.into_iter().enumerate() {
        let Some(pages) = pages else { continue };
        if index % 2 == 0 {
            zeroes = zeroes.and(check_zeroes(&pages));
        }
        scribble(&pages);
        did.freed += pages.order().pages();
    }
    for (handle, order) in moving.into_iter().flatten() {
        // An extent that is being migrated must arrive first.
        loop {
            match pool.release_checked(handle) {
                Err(PoolError::Held(_)) => relax(),
                other => break other?,
            }
        }
        did.freed += order.pages();
    }
    zeroes
}

/// Checks that all words of the pages are zero.
fn check_zeroes<M: Machine>(pages: &Pages<'_, M>) -> Result<(), ChurnError> {
    let is_zero = |page| {
        let mut words = pages.words(page).unwrap_or_default().iter();
        words.all(|word| word.load(Ordering::Relaxed) == 0)
    };
    let dirty = (0..pages.order().pages()).find(|&page| !is_zero(page));
    dirty.map_or(Ok(()), |page| Err(ChurnError::NotZero(pages.pfn().add(page))))
}

/// Writes to each page.
fn scribble<M: Machine>(pages: &Pages<'_, M>) {
    let words = (0..pages.order().pages()).filter_map(|page| pages.words(page)?.last());
    words.for_each(|word| word.store(u64::MAX, Ordering::Relaxed));
}
