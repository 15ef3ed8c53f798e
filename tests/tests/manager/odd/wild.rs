//! A storm: every operation in any order, and the changes that each may make.

#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]

use std::collections::BTreeSet;

use hotmem::testing::{Bench, FakeMachine, Holder, Random, Setup, Shape, range};
use hotmem::{
    Block, BlockId, BlockState, ConvertError, Fact, Geometry, NodeId, OnlineError, Order, Pfn,
    PhysAddr, PhysRange, Piece, Placement, PoisonError, RemoveError, Stepped, ZoneKind,
};
use hotmem_tests::memory::assert_same;

use super::numbers;

/// The initial state of a storm.
pub(super) struct Place {
    pub(super) seed: u64,
    pub(super) block: u64,
    /// Start, bytes and node of boot memory; memory past its first `core` bytes is movable.
    pub(super) ram: Vec<(u64, u64, u32)>,
    pub(super) core: Option<u64>,
    /// The range where memory is plugged: start, and number of blocks.
    pub(super) window: (u64, u64),
}

pub(super) struct Wild<S: Shape> {
    bench: Bench<S>,
    holder: &'static Holder<S>,
    random: Random,
    window: PhysRange,
    held: Vec<u64>,
    pinned: BTreeSet<u64>,
    kernel: Vec<Pfn>,
    /// Bad pages of boot memory, which stay bad.
    bad: u64,
    /// The number of successes of each operation.
    done: [u64; OPERATIONS.len()],
}

/// An operation of the storm; returns whether it succeeded.
type Operation<S> = fn(&mut Wild<S>) -> bool;

pub(super) const OPERATIONS: [&str; 10] = [
    "add", "online", "offline", "remove", "convert", "compact", "take", "release", "poison",
    "alloc",
];

impl<S: Shape> Wild<S> {
    const OPERATIONS: [(Operation<S>, u64); OPERATIONS.len()] = [
        (Self::add, 5),
        (Self::online, 6),
        (Self::offline, 6),
        (Self::remove, 4),
        (Self::convert, 4),
        (Self::compact, 2),
        (Self::take, 3),
        (Self::release, 1),
        (Self::poison, 1),
        (Self::alloc, 12),
    ];

    pub(super) fn new(place: &Place) -> Self {
        let window = range(place.window.0, place.window.1 * place.block);
        let bench = Bench::new(&Setup {
            ram: place.ram.clone(),
            block: place.block,
            window: (window.start().get(), window.len()),
            kernelcore: place.core,
        });
        bench.plug(window);
        let holder = Holder::register(&bench);
        let random = Random::new(place.seed);
        let (held, pinned, kernel) = (Vec::new(), BTreeSet::new(), Vec::new());
        let (bad, done) = (0, [0; OPERATIONS.len()]);
        Self { bench, holder, random, window, held, pinned, kernel, bad, done }
    }

    pub(super) fn run(&mut self, steps: u64) {
        let all: u64 = Self::OPERATIONS.iter().map(|(_, weight)| weight).sum();
        for step in 0..steps {
            let mut left = self.random.below(all);
            let operation = Self::OPERATIONS.iter().position(|(_, weight)| {
                let here = left < *weight;
                left = left.saturating_sub(*weight);
                here
            });
            let operation = operation.unwrap();
            let fails = self.random.one_in(4);
            let nth = if fails { 1 + self.random.below(6) } else { 0 };
            self.bench.mm.machine().plan().arm(nth);
            let done = Self::OPERATIONS[operation].0(self);
            self.bench.mm.machine().plan().disarm();
            self.done[operation] += u64::from(done);
            numbers::call(&self.bench, &mut self.random);
            if let Err(violation) = self.bench.mm.verify_machine() {
                panic!("step {step}, {}: {violation}", OPERATIONS[operation]);
            }
            if step.is_multiple_of(32) {
                self.bench.check();
                self.holder.check(&self.bench);
            }
        }
    }

