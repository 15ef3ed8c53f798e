//! A range that was added in one piece, converted so that each block can be removed alone.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use hotmem::geometry::Geometry;
use hotmem::testing::{
    Bench, FakeMachine, Holder, Lmb, Random, Setup, Shape, Tag, Tiny, TinyShared, on_cpu, range,
};
use hotmem::{
    BlockId, BlockState, ConvertError, Fact, NotWholeSubsections, Order, Owner, PageState, Pfn,
    PhysRange, Placement, RemoveError, ZoneKind,
};
use hotmem_tests::memory::{
    GIB, MIB, REAL_WINDOW, TINY_WINDOW, assert_same, block_range, real, small,
};

fn dimm(blocks: u64) -> PhysRange {
    range(TINY_WINDOW, blocks * MIB)
}

/// A DEVICE range of `blocks` blocks, of which `online` selects those to bring online.
fn rig(blocks: u64, online: impl Fn(usize) -> Option<ZoneKind>) -> Bench<Tiny> {
    rig_of(blocks, online)
}

/// The same on a machine of another shape.
fn rig_of<S: Shape>(blocks: u64, online: impl Fn(usize) -> Option<ZoneKind>) -> Bench<S> {
    let bench = small(MIB);
    bench.plug(dimm(blocks));
    bench.add(dimm(blocks), Placement::PerRange);
    for (index, id) in bench.blocks(dimm(blocks)).into_iter().enumerate() {
        if let Some(kind) = online(index) {
            bench.mm.online(id, kind).unwrap();
        }
    }
    bench.check();
    bench
}

fn movable(_: usize) -> Option<ZoneKind> {
    Some(ZoneKind::Movable)
}

/// Checks that each block has its own memmap at its head, and reports it.
#[track_caller]
fn check_converted<S: Shape>(bench: &Bench<S>, dimm: PhysRange) {
    bench.check();
    for id in bench.blocks(dimm) {
        let block = bench.mm.block(id).unwrap();
        assert_eq!(block.placement, Placement::PerBlock);
        assert_eq!(block.group, Some(block.pfns.start));
        let group = bench.mm.group(block.pfns.start).unwrap();
        assert_eq!(group.pfns.pages(), FakeMachine::<S>::memmap_pages(block.pfns.pages()));
        for pfn in group.pfns.iter().skip(1) {
            let state = bench.mm.page_info(pfn).unwrap().state;
            assert_eq!(state, Some(PageState::MemmapTail { head: block.pfns.start }));
        }
    }
}

/// Takes every block offline and removes it, in a random order.
fn dismantle<S: Shape>(bench: &Bench<S>, dimm: PhysRange, seed: u64) {
    let mut random = Random::new(seed);
    let mut blocks = bench.blocks(dimm);
    while !blocks.is_empty() {
        let id = blocks.swap_remove(random.below(blocks.len() as u64) as usize);
        if bench.mm.block(id).unwrap().state != BlockState::Offline {
            bench.mm.offline(id).unwrap();
        }
        bench.remove(block_range(bench, id));
    }
}

#[test]
fn at01_the_blocks_of_a_converted_device_range_can_be_removed_in_any_order() {
    any_block_can_go::<Tiny>();
    any_block_can_go::<TinyShared>();
}

fn any_block_can_go<S: Shape>() {
    for blocks in [1, 2, 3, 8, 64, 65, 130] {
        for seed in 0..3 {
            let bench = small::<S>(MIB);
            let before = bench.snapshot();
            bench.plug(dimm(blocks));
            bench.add(dimm(blocks), Placement::PerRange);
            if seed != 2 {
                bench.online(dimm(blocks));
            }
            assert_eq!(bench.mm.convert(dimm(blocks)), Ok(blocks));
            check_converted(&bench, dimm(blocks));
            dismantle(&bench, dimm(blocks), seed);
            assert_same(&before, &bench.snapshot());
            bench.unplug(dimm(blocks));
        }
    }
}

