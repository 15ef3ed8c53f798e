//! A part of a block goes offline and leaves while the rest of the block stays online, with its pages where they were.

use hotmem::testing::{Granule16, Holder, Lmb, Random, Shape, TinyShared};
use hotmem::{
    BlockId, BlockState, Fact, FreeError, OfflineError, OfflineOp, OnlineError, Order, Owner,
    PageState, Pfn, PhysAddr, PhysRange, Placement, Quarantined, Removability, RemoveError,
    ScrubError, Stepped, ZoneKind,
};
use hotmem_tests::memory::{MIB, TINY_WINDOW, assert_same, small, tiny, tiny_without_reserve};

use super::Rig;

fn page_bytes<S: Shape>(_: &Rig<S>) -> u64 {
    1 << <hotmem::testing::FakeMachine<S> as hotmem::Sizes>::PAGE_SHIFT
}

/// The blocks that a range touches.
fn blocks<S: Shape>(rig: &Rig<S>, dimm: PhysRange) -> Vec<BlockId> {
    rig.bench.mm.blocks_in(dimm).collect()
}

fn is_online<S: Shape>(rig: &Rig<S>, id: BlockId) -> bool {
    rig.bench.mm.block(id).is_some_and(|block| block.state != BlockState::Offline)
}

fn online<S: Shape>(rig: &Rig<S>, dimm: PhysRange) {
    for id in blocks(rig, dimm).into_iter().filter(|&id| !is_online(rig, id)) {
        rig.bench.mm.online(id, ZoneKind::Movable).unwrap();
    }
    rig.bench.check();
}

/// Whether a block has other memory than that of a range.
fn is_shared<S: Shape>(rig: &Rig<S>, id: BlockId, dimm: PhysRange) -> bool {
    let page = page_bytes(rig);
    let own = |pfn: Pfn| dimm.contains(PhysAddr::new(pfn.get() * page));
    rig.bench.mm.block_shares(id).any(|share| !own(share.pfns.start))
}

/// Takes what a range has offline, in steps on a small machine.
fn offline<S: Shape>(rig: &Rig<S>, dimm: PhysRange) -> Result<(), OfflineError> {
    let budget = if rig.block <= MIB { 64 } else { u64::MAX };
    for id in blocks(rig, dimm).into_iter().filter(|&id| is_online(rig, id)) {
        let mut op = match is_shared(rig, id, dimm) {
            true => rig.bench.mm.start_offline_part(id, dimm)?,
            false => rig.bench.mm.start_offline(id)?,
        };
        while let Stepped::Going(more) = op.step(budget)? {
            op = more;
            rig.bench.check();
        }
    }
    rig.bench.check();
    Ok(())
}

/// Movable pages in about half of all memory, also of boot memory, on a small machine; fewer on another.
fn fill<S: Shape>(rig: &Rig<S>, holder: &Holder<S>, random: &mut Random) -> Vec<u64> {
    let mut all = Vec::new();
    for order in [3, 0] {
        let order = Order::new(order).unwrap();
        let most = if order == Order::ZERO { 64 } else { 600 };
        let take = || holder.take_in_zone(&rig.bench, order);
        all.extend(std::iter::from_fn(take).take(most));
    }
    all.retain(|&handle| {
        let keeps = random.below(2) == 0;
        if !keeps {
            holder.release(&rig.bench, handle);
        }
        keeps
    });
    all
}

/// Where the extents outside of a range are.
fn places_outside<S: Shape>(
    rig: &Rig<S>,
    holder: &Holder<S>,
    handles: &[u64],
    dimm: PhysRange,
) -> Vec<(u64, Pfn)> {
    let page = page_bytes(rig);
    let meets = |pfn: Pfn, order: Order| {
        let range = hotmem::testing::range(pfn.get() * page, order.pages() * page);
        range.overlaps(dimm)
    };
    let places = handles.iter().map(|&handle| (handle, holder.at(handle).unwrap()));
    places
        .filter(|(_, (pfn, order))| !meets(*pfn, *order))
        .map(|(at, (pfn, _))| (at, pfn))
        .collect()
}

