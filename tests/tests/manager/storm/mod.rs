//! Random storms over the whole manager, against a model that knows only the requests and their results.
//!
//! The model keeps blocks and held extents in two maps, predicts every refusal of an operation, and is
//! compared with the manager after each. Memory is plugged everywhere from the start, so a range may
//! be added and removed in any pieces; contents are never cleared in between.
#![expect(clippy::panic, reason = "a suite fails by a panic")]

mod model;

use std::collections::BTreeMap;
use std::ops::Range;

use hotmem::testing::{Bench, CPUS, Random, Setup, Tiny, become_cpu, range};
use hotmem::{
    AddError, BlockId, BlockState, Fact, FreeError, NodeId, OfflineError, OnlineError, Order,
    Owner, PageState, Pfn, Placement, RemoveError, ZoneKind,
};
use hotmem_tests::memory::{MIB, TINY_WINDOW, assert_same};

use model::{Known, Model, PAGE};

/// Blocks that can be plugged.
const BLOCKS: u64 = 40;
/// Steps of one of the eight storms. One in ten is an operation, after which every invariant is checked.
const STEPS: u64 = 12_500;

/// Results that the storms over one block size must meet.
const RESULTS: [&str; 16] = [
    "added",
    "overlap",
    "out of memory",
    "online",
    "online already",
    "no block to bring online",
    "offline",
    "in use",
    "no block to take offline",
    "removed",
    "not there",
    "not offline",
    "splits a group",
    "mixed placement",
    "allocated",
    "not yours",
];

struct Storm {
    bench: Bench<Tiny>,
    seed: u64,
    step: u64,
    random: Random,
    booted: Vec<Fact>,
    model: Model,
    /// The number of each kind of result.
    results: BTreeMap<&'static str, u64>,
}

impl Drop for Storm {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "seed {}, blocks of {:#x} bytes, step {}",
                self.seed, self.model.block, self.step
            );
        }
    }
}

impl Storm {
    fn new(seed: u64, block: u64) -> Self {
        let ram = vec![(0, 0x9_f000, 0), (MIB, 5 * MIB, 0), (8 * MIB, 4 * MIB + 0x3000, 1)];
        // Half of the storms have a table reserve, the others use the allocator.
        let window = (TINY_WINDOW, if seed.is_multiple_of(2) { BLOCKS * block } else { 0 });
        let bench = Bench::new(&Setup { ram, block, window, kernelcore: None });
        bench.plug(range(TINY_WINDOW, BLOCKS * block));
        Self {
            booted: bench.snapshot(),
            bench,
            seed,
            step: 0,
            random: Random::new(seed),
            model: Model::new(block),
            results: BTreeMap::new(),
        }
    }

