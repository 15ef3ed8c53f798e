//! Memory that was added at once to a block, split so that a part of it leaves while the rest stays online, in use.

use hotmem::paging::UnmapError;
use hotmem::testing::{Granule16, Holder, Lmb, Shape, TinyShared, range};
use hotmem::{
    BlockState, ConvertError, Obstacle, Order, PhysAddr, PhysRange, Placement, Removability,
    RemoveError, ZoneKind,
};
use hotmem_tests::memory::{
    GIB, MIB, REAL_WINDOW, Real, TINY_WINDOW, assert_same, fail_each_allocation, real, small, tiny,
    tiny_without_reserve,
};

use super::Rig;

/// Splits a range at a unit; returns whether the tables of the machine allow it. If not, nothing has changed.
#[track_caller]
fn split<S: Shape>(rig: &Rig<S>, at: PhysAddr) -> bool {
    let before = rig.bench.snapshot();
    let done = rig.bench.mm.split_at(at);
    rig.bench.check();
    match done {
        Ok(()) => true,
        Err(ConvertError::Unmap(_, UnmapError::CutsLeaf { .. })) => {
            assert_same(&before, &rig.bench.snapshot());
            false
        }
        error => error.map(|()| true).unwrap(),
    }
}

fn online<S: Shape>(rig: &Rig<S>, index: u64) {
    rig.bench.mm.online(rig.block_at(index), ZoneKind::Movable).unwrap();
    rig.bench.check();
}

/// Removes a range, which goes offline before if its block is online.
#[track_caller]
fn leave<S: Shape>(rig: &Rig<S>, part: PhysRange) {
    let id = rig.bench.mm.block_at(part.start());
    let block = rig.bench.mm.block(id).unwrap();
    let alone = rig.bench.mm.block_shares(id).count() == 1;
    match block.state {
        BlockState::Offline => {}
        _ if alone => rig.bench.mm.offline(id).unwrap(),
        _ => rig.bench.mm.offline_part(id, part).unwrap(),
    }
    rig.bench.check();
    rig.bench.remove(part);
}

/// Splits a range of a block in two, or three, in each state, beside another range or not; each part leaves alone.
fn in_parts<S: Shape>(rig: &Rig<S>) {
    let per_block = rig.per_block();
    for (first, len) in [(0, per_block), (1, per_block - 1), (0, per_block - 1)] {
        // Leaves of the linear map are 4 units on one of the machines, and 8 on another.
        for cut in (1..len.min(9)).chain([15, 16]).filter(|&cut| cut < len) {
            for (beside, is_online) in [(false, false), (false, true), (true, true)] {
                let before = rig.bench.snapshot();
                let other = rig.units(if first == 0 { per_block - 1 } else { 0 }, 1);
                let beside = beside && len < per_block;
                if beside {
                    rig.bench.add(other, Placement::PerBlock);
                }
                let placement =
                    if cut % 2 == 0 { Placement::PerBlock } else { Placement::PerRange };
                rig.bench.add(rig.units(first, len), placement);
                if is_online {
                    online(rig, 0);
                }
                let mut parts = vec![(first, len)];
                if split(rig, rig.units(first + cut, 1).start()) {
                    parts = vec![(first, cut), (first + cut, len - cut)];
                }
                if parts.len() == 2 && cut > 1 && split(rig, rig.units(first + cut - 1, 1).start())
                {
                    parts = vec![(first + cut - 1, 1), (first, cut - 1), (first + cut, len - cut)];
                }
                if cut % 3 == 0 {
                    parts.reverse();
                }
                parts.iter().for_each(|&(first, len)| leave(rig, rig.units(first, len)));
                if beside {
                    leave(rig, other);
                }
                assert_same(&before, &rig.bench.snapshot());
            }
        }
    }
}

#[test]
fn what_was_added_at_once_is_split_and_each_part_leaves_alone() {
    on_each!(in_parts);
}

/// The sizes of x86_64: one leaf maps the descriptors of a block.
fn whole_block() -> Rig<Real> {
    let rig = Rig::over(real(512 * MIB, 128 * MIB, 16 * GIB), 128 * MIB, REAL_WINDOW);
    rig.bench.add(rig.units(0, 64), Placement::PerRange);
    online(&rig, 0);
    rig
}