#[test]
fn at02_without_a_conversion_the_removal_of_a_part_is_refused() {
    let bench = rig(4, |_| None);
    let last = range(TINY_WINDOW + 3 * MIB, MIB);
    assert!(matches!(bench.mm.remove(last), Err(RemoveError::SplitsGroup { .. })));
    bench.mm.convert(dimm(4)).unwrap();
    bench.remove(last);
}

#[test]
fn a_converted_range_equals_one_that_was_added_block_by_block() {
    is_as_added_block_by_block::<Tiny>();
    is_as_added_block_by_block::<TinyShared>();
}

fn is_as_added_block_by_block<S: Shape>() {
    let states: [fn(usize) -> Option<ZoneKind>; 4] = [
        |_| None,
        movable,
        |index| (index % 2 == 0).then_some(ZoneKind::Movable),
        |index| {
            let kinds = [None, Some(ZoneKind::Normal), Some(ZoneKind::Movable)];
            kinds.get(index % 3).copied().flatten()
        },
    ];
    for blocks in [2, 5, 66] {
        for online in states {
            let converted = rig_of::<S>(blocks, online);
            converted.mm.convert(dimm(blocks)).unwrap();
            check_converted(&converted, dimm(blocks));

            let added = small::<S>(MIB);
            added.plug(dimm(blocks));
            added.add(dimm(blocks), Placement::PerBlock);
            for (index, id) in added.blocks(dimm(blocks)).into_iter().enumerate() {
                if let Some(kind) = online(index) {
                    added.mm.online(id, kind).unwrap();
                }
            }
            assert_same(&added.snapshot(), &converted.snapshot());
        }
    }
}

#[test]
fn pages_at_the_heads_are_migrated_with_their_content() {
    contents_move_away::<Tiny>();
    contents_move_away::<TinyShared>();
}

fn contents_move_away<S: Shape>() {
    let mut random = Random::new(5);
    for _ in 0..30 {
        let bench = rig_of::<S>(5, movable);
        let holder = Holder::register(&bench);
        for _ in 0..random.below(500) {
            let order = Order::new(random.below(4) as u8).unwrap();
            holder.take_in_zone(&bench, order);
        }
        for handle in holder.handles() {
            if random.one_in(3) {
                holder.release(&bench, handle);
            }
        }
        bench.mm.convert(dimm(5)).unwrap();
        check_converted(&bench, dimm(5));
        holder.check(&bench);
        for handle in holder.handles() {
            holder.release(&bench, handle);
        }
        dismantle(&bench, dimm(5), 1);
    }
}

#[test]
fn a_head_that_cannot_be_emptied_leaves_the_range_whole() {
    let bench = rig(4, |index| Some(if index == 2 { ZoneKind::Normal } else { ZoneKind::Movable }));
    while bench.mm.take_pages(Order::ZERO).is_ok() {}
    let before = bench.snapshot();
    let head = Pfn::new((TINY_WINDOW + 2 * MIB) / 4096);
    let id = BlockId::new(TINY_WINDOW / MIB + 2);
    assert_eq!(
        bench.mm.convert(dimm(4)),
        Err(ConvertError::InUse(id, head, Owner::Kernel, "kernel"))
    );
    assert_same(&before, &bench.snapshot());
    bench.check();

    // A bad page at a head.
    let bench = rig(4, movable);
    bench.mm.poison(head.add(1)).unwrap();
    let before = bench.snapshot();
    let refused = bench.mm.convert(dimm(4));
    assert_eq!(refused, Err(ConvertError::InUse(id, head, Owner::Poison, "poison")));
    assert_same(&before, &bench.snapshot());
}