    pub(super) fn facts(&self) -> Vec<Fact> {
        self.bench.snapshot()
    }

    fn block(&self) -> u64 {
        self.bench.mm.block_size().bytes()
    }

    /// A block that `wanted` accepts, if there is one.
    fn some_block(&mut self, wanted: impl Fn(&Block) -> bool) -> Option<Block> {
        let blocks: Vec<_> = self.bench.mm.blocks().filter(wanted).collect();
        (!blocks.is_empty()).then(|| *self.random.pick(&blocks))
    }

    fn node(&mut self) -> NodeId {
        NodeId::new(self.random.below(3) as u32).unwrap()
    }

    fn bytes(whole: hotmem::PfnRange) -> PhysRange {
        let page = FakeMachine::<S>::PAGE_BYTES;
        range(whole.start.get() * page, whole.pages() * page)
    }

    /// Blocks of the window, up to four; sometimes not whole blocks.
    fn some_range(&mut self) -> PhysRange {
        let block = self.block();
        let blocks = self.window.len() / block;
        let first = self.random.below(blocks);
        let count = (1 + self.random.below(4)).min(blocks - first);
        let start = self.window.start().add(first * block);
        let whole = PhysRange::new(start, count * block).unwrap();
        let shifted = |by: u64, less: u64| {
            let start = PhysAddr::new(start.get().wrapping_add(by));
            PhysRange::new(start, whole.len() - less).unwrap_or_default()
        };
        match self.random.below(24) {
            0 => shifted(block / 2, 0),
            1 => shifted(0, 1),
            2 => shifted(1, 0),
            3 => shifted(0, whole.len()),
            4 => PhysRange::new(start, whole.len() + block * blocks).unwrap_or_default(),
            5..7 => self.some_subsections(whole),
            _ => whole,
        }
    }

    /// A part of a range, or one that begins and ends in the blocks around it.
    fn some_subsections(&mut self, range: PhysRange) -> PhysRange {
        let unit = self.bench.mm.subsection();
        let units = range.len() / unit;
        let (first, less) = (self.random.below(units), self.random.below(units));
        let start = range.start().add(first * unit);
        PhysRange::new(start, unit.max(range.len() - less * unit)).unwrap_or_default()
    }

    fn add(&mut self) -> bool {
        let (range, node) = (self.some_range(), self.node());
        let placement = *self.random.pick(&Placement::ALL);
        self.bench.mm.set_self_hosting(!self.random.one_in(8));
        if !self.window.covers(range) {
            // No memory is plugged there, or the range is invalid.
            return false;
        }
        let before = self.facts();
        let added = self.bench.mm.hot_add(range, node, placement);
        if added.is_err() {
            assert_same(&before, &self.facts());
        }
        added.is_ok()
    }

    fn online(&mut self) -> bool {
        let offline = |block: &Block| block.state == BlockState::Offline;
        let Some(block) = self.some_block(offline) else { return false };
        let kind = *self.random.pick(&[ZoneKind::Movable, ZoneKind::Movable, ZoneKind::Normal]);
        match self.bench.mm.online(block.id, kind) {
            Ok(_) => assert!(!block.poisoned && !block.taken),
            Err(OnlineError::Poisoned(_)) => assert!(block.poisoned),
            Err(error) => assert_eq!((error, block.taken), (OnlineError::Taken(block.id), true)),
        }
        !block.poisoned && !block.taken
    }

