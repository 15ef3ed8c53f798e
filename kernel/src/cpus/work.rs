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

/// Seconds after which a CPU should have begun its job: that takes microseconds, on a busy host tenths of a second.
const BEGIN_SECONDS: u64 = 20;
/// Seconds that a job may take: less than a test that runs this kernel waits for its reply.
const END_SECONDS: u64 = 100;

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

/// A CPU has not done a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NotDone {
    pub(crate) cpu: usize,
    pub(crate) why: Why,
}

/// The reason why a CPU has not done a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    /// It has another one.
    Busy,
    /// It did not begin in time.
    NotBegun,
    /// It did not end in time.
    NotEnded,
}

impl Why {
    /// The reason, after the CPU's number.
    pub(crate) const fn text(self) -> &'static str {
        match self {
            Self::Busy => "has another job",
            Self::NotBegun => "did not begin its job in time",
            Self::NotEnded => "did not end its job in time",
        }
    }
}

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
        // Release: partner of the Acquire in `is_done`.
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
        return Err(NotDone { cpu: entry.number(), why: Why::Busy });
    }
    // Counted before the job is put in: a CPU that is awake may run it at once.
    mailbox.owed.fetch_add(1, Ordering::Release);
    *mailbox.job.lock() = Some(job);
    caller::attend(entry);
    Ok(())
}

/// Whether a CPU has done its job.
fn is_done(mailbox: &Mailbox) -> bool {
    // Acquire: partner of the Release in `run_given`, whose effects are visible then.
    mailbox.owed.load(Ordering::Acquire) == 0
}

/// Waits until `is_so` holds for the mailbox of a CPU, whose job was put in at the time `since`, or before.
fn wait_until(entry: &Entry, since: u64, is_so: impl Fn(&Mailbox) -> bool) -> Result<(), NotDone> {
    let (number, mailbox) = (entry.number(), mailbox(entry));
    let takes = |seconds| {
        let ticks = cpu::timestamp_hertz().saturating_mul(seconds);
        cpu::timestamp().wrapping_sub(since) > ticks
    };
    while !is_so(mailbox) {
        if takes(BEGIN_SECONDS) && mailbox.job.lock().is_some() {
            return Err(NotDone { cpu: number, why: Why::NotBegun });
        }
        if takes(END_SECONDS) {
            return Err(NotDone { cpu: number, why: Why::NotEnded });
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
/// [`NotDone`] with a CPU that has not; it may still begin its job, or continue with it.
pub(crate) fn wait_for_others() -> Result<(), NotDone> {
    let since = cpu::timestamp();
    table::others().try_for_each(|entry| wait_until(entry, since, is_done))
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
    wait_until(entry, cpu::timestamp(), |mailbox| mailbox.job.lock().is_none())
}

/// Has the CPU `entry` run `job`, and waits until it is done.
///
/// # Errors
///
/// [`NotDone`] if the CPU has another job, or does not end this one in time.
pub(crate) fn run_on(entry: &Entry, job: Arc<Job>) -> Result<(), NotDone> {
    begin_on(entry, job)?;
    wait_until(entry, cpu::timestamp(), is_done)
}