    /// Runs to the end; returns the number of each kind of result.
    fn run(mut self) -> BTreeMap<&'static str, u64> {
        for step in 0..STEPS {
            self.step = step;
            // One CPU has no cache.
            become_cpu(step as usize % (CPUS + 1));
            // Tides: memory fills up, then is freed.
            let allocs = if step / 1000 % 2 == 0 { 30 } else { 18 };
            match self.random.below(60) {
                0..2 => self.add(),
                2 => self.online(),
                3 => self.offline(),
                4..6 => self.remove(),
                6..8 => self.look(),
                8 => self.free_wrongly(),
                kind if kind < 8 + allocs => self.alloc(),
                _ => self.free(),
            }
        }
        self.end();
        std::mem::take(&mut self.results)
    }

    fn count(&mut self, result: &'static str) {
        *self.results.entry(result).or_insert(0) += 1;
    }

    /// A run of blocks of the window, short ones more often.
    fn some_blocks(&mut self) -> Range<u64> {
        let most = 1 << self.random.below(5);
        let len = 1 + self.random.below(most);
        let start = self.model.first + self.random.below(BLOCKS - len + 1);
        start..start + len
    }

    /// A block of the window; mostly one that is `online`, if there is one.
    fn some_block(&mut self, online: bool) -> u64 {
        let start = self.model.first + self.random.below(BLOCKS);
        let mut known = self.model.blocks.range(start..).chain(self.model.blocks.range(..start));
        let wanted = known.find(|(_, known)| known.online.is_some() == online);
        wanted.filter(|_| !self.random.one_in(4)).map_or(start, |(&block, _)| block)
    }

    fn add(&mut self) {
        let mut blocks = self.some_blocks();
        if !self.random.one_in(4) {
            // The part of the run that is not there.
            let is_there = |block: &u64| self.model.blocks.contains_key(block);
            let start = blocks.clone().find(|block| !is_there(block)).unwrap_or(blocks.start);
            blocks = start..(start + 1..blocks.end).find(is_there).unwrap_or(blocks.end);
        }
        let bytes = self.model.bytes(&blocks);
        let placement = *self.random.pick(&Placement::ALL);
        let node = NodeId::new(self.random.below(3) as u32).unwrap_or_default();
        let there = blocks.clone().find(|block| self.model.blocks.contains_key(block));
        let before = self.bench.snapshot();

        let plan = self.bench.mm.machine().plan();
        plan.arm(if self.random.one_in(2) { 1 + self.random.below(3) } else { 0 });
        let result = self.bench.mm.hot_add(bytes, node, placement);
        let fired = plan.fired();
        plan.disarm();
        match (result, there) {
            (Ok(added), None) => {
                assert_eq!((added.range, added.placement), (bytes, placement));
                self.count("added");
                for block in blocks.clone() {
                    let group = match placement {
                        Placement::PerRange => (blocks.start, blocks.end),
                        _ => (block, block + 1),
                    };
                    let known = Known { online: None, node, placement, group };
                    self.model.blocks.insert(block, known);
                }
            }
            (Err(AddError::Overlaps { block, .. }), Some(there)) => {
                assert_eq!(block.get(), there);
                self.count("overlap");
            }
            (Err(AddError::Map(_) | AddError::OutOfMemory(_)), None) => {
                let scarce = self.bench.mm.stats().pages.free < 1024;
                assert!(fired || scarce, "nothing failed and there was memory");
                self.count("out of memory");
            }
            (result, there) => panic!("{result:?}, but block {there:?} is there"),
        }
        if result.is_err() {
            assert_same(&before, &self.bench.snapshot());
        }
        self.compare();
    }

    fn online(&mut self) {
        let block = self.some_block(false);
        let id = BlockId::new(block);
        let kind = *self.random.pick(&[ZoneKind::Normal, ZoneKind::Movable, ZoneKind::Movable]);
        let result = self.bench.mm.online(id, kind);
        let result = match self.model.blocks.get_mut(&block) {
            None => {
                assert_eq!(result, Err(OnlineError::NoSuchBlock(id)));
                "no block to bring online"
            }
            Some(known) if known.online.is_some() => {
                assert_eq!(result, Err(OnlineError::AlreadyOnline(id)));
                "online already"
            }
            Some(known) => {
                assert_eq!(result.map(Some), Ok(self.bench.mm.block(id)));
                known.online = Some(kind);
                "online"
            }
        };
        self.count(result);
        self.compare();
    }

    fn offline(&mut self) {
        // Every second time all obstacles are freed first; otherwise hardly any block could go offline.
        let block = self.some_block(true);
        if self.random.one_in(2) {
            let pages = self.model.pages(block);
            let range = Pfn::new(pages.start)..Pfn::new(pages.end);
            let inside: Vec<_> = self.model.held.range(range).map(|(&pfn, _)| pfn).collect();
            inside.into_iter().for_each(|pfn| self.free_one(pfn));
        }
        let id = BlockId::new(block);
        let used = self.model.used_pages(block);
        let first = self.model.first_used(block);
        let result = self.bench.mm.offline(id);
        let result = match self.model.blocks.get_mut(&block) {
            None => {
                assert_eq!(result, Err(OfflineError::NoSuchBlock(id)));
                "no block to take offline"
            }
            Some(known) if known.online.is_none() => {
                assert_eq!(result, Err(OfflineError::AlreadyOffline(id)));
                "offline already"
            }
            Some(_) if used > 0 => {
                let by = first.map_or("", |(_, owner)| self.bench.mm.owner_name(owner));
                assert_eq!(result, Err(OfflineError::InUse { block: id, pages: used, first, by }));
                "in use"
            }
            Some(known) => {
                assert!(result.is_ok(), "{result:?}");
                known.online = None;
                "offline"
            }
        };
        self.count(result);
        self.compare();
    }

    fn remove(&mut self) {
        let blocks = self.removable();
        let bytes = self.model.bytes(&blocks);
        let expected = self.model.refusal(&blocks);
        let before = self.bench.snapshot();
        match (self.bench.mm.remove(bytes), expected) {
            (Ok(removed), None) => {
                assert_eq!(removed.range, bytes);
                self.count("removed");
                blocks.clone().for_each(|block| _ = self.model.blocks.remove(&block));
            }
            (result, expected) => {
                assert_eq!(result.err(), expected);
                self.count(match expected {
                    Some(RemoveError::NoSuchBlock(_)) => "not there",
                    Some(RemoveError::NotOffline(_)) => "not offline",
                    Some(RemoveError::SplitsGroup { .. }) => "splits a group",
                    _ => "mixed placement",
                });
                assert_same(&before, &self.bench.snapshot());
            }
        }
        self.compare();
    }

    /// A run of blocks to remove: a group, two neighbours, all but one block of a group, or anything.
    fn removable(&mut self) -> Range<u64> {
        let start = self.model.first + self.random.below(BLOCKS);
        let mut known = self.model.blocks.range(start..).chain(self.model.blocks.range(..start));
        let offline = known.find(|(_, known)| known.online.is_none());
        let Some((_, &Known { group: (low, high), .. })) = offline else {
            return self.some_blocks();
        };
        match self.random.below(6) {
            0 => self.some_blocks(),
            1 => low..high + 1,
            2 if high - low > 1 => low..high - 1,
            3 if high - low > 1 => low + 1..high,
            _ => low..high,
        }
    }

    fn alloc(&mut self) {
        let most = 1 + self.random.below(7);
        let order = Order::new(self.random.below(most) as u8).unwrap_or_default();
        let owner = if self.random.one_in(5) {
            Owner::Kernel
        } else {
            Owner::Movable(self.bench.stubborn.id())
        };
        let Ok(pfn) = self.bench.alloc_as(order, owner) else {
            assert!(
                order > Order::ZERO || self.model.free_pages(owner) == 0,
                "{owner:?} got no page"
            );
            return;
        };
        assert!(pfn.is_aligned(order), "{pfn} for {order}");
        let end = pfn.add(order.pages());
        let below = self.model.held.range(..end).next_back();
        let apart = below.is_none_or(|(&start, (order, ..))| start.add(order.pages()) <= pfn);
        assert!(apart, "{pfn} was allocated twice");

        if let Some(known) = self.model.blocks.get(&(pfn.get() / (self.model.block / PAGE))) {
            let kind = known.online.unwrap_or_else(|| panic!("{pfn} is offline"));
            assert!(ZoneKind::for_owner(owner).contains(&kind), "{pfn} in {kind} for {owner:?}");
            assert!(!self.model.memmap_of(known).contains(&pfn.get()), "{pfn} is memmap");
        } else {
            assert!(pfn.get() < self.model.pages(self.model.first).start, "{pfn} is not there");
        }
        self.count("allocated");
        let word = self.random.bits();
        assert_eq!(self.bench.mm.set_private(pfn, word), Ok(()));
        self.model.held.insert(pfn, (order, owner, word));
    }

    fn free(&mut self) {
        let start = Pfn::new(self.random.below(self.model.pages(self.model.first + BLOCKS).start));
        let next = self.model.held.range(start..).next().or(self.model.held.iter().next());
        if let Some((&pfn, _)) = next {
            self.free_one(pfn);
        }
    }

    fn free_one(&mut self, pfn: Pfn) {
        let word = self.model.held.remove(&pfn).map(|(_, _, word)| word);
        assert_eq!(self.bench.mm.private(pfn).ok(), word);
        assert_eq!(self.bench.mm.free_pages(pfn), Ok(()));
    }

    /// Frees what is not held at `pfn`: a tail, a free page, a memmap page, a missing page.
    fn free_wrongly(&mut self) {
        // Half of them in boot memory, mostly at its start, where most allocations of boot are.
        let window = self.model.pages(self.model.first + BLOCKS + 1).start;
        let bits = self.random.below(13);
        let end = if self.random.one_in(2) { 1 << bits } else { window };
        let pfn = Pfn::new(self.random.below(end));
        if !self.model.held.contains_key(&pfn) {
            match self.bench.mm.free_pages(pfn) {
                Err(FreeError::NotYours(_, Owner::Boot | Owner::Table | Owner::Memmap)) => {
                    assert!(pfn.get() < self.model.pages(self.model.first).start, "{pfn}");
                    self.count("not yours");
                }
                Err(FreeError::NotOnline(_) | FreeError::NotAllocated(_)) => {}
                result => panic!("{pfn}: {result:?}"),
            }
        }
    }

    /// Looks up a page of the window, and compares its state with the model.
    fn look(&mut self) {
        let pages = self.model.pages(self.model.first).start
            ..self.model.pages(self.model.first + BLOCKS).start;
        let pfn = Pfn::new(pages.start + self.random.below(pages.end - pages.start));
        let info = self.bench.mm.page_info(pfn);
        let Some(known) = self.model.blocks.get(&(pfn.get() / (self.model.block / PAGE))) else {
            return assert_eq!(info, None);
        };
        let info = info.unwrap_or_else(|| panic!("{pfn} is not there"));
        assert_eq!(info.node, known.node);
        assert_eq!(info.block_state, known.online.map_or(BlockState::Offline, BlockState::Online));
        let memmap = self.model.memmap_of(known);
        let below = self.model.held.range(..=pfn).next_back();
        let extent = below.filter(|(start, (order, ..))| pfn < start.add(order.pages()));
        match (info.state, extent) {
            (Some(PageState::MemmapHead { .. }), None) => assert_eq!(memmap.start, pfn.get()),
            (Some(PageState::MemmapTail { head }), None) => {
                assert!(memmap.contains(&pfn.get()) && head.get() == memmap.start);
            }
            (Some(PageState::Used { order, owner }), Some((&head, held))) => {
                assert_eq!((pfn, order, owner), (head, held.0, held.1));
            }
            (Some(PageState::Tail), Some((&head, _))) => assert_eq!(info.head, Some(head)),
            (Some(PageState::Free { .. } | PageState::Cached { .. } | PageState::Tail), None) => {
                assert!(known.online.is_some() && !memmap.contains(&pfn.get()));
            }
            (None, None) => assert!(known.online.is_none() && !memmap.contains(&pfn.get())),
            other => panic!("{pfn}: {other:?}"),
        }
    }

    /// Checks every invariant, and compares with the model.
    fn compare(&self) {
        self.bench.check();
        self.model.compare(&self.bench);
    }

    /// Frees and removes everything: the machine is then as it was after boot.
    fn end(&mut self) {
        while let Some((&pfn, _)) = self.model.held.iter().next() {
            self.free_one(pfn);
        }
        let online: Vec<_> = self.model.blocks.keys().copied().collect();
        for block in online {
            let _ = self.bench.mm.offline(BlockId::new(block));
        }
        while let Some((_, &known)) = self.model.blocks.iter().next() {
            let blocks = known.group.0..known.group.1;
            self.bench.remove(self.model.bytes(&blocks));
            blocks.for_each(|block| _ = self.model.blocks.remove(&block));
        }
        assert_same(&self.booted, &self.bench.snapshot());
        self.bench.unplug(range(TINY_WINDOW, BLOCKS * self.model.block));
    }
}

fn storms(seeds: Range<u64>, block: u64) {
    let mut results = BTreeMap::new();
    for seed in seeds {
        for (result, count) in Storm::new(seed, block).run() {
            *results.entry(result).or_insert(0) += count;
        }
    }
    // A storm without this result proves nothing about it.
    for result in RESULTS {
        assert!(results.contains_key(result), "never {result}: {results:?}");
    }
}

#[test]
fn a_storm_over_blocks_of_one_section_agrees_with_the_model() {
    storms(0..2, MIB);
}

#[test]
fn a_storm_over_blocks_of_two_sections_agrees_with_the_model() {
    storms(2..4, 2 * MIB);
}

#[test]
fn a_storm_over_blocks_of_four_sections_agrees_with_the_model() {
    storms(4..6, 4 * MIB);
}

#[test]
fn a_storm_over_blocks_of_eight_sections_agrees_with_the_model() {
    storms(6..8, 8 * MIB);
}