    fn offline(&mut self) -> bool {
        let Some(id) = self.some_block(is_usable).map(|block| block.id) else { return false };
        // The operation borrows the manager, not the other fields of this storm.
        let Self { bench, random, held, pinned, holder, .. } = self;
        let Ok(mut op) = bench.mm.start_offline(id) else { return false };
        let ends = random.below(60);
        for turn in 0.. {
            match (turn == ends, random.below(3)) {
                (true, 0) => {
                    op.cancel();
                    return false;
                }
                (true, 1) => {
                    std::mem::forget(op);
                    assert_eq!(bench.mm.cancel_offline(id), Ok(()));
                    return false;
                }
                _ => {}
            }
            match op.step(1 + random.below(40)) {
                Ok(Stepped::Going(more)) => op = more,
                Ok(Stepped::Done) => return true,
                Err(_) => return false,
            }
            if random.one_in(2) && !held.is_empty() {
                let handle = held.swap_remove(random.below(held.len() as u64) as usize);
                pinned.remove(&handle);
                holder.release(bench, handle);
            }
            numbers::call(bench, random);
            assert_eq!(bench.mm.verify_machine(), Ok(()), "half-way through an offline");
        }
        false
    }

    fn remove(&mut self) -> bool {
        let offline = |block: &Block| !block.boot && block.state == BlockState::Offline;
        let wanted = match self.some_block(offline).filter(|_| !self.random.one_in(6)) {
            Some(block) => self.some_share(block),
            None => self.some_range(),
        };
        self.remove_whole(wanted)
    }

    /// A part of a block that was added at once.
    fn some_share(&mut self, block: Block) -> PhysRange {
        let shares: Vec<_> = self.bench.mm.block_shares(block.id).collect();
        Self::bytes(self.random.pick(&shares).pfns)
    }

    /// Removes a range, with the rest of its groups.
    fn remove_whole(&mut self, range: PhysRange) -> bool {
        let before = self.facts();
        let removed = match self.bench.mm.remove(range) {
            Err(RemoveError::SplitsGroup { whole, .. }) => self.bench.mm.remove(Self::bytes(whole)),
            removed => removed,
        };
        if removed.is_err() {
            assert_same(&before, &self.facts());
        }
        removed.is_ok()
    }

    fn convert(&mut self) -> bool {
        let device = |block: &Block| block.placement == Placement::PerRange;
        let Some(block) = self.some_block(device) else { return false };
        let converted = match self.bench.mm.convert(Self::bytes(block.pfns)) {
            Err(ConvertError::NotOnePiece(whole)) => self.bench.mm.convert(Self::bytes(whole)),
            converted => converted,
        };
        converted.is_ok()
    }

    fn compact(&mut self) -> bool {
        let (node, kind) = (self.node(), *self.random.pick(&ZoneKind::ALL));
        let order = Order::new(self.random.below(Order::COUNT as u64) as u8).unwrap();
        let run = self.bench.mm.compact(node, kind, order);
        run.is_ok_and(|run| run.pages() == order.pages() && run.start.is_aligned(order))
    }

    /// Takes memory by size, or by name: then all of it must be free to be taken.
    fn take(&mut self) -> bool {
        let node = self.node();
        if self.random.one_in(2) {
            let bytes = (1 + self.random.below(3)) * self.block();
            return self.bench.mm.take_contig(node, bytes).is_ok();
        }
        let Some(block) = self.some_block(|block| block.state == BlockState::Offline) else {
            return false;
        };
        let last = BlockId::new(block.id.get() + self.random.below(2));
        let piece = Piece { node: block.node, first: block.id, last };
        let fits = |id| {
            self.bench.mm.block(id).is_some_and(|b| {
                let free = b.state == BlockState::Offline && !b.taken && !b.poisoned;
                b.boot && b.node == block.node && free
            })
        };
        let fits = fits(block.id) && fits(last);
        let before = self.facts();
        let taken = self.bench.mm.take(&[piece]);
        assert_eq!(taken.is_ok(), fits, "{piece:?}: {taken:?}");
        if taken.is_err() {
            assert_same(&before, &self.facts());
        }
        fits
    }

    fn release(&mut self) -> bool {
        let taken = self.bench.mm.blocks().filter(|block| block.taken).count() as u64;
        assert_eq!(self.bench.mm.release(), Ok(taken));
        assert!(!self.bench.mm.blocks().any(|block| block.taken));
        taken > 0
    }