#[test]
fn a_unit_leaves_a_whole_block_whose_other_pages_are_pinned_and_none_of_them_moves() {
    for unit in [1, 17, 62, 63] {
        let rig = whole_block();
        let holder = Holder::register(&rig.bench);
        let take = || holder.take_in_zone(&rig.bench, Order::ZERO);
        let handles: Vec<_> = std::iter::from_fn(take).take(1 << 15).collect();
        let dimm = rig.units(0, 64);
        let in_dimm = |handle: &u64| {
            let (pfn, _) = holder.at(*handle).unwrap();
            dimm.contains(PhysAddr::new(pfn.get() * 4096)).then_some(pfn)
        };
        let leaves = rig.units(unit, 1);
        let stays = |pfn: hotmem::Pfn| !leaves.contains(PhysAddr::new(pfn.get() * 4096));
        let behind = rig.units(unit + 1, 1).start().get() / 4096;
        // Not those where the memmap of the rest shall be.
        let is_pinned =
            |pfn: hotmem::Pfn| stays(pfn) && !(behind..behind + 512).contains(&pfn.get());
        let pinned: Vec<_> = handles
            .iter()
            .filter_map(|&handle| Some((handle, in_dimm(&handle).filter(|&pfn| is_pinned(pfn))?)))
            .collect();
        assert!(pinned.len() > 10_000, "{}", pinned.len());
        pinned.iter().for_each(|&(handle, _)| holder.pin(handle, true));
        assert!(matches!(rig.bench.mm.explain_remove(dimm), Removability::Blocked(_)));
        let part = rig.bench.mm.explain_part(leaves);
        assert!(matches!(part, Removability::AfterMoving { .. }), "{part}");
        if unit != 63 {
            assert!(split(&rig, rig.units(unit + 1, 1).start()));
        }
        assert!(split(&rig, leaves.start()));
        leave(&rig, leaves);
        holder.check(&rig.bench);
        for &(handle, pfn) in &pinned {
            assert_eq!(holder.at(handle).map(|(at, _)| at), Some(pfn));
            holder.pin(handle, false);
        }
        handles.into_iter().for_each(|handle| holder.release(&rig.bench, handle));
        rig.bench.check();
    }
}

#[test]
fn a_split_that_fails_at_any_step_leaves_the_block_as_it_was() {
    for unit in [1, 32, 63] {
        let rig = whole_block();
        let at = rig.units(unit, 1).start();
        rig.bench.mm.machine().mmu().start_cpus(3);
        let before = rig.bench.snapshot();
        let refusals = rig.bench.mm.machine().tables().refusals();
        let mut calls = 0;
        loop {
            refusals.arm(calls + 1);
            let done = rig.bench.mm.split_at(at);
            let fired = refusals.fired();
            refusals.disarm();
            rig.bench.check();
            if !fired {
                break assert_eq!(done, Ok(()));
            }
            calls += 1;
            assert!(done.is_err(), "call {calls}");
            assert_same(&before, &rig.bench.snapshot());
        }
        assert_eq!(calls, 3, "unmap, and map twice");

        let rig = whole_block();
        rig.bench.mm.machine().mmu().start_cpus(3);
        let before = rig.bench.snapshot();
        rig.bench.mm.machine().mmu().silence(Some(2));
        let silent = rig.bench.mm.split_at(at).unwrap_err();
        assert!(matches!(silent, ConvertError::Unmap(_, UnmapError::NotFlushed(_))), "{silent}");
        rig.bench.mm.machine().mmu().silence(None);
        rig.bench.check();
        assert_same(&before, &rig.bench.snapshot());
        let split = || rig.bench.mm.split_at(at);
        let ((), failures) = fail_each_allocation(&rig.bench, split, |()| {});
        assert_eq!(failures, 1, "a table for smaller leaves");
    }
}

#[test]
fn what_cannot_be_split_is_refused_by_name() {
    let rig = Rig::over(tiny(MIB), MIB, TINY_WINDOW);
    rig.bench.add(rig.units(1, 5), Placement::PerRange);
    rig.bench.add(rig.units(9, 2), Placement::Boot);
    rig.bench.add(rig.units(12, 3), Placement::PerBlock);
    let before = rig.bench.snapshot();
    let at = |unit| rig.units(unit, 1).start();
    let refused = |at| {
        let refused = rig.bench.mm.split_at(at).unwrap_err();
        assert_same(&before, &rig.bench.snapshot());
        refused
    };
    assert!(matches!(refused(at(2)), ConvertError::NotOnePiece(whole) if whole.pages() == 5 * 64));
    assert!(matches!(refused(at(10)), ConvertError::NotPerRange(_, Placement::Boot)));
    assert!(matches!(refused(at(12)), ConvertError::NotPerRange(_, Placement::PerBlock)));
    assert_eq!(refused(at(0)), ConvertError::Hole(at(0)));
    assert_eq!(refused(at(15)), ConvertError::Hole(at(15)));
    for odd in [at(13).get() + 4096, u64::MAX, u64::MAX / 2] {
        let odd = refused(PhysAddr::new(odd));
        assert!(matches!(odd, ConvertError::NotWholeSubsections(_)), "{odd}");
    }
    let far = refused(range(1 << 40, 1).start());
    assert!(matches!(far, ConvertError::NoSuchBlock(_)), "{far}");
    for absent in [rig.units(32, 1), range(1 << 40, MIB), range(u64::MAX - MIB, MIB)] {
        let explained = rig.bench.mm.explain_part(absent);
        let Removability::Blocked(Obstacle::Range(why)) = explained else {
            panic!("{absent}: {explained}")
        };
        assert!(matches!(why, RemoveError::NoSuchBlock(_)), "{why}");
    }
    // A range of several blocks is converted first.
    rig.bench.mm.convert(rig.units(1, 5)).unwrap();
    assert_eq!(rig.bench.mm.split_at(at(2)), Ok(()));
    rig.bench.check();
}
