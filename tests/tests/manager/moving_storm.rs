//! Random operations on memory in use, every invariant checked after each: pages are allocated, migrated, pinned,
//! marked bad and freed while blocks are added, removed, cancelled half-way, compacted and converted.
//!
//! The predictions of `explain` are compared with the outcomes, and each offline of a movable block without pinned
//! pages, with room elsewhere, must succeed within the stated number of steps.

#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]

use std::collections::BTreeSet;

use hotmem::testing::{Bench, CPUS, Holder, Random, Setup, Shape, Tiny, TinyShared, become_cpu};
use hotmem::{
    BlockId, BlockState, NodeId, Obstacle, OfflineError, OfflineOp, OnlineError, Order, Pfn,
    PhysRange, Placement, Removability, Stepped, ZoneKind,
};
use hotmem_tests::memory::{MIB, TINY_WINDOW, block_range};

/// Operations of one storm; there are four, and a shorter one.
const STEPS: u64 = 25_000;
const BLOCKS: u64 = 12;

struct Storm<S: Shape> {
    bench: Bench<S>,
    holder: &'static Holder<S>,
    random: Random,
    held: Vec<u64>,
    pinned: BTreeSet<u64>,
    kernel: Vec<Pfn>,
    /// Orderly offlines of movable blocks, and those of them that succeeded.
    orderly: (u64, u64),
    cancelled: u64,
    converted: u64,
    bad: u64,
}

impl<S: Shape> Storm<S> {
    fn new(seed: u64, block: u64) -> Self {
        let ram = vec![(0, 6 * MIB, 0), (8 * MIB, 8 * MIB, 1)];
        let window = (TINY_WINDOW, BLOCKS * block);
        let kernelcore = Some(6 * MIB);
        let bench = Bench::new(&Setup { ram, block, window, kernelcore });
        bench.plug(hotmem::testing::range(TINY_WINDOW, BLOCKS * block));
        let holder = Holder::register(&bench);
        Self {
            bench,
            holder,
            random: Random::new(seed),
            held: Vec::new(),
            pinned: BTreeSet::new(),
            kernel: Vec::new(),
            orderly: (0, 0),
            cancelled: 0,
            converted: 0,
            bad: 0,
        }
    }

    fn run(&mut self, steps: u64) {
        for step in 0..steps {
            become_cpu(step as usize % (CPUS + 1));
            let tide = if step / 2000 % 2 == 0 { 26 } else { 16 };
            match self.random.below(64) {
                0..3 => self.add(),
                3..6 => self.online(),
                6..9 => self.offline(),
                9..11 => self.remove(),
                11 => self.pin(),
                12 => self.compact(),
                13 => self.convert(),
                14 if self.random.one_in(20) => self.poison(),
                15 => self.bench.mm.set_self_hosting(!self.random.one_in(4)),
                kind if kind < 16 + tide => self.take(),
                _ => self.give(),
            }
            self.check(step);
        }
    }

    #[track_caller]
    fn check(&self, step: u64) {
        if let Err(violation) = self.bench.mm.verify_machine() {
            panic!("step {step}: {violation}");
        }
        if step.is_multiple_of(64) {
            self.bench.check();
            self.holder.check(&self.bench);
        }
    }

    fn order(&mut self) -> Order {
        let most = 1 + self.random.below(5);
        Order::new(self.random.below(most) as u8).unwrap()
    }

    fn take(&mut self) {
        let order = self.order();
        if self.random.one_in(12) {
            self.kernel.extend(self.bench.mm.take_pages(order).ok());
        } else if let Some(handle) = self.holder.take(&self.bench, order) {
            self.held.push(handle);
        }
    }

    fn give(&mut self) {
        if self.random.one_in(8) && !self.kernel.is_empty() {
            let index = self.random.below(self.kernel.len() as u64) as usize;
            self.bench.mm.free_pages(self.kernel.swap_remove(index)).unwrap();
        } else if !self.held.is_empty() {
            let index = self.random.below(self.held.len() as u64) as usize;
            let handle = self.held.swap_remove(index);
            self.pinned.remove(&handle);
            self.holder.release(&self.bench, handle);
        }
    }

    fn pin(&mut self) {
        if self.random.one_in(2) && self.pinned.len() < 3 && !self.held.is_empty() {
            let handle = *self.random.pick(&self.held);
            self.holder.pin(handle, true);
            self.pinned.insert(handle);
        } else if let Some(handle) = self.pinned.pop_first() {
            self.holder.pin(handle, false);
        }
    }

    fn window(&self) -> PhysRange {
        hotmem::testing::range(TINY_WINDOW, BLOCKS * self.bench.mm.block_size().bytes())
    }

