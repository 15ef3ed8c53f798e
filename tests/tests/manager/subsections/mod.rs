//! Memory in whole subsections: odd sizes at odd places, alone and beside other memory of the same blocks.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

/// Runs a test on small machines of each kind.
macro_rules! on_each {
    ($run:expr) => {{
        $run(&Rig::over(tiny(MIB), MIB, TINY_WINDOW));
        $run(&Rig::over(tiny_without_reserve(4 * MIB), 4 * MIB, TINY_WINDOW));
        $run(&Rig::over(small::<TinyShared>(MIB), MIB, TINY_WINDOW));
        $run(&Rig::<Granule16>::new(256 * MIB, 256 * MIB, 4 << 30));
        $run(&Rig::<Lmb>::new(512 * MIB, 256 * MIB, 4 << 30));
    }};
}

mod bad;
mod convert;
mod faulty;
mod part;
mod split;
mod storm;
mod undone;
mod usable;

use hotmem::testing::{Bench, Granule16, Holder, Lmb, Setup, Shape, Tiny, TinyShared, range};
use hotmem::{
    AddError, BlockId, BlockState, NodeId, Order, PhysRange, Placement, RemoveError, ZoneKind,
};
use hotmem_tests::memory::{
    MIB, TINY_WINDOW, assert_same, fail_each_allocation, small, tiny, tiny_without_reserve,
};

/// A machine of shape `S`, the place of its DIMMs, and bytes of its subsection and of its block.
struct Rig<S: Shape> {
    bench: Bench<S>,
    window: u64,
    unit: u64,
    block: u64,
}

/// Blocks that a rig's tests use.
const BLOCKS: u64 = 4;

impl<S: Shape> Rig<S> {
    fn new(ram: u64, block: u64, window: u64) -> Self {
        let setup = Setup {
            ram: vec![(0, ram, 0)],
            block,
            window: (window, 2 * BLOCKS * block),
            kernelcore: None,
        };
        Self::over(Bench::new(&setup), block, window)
    }

    fn over(bench: Bench<S>, block: u64, window: u64) -> Self {
        let unit = bench.mm.subsection();
        bench.plug(range(window, BLOCKS * block));
        Self { bench, window, unit, block }
    }

    /// `len` units from the `first` of the window on.
    fn units(&self, first: u64, len: u64) -> PhysRange {
        range(self.window + first * self.unit, len * self.unit)
    }

    fn per_block(&self) -> u64 {
        self.block / self.unit
    }

    fn block_at(&self, index: u64) -> BlockId {
        self.bench.mm.block_at(range(self.window + index * self.block, 1).start())
    }
}

/// Fails unless all pages of `dimm` but its memmap come online, and its removal leaves memory as it was.
#[track_caller]
fn lives<S: Shape>(rig: &Rig<S>, dimm: PhysRange, placement: Placement) {
    let before = rig.bench.snapshot();
    rig.bench.add(dimm, placement);
    rig.bench.online(dimm);
    let blocks: Vec<_> =
        rig.bench.mm.blocks_in(dimm).filter_map(|id| rig.bench.mm.block(id)).collect();
    let pages = |count: fn(&hotmem::Block) -> u64| blocks.iter().map(count).sum::<u64>();
    let (managed, memmap) = (pages(|at| at.counts.managed), pages(|at| at.counts.memmap));
    let page = dimm.len() / pages(|at| at.pages);
    assert_eq!((managed + memmap) * page, dimm.len());
    let hosted = if placement.self_hosted() { dimm.len() / page * 64 } else { 0 };
    assert_eq!(memmap * page, hosted);
    rig.bench.offline(dimm);
    rig.bench.remove(dimm);
    assert_same(&before, &rig.bench.snapshot());
}

fn lives_everywhere<S: Shape>(rig: &Rig<S>) {
    let per_block = rig.per_block();
    for placement in Placement::ALL {
        for first in 0..per_block.min(5) {
            for len in [1, 2, per_block - 1, per_block, per_block + 1, 2 * per_block + 1] {
                lives(rig, rig.units(first, len.max(1)), placement);
            }
        }
    }
}

