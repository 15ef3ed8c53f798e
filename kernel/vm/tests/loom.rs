//! A CPU in a guest, and one that takes a page away from the guest, under every interleaving that the memory model
//! allows.
//!
//! `RUSTFLAGS="--cfg loom" cargo test -p hotmem-vm --test loom --release`, as `cargo xtask ci` runs it.
#![cfg(loom)]

mod sync {
    pub(crate) use loom::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

    /// More than any model waits.
    pub(crate) const MAX_TURNS: u64 = 1 << 24;
}

#[path = "../src/id.rs"]
#[expect(dead_code, unreachable_pub, reason = "a part of it is used here")]
mod id;

#[path = "../src/residence.rs"]
mod residence;

use loom::sync::Arc;
use loom::thread;
use residence::{Residence, RootAddress, expel};
use sync::{AtomicUsize, Ordering};

/// A guest with one page, as both CPUs see it.
struct Guest {
    /// One for each of its virtual CPUs.
    residences: [Residence; 2],
    /// The leaf of the page: 1, or 0 when it is cleared.
    leaf: AtomicUsize,
    /// 1 when the page has another owner.
    freed: AtomicUsize,
    /// Interrupts of CPUs 1 and 2 in the guest.
    kicks: [AtomicUsize; 2],
}

impl Guest {
    fn new() -> Arc<Self> {
        let word = AtomicUsize::new;
        let (leaf, freed, kicks) = (word(1), word(0), [word(0), word(0)]);
        Arc::new(Self { residences: Default::default(), leaf, freed, kicks })
    }

    /// CPU `cpu` visits the guest, which accesses its page as long as `accesses` says. The CPU's cached translation is
    /// the one of the entry: it is dropped there, and walked for once.
    fn visit(&self, cpu: usize, accesses: usize) {
        let residence = &self.residences[cpu - 1];
        residence.enter(cpu);
        let cached = self.leaf.load(Ordering::Relaxed);
        for _ in 0..accesses {
            if cached == 1 {
                assert_eq!(
                    self.freed.load(Ordering::Relaxed),
                    0,
                    "a page of another owner is used"
                );
            }
            thread::yield_now();
        }
        residence.leave();
    }

    /// Takes the page away.
    fn take(&self) {
        self.leaf.store(0, Ordering::Relaxed);
        let kick = |cpu: usize| _ = self.kicks[cpu - 1].fetch_add(1, Ordering::Relaxed);
        expel(&self.residences, kick, thread::yield_now).unwrap();
        self.freed.store(1, Ordering::Relaxed);
    }
}

#[test]
fn no_cpu_in_a_guest_uses_a_page_after_it_was_taken_away() {
    loom::model(|| {
        let guest = Guest::new();
        let cpu = {
            let guest = Arc::clone(&guest);
            thread::spawn(move || {
                guest.visit(1, 1);
                guest.visit(1, 1);
            })
        };
        guest.take();
        cpu.join().unwrap();
        assert!(guest.kicks[0].load(Ordering::Relaxed) <= 1);
    });
}

#[test]
fn no_cpu_in_a_guest_walks_a_root_after_it_was_moved() {
    const OLD: u64 = 2;
    const NEW: u64 = 4;
    loom::model(|| {
        let root = Arc::new(RootAddress::new(OLD));
        // The place of a root has another use.
        let guest = Guest::new();
        let cpu = {
            let (guest, root) = (Arc::clone(&guest), Arc::clone(&root));
            thread::spawn(move || {
                for _ in 0..2 {
                    guest.residences[0].enter(1);
                    let at = root.enter();
                    let freed = guest.freed.load(Ordering::Relaxed) == 1;
                    assert!(!(freed && at == Some(OLD)), "a root is walked that was moved");
                    assert!(freed || at != Some(NEW), "a root is walked that was not copied");
                    guest.residences[0].leave();
                }
            })
        };
        root.close();
        expel(&guest.residences, |_| {}, thread::yield_now).unwrap();
        guest.freed.store(1, Ordering::Relaxed);
        root.open(NEW);
        cpu.join().unwrap();
        assert_eq!((root.get(), root.enter()), (NEW, Some(NEW)));
    });
}

#[test]
fn a_cpu_that_stays_in_a_guest_is_interrupted() {
    stays(0);
}

#[test]
fn the_second_cpu_that_stays_in_a_guest_is_interrupted() {
    stays(1);
}

/// The CPU of virtual CPU `number` stays in the guest until it is interrupted.
fn stays(number: usize) {
    loom::model(move || {
        let guest = Guest::new();
        let cpu = {
            let guest = Arc::clone(&guest);
            thread::spawn(move || {
                guest.residences[number].enter(number + 1);
                // It finds the page, or nobody waits for it.
                while guest.leaf.load(Ordering::Relaxed) == 1
                    || guest.freed.load(Ordering::Relaxed) == 0
                {
                    if guest.kicks[number].load(Ordering::Relaxed) > 0 {
                        break;
                    }
                    thread::yield_now();
                }
                guest.residences[number].leave();
            })
        };
        guest.take();
        cpu.join().unwrap();
    });
}

#[test]
fn a_cpu_that_is_not_in_a_guest_is_not_waited_for() {
    loom::model(|| {
        let guest = Guest::new();
        guest.visit(1, 1);
        guest.take();
        assert_eq!(guest.kicks[0].load(Ordering::Relaxed), 0);
        guest.visit(1, 1);
    });
}

#[test]
fn no_cpu_of_two_in_a_guest_uses_a_page_after_it_was_taken_away() {
    // Without a limit, two CPUs and their interrupter have more interleavings than can be run.
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(|| {
        let guest = Guest::new();
        let cpus: [_; 2] = core::array::from_fn(|index| {
            let guest = Arc::clone(&guest);
            thread::spawn(move || guest.visit(index + 1, 1))
        });
        guest.take();
        cpus.into_iter().for_each(|cpu| cpu.join().unwrap());
        assert!(guest.kicks.iter().all(|kicks| kicks.load(Ordering::Relaxed) <= 1));
    });
}