    /// A block of the window or of movable boot memory that `wanted` accepts, if there is one.
    fn some_block(&mut self, wanted: impl Fn(&hotmem::Block) -> bool) -> Option<BlockId> {
        let blocks: Vec<_> = self.bench.mm.blocks().filter(wanted).map(|block| block.id).collect();
        (!blocks.is_empty()).then(|| *self.random.pick(&blocks))
    }

    fn add(&mut self) {
        let blocks = self.bench.blocks(self.window());
        let first = self.random.below(BLOCKS);
        let count = (1 + self.random.below(4)).min(BLOCKS - first);
        let start = block_range(&self.bench, blocks[first as usize]).start();
        let range = PhysRange::new(start, count * self.bench.mm.block_size().bytes()).unwrap();
        let node = NodeId::new(self.random.below(3) as u32).unwrap();
        let placement = *self.random.pick(&Placement::ALL);
        // The range may overlap present memory, or have no memory: the invariants check that nothing changed then.
        let _ = self.bench.mm.hot_add(range, node, placement);
    }

    fn online(&mut self) {
        let offline = |block: &hotmem::Block| block.state == BlockState::Offline;
        let Some(id) = self.some_block(offline) else { return };
        let kind = *self.random.pick(&[ZoneKind::Movable, ZoneKind::Movable, ZoneKind::Normal]);
        let poisoned = self.bench.mm.block(id).unwrap().poisoned;
        match self.bench.mm.online(id, kind) {
            Ok(_) => assert!(!poisoned),
            Err(error) => assert_eq!(error, OnlineError::Poisoned(id)),
        }
    }

    fn offline(&mut self) {
        let usable = |block: &hotmem::Block| {
            matches!(block.state, BlockState::Online(ZoneKind::Movable | ZoneKind::Normal))
        };
        let Some(id) = self.some_block(usable) else { return };
        if self.random.one_in(3) {
            self.offline_among_others(id);
        } else {
            self.offline_as_predicted(id);
        }
    }

    /// No other operation runs at the same time: the outcome is the predicted one.
    fn offline_as_predicted(&mut self, id: BlockId) {
        let movable =
            self.bench.mm.block(id).unwrap().state == BlockState::Online(ZoneKind::Movable);
        let predicted = self.bench.mm.explain_offline(id);
        let moves = self.holder.moves().0;
        let (done, steps) = self.steps(id);
        assert!(steps <= OfflineOp::bound(&self.bench.mm), "{steps} steps");
        if movable && self.pinned.is_empty() {
            assert!(!matches!(predicted, Removability::Blocked(Obstacle::InUse { .. })));
            if !matches!(predicted, Removability::Blocked(_)) {
                self.orderly.0 += 1;
                self.orderly.1 += u64::from(done.is_ok());
            }
        }
        match (predicted, done) {
            (Removability::Now, Ok(())) => assert_eq!(self.holder.moves().0, moves),
            (Removability::AfterMoving { extents, .. }, Ok(())) => {
                assert_eq!(self.holder.moves().0, moves + extents);
            }
            (
                Removability::Blocked(Obstacle::InUse { pfn, owner, .. }),
                Err(OfflineError::InUse { first, .. }),
            ) => assert_eq!(first, Some((pfn, owner))),
            (
                Removability::Blocked(Obstacle::NoRoom(order)),
                Err(OfflineError::NoRoom { order: wanted, .. }),
            ) => assert_eq!(order, wanted),
            (predicted, done) => panic!("predicted {predicted:?}, but {done:?}"),
        }
    }

    fn steps(&self, id: BlockId) -> (Result<(), OfflineError>, u64) {
        let mut op = match self.bench.mm.start_offline(id) {
            Ok(op) => op,
            Err(error) => return (Err(error), 0),
        };
        let mut steps = 0;
        loop {
            match op.step(7) {
                Ok(Stepped::Going(more)) => op = more,
                Ok(Stepped::Done) => return (Ok(()), steps),
                Err(error) => return (Err(error), steps),
            }
            steps = op.progress().steps;
        }
    }

