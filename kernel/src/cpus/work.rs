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

/// The part of a second that a job waits for a CPU that leaves another one.
pub(crate) const LEAVES: u64 = 4;
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
            Self::NotBegun => "did not begin its job within 20 s",
            Self::NotEnded => "did not end its job within 100 s",
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

/// Returns `true` for the time that a CPU has to leave its job.
fn while_leaving() -> impl Fn() -> bool {
    let (begun, ticks) = (cpu::timestamp(), cpu::timestamp_hertz() / LEAVES);
    move || {
        relax();
        cpu::timestamp().wrapping_sub(begun) < ticks
    }
}

/// Waits, as long as `in_time` returns `true`, until a CPU has left its job: a guest that has just been killed may leave
/// one, and the CPU then clears pages.
///
/// # Errors
///
/// [`NotDone`] if the CPU goes on.
fn wait_until_free(entry: &Entry, in_time: impl Fn() -> bool) -> Result<(), NotDone> {
    let mailbox = mailbox(entry);
    while !is_done(mailbox) {
        if !in_time() {
            return Err(NotDone { cpu: entry.number(), why: Why::Busy });
        }
    }
    Ok(())
}

/// Gives a job to a CPU that has none: jobs are given by the first CPU only.
fn give(entry: &Entry, job: Arc<Job>) {
    let mailbox = mailbox(entry);
    // Counted before the job is put in: a CPU that is awake may run it at once.
    mailbox.owed.fetch_add(1, Ordering::Release);
    *mailbox.job.lock() = Some(job);
    caller::attend(entry);
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
/// [`NotDone`] with a CPU that has another job; no CPU begins then.
pub(crate) fn begin_on_others(job: &Arc<Job>) -> Result<(), NotDone> {
    begin_on_each(table::others, job, while_leaving())
}

/// As [`begin_on_others`], for the CPUs `cpus`; waits as long as `in_time` returns `true`.
fn begin_on_each<'e, C: Iterator<Item = &'e Entry>>(
    cpus: impl Fn() -> C,
    job: &Arc<Job>,
    in_time: impl Fn() -> bool,
) -> Result<(), NotDone> {
    cpus().try_for_each(|entry| wait_until_free(entry, &in_time))?;
    cpus().for_each(|entry| give(entry, Arc::clone(job)));
    Ok(())
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
    wait_until_free(entry, while_leaving())?;
    give(entry, job);
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

/// Has a CPU be busy with a job for ever.
#[cfg(test)]
pub(super) fn keep_busy(entry: &Entry) {
    mailbox(entry).owed.store(1, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::cell::Cell;

    /// A CPU with or without a job. Each test has its own.
    fn entry(number: usize, busy: bool) -> Entry {
        let entry = Entry::new(number);
        if busy {
            keep_busy(&entry);
        }
        entry
    }

    /// Jobs that a CPU has to do, and whether one of them waits in its mailbox.
    fn given(entry: &Entry) -> (usize, bool) {
        let mailbox = mailbox(entry);
        (mailbox.owed.load(Ordering::Relaxed), mailbox.job.lock().is_some())
    }

    #[test]
    fn no_cpu_begins_a_job_of_all_if_one_has_another() {
        let cpus = [entry(11, false), entry(12, true), entry(13, false)];
        let job: Arc<Job> = Arc::new(|| {});
        let begun = begin_on_each(|| cpus.iter(), &job, || false);
        assert_eq!(begun, Err(NotDone { cpu: 12, why: Why::Busy }));
        assert_eq!(cpus.each_ref().map(given), [(0, false), (1, false), (0, false)]);
    }

    #[test]
    fn a_cpu_that_is_about_to_leave_its_job_is_waited_for() {
        let (cpu, turns) = (entry(14, true), Cell::new(0));
        let job: Arc<Job> = Arc::new(|| {});
        let leaves = || {
            turns.set(turns.get() + 1);
            if turns.get() == 3 {
                mailbox(&cpu).owed.store(0, Ordering::Relaxed);
            }
            true
        };
        assert_eq!(begin_on_each(|| core::iter::once(&cpu), &job, leaves), Ok(()));
        assert_eq!((turns.get(), given(&cpu)), (3, (1, true)));
    }
}