/// Three ranges that touch come online, with pages in use; one after the other leaves.
fn leave<S: Shape>(
    rig: &Rig<S>,
    holder: &Holder<S>,
    dimms: &[(PhysRange, Placement); 3],
    order: [usize; 3],
) {
    let bench = &rig.bench;
    let before = bench.snapshot();
    for nth in [1, 2, 0] {
        bench.add(dimms[nth].0, dimms[nth].1);
        online(rig, dimms[nth].0);
    }
    let handles = fill(rig, holder, &mut Random::new(order[0] as u64));
    for nth in order {
        let (dimm, _) = dimms[nth];
        let others = places_outside(rig, holder, &handles, dimm);
        let predicted = bench.mm.explain_remove(dimm);
        let states: Vec<_> = blocks(rig, dimm)
            .into_iter()
            .map(|id| (id, is_online(rig, id) && is_shared(rig, id, dimm)))
            .collect();
        match offline(rig, dimm) {
            Ok(()) => assert!(!matches!(predicted, Removability::Blocked(_)), "{predicted}"),
            Err(error) => {
                assert!(matches!(error, OfflineError::NoRoom { .. }), "{error}");
                handles.iter().for_each(|&handle| holder.release(bench, handle));
                return leave_at_once(rig, dimms, &before);
            }
        }
        bench.remove(dimm);
        holder.check(bench);
        for (id, stays) in states {
            assert_eq!(is_online(rig, id), stays, "{id}");
        }
        // What was not in the range was not moved.
        for (handle, pfn) in others {
            assert_eq!(holder.at(handle).map(|(pfn, _)| pfn), Some(pfn));
        }
    }
    handles.iter().for_each(|&handle| holder.release(bench, handle));
    assert_same(&before, &bench.snapshot());
}

/// Boot memory was too small for what was in use: without that all of it leaves.
fn leave_at_once<S: Shape>(rig: &Rig<S>, dimms: &[(PhysRange, Placement); 3], before: &[Fact]) {
    for (dimm, _) in dimms {
        for id in blocks(rig, *dimm).into_iter().filter(|&id| is_online(rig, id)) {
            rig.bench.mm.offline(id).unwrap();
        }
    }
    for (dimm, _) in dimms.iter().filter(|(dimm, _)| rig.bench.mm.check_remove(*dimm).is_ok()) {
        rig.bench.remove(*dimm);
    }
    assert_same(before, &rig.bench.snapshot());
}

fn leave_in_each_way<S: Shape>(rig: &Rig<S>, pairs: &[(Placement, Placement)]) {
    let (per_block, holder) = (rig.per_block(), Holder::register(&rig.bench));
    for &(one, other) in pairs {
        for (first, len) in [(1, 2), (1, per_block), (per_block - 1, 2)] {
            let dimms = [
                (rig.units(0, first), other),
                (rig.units(first, len), one),
                (rig.units(first + len, 1), other),
            ];
            for order in [[1, 0, 2], [0, 1, 2], [2, 1, 0]] {
                leave(rig, holder, &dimms, order);
            }
        }
    }
}

#[test]
fn what_a_device_has_of_an_online_block_leaves_and_pages_of_others_stay_where_they_are() {
    let with = |one: Placement| Placement::ALL.map(|other| (one, other));
    let all = Placement::ALL.map(with).concat();
    leave_in_each_way(&Rig::over(tiny(MIB), MIB, TINY_WINDOW), &all);
    leave_in_each_way(&Rig::over(small::<TinyShared>(MIB), MIB, TINY_WINDOW), &all);
    let some = [(Placement::PerBlock, Placement::PerRange), (Placement::PerRange, Placement::Boot)];
    leave_in_each_way(&Rig::over(tiny_without_reserve(4 * MIB), 4 * MIB, TINY_WINDOW), &some);
    leave_in_each_way(&Rig::<Granule16>::new(256 * MIB, 256 * MIB, 4 << 30), &some[..1]);
    leave_in_each_way(&Rig::<Lmb>::new(512 * MIB, 256 * MIB, 4 << 30), &some[..1]);
}

/// Two ranges in the first block of a machine, online, and room for what is in use of the second.
fn pair<S: Shape>(rig: &Rig<S>, placement: Placement) -> [PhysRange; 2] {
    let dimms = [rig.units(0, 2), rig.units(2, 1)];
    for dimm in dimms {
        rig.bench.add(dimm, placement);
        online(rig, dimm);
    }
    dimms
}