    /// Owners are busy, allocate and free between the steps; the operator may cancel.
    fn offline_among_others(&mut self, id: BlockId) {
        // The operation borrows the manager, not the other fields of this storm.
        let Self { bench, holder, random, held, pinned, .. } = self;
        for handle in held.iter() {
            if random.one_in(6) {
                holder.be_busy(*handle, random.below(6) as u32);
            }
        }
        let Ok(mut op) = bench.mm.start_offline(id) else { return };
        let patience = random.below(200);
        for turn in 0.. {
            if turn == patience && random.one_in(2) {
                op.cancel();
                self.cancelled += 1;
                return;
            }
            match op.step(1 + random.below(9)) {
                Ok(Stepped::Going(more)) => op = more,
                Ok(Stepped::Done) | Err(_) => return,
            }
            if random.one_in(2) {
                held.extend(holder.take(bench, Order::ZERO));
            } else if !held.is_empty() {
                let handle = held.swap_remove(random.below(held.len() as u64) as usize);
                pinned.remove(&handle);
                holder.release(bench, handle);
            }
            bench.mm.verify_machine().unwrap_or_else(|violation| panic!("half-way: {violation}"));
        }
    }

    fn remove(&mut self) {
        let offline = |block: &hotmem::Block| !block.boot && block.state == BlockState::Offline;
        let Some(id) = self.some_block(offline) else { return };
        // Alone, or with all of its group: either may be refused.
        let one = block_range(&self.bench, id);
        if let Err(hotmem::RemoveError::SplitsGroup { whole, .. }) = self.bench.mm.remove(one) {
            let page = 4096;
            let start = hotmem::PhysAddr::new(whole.start.get() * page);
            let _ = self.bench.mm.remove(PhysRange::new(start, whole.pages() * page).unwrap());
        }
    }

    fn compact(&mut self) {
        let node = NodeId::new(self.random.below(3) as u32).unwrap();
        let kind = *self.random.pick(&[ZoneKind::Normal, ZoneKind::Movable]);
        let order = Order::new(self.random.below(9) as u8).unwrap();
        if let Ok(run) = self.bench.mm.compact(node, kind, order) {
            assert_eq!(run.pages(), order.pages());
            let zone = self.bench.mm.zones().find(|zone| (zone.node, zone.kind) == (node, kind));
            let large = zone.unwrap().extents[order.get() as usize..].iter().sum::<u64>();
            assert!(large > 0, "no extent of {order}");
        }
    }

    fn convert(&mut self) {
        let device = |block: &hotmem::Block| block.placement == Placement::PerRange;
        let Some(id) = self.some_block(device) else { return };
        let one = block_range(&self.bench, id);
        let whole = match self.bench.mm.convert(one) {
            Err(hotmem::ConvertError::NotOnePiece(whole)) => whole,
            _ => return,
        };
        let start = hotmem::PhysAddr::new(whole.start.get() * 4096);
        let range = PhysRange::new(start, whole.pages() * 4096).unwrap();
        self.converted += u64::from(self.bench.mm.convert(range).is_ok());
    }

    fn poison(&mut self) {
        if self.bad > 20 {
            return;
        }
        let online = |block: &hotmem::Block| block.state == BlockState::Online(ZoneKind::Movable);
        let Some(id) = self.some_block(online) else { return };
        let pfns = self.bench.mm.block(id).unwrap().pfns;
        let pfn = pfns.start.add(self.random.below(pfns.pages()));
        self.bad += u64::from(self.bench.mm.poison(pfn).is_ok());
    }
}

fn storm<S: Shape>(seed: u64, block: u64, steps: u64) {
    let mut storm = Storm::<S>::new(seed, block);
    storm.run(steps);
    let (tried, done) = storm.orderly;
    assert_eq!(tried, done, "orderly offlines of movable blocks");
    assert!(tried > steps / 150, "only {tried} orderly offlines");
    assert!(
        storm.cancelled.min(storm.converted) > steps / 6000,
        "{} {}",
        storm.cancelled,
        storm.converted
    );
    let (moves, failed) = storm.holder.moves();
    assert!(moves > steps / 25, "{moves} moves, {failed} copies failed");
}

#[test]
fn e15_a_storm_over_blocks_of_one_section_keeps_every_invariant_and_every_promise() {
    storm::<Tiny>(1, MIB, STEPS);
}

#[test]
fn e15_another_storm_over_blocks_of_one_section_keeps_every_invariant_and_every_promise() {
    storm::<Tiny>(2, MIB, STEPS);
}

#[test]
fn e15_a_storm_over_blocks_of_two_sections_keeps_every_invariant_and_every_promise() {
    storm::<Tiny>(3, 2 * MIB, STEPS);
}

#[test]
fn e15_another_storm_over_blocks_of_two_sections_keeps_every_invariant_and_every_promise() {
    storm::<Tiny>(4, 2 * MIB, STEPS);
}

#[test]
fn e13_a_storm_over_sections_that_share_memmap_pages_keeps_every_invariant_and_every_promise() {
    storm::<TinyShared>(5, MIB, STEPS / 4);
}