#[test]
fn a_bad_page_whose_place_is_unknown_keeps_the_range_whole() {
    let block = |index| BlockId::new(TINY_WINDOW / MIB + index);
    let refused = |bench: Bench<Tiny>, at: u64, index| {
        bench.mm.poison(Pfn::new(at / 4096)).unwrap();
        let before = bench.snapshot();
        assert_eq!(bench.mm.convert(dimm(4)), Err(ConvertError::Poisoned(block(index))));
        assert_same(&before, &bench.snapshot());
        bench.check();
    };
    // It holds descriptors, and must not become a free page.
    refused(rig(4, movable), TINY_WINDOW + 9 * 4096, 0);
    // It lies at the head of an offline block, and must not hold descriptors.
    refused(rig(4, |_| None), TINY_WINDOW + 2 * MIB + 4096, 2);

    // The allocator knows a bad page that was free, and such a page does not prevent the conversion.
    let bench = rig(4, movable);
    bench.mm.poison(Pfn::new((TINY_WINDOW + 3 * MIB) / 4096 + 77)).unwrap();
    bench.mm.convert(dimm(4)).unwrap();
    check_converted(&bench, dimm(4));
    dismantle(&bench, dimm(4), 4);
}

#[test]
fn without_room_for_the_pages_at_a_head_nothing_is_converted() {
    let bench = rig(3, movable);
    let holder = Holder::register(&bench);
    while holder.take(&bench, Order::ZERO).is_some() {}
    // Migration may use the pages that new movable allocations leave free; the kernel allocates them.
    while bench.mm.take_pages(Order::ZERO).is_ok() {}
    let before = bench.snapshot();
    let refused = bench.mm.convert(dimm(3)).unwrap_err();
    assert!(matches!(refused, ConvertError::NoRoom(..)), "{refused}");
    assert_same(&before, &bench.snapshot());
    holder.check(&bench);
}

#[test]
fn only_one_whole_piece_is_converted_and_the_rest_is_named() {
    let bench = rig(4, |_| None);
    let whole = |error| match error {
        Err(ConvertError::NotOnePiece(whole)) => whole.pages() * 4096,
        other => panic!("{other:?}"),
    };
    assert_eq!(whole(bench.mm.convert(dimm(3))), 4 * MIB);
    assert_eq!(whole(bench.mm.convert(range(TINY_WINDOW + MIB, MIB))), 4 * MIB);
    assert_eq!(
        bench.mm.convert(range(TINY_WINDOW + 32 * MIB, MIB)),
        Err(ConvertError::NoSuchBlock(BlockId::new(96)))
    );
    assert_eq!(whole(bench.mm.convert(range(TINY_WINDOW, MIB / 2))), 4 * MIB);
    let (odd, subsection) = (range(TINY_WINDOW, MIB / 8), bench.mm.subsection());
    let refused = ConvertError::NotWholeSubsections(NotWholeSubsections { range: odd, subsection });
    assert_eq!(bench.mm.convert(odd), Err(refused));
    bench.mm.convert(dimm(4)).unwrap();
    let again = bench.mm.convert(dimm(4));
    assert_eq!(again, Err(ConvertError::NotPerRange(BlockId::new(64), Placement::PerBlock)));
    let boot = bench.mm.convert(range(0, MIB));
    assert_eq!(boot, Err(ConvertError::NotPerRange(BlockId::new(0), Placement::Boot)));
}

#[test]
fn a_conversion_takes_no_memory() {
    let bench = rig(8, movable);
    while bench.mm.take_pages(Order::ZERO).is_ok() {}
    bench.mm.machine().plan().arm(1);
    bench.mm.convert(dimm(8)).unwrap();
    assert!(!bench.mm.machine().plan().fired());
    bench.mm.machine().plan().disarm();
    check_converted(&bench, dimm(8));
}