#[test]
fn memory_of_any_whole_subsections_comes_online_completely_and_goes_without_a_trace() {
    on_each!(lives_everywhere);
}

/// Adds, and brings online, two DIMMs that touch or not, and removes them in both orders.
fn pairs<S: Shape>(rig: &Rig<S>) {
    let per_block = rig.per_block();
    for (placement, other) in
        Placement::ALL.into_iter().flat_map(|one| Placement::ALL.map(|other| (one, other)))
    {
        for (first, len) in [(0, 1), (1, per_block), (per_block - 1, 2)] {
            for (gap, second) in [(0, 1), (0, per_block), (1, per_block + 1)] {
                let dimms = [(rig.units(first, len), placement), {
                    (rig.units(first + len + gap, second), other)
                }];
                for (adds, removes) in [([0, 1], [0, 1]), ([0, 1], [1, 0]), ([1, 0], [0, 1])] {
                    beside(rig, dimms, adds, removes);
                }
            }
        }
    }
}

fn beside<S: Shape>(
    rig: &Rig<S>,
    dimms: [(PhysRange, Placement); 2],
    adds: [usize; 2],
    removes: [usize; 2],
) {
    let bench = &rig.bench;
    let before = bench.snapshot();
    for nth in adds {
        bench.add(dimms[nth].0, dimms[nth].1);
    }
    let all = range(dimms[0].0.start().get(), dimms[1].0.end().offset_from(dimms[0].0.start()));
    let there = |bench: &Bench<S>| -> Vec<_> {
        bench.mm.blocks_in(all).filter(|&id| bench.mm.block(id).is_some()).collect()
    };
    let online = |bench: &Bench<S>| {
        for id in there(bench) {
            bench.mm.online(id, ZoneKind::Movable).unwrap();
        }
        bench.check();
    };
    online(bench);
    for nth in removes {
        for id in there(bench) {
            bench.mm.offline(id).unwrap();
        }
        bench.remove(dimms[nth].0);
        online(bench);
    }
    assert_same(&before, &bench.snapshot());
}

#[test]
fn two_dimms_in_one_block_come_and_go_alone_in_any_order() {
    on_each!(pairs);
}

#[test]
fn memory_that_joins_an_online_block_is_online_at_once_in_its_zone() {
    for placement in Placement::ALL {
        let rig = Rig::over(tiny(MIB), MIB, TINY_WINDOW);
        let bench = &rig.bench;
        let (low, high) = (rig.units(1, 2), rig.units(3, 4));
        bench.add(low, placement);
        bench.mm.online(rig.block_at(0), ZoneKind::Normal).unwrap();
        let before = bench.mm.block(rig.block_at(0)).unwrap();
        bench.add(high, placement);
        let after = bench.mm.block(rig.block_at(0)).unwrap();
        assert_eq!(after.state, BlockState::Online(ZoneKind::Normal));
        assert_eq!((before.pages, after.pages), (2 * 64, 3 * 64));
        let own = if placement.self_hosted() { rig.unit * 3 / 4096 / 64 } else { 0 };
        // A memmap for all of `high` is in its first block.
        let own = own + if placement == Placement::PerRange { 3 } else { 0 };
        assert_eq!(after.counts.memmap, own);
        assert_eq!(after.counts.free, 3 * 64 - own);
        assert_eq!(bench.mm.block(rig.block_at(1)).unwrap().state, BlockState::Offline);
        assert_eq!(bench.mm.block_shares(rig.block_at(0)).count(), 2);
        // It goes with the block, even if the other memory is in use.
        let holder = Holder::register(bench);
        let handle = holder.take(bench, Order::ZERO).unwrap();
        bench.offline(low);
        bench.remove(high);
        bench.mm.online(rig.block_at(0), ZoneKind::Normal).unwrap();
        holder.check(bench);
        holder.release(bench, handle);
        bench.offline(low);
        bench.remove(low);
    }
}

