//! A storm of threads over memory that the real MMU translates, with locks of any kind: they allocate, free, own and
//! look up pages, while a DIMM is added, brought online, taken offline and removed.
//!
//! A process has one such machine, which lives as long as it does: each kind of lock has a program of its own.

// UNSAFETY: adds memory that the machine has.
#![expect(unsafe_code)]
#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]

use hotmem::lock::RawLock;
use hotmem::{
    Fact, Mm, NodeId, OfflineError, Order, PageState, Pages, Pfn, PhysRange, Placement, ZoneKind,
};
use hotmem_hosted::{Hosted, boot_with, on_cpu};
use hotmem_lab::movers::{Pool, PoolError};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

/// CPUs that use memory, besides the operator's.
const USERS: usize = 3;
/// Bytes of the DIMM: two blocks.
const DIMM: u64 = 256 << 20;
/// Life cycles of the DIMM.
const CYCLES: usize = 100;
/// Attempts to take a block offline whose pages are in use for a while.
const TRIES: u64 = 20_000;
/// Extents of each kind that a thread has at most.
const MOST: usize = 40;

type Manager<L> = Mm<Hosted<L>>;

/// Numbers that look random (xorshift).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }

    fn order(&mut self, most: u64) -> Order {
        Order::new(self.below(most + 1) as u8).unwrap()
    }
}

/// A thread that uses memory.
struct User<'p, L: RawLock> {
    mm: &'static Manager<L>,
    pool: &'p Pool<Hosted<L>>,
    dimm: PhysRange,
    random: Random,
    /// Pages of the kernel; the first word of each is its number.
    held: Vec<Pages<'static, Hosted<L>>>,
    /// Handles of movable extents.
    owned: Vec<u64>,
}

impl<L: RawLock> User<'_, L> {
    fn step(&mut self) {
        match self.random.below(8) {
            0..=2 => self.alloc(),
            3 => self.free_all(),
            4 | 5 => self.own(),
            6 => self.disown(),
            _ => self.look(),
        }
    }

    fn alloc(&mut self) {
        if self.held.len() < MOST
            && let Ok(pages) = self.mm.alloc(self.random.order(3))
        {
            first_word(&pages).store(pages.pfn().get(), Ordering::Relaxed);
            self.held.push(pages);
        }
    }

    /// Frees all pages of the kernel, so that no block stays in use.
    fn free_all(&mut self) {
        for pages in self.held.drain(..) {
            let read = first_word(&pages).load(Ordering::Relaxed);
            assert_eq!(read, pages.pfn().get(), "pages are allocated twice");
        }
    }

    fn own(&mut self) {
        if self.owned.len() < MOST {
            self.owned.extend(self.pool.take(self.random.order(2)));
        }
    }

    /// Frees an extent, unless it is being migrated.
    fn disown(&mut self) {
        let Some(handle) = self.owned.pop() else { return };
        match self.pool.release(handle) {
            Ok(()) => {}
            Err(PoolError::Held(_)) => self.owned.push(handle),
            Err(error) => panic!("{error}"),
        }
    }

    fn look(&mut self) {
        let first = self.dimm.start().get() / 4096;
        let pfn = Pfn::new(first + self.random.below(DIMM / 4096));
        let state = self.mm.page_info(pfn).and_then(|info| info.state);
        assert!(!matches!(state, Some(PageState::Used { order, .. }) if order.get() > 3));
    }
}

fn first_word<'p, L: RawLock>(pages: &'p Pages<'_, Hosted<L>>) -> &'p AtomicU64 {
    &pages.words(0).unwrap()[0]
}

/// A life cycle of the DIMM. The only reason for a refusal is memory in use.
fn cycle<L: RawLock>(mm: &Manager<L>, dimm: PhysRange, number: usize) {
    let placement = Placement::ALL[number % Placement::ALL.len()];
    // SAFETY: the machine has memory there, which is not in use.
    unsafe { mm.add(dimm, NodeId::ZERO, placement) }.unwrap();
    for (id, kind) in mm.blocks_in(dimm).zip([ZoneKind::Movable, ZoneKind::Normal]) {
        mm.online(id, kind).unwrap();
    }
    // The others find the memory.
    (0..20).for_each(|_| thread::yield_now());
    for id in mm.blocks_in(dimm) {
        let mut tries = 0;
        while let Err(error) = mm.offline(id) {
            tries += 1;
            let in_use = matches!(error, OfflineError::InUse { .. });
            assert!(in_use && tries < TRIES, "{error}, after {tries} tries");
            thread::yield_now();
        }
    }
    mm.remove(dimm).unwrap();
}

fn facts<L: RawLock>(mm: &Manager<L>) -> Vec<Fact> {
    let mut facts = Vec::new();
    mm.snapshot(&mut |fact| facts.push(fact));
    facts
}

struct EndOnDrop<'a>(&'a AtomicBool);

impl Drop for EndOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Has all CPUs use memory while the DIMM is added and removed; nothing is lost.
pub(crate) fn storm<L: RawLock>() {
    let booted = boot_with::<L>().unwrap();
    let mm: &'static Manager<L> = Box::leak(Box::new(booted.mm));
    let pool = Pool::register(mm, Box::leak(Box::default())).unwrap();
    let dimm = PhysRange::new(booted.window.start(), DIMM).unwrap();
    let before = facts(mm);
    // So the pool has its table in boot memory: in the DIMM it would keep a block online.
    pool.take(Order::ZERO).unwrap();
    let (over, steps) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        for cpu in 1..=USERS {
            let (pool, over, steps) = (&pool, &over, &steps);
            scope.spawn(move || {
                on_cpu(cpu);
                let random = Random(0x9e37_79b9 * cpu as u64);
                let (held, owned) = (Vec::new(), Vec::new());
                let mut user = User { mm, pool, dimm, random, held, owned };
                while !over.load(Ordering::Relaxed) {
                    user.step();
                    steps.fetch_add(1, Ordering::Relaxed);
                }
                user.free_all();
            });
        }
        // A failure here must end the other threads, too.
        let end = EndOnDrop(&over);
        (0..CYCLES).for_each(|number| cycle(mm, dimm, number));
        drop(end);
    });
    mm.verify().unwrap();
    pool.check().unwrap();
    let moved = pool.status().moved;
    println!("{CYCLES} cycles, {steps:?} steps, {moved} moves");
    assert!(moved > 0, "no page was ever migrated");
    pool.shrink(u64::MAX).unwrap();
    assert_eq!(facts(mm), before);
}
