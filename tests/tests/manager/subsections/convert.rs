//! A range of any whole subsections that was added in one piece, converted so that what each block has of it can go
//! alone: beside other memory, in use, and with each of its allocations failing.

use hotmem::paging::UnmapError;
use hotmem::testing::{Bench, FakeMachine, Granule16, Holder, Lmb, Shape, TinyShared, range};
use hotmem::{
    Block, BlockState, ConvertError, Fact, Geometry as _, NotWholeSubsections, Order, PageState,
    Pfn, PhysRange, Placement, RemoveError, Share, ZoneKind,
};
use hotmem_tests::memory::{
    GIB, MIB, REAL_WINDOW, Real, TINY_WINDOW, assert_same, fail_each_allocation, real, small, tiny,
    tiny_without_reserve,
};

use super::Rig;

/// Which blocks of a range come online before it is converted: by their number in it.
type Online = fn(u64) -> Option<ZoneKind>;

const STATES: [Online; 3] =
    [|_| None, |_| Some(ZoneKind::Movable), |index| (index % 2 == 0).then_some(ZoneKind::Normal)];

/// The blocks of a range, which are there.
fn blocks<S: Shape>(rig: &Rig<S>, dimm: PhysRange) -> Vec<Block> {
    rig.bench.mm.blocks_in(dimm).map(|id| rig.bench.mm.block(id).unwrap()).collect()
}

fn online<S: Shape>(rig: &Rig<S>, dimm: PhysRange, which: Online) {
    for (index, block) in (0..).zip(blocks(rig, dimm)) {
        if let (BlockState::Offline, Some(kind)) = (block.state, which(index)) {
            rig.bench.mm.online(block.id, kind).unwrap();
        }
    }
    rig.bench.check();
}

/// What a block has of a range.
fn share<S: Shape>(rig: &Rig<S>, block: &Block, dimm: PhysRange) -> PhysRange {
    let bytes = rig.bench.mm.block_range(block.id).unwrap();
    let (start, end) = (bytes.start().max(dimm.start()), bytes.end().min(dimm.end()));
    PhysRange::new(start, end.offset_from(start)).unwrap()
}

/// Fails unless the memmap of each share is at its head, and says so.
#[track_caller]
fn is_converted<S: Shape>(rig: &Rig<S>, dimm: PhysRange) {
    rig.bench.check();
    for block in blocks(rig, dimm) {
        let page = rig.block / block.pfns.pages();
        let own = share(rig, &block, dimm);
        let start = own.start().get() / page;
        let mut shares = rig.bench.mm.block_shares(block.id);
        let group = shares.find(|share| share.pfns.start.get() == start).unwrap().group.unwrap();
        assert_eq!(
            (group.pfns.start.get(), group.pfns.pages()),
            (start, own.len() / page * 64 / page)
        );
        for pfn in group.pfns.iter().skip(1) {
            let state = rig.bench.mm.page_info(pfn).unwrap().state;
            assert_eq!(state, Some(PageState::MemmapTail { head: group.pfns.start }));
        }
    }
}

/// Takes what each block has of a range offline, in an order, and removes it, alone.
fn dismantle<S: Shape>(rig: &Rig<S>, dimm: PhysRange, backwards: bool) {
    let mut all = blocks(rig, dimm);
    if backwards {
        all.reverse();
    }
    for block in all {
        let own = share(rig, &block, dimm);
        let is_shared = rig.bench.mm.block_shares(block.id).count() > 1;
        match block.state {
            BlockState::Offline => {}
            _ if is_shared => rig.bench.mm.offline_part(block.id, own).unwrap(),
            _ => rig.bench.mm.offline(block.id).unwrap(),
        }
        rig.bench.check();
        rig.bench.remove(own);
    }
}

/// Odd ranges: their first unit, and how many.
fn odd(per_block: u64) -> [(u64, u64); 5] {
    let last = per_block - 1;
    [(1, per_block), (last, 2), (last, per_block + 1), (0, per_block + 1), (1, 2 * per_block)]
}

/// A unit before a range, in its first block, and one behind it, in its last block: if that is not whole.
fn beside<S: Shape>(rig: &Rig<S>, dimm: PhysRange) -> Vec<PhysRange> {
    let (start, end) = (dimm.start().get(), dimm.end().get());
    let places = [(start, start - rig.unit), (end, end)];
    let odd = places.into_iter().filter(|(edge, _)| !edge.is_multiple_of(rig.block));
    odd.map(|(_, at)| range(at, rig.unit)).collect()
}