    /// Marks a page bad: in use or free, of a memmap, offline or taken; at once or deferred.
    fn poison(&mut self) -> bool {
        let patience = self.bad < 2;
        let counts = |block: &Block| {
            let system = block.state == BlockState::Online(ZoneKind::System);
            !system && (patience || !block.boot)
        };
        let Some(block) = self.some_block(counts) else { return false };
        let shares: Vec<_> = self.bench.mm.block_shares(block.id).collect();
        let there = self.random.pick(&shares).pfns;
        let pfn = there.start.add(self.random.below(there.pages()));
        let mut bad = false;
        if self.random.one_in(2) {
            assert_eq!(self.bench.mm.poison_later(pfn), Ok(()));
            let left = self.bench.mm.poison_queued(&mut |at, done| {
                assert_eq!(at, pfn);
                bad = done.is_ok();
            });
            assert_eq!(left, 0);
        } else {
            let done = self.bench.mm.poison(pfn);
            assert!(done != Err(PoisonError::NotMemory(pfn)));
            bad = done.is_ok();
        }
        self.bad += u64::from(bad && block.boot);
        assert!(!bad || self.bench.mm.block(block.id).is_some_and(|block| block.poisoned));
        bad
    }

    fn alloc(&mut self) -> bool {
        let most = 1 + self.random.below(6);
        let order = Order::new(self.random.below(most) as u8).unwrap();
        match self.random.below(8) {
            0 => self.kernel.extend(self.bench.mm.take_pages(order).ok()),
            1 if !self.kernel.is_empty() => {
                let index = self.random.below(self.kernel.len() as u64) as usize;
                self.bench.mm.free_pages(self.kernel.swap_remove(index)).unwrap();
            }
            2 if !self.held.is_empty() && self.pinned.len() < 2 => {
                let handle = *self.random.pick(&self.held);
                self.holder.pin(handle, true);
                self.pinned.insert(handle);
            }
            3 => self.pinned.pop_first().into_iter().for_each(|at| self.holder.pin(at, false)),
            4 if !self.held.is_empty() => {
                self.holder.be_busy(*self.random.pick(&self.held), self.random.below(12) as u32);
            }
            5 if !self.held.is_empty() => {
                let index = self.random.below(self.held.len() as u64) as usize;
                let handle = self.held.swap_remove(index);
                self.pinned.remove(&handle);
                self.holder.release(&self.bench, handle);
            }
            _ if self.held.len() < 300 => self.held.extend(self.holder.take(&self.bench, order)),
            _ => return false,
        }
        true
    }

    /// Undoes everything: only bad pages of boot memory may remain.
    pub(super) fn end(mut self, booted: &[Fact]) -> [u64; OPERATIONS.len()] {
        self.bench.mm.release().unwrap();
        std::mem::take(&mut self.held).into_iter().for_each(|at| {
            self.holder.release(&self.bench, at);
        });
        self.kernel.iter().for_each(|&pfn| self.bench.mm.free_pages(pfn).unwrap());
        let movable = BlockState::Online(ZoneKind::Movable);
        for block in self.bench.mm.blocks().collect::<Vec<_>>() {
            if is_usable(&block) && (!block.boot || block.state != movable) {
                self.bench.mm.offline(block.id).unwrap();
            }
        }
        self.bench.check();
        while let Some(block) = self.some_block(|block| !block.boot) {
            let share = self.some_share(block);
            assert!(self.remove_whole(share), "{share} stays");
        }
        if self.bad == 0 {
            for block in self.bench.mm.blocks().collect::<Vec<_>>() {
                if block.state == BlockState::Offline {
                    self.bench.mm.online(block.id, ZoneKind::Movable).unwrap();
                }
            }
            assert_same(booted, &self.bench.snapshot());
        }
        self.bench.check();
        self.bench.unplug(self.window);
        self.done
    }
}

fn is_usable(block: &Block) -> bool {
    matches!(block.state, BlockState::Online(ZoneKind::Movable | ZoneKind::Normal))
}
