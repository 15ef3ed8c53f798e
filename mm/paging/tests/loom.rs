//! The shoot-down under every interleaving that the memory model allows, for two and three CPUs.
//!
//! `RUSTFLAGS="--cfg loom" cargo test -p hotmem-paging --test loom --release`, as `cargo xtask ci` runs it.
#![cfg(loom)]

mod sync {
    pub(crate) use loom::sync::atomic::{AtomicU64, AtomicUsize, Ordering, fence};
}

#[path = "../src/shootdown.rs"]
#[expect(unreachable_pub, reason = "it is public in the crate")]
mod shootdown;

pub(crate) use hotmem_paging::{NotFlushed, addr};

use addr::{VirtAddr, VirtRange};
use loom::sync::Arc;
use loom::thread;
use shootdown::{Local, Shootdown};
use std::cell::Cell;
use sync::{AtomicUsize, Ordering};

const PAGES: usize = 2;

/// The state that all CPUs see: an entry for each page, and each CPU's cached copy of it.
struct Machine<const CPUS: usize> {
    cpus: Shootdown<CPUS>,
    entries: [AtomicUsize; PAGES],
    cached: [[AtomicUsize; PAGES]; CPUS],
    /// CPUs that use the tables, 1 each.
    uses: [AtomicUsize; CPUS],
}

impl<const CPUS: usize> Machine<CPUS> {
    fn new() -> Arc<Self> {
        let words = |word| std::array::from_fn(|_| AtomicUsize::new(word));
        let cached = std::array::from_fn(|_| words(1));
        let uses = std::array::from_fn(|_| AtomicUsize::new(1));
        Arc::new(Self { cpus: Shootdown::new(), entries: words(1), cached, uses })
    }
}

/// One CPU, which takes no interrupts: it serves when it waits, or when it checks for requests.
struct Cpu<'m, const CPUS: usize> {
    machine: &'m Machine<CPUS>,
    number: usize,
    interrupts: Cell<usize>,
}

fn page(number: usize) -> VirtRange {
    VirtRange::new(VirtAddr::new((number as u64) << 12), 4096).unwrap_or_default()
}

impl<const CPUS: usize> Cpu<'_, CPUS> {
    /// Caches the entry, as a walk does.
    fn access(&self, page: usize) {
        let entry = self.machine.entries[page].load(Ordering::Relaxed);
        self.machine.cached[self.number][page].store(entry, Ordering::Relaxed);
    }

    /// Clears the entry of a page and makes all CPUs drop it; returns whether they all did.
    fn clear(&self, which: usize, patience: u64) -> bool {
        self.machine.entries[which].store(0, Ordering::Relaxed);
        let done = self.machine.cpus.request(self.number, &[page(which)], self, patience);
        if done.is_ok() {
            for (cpu, cached) in self.machine.cached.iter().enumerate() {
                let uses = self.machine.uses[cpu].load(Ordering::Acquire) != 0;
                let stale = uses && cached[which].load(Ordering::Relaxed) != 0;
                assert!(!stale, "CPU {cpu} has page {which} cached after its flush");
            }
        }
        done.is_ok()
    }

    fn leave(&self) {
        self.machine.uses[self.number].store(0, Ordering::Relaxed);
        self.machine.cpus.leave(self.number);
    }

    fn join(&self) {
        self.machine.cpus.join(self.number, self);
        self.machine.uses[self.number].store(1, Ordering::Release);
    }
}

impl<const CPUS: usize> Local for Cpu<'_, CPUS> {
    fn flush(&self, ranges: Option<&[VirtRange]>) {
        for (number, cached) in self.machine.cached[self.number].iter().enumerate() {
            if ranges.is_none_or(|ranges| ranges.iter().any(|range| range.overlaps(page(number)))) {
                cached.store(0, Ordering::Relaxed);
            }
        }
    }

    fn interrupt(&self, _: usize) {
        self.interrupts.set(self.interrupts.get() + 1);
    }

    fn relax(&self) {
        thread::yield_now();
    }
}

/// Runs `run` as each of the CPUs that take part, under every interleaving.
fn all<const CPUS: usize>(bound: Option<usize>, run: fn(&Cpu<'_, CPUS>)) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = bound;
    model.check(move || {
        let machine = Machine::<CPUS>::new();
        let cpu = |number| (Arc::clone(&machine), number);
        let start = move |(machine, number): (Arc<Machine<CPUS>>, usize)| {
            let machine = &*machine;
            run(&Cpu { machine, number, interrupts: Cell::new(0) });
        };
        for number in 0..CPUS {
            let local = Cpu { machine: &machine, number, interrupts: Cell::new(0) };
            machine.cpus.join(number, &local);
        }
        let others: Vec<_> =
            (1..CPUS).map(cpu).map(|cpu| thread::spawn(move || start(cpu))).collect();
        start(cpu(0));
        others.into_iter().for_each(|other| other.join().unwrap());
    });
}

#[test]
fn a_cpu_that_serves_drops_cleared_entries_before_it_acknowledges() {
    all::<2>(None, |cpu| {
        if cpu.number == 0 {
            assert!(cpu.clear(0, u64::MAX));
            assert!(cpu.interrupts.get() <= 1);
        } else {
            cpu.access(0);
            cpu.machine.cpus.serve(cpu.number, cpu);
            cpu.access(0);
            cpu.leave();
        }
    });
}

#[test]
fn two_cpus_that_flush_at_once_without_interrupts_both_succeed() {
    all::<2>(None, |cpu| {
        cpu.access(1 - cpu.number);
        assert!(cpu.clear(cpu.number, u64::MAX));
        cpu.leave();
    });
}

#[test]
fn a_cpu_that_joins_while_another_flushes_has_nothing_stale() {
    all::<2>(None, |cpu| {
        if cpu.number == 0 {
            assert!(cpu.clear(0, u64::MAX));
        } else {
            cpu.leave();
            cpu.join();
            cpu.access(0);
            cpu.machine.cpus.serve(1, cpu);
            cpu.leave();
        }
    });
}

#[test]
fn a_requester_that_gives_up_leaves_nothing_stale_after_the_next_acknowledgement() {
    all::<2>(None, |cpu| {
        if cpu.number == 0 {
            let (first, second) = (cpu.clear(0, 1), cpu.clear(1, 1));
            let stale = cpu.machine.cached[1][0].load(Ordering::Relaxed) != 0;
            assert!(first || !second || !stale || !cpu.machine.cpus.takes_part(1));
        } else {
            cpu.access(0);
            cpu.machine.cpus.serve(1, cpu);
            cpu.access(1);
            cpu.machine.cpus.serve(1, cpu);
        }
    });
}

#[test]
fn two_of_three_cpus_flush_and_the_third_acknowledges_both() {
    all::<3>(Some(2), |cpu| {
        if cpu.number < 2 {
            // Its request may fail, or it may not be served.
            _ = cpu.clear(cpu.number, 2);
        } else {
            cpu.access(0);
            cpu.machine.cpus.serve(2, cpu);
        }
        cpu.leave();
    });
}
