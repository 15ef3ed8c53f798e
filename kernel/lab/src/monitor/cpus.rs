//! The machine's CPUs: what they did, and what they do together.

use super::usage::{self, UseError};
use crate::movers::{Pool, PoolError, Shared};
use alloc::string::String;
use alloc::sync::Arc;
use core::fmt::{self, Write};
use core::sync::atomic::{AtomicBool, Ordering};
use hotmem::lock::lock_api::Mutex;
use hotmem::{Mm, Mover, Order};
use hotmem_hotplug::JsonString;

/// What is shown of a CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpuShown {
    /// The kernel's number of it.
    pub number: usize,
    /// What firmware calls it.
    pub hardware: u64,
    /// How far it has come.
    pub state: &'static str,
    /// Pages that it allocated, and that it freed.
    pub did: Did,
    /// Requests of other CPUs to drop translations that it answered.
    pub flushes: u64,
    /// Milliseconds that it slept.
    pub idle: u64,
}

/// What a CPU did with pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Did {
    /// Pages that it allocated.
    pub allocated: u64,
    /// Pages that it freed.
    pub freed: u64,
}

/// What several CPUs do at the same time. It is given one turn of a wait for another CPU.
pub type CpuJob = dyn Fn(fn()) -> Did + Send + Sync;

/// What a CPU is told to do, beside jobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CpusCommand {
    /// Show all of them.
    Show {
        /// As JSON.
        json: bool,
    },
    /// Start the one that firmware calls so.
    Start(u64),
    /// Have all but the first allocate and free without end.
    Churn,
    /// Have them end that.
    Rest,
}

/// Why a CPU did not do what it was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CpuError {
    /// It is not done in time.
    NotDone(usize),
    /// None of this number is up.
    NotUp(usize),
    /// It did not start, and why.
    NotStarted(u64, String),
}

impl fmt::Display for CpuError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotDone(number) => write!(f, "CPU {number} is not done with its job in time"),
            Self::NotUp(number) => write!(f, "no CPU {number} is up"),
            Self::NotStarted(hardware, why) => write!(f, "CPU {hardware:#x}: {why}"),
        }
    }
}

/// The first fault of a job that several CPUs do.
pub(super) type Fault<M, E> = Arc<Mutex<<M as hotmem::Machine>::Lock, Option<E>>>;

/// A job in which each CPU allocates up to `pages` pages of added memory, writes and checks and frees them.
pub(super) fn share<M: Shared>(
    mm: &'static Mm<M>,
    held: &Arc<Mover>,
    pages: u64,
) -> (Arc<CpuJob>, Fault<M, UseError>) {
    let (held, fault) = (Arc::clone(held), Arc::new(Mutex::new(None)));
    let told: Fault<M, UseError> = Arc::clone(&fault);
    let job = move |_: fn()| match usage::share(mm, &held, pages) {
        Ok(pages) => Did { allocated: pages, freed: pages },
        Err(error) => {
            told.lock().get_or_insert(error);
            Did::default()
        }
    };
    (Arc::new(job), fault)
}

/// CPUs that allocate and free without end.
#[derive(Debug)]
pub(super) struct Churning<M: Shared> {
    rests: Arc<AtomicBool>,
    fault: Fault<M, PoolError>,
}

/// Extents that a CPU that churns has at the most, each of movable and other memory.
const EXTENTS: usize = 16;

impl<M: Shared> Churning<M> {
    /// The job of each of the CPUs, and how it is ended.
    pub(super) fn new(mm: &'static Mm<M>, pool: &Arc<Pool<M>>) -> (Arc<CpuJob>, Self) {
        let churning =
            Self { rests: Arc::new(AtomicBool::new(false)), fault: Arc::new(Mutex::new(None)) };
        let (rests, told) = (Arc::clone(&churning.rests), Arc::clone(&churning.fault));
        let pool = Arc::clone(pool);
        let job = move |relax: fn()| {
            let mut did = Did::default();
            // Once at least, however late it begins.
            loop {
                if let Err(error) = churn(mm, &pool, relax, &mut did) {
                    told.lock().get_or_insert(error);
                    break;
                }
                if rests.load(Ordering::Acquire) {
                    break;
                }
            }
            did
        };
        (Arc::new(job), churning)
    }

