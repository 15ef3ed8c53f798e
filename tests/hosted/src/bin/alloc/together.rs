//! Threads that do a case at the same time, each on a CPU of its own.

// UNSAFETY: asks Linux to keep a thread on a CPU.
#![expect(unsafe_code)]

use hotmem::Mm;
use hotmem_hosted::{Hosted, on_cpu};
use hotmem_lab::bench::Case;
use std::error::Error;
use std::io;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

/// Has `threads` threads do the case `rounds` times each. Returns how long the slowest took.
pub(crate) fn timed_together(
    case: Case,
    mm: &Mm<Hosted>,
    rounds: usize,
    threads: usize,
) -> Result<Duration, Box<dyn Error>> {
    let barrier = Barrier::new(threads);
    let run = |cpu| {
        let mut held = Vec::with_capacity(case.pairs);
        let pinned = pin(cpu);
        on_cpu(cpu);
        // What a first use costs is not counted.
        let warm = case.run(&mm, 1, &mut held);
        barrier.wait();
        let start = Instant::now();
        let done = warm.and_then(|()| case.run(&mm, rounds, &mut held));
        let took = start.elapsed();
        pinned?;
        done.ok_or_else(|| io::Error::other("an allocation failed"))?;
        Ok(took)
    };
    let run = &run;
    let times: io::Result<Vec<_>> = thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|cpu| scope.spawn(move || run(cpu))).collect();
        let ended = |thread: thread::ScopedJoinHandle<'_, io::Result<Duration>>| {
            thread.join().unwrap_or_else(|_| Err(io::Error::other("a thread panicked")))
        };
        threads.into_iter().map(ended).collect()
    });
    times?.into_iter().max().ok_or_else(|| "no threads".into())
}

/// Keeps this thread on a CPU.
fn pin(cpu: usize) -> io::Result<()> {
    if cpu >= libc::CPU_SETSIZE as usize {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    // SAFETY: a set is plain bits, of which all may be 0.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: the set has a bit for the CPU, as was checked.
    unsafe { libc::CPU_SET(cpu, &mut set) };
    // SAFETY: Linux reads the set, which is as large as is said.
    match unsafe { libc::sched_setaffinity(0, size_of_val(&set), &raw const set) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