/// An offline that ends at each of its steps leaves what it found, and so do a part that comes back and a block that went
/// offline with a part that was offline.
fn cancel<S: Shape>(rig: &Rig<S>) {
    for placement in Placement::ALL {
        let before = rig.bench.snapshot();
        let [low, high] = pair(rig, placement);
        let (id, with) = (rig.block_at(0), rig.bench.snapshot());
        for steps in 0.. {
            let Some(op) = begun(rig, id, high, steps) else { break };
            match steps % 2 {
                0 => op.cancel(),
                _ => {
                    std::mem::forget(op);
                    rig.bench.mm.cancel_offline(id).unwrap();
                }
            }
            assert_same(&with, &rig.bench.snapshot());
            rig.bench.check();
        }
        assert!(rig.bench.mm.stats().pages.free < free_in(&with));
        rig.bench.mm.online_part(id, high).unwrap();
        assert_same(&with, &rig.bench.snapshot());
        rig.bench.mm.offline_part(id, high).unwrap();
        rig.bench.mm.offline(id).unwrap();
        rig.bench.mm.online(id, ZoneKind::Movable).unwrap();
        rig.bench.check();
        assert_same(&with, &rig.bench.snapshot());
        rig.bench.mm.offline(id).unwrap();
        [low, high].into_iter().for_each(|dimm| _ = rig.bench.remove(dimm));
        assert_same(&before, &rig.bench.snapshot());
    }
}

/// The offline of a part after some steps, if it has more.
fn begun<S: Shape>(
    rig: &Rig<S>,
    id: BlockId,
    part: PhysRange,
    steps: u32,
) -> Option<OfflineOp<'_, hotmem::testing::FakeMachine<S>>> {
    let mut op = rig.bench.mm.start_offline_part(id, part).unwrap();
    for _ in 0..steps {
        assert_eq!(rig.bench.mm.offlining(), Some(id));
        assert!(matches!(rig.bench.mm.offline(id), Err(OfflineError::Busy)));
        match op.step(1).unwrap() {
            Stepped::Going(more) => op = more,
            Stepped::Done => return None,
        }
    }
    Some(op)
}

fn free_in(facts: &[Fact]) -> u64 {
    let free = facts.iter().map(|fact| match fact {
        Fact::Free(pfns) => pfns.pages(),
        _ => 0,
    });
    free.sum()
}

#[test]
fn a_part_comes_back_from_each_step_of_its_way_offline() {
    cancel(&Rig::over(tiny(MIB), MIB, TINY_WINDOW));
    cancel(&Rig::over(small::<TinyShared>(MIB), MIB, TINY_WINDOW));
    cancel(&Rig::<Lmb>::new(512 * MIB, 256 * MIB, 4 << 30));
}

#[test]
fn what_was_not_added_at_once_does_not_go_offline_apart() {
    for placement in Placement::ALL {
        let rig = Rig::over(tiny(MIB), MIB, TINY_WINDOW);
        let (bench, id) = (&rig.bench, rig.block_at(0));
        let part = |first, len| bench.mm.offline_part(id, rig.units(first, len)).unwrap_err();
        assert_eq!(part(0, 1), OfflineError::NoSuchBlock(id));
        bench.add(rig.units(0, 2), placement);
        assert_eq!(part(0, 1), OfflineError::AlreadyOffline(id));
        online(&rig, rig.units(0, 2));
        assert_eq!(part(0, 2), OfflineError::WholeBlock(id));
        assert_eq!(part(2, 1), OfflineError::NothingThere(id));
        assert_eq!(part(9, 1), OfflineError::NothingThere(id));
        bench.add(rig.units(2, 1), placement);
        let before = bench.snapshot();
        // The head, which has the memmap of the rest, and the rest, which has its memmap there.
        for (first, len) in [(0, 1), (1, 1), (1, 2)] {
            let error = part(first, len);
            assert!(matches!(error, OfflineError::NotOneShare { .. }), "{error}");
        }
        assert_eq!(part(0, 3), OfflineError::WholeBlock(id));
        let odd = hotmem::testing::range(TINY_WINDOW, rig.unit / 2);
        let odd = bench.mm.offline_part(id, odd).unwrap_err();
        assert!(matches!(odd, OfflineError::NotWholeSubsections(_)), "{odd}");
        let boot = BlockId::new(0);
        let error = bench.mm.offline_part(boot, hotmem::testing::range(0, rig.unit)).unwrap_err();
        assert_eq!(error, OfflineError::SystemMemory(boot));
        let back = bench.mm.online_part(id, rig.units(2, 1)).unwrap_err();
        assert_eq!(back, OnlineError::AlreadyOnline(id));
        assert_same(&before, &bench.snapshot());

        assert_eq!(bench.mm.remove(rig.units(2, 1)), Err(RemoveError::NotOffline(id)));
        bench.mm.offline_part(id, rig.units(2, 1)).unwrap();
        assert_eq!(part(2, 1), OfflineError::AlreadyOffline(id));
        // The last memory of a block leaves with the block.
        assert_eq!(bench.mm.remove(rig.units(0, 2)), Err(RemoveError::NotOffline(id)));
        bench.mm.offline_part(id, rig.units(0, 2)).unwrap();
        bench.remove(rig.units(2, 1));
        assert_eq!(bench.mm.remove(rig.units(0, 2)), Err(RemoveError::NotOffline(id)));
        bench.check();
        bench.mm.offline(id).unwrap();
        bench.remove(rig.units(0, 2));
    }
}