    /// Has the CPUs end it.
    pub(super) fn rest(&self) {
        self.rests.store(true, Ordering::Release);
    }

    /// What went wrong, once the CPUs are done.
    pub(super) fn fault(&self) -> Option<PoolError> {
        self.fault.lock().take()
    }
}

/// Allocates memory that stays and memory that moves, some of it, writes and checks and frees it.
fn churn<M: Shared>(
    mm: &'static Mm<M>,
    pool: &Pool<M>,
    relax: fn(),
    did: &mut Did,
) -> Result<(), PoolError> {
    let mut moving = [const { None }; EXTENTS];
    let mut staying = [const { None }; EXTENTS];
    for (index, (moves, stays)) in moving.iter_mut().zip(&mut staying).enumerate() {
        let order = Order::new(index as u8 % 3).unwrap_or(Order::ZERO);
        *stays = mm.alloc(order).ok();
        *moves = pool.take(order).ok().map(|handle| (handle, order));
        let count = u64::from(stays.is_some()) + u64::from(moves.is_some());
        did.allocated += count * order.pages();
    }
    for pages in staying.into_iter().flatten() {
        did.freed += pages.order().pages();
        drop(pages);
    }
    for (handle, order) in moving.into_iter().flatten() {
        // One that is being moved right now has to get there first.
        loop {
            match pool.release_checked(handle) {
                Err(PoolError::Held(_)) => relax(),
                other => break other?,
            }
        }
        did.freed += order.pages();
    }
    Ok(())
}

/// The CPUs as one line of JSON: a list.
pub(super) fn json(cpus: impl Iterator<Item = CpuShown>, out: &mut dyn Write) -> fmt::Result {
    let mut comma = "[";
    for CpuShown { number, hardware, state, did, flushes, idle } in cpus {
        write!(
            out,
            "{comma}{{\"number\":{number},\"hardware\":{hardware},\"state\":{},\"allocated\":{},\
             \"freed\":{},\"flushes\":{flushes},\"idle_ms\":{idle}}}",
            JsonString(state),
            did.allocated,
            did.freed,
        )?;
        comma = ",";
    }
    writeln!(out, "{}]", if comma == "[" { "[" } else { "" })
}

/// The CPUs, for people.
pub(super) fn text(cpus: impl Iterator<Item = CpuShown>, out: &mut dyn Write) -> fmt::Result {
    writeln!(
        out,
        "{:>3}  {:<10} {:<8} {:>10} {:>10} {:>8} {:>10}",
        "cpu", "hardware", "state", "allocated", "freed", "flushes", "idle"
    )?;
    for CpuShown { number, hardware, state, did, flushes, idle } in cpus {
        writeln!(
            out,
            "{number:>3}  {hardware:<#10x} {state:<8} {:>10} {:>10} {flushes:>8} {idle:>7} ms",
            did.allocated, did.freed
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHOWN: CpuShown = CpuShown {
        number: 1,
        hardware: 0x81,
        state: "up",
        did: Did { allocated: 5, freed: 4 },
        flushes: 3,
        idle: 2,
    };

    #[test]
    fn a_cpu_is_shown_with_what_it_did() {
        let mut shown = String::new();
        json([SHOWN, SHOWN].into_iter(), &mut shown).unwrap();
        let one = "{\"number\":1,\"hardware\":129,\"state\":\"up\",\"allocated\":5,\"freed\":4,\
                   \"flushes\":3,\"idle_ms\":2}";
        assert_eq!(shown, format!("[{one},{one}]\n"));
        let mut shown = String::new();
        json(core::iter::empty(), &mut shown).unwrap();
        assert_eq!(shown, "[]\n");
        let mut shown = String::new();
        text([SHOWN].into_iter(), &mut shown).unwrap();
        let line = "  1  0x81       up                5          4        3       2 ms";
        assert_eq!(shown.lines().nth(1), Some(line));
    }
}