#[test]
fn a_range_of_real_size_is_converted_and_the_first_block_gets_its_pages_back() {
    let bench = real(512 * MIB, 128 * MIB, 16 * GIB);
    let before = bench.snapshot();
    let dimm = range(REAL_WINDOW, 9 * GIB);
    bench.plug(dimm);
    bench.add(dimm, Placement::PerRange);
    bench.online(dimm);
    let managed = || bench.mm.blocks().filter(|b| !b.boot).map(|b| b.counts.managed).sum::<u64>();
    let all = managed();
    assert_eq!(bench.mm.convert(dimm), Ok(72));
    bench.check();
    assert_eq!(managed(), all);
    for id in bench.blocks(dimm) {
        let counts = bench.mm.block(id).unwrap().counts;
        assert_eq!((counts.memmap, counts.managed), (512, 32768 - 512));
    }
    dismantle(&bench, dimm, 3);
    assert_same(&before, &bench.snapshot());
}

/// Pages of 64 KiB and memory blocks of 256 MiB: the memmap of a block is four pages.
#[test]
fn lmbs_of_64_kib_pages_are_converted() {
    let block = 256 * MIB;
    let ram = vec![(0, 512 * MIB, 0)];
    let window = (REAL_WINDOW, 16 * GIB);
    let bench = Bench::<Lmb>::new(&Setup { ram, block, window, kernelcore: None });
    let before = bench.snapshot();
    let dimm = range(REAL_WINDOW, 5 * GIB);
    bench.plug(dimm);
    bench.add(dimm, Placement::PerRange);
    bench.online(dimm);
    assert_eq!(bench.mm.convert(dimm), Ok(20));
    check_converted(&bench, dimm);
    for id in bench.blocks(dimm) {
        let counts = bench.mm.block(id).unwrap().counts;
        assert_eq!((counts.memmap, counts.managed), (4, 4096 - 4));
    }
    dismantle(&bench, dimm, 3);
    assert_same(&before, &bench.snapshot());
}

#[test]
fn readers_see_every_page_all_the_time_and_no_torn_descriptor() {
    let bench = rig(12, movable);
    let holder = Holder::register(&bench);
    let handles: Vec<_> =
        (0..900).filter_map(|_| holder.take_in_zone(&bench, Order::ZERO)).collect();
    // These do not move: they are at no head.
    let still: Vec<_> = handles
        .iter()
        .filter_map(|&handle| holder.at(handle))
        .map(|(pfn, _)| pfn)
        .filter(|pfn| pfn.get() % 256 >= 4)
        .collect();
    let used =
        Some(PageState::Used { order: Order::ZERO, owner: Owner::Movable(holder.mover().id()) });
    let stop = AtomicBool::new(false);
    let looks = AtomicU64::new(0);
    let counts: BTreeMap<Pfn, AtomicU64> =
        still.iter().map(|&pfn| (pfn, AtomicU64::new(0))).collect();
    bench.mm.machine().mmu().yield_often(true);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    for &pfn in still.iter().step_by(7) {
                        let info = bench.mm.page_info(pfn).unwrap();
                        assert_eq!((info.state, info.head), (used, Some(pfn)));
                        assert!(bench.mm.private(pfn).is_ok());
                        let counted = bench.mm.with_meta(pfn, 0, holder.mover(), |tag| {
                            tag.set(tag.get().unwrap().wrapping_add(1 << 40));
                        });
                        assert_eq!(counted, Ok(()));
                        counts[&pfn].fetch_add(1, Ordering::Relaxed);
                        looks.fetch_add(1, Ordering::Relaxed);
                    }
                    for raw in (TINY_WINDOW / 4096..(TINY_WINDOW + 12 * MIB) / 4096).step_by(5) {
                        assert!(bench.mm.page_info(Pfn::new(raw)).is_some());
                    }
                }
            });
        }
        while looks.load(Ordering::Relaxed) < 1000 {
            std::thread::yield_now();
        }
        let done = bench.mm.convert(dimm(12));
        let seen = looks.load(Ordering::Relaxed);
        while looks.load(Ordering::Relaxed) < seen + 1000 {
            std::thread::yield_now();
        }
        stop.store(true, Ordering::Relaxed);
        assert_eq!(done, Ok(12));
    });
    bench.mm.machine().mmu().yield_often(false);
    check_converted(&bench, dimm(12));
    // Counts made in the descriptors while they moved are complete.
    for (&pfn, count) in &counts {
        let counted = count.load(Ordering::Relaxed) << 40;
        let taken = |tag: &Tag| tag.set(tag.get().unwrap().wrapping_sub(counted));
        assert_eq!(bench.mm.with_meta(pfn, 0, holder.mover(), taken), Ok(()));
    }
    holder.check(&bench);
    handles.iter().for_each(|&handle| holder.release(&bench, handle));
    bench.check();
}