/// The shares of these ranges, each a part of one block.
fn shares<S: Shape>(rig: &Rig<S>, ranges: &[PhysRange]) -> Vec<Option<Share>> {
    let find = |one: &PhysRange| {
        let block = rig.bench.mm.block(rig.bench.mm.block_at(one.start()))?;
        let start = one.start().get() / (rig.block / block.pfns.pages());
        rig.bench.mm.block_shares(block.id).find(|share| share.pfns.start.get() == start)
    };
    ranges.iter().map(find).collect()
}

/// Converts a range, whose blocks are in a state, beside others that came before or after it.
fn convert_beside<S: Shape>(
    rig: &Rig<S>,
    dimm: PhysRange,
    (others, placement): (&[PhysRange], Placement),
    which: Online,
    first: bool,
) {
    let bench = &rig.bench;
    let before = bench.snapshot();
    if first {
        bench.add(dimm, Placement::PerRange);
    }
    others.iter().for_each(|&other| _ = bench.add(other, placement));
    if !first {
        bench.add(dimm, Placement::PerRange);
    }
    online(rig, dimm, which);
    let shares_before = shares(rig, others);
    assert_eq!(bench.mm.convert(dimm), Ok(blocks(rig, dimm).len() as u64));
    is_converted(rig, dimm);
    assert_eq!(shares_before, shares(rig, others));
    let again = bench.mm.convert(dimm).unwrap_err();
    assert!(matches!(again, ConvertError::NotPerRange(_, Placement::PerBlock)), "{again}");
    online(rig, dimm, |_| Some(ZoneKind::Movable));
    is_converted(rig, dimm);
    dismantle(rig, dimm, first);
    for &other in others {
        let id = bench.mm.block_at(other.start());
        if bench.mm.block(id).unwrap().state != BlockState::Offline {
            bench.mm.offline(id).unwrap();
        }
        bench.remove(other);
    }
    assert_same(&before, &bench.snapshot());
}

fn in_each_state<S: Shape>(rig: &Rig<S>) {
    for (first, len) in odd(rig.per_block()) {
        let dimm = rig.units(first, len);
        let others = beside(rig, dimm);
        for which in STATES {
            convert_beside(rig, dimm, (&[], Placement::Boot), which, true);
            for placement in Placement::ALL {
                convert_beside(rig, dimm, (&others, placement), which, true);
                convert_beside(rig, dimm, (&others, placement), which, false);
            }
        }
    }
}

#[test]
fn what_each_block_has_of_a_converted_range_goes_alone_and_memory_beside_it_stays_as_it_is() {
    on_each!(in_each_state);
}

/// Movable pages everywhere, in an odd range that is converted.
fn in_use<S: Shape>(rig: &Rig<S>) {
    for (first, len) in odd(rig.per_block()) {
        let dimm = rig.units(first, len);
        let before = rig.bench.snapshot();
        rig.bench.add(dimm, Placement::PerRange);
        online(rig, dimm, |_| Some(ZoneKind::Movable));
        let holder = Holder::register(&rig.bench);
        let take = |order| holder.take_in_zone(&rig.bench, Order::new(order).unwrap());
        let most = dimm.len() / rig.block * 40 + 40;
        let taken: Vec<_> = (0..most).map_while(|nth| take((nth % 3) as u8)).collect();
        assert_eq!(rig.bench.mm.convert(dimm), Ok(blocks(rig, dimm).len() as u64));
        is_converted(rig, dimm);
        holder.check(&rig.bench);
        taken.into_iter().for_each(|handle| holder.release(&rig.bench, handle));
        dismantle(rig, dimm, true);
        assert_same(&before, &rig.bench.snapshot());
    }
}

#[test]
fn pages_at_the_heads_of_an_odd_range_move_with_their_content() {
    on_each!(in_use);
}

