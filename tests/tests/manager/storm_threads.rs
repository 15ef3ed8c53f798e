//! A storm of threads: they allocate, free, look up and own movable pages, while a DIMM is plugged, brought online,
//! converted, marked bad and unplugged, and boot memory is taken and released.
//!
//! `HOTMEM_ROUNDS` (`cargo xtask test --long`) sets the number of cycles, which is small by default.
#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use super::Tiny;
use hotmem::testing::{Bench, Holder, Random, Setup, become_cpu, range};
use hotmem::{
    BlockId, ContigError, ConvertError, NodeId, OfflineError, Order, Pfn, PhysRange, Placement,
    PoisonError, VirtAddr, ZoneKind,
};
use hotmem_tests::memory::{MIB, TINY_WINDOW, assert_same};

/// The default number of cycles.
const FEW: u64 = 30;
/// Number of cycles after which the state is compared with the start.
const ROUND: u64 = 10;
const THREADS: u64 = 3;
const BLOCKS: u64 = 4;
const PAGE: u64 = 4096;
/// Attempts at an operation that pages in use may block for a while.
const TRIES: u64 = 1 << 20;
/// Extents that a thread owns at most.
const MOST: usize = 40;
/// Steps that each thread takes in each cycle, at least.
const STEPS: u64 = 50;

fn dimm() -> PhysRange {
    range(TINY_WINDOW, BLOCKS * MIB)
}

/// 24 MiB of boot memory, the upper 12 movable.
fn bench() -> Bench<Tiny> {
    Bench::new(&Setup {
        ram: vec![(0, 24 * MIB, 0)],
        block: MIB,
        window: (TINY_WINDOW, BLOCKS * MIB),
        kernelcore: Some(12 * MIB),
    })
}

/// One of the threads that use memory.
struct Worker<'b> {
    bench: &'b Bench<Tiny>,
    holder: &'b Holder<Tiny>,
    random: Random,
    /// Pages of the kernel, and the word in each.
    kernel: Vec<(Pfn, u64)>,
    owned: Vec<u64>,
}

impl Worker<'_> {
    fn step(&mut self) {
        match self.random.below(8) {
            0 | 1 => self.alloc(),
            2 => self.free_all(),
            3 | 4 => self.own(),
            5 => self.disown(),
            _ => self.look(),
        }
    }

    fn alloc(&mut self) {
        let order = Order::new(self.random.below(4) as u8).unwrap();
        let Ok(pfn) = self.bench.mm.take_pages(order) else { return };
        let word = self.random.below(u64::MAX);
        self.bench.mm.machine().mmu().store(at(pfn), word);
        self.kernel.push((pfn, word));
    }

    /// Frees all of the kernel's pages, so that no block stays in use.
    fn free_all(&mut self) {
        for (pfn, word) in self.kernel.drain(..) {
            let found = self.bench.mm.machine().mmu().load(at(pfn));
            assert_eq!(found, word, "{pfn} is allocated twice");
            assert_eq!(self.bench.mm.free_pages(pfn), Ok(()));
        }
    }

    fn own(&mut self) {
        if self.owned.len() < MOST {
            let order = Order::new(self.random.below(3) as u8).unwrap();
            let zone = self.random.one_in(2);
            let taken = if zone {
                self.holder.take_in_zone(self.bench, order)
            } else {
                self.holder.take(self.bench, order)
            };
            self.owned.extend(taken);
        }
    }

    /// Frees an extent, unless it is being migrated.
    fn disown(&mut self) {
        if self.owned.is_empty() {
            return;
        }
        let handle = self.owned.swap_remove(self.random.below(self.owned.len() as u64) as usize);
        if !self.holder.try_release(self.bench, handle) {
            self.owned.push(handle);
        }
    }

    fn look(&mut self) {
        let random = &mut self.random;
        let pfn = Pfn::new(TINY_WINDOW / PAGE - 64 + random.below(BLOCKS * MIB / PAGE + 128));
        if let Some(info) = self.bench.mm.page_info(pfn) {
            assert_eq!((info.pfn, info.block.get()), (pfn, pfn.get() * PAGE / MIB));
        }
        let id = BlockId::new(TINY_WINDOW / MIB + random.below(BLOCKS));
        assert!(self.bench.mm.block(id).is_none_or(|block| block.id == id));
    }
}

/// The first word of a page, in the linear map.
fn at(pfn: Pfn) -> VirtAddr {
    VirtAddr::new(pfn.get() * PAGE)
}

/// The operations that succeeded.
#[derive(Debug, Default)]
struct Done {
    converted: u64,
    bad: u64,
    carved: u64,
}

/// The steps of each thread so far.
#[derive(Debug, Default)]
struct Steps([AtomicU64; THREADS as usize]);

impl Steps {
    fn all(&self) -> [u64; THREADS as usize] {
        self.0.each_ref().map(|steps| steps.load(Ordering::Relaxed))
    }