/// What CPU 1 does at each flush: it allocates, and frees the pages of the block that moves next into its cache.
struct OtherCpu {
    /// The block whose descriptors move.
    moving: AtomicU64,
    held: Mutex<Vec<Pfn>>,
}

static OTHER: OtherCpu = OtherCpu { moving: AtomicU64::new(0), held: Mutex::new(Vec::new()) };

impl OtherCpu {
    fn at_flush(&self, bench: &Bench<Tiny>) {
        let block = |pfn: Pfn| pfn.get() * 4096 / MIB;
        let moving = self.moving.fetch_sub(1, Ordering::Relaxed);
        let mut held = self.held.lock().unwrap();
        let pfn = bench.mm.take_pages(Order::ZERO).unwrap();
        assert_ne!(block(pfn), moving, "{pfn} comes from the block whose descriptors move");
        let (next, later) = held.iter().partition(|&&pfn| block(pfn) == moving - 1);
        *held = later;
        let cached = || bench.mm.cpu_pages(1).unwrap().cached;
        let (before, count): (u64, u64) = (cached(), <Vec<Pfn>>::len(&next) as u64);
        next.into_iter().for_each(|pfn| assert_eq!(bench.mm.free_pages(pfn), Ok(())));
        assert_eq!(cached(), before + count);
        held.push(pfn);
    }
}

/// A CPU uses its cache with the lock of that only. So the cache must not have a page of the block whose descriptors
/// move: the fake machine reports a descriptor that is used while it is not mapped.
#[test]
fn a_cpu_allocates_from_its_cache_at_each_flush_and_gets_no_page_of_the_block_that_moves() {
    let bench: &'static Bench<Tiny> = Box::leak(Box::new(rig(4, |_| Some(ZoneKind::Normal))));
    let first = TINY_WINDOW / 4096;
    let take = || bench.mm.take_pages(Order::ZERO).ok().filter(|pfn| pfn.get() >= first);
    let all: Vec<_> = std::iter::from_fn(take).collect();
    // Some of each block that moves but the first, and not at its head.
    let is_kept = |pfn: &Pfn| pfn.get() % 256 >= 252 && pfn.get() < first + 3 * 256;
    let (held, rest) = all.into_iter().partition(is_kept);
    <Vec<Pfn>>::into_iter(rest).for_each(|pfn| bench.mm.free_pages(pfn).unwrap());
    *OTHER.held.lock().unwrap() = held;
    OTHER.moving.store(TINY_WINDOW / MIB + 3, Ordering::Relaxed);
    bench.mm.machine().mmu().on_flush(|| on_cpu(1, || OTHER.at_flush(bench)));
    assert_eq!(bench.mm.convert(dimm(4)), Ok(4));
    assert_eq!(OTHER.moving.load(Ordering::Relaxed), TINY_WINDOW / MIB);
    check_converted(bench, dimm(4));
    bench.check();
}

#[test]
fn the_groups_of_a_converted_range_are_counted_one_by_one() {
    let bench = rig(6, movable);
    bench.mm.convert(dimm(6)).unwrap();
    let groups = bench.snapshot().iter().filter(|fact| matches!(fact, Fact::Group(_))).count();
    assert_eq!(groups, 6);
}