/// A conversion of two shares, with each call of the mapper failing, then its flush, then each of its allocations.
fn fails<S: Shape>(rig: &Rig<S>) {
    let per_block = rig.per_block();
    rig.bench.mm.machine().mmu().start_cpus(3);
    for (first, len) in
        odd(per_block).into_iter().filter(|(first, len)| first + len <= 2 * per_block)
    {
        let dimm = rig.units(first, len);
        let others = beside(rig, dimm);
        others.iter().for_each(|&other| _ = rig.bench.add(other, Placement::PerBlock));
        rig.bench.add(dimm, Placement::PerRange);
        online(rig, dimm, |_| Some(ZoneKind::Movable));
        let before = rig.bench.snapshot();
        let refused = || {
            let refused = rig.bench.mm.convert(dimm);
            rig.bench.mm.machine().mmu().silence(None);
            rig.bench.check();
            assert_same(&before, &rig.bench.snapshot());
            refused.unwrap_err()
        };
        for nth in [1, 2] {
            rig.bench.mm.machine().tables().refusals().arm(nth);
            let error = refused();
            assert!(matches!(error, ConvertError::Unmap(..) | ConvertError::Map(..)), "{error}");
            assert!(rig.bench.mm.machine().tables().refusals().fired());
            rig.bench.mm.machine().tables().refusals().disarm();
        }
        rig.bench.mm.machine().mmu().speculate();
        rig.bench.mm.machine().mmu().silence(Some(2));
        let error = refused();
        assert!(matches!(error, ConvertError::Unmap(_, UnmapError::NotFlushed(_))), "{error}");
        let convert = || rig.bench.mm.convert(dimm);
        let (count, failures) = fail_each_allocation(&rig.bench, convert, |_| {});
        assert_eq!((count, failures), (2, 0), "it takes no memory");
        is_converted(rig, dimm);
        dismantle(rig, dimm, false);
        for other in others {
            rig.bench.offline(other);
            rig.bench.remove(other);
        }
    }
}

#[test]
fn a_conversion_of_an_odd_range_that_fails_leaves_everything_as_it_was_and_takes_no_memory() {
    on_each!(fails);
}

/// With the sizes of x86_64 the memmap of a block is as large as a subsection: that of 130 MiB whose first 2 MiB are in
/// another block is longer than these, and its end is where the block's own shall be.
#[test]
fn a_memmap_that_reaches_past_the_first_share_is_moved_over_itself() {
    for (units, which) in [(65, 0), (65, 1), (65, 2), (66, 1), (130, 1), (129, 2)] {
        let rig = Rig::<Real>::over(real(512 * MIB, 128 * MIB, 16 * GIB), 128 * MIB, REAL_WINDOW);
        let dimm = rig.units(63, units);
        let before = rig.bench.snapshot();
        rig.bench.add(dimm, Placement::PerRange);
        online(&rig, dimm, STATES[which]);
        let facts = |bench: &Bench<Real>| -> Vec<Fact> { bench.snapshot() };
        let there = facts(&rig.bench);
        // A CPU does not acknowledge the flush: the descriptors are copied back.
        rig.bench.mm.machine().mmu().start_cpus(3);
        rig.bench.mm.machine().mmu().silence(Some(2));
        let refused = rig.bench.mm.convert(dimm).unwrap_err();
        assert!(matches!(refused, ConvertError::Unmap(..)), "{refused}");
        rig.bench.mm.machine().mmu().silence(None);
        rig.bench.check();
        assert_same(&there, &facts(&rig.bench));
        assert_eq!(rig.bench.mm.convert(dimm), Ok(blocks(&rig, dimm).len() as u64));
        is_converted(&rig, dimm);
        dismantle(&rig, dimm, units == 65);
        assert_same(&before, &rig.bench.snapshot());
    }
}

