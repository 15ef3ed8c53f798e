//! Jobs that the first CPU gives to others, through a mailbox for each.

use super::caller;
use super::table::{self, Entry};
use crate::lock::{Mutex, relax};
use crate::memory;
use crate::memory::layout::CPUS;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicUsize, Ordering};
use hotmem::Mm;
use hotmem_arch::current::cpu;

/// Seconds that a job may take.
const TIMEOUT_SECONDS: u64 = 120;

/// A job for a CPU.
pub(crate) type Job = dyn Fn() + Send + Sync;

/// The mailbox of a CPU.
struct Mailbox {
    job: Mutex<Option<Arc<Job>>>,
    /// Jobs that were put in and are not done yet.
    owed: AtomicUsize,
}

static MAILBOXES: [Mailbox; CPUS] =
    [const { Mailbox { job: Mutex::new(None), owed: AtomicUsize::new(0) } }; CPUS];

/// A CPU has not finished its job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NotDone(pub(crate) usize);

fn mailbox(entry: &Entry) -> &'static Mailbox {
    let [first, ..] = &MAILBOXES;
    MAILBOXES.get(entry.number()).unwrap_or(first)
}

/// Whether a CPU has a job.
pub(crate) fn is_given(own: &Entry) -> bool {
    mailbox(own).owed.load(Ordering::Acquire) != 0
}

/// Runs the job of this CPU, if there is one.
pub(super) fn run_given(own: &Entry) {
    let mailbox = mailbox(own);
    let job = mailbox.job.lock().take();
    if let Some(job) = job {
        job();
        drop(job);
        // Before the job counts as done, so that nothing changes while the memory is verified.
        while memory::manager().is_some_and(Mm::zero_ahead) {
            relax();
        }
        // Release: partner of the Acquire in `wait_for_others`, after which all effects of the job are visible.
        mailbox.owed.fetch_sub(1, Ordering::Release);
    }
}

/// Gives a job to a CPU.
///
/// # Errors
///
/// [`NotDone`] if the CPU has a job already.
fn give(entry: &Entry, job: Arc<Job>) -> Result<(), NotDone> {
    let mailbox = mailbox(entry);
    if mailbox.owed.load(Ordering::Acquire) != 0 {
        return Err(NotDone(entry.number()));
    }
    // Counted before the job is put in: a CPU that is awake may run it at once.
    mailbox.owed.fetch_add(1, Ordering::Release);
    *mailbox.job.lock() = Some(job);
    caller::attend(entry);
    Ok(())
}

/// Waits until `is_so` holds for the mailbox of a CPU.
fn wait_until(entry: &Entry, is_so: impl Fn(&Mailbox) -> bool) -> Result<(), NotDone> {
    let begun = cpu::timestamp();
    let ticks = cpu::timestamp_hertz().saturating_mul(TIMEOUT_SECONDS);
    while !is_so(mailbox(entry)) {
        if cpu::timestamp().wrapping_sub(begun) > ticks {
            return Err(NotDone(entry.number()));
        }
        cpu::relax();
    }
    Ok(())
}

/// Gives `job` to every other CPU that is up.
///
/// # Errors
///
/// [`NotDone`] with a CPU that has another job; CPUs with lower numbers have begun.
pub(crate) fn begin_on_others(job: &Arc<Job>) -> Result<(), NotDone> {
    table::others().try_for_each(|entry| give(entry, Arc::clone(job)))
}

/// Waits until the other CPUs have done their jobs.
///
/// # Errors
///
/// [`NotDone`] with a CPU that has not; it may continue with its job.
pub(crate) fn wait_for_others() -> Result<(), NotDone> {
    let is_done = |mailbox: &Mailbox| mailbox.owed.load(Ordering::Acquire) == 0;
    table::others().try_for_each(|entry| wait_until(entry, is_done))
}

/// Gives `job`, which need not end, to the CPU `entry`.
///
/// # Errors
///
/// [`NotDone`] if the CPU has another job.
pub(crate) fn begin_on(entry: &Entry, job: Arc<Job>) -> Result<(), NotDone> {
    if entry.number() == cpu::number() {
        job();
        return Ok(());
    }
    give(entry, job)?;
    wait_until(entry, |mailbox| mailbox.job.lock().is_none())
}

/// Has the CPU `entry` run `job`, and waits until it is done.
///
/// # Errors
///
/// [`NotDone`] if the CPU has another job, or does not end this one in time.
pub(crate) fn run_on(entry: &Entry, job: Arc<Job>) -> Result<(), NotDone> {
    begin_on(entry, job)?;
    wait_until(entry, |mailbox| mailbox.owed.load(Ordering::Acquire) == 0)
}