    /// Waits until each thread has taken [`STEPS`] more: on a busy host the operations alone would be over before the
    /// threads begin.
    ///
    /// # Panics
    ///
    /// If one of them makes no progress: it has failed.
    fn wait(&self) {
        let before = self.all();
        let steps = || self.all().into_iter().zip(before);
        let waited = (0..TRIES << 4).any(|_| {
            thread::yield_now();
            steps().all(|(now, before)| now >= before + STEPS)
        });
        assert!(waited, "a thread makes no progress: {:?}", self.all());
    }
}

struct Operator<'b> {
    bench: &'b Bench<Tiny>,
    steps: &'b Steps,
    random: Random,
    done: Done,
}

impl Operator<'_> {
    /// A life cycle of the DIMM. The only reason for a refusal is memory in use, never a query.
    fn cycle(&mut self, cycle: u64) {
        let (bench, placement) = (self.bench, Placement::ALL[cycle as usize % 3]);
        bench.plug(dimm());
        bench.mm.hot_add(dimm(), NodeId::ZERO, placement).unwrap();
        for id in bench.mm.blocks_in(dimm()) {
            let kind = *self.random.pick(&[ZoneKind::Movable, ZoneKind::Normal]);
            bench.mm.online(id, kind).unwrap();
        }
        self.steps.wait();
        if placement == Placement::PerRange {
            self.convert();
        }
        self.carve();
        self.poison();
        for id in bench.mm.blocks_in(dimm()) {
            self.offline(id);
        }
        bench.mm.remove(dimm()).unwrap();
        bench.unplug(dimm());
    }

    fn convert(&mut self) {
        for _ in 0..TRIES {
            match self.bench.mm.convert(dimm()) {
                Ok(blocks) => {
                    self.done.converted += blocks;
                    return;
                }
                Err(ConvertError::InUse(..) | ConvertError::NoRoom(..)) => thread::yield_now(),
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// Takes boot memory and releases it.
    fn carve(&mut self) {
        match self.bench.mm.take_contig(NodeId::ZERO, MIB) {
            Ok(_) => {
                assert_eq!(self.bench.mm.release(), Ok(1));
                self.done.carved += 1;
            }
            Err(error) => assert!(matches!(error, ContigError::NoRun(_)), "{error}"),
        }
    }

    fn poison(&mut self) {
        let pfn = Pfn::new(TINY_WINDOW / PAGE + self.random.below(BLOCKS * MIB / PAGE));
        match self.bench.mm.poison(pfn) {
            Ok(_) => self.done.bad += 1,
            Err(error) => assert!(!matches!(error, PoisonError::Busy), "{error}"),
        }
    }

    fn offline(&self, id: BlockId) {
        for _ in 0..TRIES {
            match self.bench.mm.offline(id) {
                Ok(()) => return,
                Err(OfflineError::InUse { .. } | OfflineError::NoRoom { .. }) => {}
                Err(error) => panic!("{error}"),
            }
            thread::yield_now();
        }
        panic!("{id} does not go offline: {:?}", self.bench.mm.explain_offline(id));
    }
}

struct EndOnDrop<'a>(&'a AtomicBool);

impl Drop for EndOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Uses memory until `over`, and counts its steps.
fn work(
    bench: &Bench<Tiny>,
    holder: &Holder<Tiny>,
    seed: u64,
    over: &AtomicBool,
    steps: &AtomicU64,
) {
    become_cpu(seed as usize % THREADS as usize);
    let random = Random::new(seed);
    let mut worker = Worker { bench, holder, random, kernel: Vec::new(), owned: Vec::new() };
    while !over.load(Ordering::Relaxed) {
        worker.step();
        steps.fetch_add(1, Ordering::Relaxed);
    }
    worker.free_all();
}

#[test]
fn threads_use_memory_while_it_is_plugged_converted_made_bad_and_pulled_and_none_is_lost() {
    let cycles = std::env::var("HOTMEM_ROUNDS").ok().map_or(FEW, |text| text.parse().unwrap());
    let bench = bench();
    let holder = Holder::register(&bench);
    let before = bench.snapshot();
    let steps = Steps::default();
    let (random, done) = (Random::new(7), Done::default());
    let mut operator = Operator { bench: &bench, steps: &steps, random, done };
    for first in (0..cycles).step_by(ROUND as usize) {
        let over = AtomicBool::new(false);
        thread::scope(|scope| {
            for (thread, steps) in (0..THREADS).zip(&steps.0) {
                let (bench, holder, over) = (&bench, &holder, &over);
                scope.spawn(move || work(bench, holder, first * THREADS + thread, over, steps));
            }
            // A failure here must end the other threads, too.
            let end = EndOnDrop(&over);
            (first..cycles.min(first + ROUND)).for_each(|cycle| operator.cycle(cycle));
            drop(end);
        });
        bench.check();
        holder.check(&bench);
        holder.handles().into_iter().for_each(|handle| holder.release(&bench, handle));
        assert_same(&before, &bench.snapshot());
    }
    let Done { converted, bad, carved } = operator.done;
    let moves = holder.moves().0;
    println!(
        "{cycles} cycles, {:?} steps, {converted} converted, {bad} bad, {carved} taken, {moves} moves",
        steps.all()
    );
    assert!(converted.min(bad).min(carved) >= cycles / 5, "{:?}", operator.done);
    assert!(moves > cycles, "{moves} moves");
}