/// The memmap of 130 MiB at the end of a block is copied over its own end, which describes the last unit.
#[test]
fn a_memmap_that_is_moved_over_itself_keeps_what_it_says_of_pages_in_use_at_its_end() {
    let rig = Rig::<Real>::over(real(512 * MIB, 128 * MIB, 16 * GIB), 128 * MIB, REAL_WINDOW);
    let (bench, dimm, last) = (&rig.bench, rig.units(63, 65), rig.units(127, 1));
    bench.add(dimm, Placement::PerRange);
    online(&rig, dimm, STATES[1]);
    let holder = Holder::register(bench);
    let (page, unit) = (Order::ZERO, Order::new(9).unwrap());
    let pfns = || FakeMachine::<Real>::pfns(last).iter();
    // Whole units, so that only the last one has pages left; then some of these.
    while holder.take_in_zone(bench, unit).is_some() {}
    let at = |handle: &u64| holder.at(*handle).is_some_and(|(pfn, _)| pfns().any(|one| one == pfn));
    let whole = holder.handles().into_iter().find(at).unwrap();
    holder.release(bench, whole);
    let taken: Vec<_> = (0..2000).map_while(|_| holder.take_in_zone(bench, page)).collect();
    // Every other one, so that the states of neighbours differ.
    taken.into_iter().step_by(2).for_each(|handle| holder.release(bench, handle));
    // Those that are free may be taken for pages of the head that is emptied.
    let is_used = |pfn: &Pfn| {
        let state = bench.mm.page_info(*pfn).and_then(|info| info.state);
        matches!(state, Some(PageState::Used { .. }))
    };
    let used: Vec<_> = pfns().filter(is_used).collect();
    assert!(used.len() > 100);
    let facts = || used.iter().map(|&pfn| bench.mm.page_info(pfn)).collect::<Vec<_>>();
    let before = facts();
    bench.mm.machine().mmu().start_cpus(3);
    bench.mm.machine().mmu().silence(Some(2));
    assert!(matches!(bench.mm.convert(dimm), Err(ConvertError::Unmap(..))));
    bench.mm.machine().mmu().silence(None);
    bench.check();
    assert_eq!(before, facts());
    assert_eq!(bench.mm.convert(dimm), Ok(2));
    is_converted(&rig, dimm);
    assert_eq!(before, facts());
    holder.check(bench);
    holder.handles().into_iter().for_each(|handle| holder.release(bench, handle));
    dismantle(&rig, dimm, true);
}

#[test]
fn what_cannot_be_converted_is_refused_by_name_and_stays_as_it_is() {
    let rig = Rig::over(tiny(MIB), MIB, TINY_WINDOW);
    let (bench, dimm) = (&rig.bench, rig.units(1, 8));
    bench.add(rig.units(0, 1), Placement::PerBlock);
    bench.add(dimm, Placement::PerRange);
    online(&rig, dimm, |_| Some(ZoneKind::Movable));
    let refused = |range: PhysRange| {
        let before = bench.snapshot();
        let refused = bench.mm.convert(range).unwrap_err();
        bench.check();
        assert_same(&before, &bench.snapshot());
        refused
    };
    let odd = range(dimm.start().get(), dimm.len() - 4096);
    let subsection = rig.unit;
    assert_eq!(
        refused(odd),
        ConvertError::NotWholeSubsections(NotWholeSubsections { range: odd, subsection })
    );
    let hole = rig.units(9, 2);
    assert_eq!(refused(hole), ConvertError::Hole(hole.start()));
    assert_eq!(refused(rig.units(12, 1)), ConvertError::NoSuchBlock(rig.block_at(3)));
    for (first, len) in [(1, 7), (2, 7), (1, 9), (4, 4)] {
        let part = refused(rig.units(first, len));
        assert!(matches!(part, ConvertError::NotOnePiece(whole) if whole.pages() == 512), "{part}");
    }
    let other = refused(rig.units(0, 1));
    assert_eq!(other, ConvertError::NotPerRange(rig.block_at(0), Placement::PerBlock));

    // A part of it is offline, while its block is online.
    let first = rig.units(1, 3);
    bench.mm.offline_part(rig.block_at(0), first).unwrap();
    let part = refused(dimm);
    assert!(matches!(part, ConvertError::OfflinePart(id, _) if id == rig.block_at(0)), "{part}");
    bench.mm.online_part(rig.block_at(0), first).unwrap();
    assert!(matches!(bench.mm.remove(rig.units(4, 4)), Err(RemoveError::SplitsGroup { .. })));
    assert_eq!(bench.mm.convert(dimm), Ok(3));
    is_converted(&rig, dimm);
}

#[test]
fn bad_memory_beside_a_range_does_not_keep_it_whole() {
    for (at, good) in [(0, true), (1, false), (2, true), (4, false), (8, false)] {
        let rig = Rig::over(tiny(MIB), MIB, TINY_WINDOW);
        let (bench, dimm) = (&rig.bench, rig.units(1, 8));
        bench.add(rig.units(0, 1), Placement::PerBlock);
        bench.add(dimm, Placement::PerRange);
        // The second page of a unit: of the memmap, in the first one of the range.
        let bad = hotmem::Pfn::new(rig.units(at, 1).start().get() / 4096 + 1);
        bench.mm.poison(bad).unwrap();
        let before = bench.snapshot();
        let done = bench.mm.convert(dimm);
        bench.check();
        match done {
            Ok(count) => assert!(good && count == 3),
            Err(error) => {
                assert!(!good && matches!(error, ConvertError::Poisoned(_)), "{at}: {error}");
                assert_same(&before, &bench.snapshot());
            }
        }
    }
}
