//! Jobs that the first CPU gives to others: a mailbox for each.

use super::caller;
use super::table::{self, Entry};
use crate::lock::Mutex;
use crate::memory;
use crate::memory::layout::CPUS;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicUsize, Ordering};
use hotmem::Mm;
use hotmem_arch::current::cpu;

/// Seconds that a job may take.
const PATIENCE: u64 = 120;

/// What a CPU is told to do.
pub(crate) type Job = dyn Fn() + Send + Sync;

/// The mailbox of a CPU.
struct Mailbox {
    job: Mutex<Option<Arc<Job>>>,
    /// Jobs that were put in and are not done.
    owed: AtomicUsize,
}

static MAILBOXES: [Mailbox; CPUS] =
    [const { Mailbox { job: Mutex::new(None), owed: AtomicUsize::new(0) } }; CPUS];

/// A CPU is not done with what it was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NotDone(pub(crate) usize);

fn mailbox(entry: &Entry) -> &'static Mailbox {
    let [first, ..] = &MAILBOXES;
    MAILBOXES.get(entry.number()).unwrap_or(first)
}

/// Whether there is a job for this CPU.
pub(super) fn is_given(own: &Entry) -> bool {
    mailbox(own).owed.load(Ordering::Acquire) != 0
}

/// Runs the job of this CPU, if there is one.
pub(super) fn run_given(own: &Entry) {
    let mailbox = mailbox(own);
    let job = mailbox.job.lock().take();
    if let Some(job) = job {
        job();
        drop(job);
        // Before it says that it is done: so nothing changes while memory is checked.
        while memory::manager().is_some_and(Mm::zero_ahead) {}
        // Release: partner of the Acquire in `wait_for_others`, behind which all that the job did is seen.
        mailbox.owed.fetch_sub(1, Ordering::Release);
    }
}

/// Gives a job to a CPU.
///
/// # Errors
///
/// [`NotDone`] if it has one.
fn give(entry: &Entry, job: Arc<Job>) -> Result<(), NotDone> {
    let mailbox = mailbox(entry);
    if mailbox.owed.load(Ordering::Acquire) != 0 {
        return Err(NotDone(entry.number()));
    }
    // Owed before it is there: a CPU that is awake may do it at once.
    mailbox.owed.fetch_add(1, Ordering::Release);
    *mailbox.job.lock() = Some(job);
    caller::attend(entry);
    Ok(())
}

/// Waits until the mailbox of a CPU is so.
fn wait_until(entry: &Entry, is_so: impl Fn(&Mailbox) -> bool) -> Result<(), NotDone> {
    let begun = cpu::timestamp();
    let ticks = cpu::timestamp_hertz().saturating_mul(PATIENCE);
    while !is_so(mailbox(entry)) {
        if cpu::timestamp().wrapping_sub(begun) > ticks {
            return Err(NotDone(entry.number()));
        }
        cpu::relax();
    }
    Ok(())
}

/// Has every other CPU that is up begin `job`.
///
/// # Errors
///
/// [`NotDone`] with a CPU that has another job; those before it have begun.
pub(crate) fn begin_on_others(job: &Arc<Job>) -> Result<(), NotDone> {
    table::others().try_for_each(|entry| give(entry, Arc::clone(job)))
}

/// Waits until the other CPUs have done their jobs.
///
/// # Errors
///
/// [`NotDone`] with a CPU that has not; it may go on with it.
pub(crate) fn wait_for_others() -> Result<(), NotDone> {
    let is_done = |mailbox: &Mailbox| mailbox.owed.load(Ordering::Acquire) == 0;
    table::others().try_for_each(|entry| wait_until(entry, is_done))
}

/// Has the CPU `entry` begin `job`, which need not end.
///
/// # Errors
///
/// [`NotDone`] if it has another job.
pub(crate) fn begin_on(entry: &Entry, job: Arc<Job>) -> Result<(), NotDone> {
    if entry.number() == cpu::number() {
        job();
        return Ok(());
    }
    give(entry, job)?;
    wait_until(entry, |mailbox| mailbox.job.lock().is_none())
}