/// A pinned page keeps its part online, and its neighbour can go offline all the same.
#[test]
fn what_cannot_move_keeps_its_own_part_only() {
    for pinned_below in [true, false] {
        let rig = Rig::over(tiny(MIB), MIB, TINY_WINDOW);
        let bench = &rig.bench;
        let holder = Holder::register(bench);
        let [low, high] = pair(&rig, Placement::PerBlock);
        let (id, [stays, goes]) =
            (rig.block_at(0), if pinned_below { [low, high] } else { [high, low] });
        let take = || holder.take_in_zone(bench, Order::ZERO);
        let handles: Vec<_> = std::iter::from_fn(take).take(150).collect();
        let inside = |handle: &&u64| {
            let (pfn, _) = holder.at(**handle).unwrap();
            stays.contains(PhysAddr::new(pfn.get() * 4096))
        };
        holder.pin(*handles.iter().find(inside).unwrap(), true);
        let before = bench.snapshot();
        let error = bench.mm.offline_part(id, stays).unwrap_err();
        assert!(matches!(error, OfflineError::InUse { .. }), "{error}");
        assert!(matches!(bench.mm.explain_remove(stays), Removability::Blocked(_)));
        assert_same(&before, &bench.snapshot());
        assert!(!matches!(bench.mm.explain_remove(goes), Removability::Blocked(_)));
        bench.mm.offline_part(id, goes).unwrap();
        bench.check();
        bench.mm.online_part(id, goes).unwrap();
        bench.mm.offline_part(id, goes).unwrap();
        bench.remove(goes);
        holder.check(bench);
    }
}

/// Every byte of the part is cleared, in calls of a few pages, and no byte of its neighbour.
#[test]
fn a_part_that_is_offline_is_cleared_and_what_stays_is_not() {
    for placement in Placement::ALL {
        let rig = Rig::over(tiny(MIB), MIB, TINY_WINDOW);
        let bench = &rig.bench;
        let holder = Holder::register(bench);
        let [low, high] = pair(&rig, placement);
        let id = rig.block_at(0);
        let handles = fill(&rig, holder, &mut Random::new(7));
        assert_eq!(bench.mm.scrub_part(id, high, 9), Err(ScrubError::NotOffline(id)));
        bench.mm.offline_part(id, high).unwrap();
        holder.check(bench);
        assert_eq!(bench.mm.scrub_part(id, low, 9), Err(ScrubError::NotOffline(id)));
        assert_eq!(bench.mm.scrub(id, 9), Err(ScrubError::NotOffline(id)));
        let mut pages = 0;
        loop {
            let done = bench.mm.scrub_part(id, high, 9).unwrap();
            bench.check();
            assert!(done.pages <= 9);
            pages += done.pages;
            if !done.more {
                break;
            }
        }
        let share = bench.mm.block_shares(id).last().unwrap();
        let usable = share.memmap().end.get()..share.pfns.end.get();
        assert_eq!(pages, usable.end - usable.start);
        for pfn in usable {
            assert!(is_clear(&rig, Pfn::new(pfn)), "{placement}: {pfn:#x}");
        }
        assert_eq!(bench.mm.scrub_part(id, high, u64::MAX).unwrap().pages, 0);
        holder.check(bench);
        bench.remove(high);
        holder.check(bench);
        handles.iter().for_each(|&handle| holder.release(bench, handle));
    }
}