#[test]
fn a_part_of_a_dimm_is_not_removed_and_neither_is_what_is_not_there() {
    let rig = Rig::over(tiny(MIB), MIB, TINY_WINDOW);
    let bench = &rig.bench;
    for placement in Placement::ALL {
        bench.add(rig.units(2, 5), placement);
        bench.add(rig.units(7, 1), Placement::Boot);
        bench.add(rig.units(9, 2), placement);
        let before = bench.snapshot();
        let remove = |first, len| bench.mm.remove(rig.units(first, len)).unwrap_err();
        for (first, len) in [(2, 4), (3, 4), (2, 1), (4, 1)] {
            let error = remove(first, len);
            assert!(matches!(error, RemoveError::SplitsGroup { .. }), "{placement}: {error}");
        }
        assert_eq!(remove(0, 1), RemoveError::Hole(rig.units(0, 1).start()));
        assert_eq!(remove(8, 1), RemoveError::Hole(rig.units(8, 1).start()));
        assert_eq!(remove(9, 3), RemoveError::Hole(rig.units(11, 1).start()));
        assert_eq!(remove(12, 1), RemoveError::NoSuchBlock(rig.block_at(3)));
        assert!(matches!(
            remove(2, 6),
            RemoveError::AddedApart { .. } | RemoveError::MixedPlacement(_)
        ));
        assert_same(&before, &bench.snapshot());
        for dimm in [rig.units(2, 5), rig.units(9, 2), rig.units(7, 1)] {
            bench.remove(dimm);
        }
    }
}

#[test]
fn nothing_is_added_twice_or_beside_boot_memory() {
    let bench = Bench::<Tiny>::new(&Setup {
        ram: vec![(0, 16 * MIB + 256 * 1024, 0)],
        block: MIB,
        window: (TINY_WINDOW, 64 * MIB),
        kernelcore: None,
    });
    let at = |at, len| bench.mm.hot_add(range(at, len), NodeId::ZERO, Placement::PerBlock);
    bench.plug(range(16 * MIB + 512 * 1024, MIB));
    let before = bench.snapshot();
    let beside = at(16 * MIB + 512 * 1024, MIB).unwrap_err();
    assert!(matches!(beside, AddError::BesideBootMemory { .. }), "{beside}");
    let twice = at(16 * MIB, MIB).unwrap_err();
    assert!(matches!(twice, AddError::Overlaps { .. }), "{twice}");
    assert_same(&before, &bench.snapshot());

    let rig = Rig::over(tiny(MIB), MIB, TINY_WINDOW);
    rig.bench.add(rig.units(2, 4), Placement::PerRange);
    for (first, len) in [(2, 4), (0, 3), (5, 1), (5, 4), (0, 16), (3, 1)] {
        let again = rig.bench.mm.hot_add(rig.units(first, len), NodeId::ZERO, Placement::PerBlock);
        assert!(matches!(again, Err(AddError::Overlaps { .. })), "{first} {len}: {again:?}");
    }
}

/// Any allocation of an add beside other memory fails.
fn fails<S: Shape>(rig: &Rig<S>) {
    let (bench, per_block) = (&rig.bench, rig.per_block());
    let (low, high) = (rig.units(0, 1), rig.units(2 * per_block + 1, 1));
    for (placement, others) in
        Placement::ALL.into_iter().flat_map(|one| Placement::ALL.map(|other| (one, other)))
    {
        let dimm = rig.units(1, 2 * per_block);
        let add = || bench.mm.hot_add(dimm, NodeId::ZERO, placement);
        let remove = |_| _ = bench.remove(dimm);
        let before = bench.snapshot();
        let (_, alone) = fail_each_allocation(bench, add, remove);
        bench.remove(dimm);
        bench.add(low, others);
        bench.add(high, others);
        let (_, failures) = fail_each_allocation(bench, add, remove);
        assert!(failures <= alone && alone > 0, "{failures} of {alone}");
        for dimm in [low, dimm, high] {
            bench.remove(dimm);
        }
        assert_same(&before, &bench.snapshot());
        // Beside memory that is online, where it comes online, too.
        bench.add(low, others);
        bench.online(low);
        fail_each_allocation(bench, add, |_| {
            bench.offline(low);
            bench.remove(dimm);
            bench.online(low);
        });
        bench.offline(low);
        bench.remove(dimm);
        bench.remove(low);
        assert_same(&before, &bench.snapshot());
    }
}

#[test]
fn any_allocation_of_an_odd_add_may_fail() {
    on_each!(fails);
}