fn is_clear<S: Shape>(rig: &Rig<S>, pfn: Pfn) -> bool {
    let (mmu, bytes) = (rig.bench.mm.machine().mmu(), page_bytes(rig));
    let at = PhysAddr::new(pfn.get() * bytes);
    (0..bytes / 8).all(|word| mmu.peek(at.add(8 * word)) == 0)
}

/// A bad page leaves with its part. A part can leave beside a bad page of its neighbour, and the block stays online.
fn bad<S: Shape>(rig: &Rig<S>) {
    let bench = &rig.bench;
    for placement in Placement::ALL {
        for offline_first in [false, true] {
            let before = bench.snapshot();
            let [low, high] = pair(rig, placement);
            let id = rig.block_at(0);
            let last = |dimm: PhysRange| Pfn::new(dimm.end().get() / page_bytes(rig) - 1);
            let poison = |dimm| {
                assert_eq!(bench.mm.poison(last(dimm)), Ok(Quarantined::Page));
                bench.check();
                assert!(bench.mm.block(id).unwrap().poisoned);
            };
            if offline_first {
                bench.mm.offline_part(id, high).unwrap();
                poison(high);
            } else {
                poison(high);
                bench.mm.offline_part(id, high).unwrap();
            }
            let scrubbed = bench.mm.scrub_part(id, high, u64::MAX);
            assert_eq!(scrubbed, Err(ScrubError::Poisoned(id)));
            bench.mm.online_part(id, high).unwrap();
            bench.check();
            bench.mm.offline_part(id, high).unwrap();
            bench.remove(high);
            assert!(!bench.mm.block(id).unwrap().poisoned);
            bench.add(high, placement);
            // The neighbour's.
            poison(low);
            bench.mm.offline_part(id, high).unwrap();
            bench.mm.scrub_part(id, high, u64::MAX).unwrap();
            bench.remove(high);
            assert!(is_online(rig, id) && bench.mm.block(id).unwrap().poisoned);
            bench.mm.offline(id).unwrap();
            bench.remove(low);
            assert_same(&before, &bench.snapshot());
        }
    }
}

#[test]
fn bad_memory_leaves_with_its_part_and_keeps_no_other() {
    bad(&Rig::over(tiny(MIB), MIB, TINY_WINDOW));
    bad(&Rig::over(small::<TinyShared>(MIB), MIB, TINY_WINDOW));
    bad(&Rig::<Lmb>::new(512 * MIB, 256 * MIB, 4 << 30));
}

#[test]
fn pages_of_a_part_that_is_offline_are_nobodys() {
    let rig = Rig::over(tiny(MIB), MIB, TINY_WINDOW);
    let bench = &rig.bench;
    let [_, high] = pair(&rig, Placement::PerBlock);
    let id = rig.block_at(0);
    let managed = bench.mm.block(id).unwrap().counts.managed;
    bench.mm.offline_part(id, high).unwrap();
    let first = bench.mm.block_shares(id).last().unwrap().memmap().end;
    let mine = bench.mm.free_pages(first);
    assert_eq!(mine, Err(FreeError::NotYours(first, Owner::Offline)));
    let info = bench.mm.page_info(first).unwrap();
    assert!(matches!(info.state, Some(PageState::Used { owner: Owner::Offline, .. })), "{info:?}");
    assert_eq!(info.held_by, Some("offline"));
    let shares = bench.mm.shares(id);
    assert_eq!((shares.free + shares.offline, shares.offline), (managed, 63));
    // A dump omits them.
    bench.mm.dump(&mut |run| {
        assert!(!run.pfns.contains(first) && !run.pfns.contains(first.add(62)), "{run:?}");
    });
    assert_eq!(bench.mm.explain_remove(high), Removability::Now);
    assert_eq!(bench.mm.explain_offline(id), Removability::Now);
    bench.remove(high);
    assert!(bench.mm.page_info(first).is_none());
    assert_eq!(bench.mm.free_pages(first), Err(FreeError::NotAllocated(first)));
}

#[test]
fn a_part_has_a_bound_of_steps() {
    let rig = Rig::over(tiny(MIB), MIB, TINY_WINDOW);
    let [_, high] = pair(&rig, Placement::PerBlock);
    let mut op = rig.bench.mm.start_offline_part(rig.block_at(0), high).unwrap();
    let bound = OfflineOp::bound(&rig.bench.mm);
    for _ in 0..bound {
        match op.step(1).unwrap() {
            Stepped::Going(more) => op = more,
            Stepped::Done => return,
        }
    }
    panic!("more than {bound} steps");
}
