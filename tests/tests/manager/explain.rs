//! `explain` predicts the outcome of an operation, if no page is allocated or freed in between.

#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]

use hotmem::testing::{Bench, Holder, Random, Tiny, range};
use hotmem::{
    BlockId, BlockState, Estimate, NodeId, NotWholeSubsections, Obstacle, OfflineError, OfflineOp,
    Order, Owner, Pfn, PhysRange, Placement, PoisonError, Quarantined, Removability, RemoveError,
    Stepped, ZoneKind,
};
use hotmem_tests::memory::{MIB, TINY_WINDOW, assert_same, block_range, tiny};

const BLOCKS: u64 = 5;

struct Rig {
    bench: Bench<Tiny>,
    holder: &'static Holder<Tiny>,
    dimm: PhysRange,
    random: Random,
    kernel: Vec<Pfn>,
}

fn node(raw: u32) -> NodeId {
    NodeId::new(raw).unwrap()
}

/// Blocks on two nodes, some in each zone, some of each placement.
fn rig(seed: u64) -> Rig {
    let bench = tiny(MIB);
    let holder = Holder::register(&bench);
    let dimm = range(TINY_WINDOW, BLOCKS * MIB);
    let mut random = Random::new(seed);
    bench.plug(dimm);
    for (i, id) in bench.blocks(dimm).into_iter().enumerate() {
        let placement = *random.pick(&Placement::ALL);
        bench.mm.hot_add(block_range(&bench, id), node(i as u32 % 2), placement).unwrap();
        let kind = *random.pick(&[ZoneKind::Movable, ZoneKind::Movable, ZoneKind::Normal]);
        bench.mm.online(id, kind).unwrap();
    }
    Rig { bench, holder, dimm, random, kernel: Vec::new() }
}

impl Rig {
    /// Fills memory to a random degree, with extents of random sizes, and frees some of them. At most about `room`
    /// pages stay free.
    fn fill(&mut self, room: u64) {
        let mut handles = Vec::new();
        let largest = self.random.below(7);
        for _ in 0..self.random.below(700) {
            let order = Order::new(self.random.below(largest + 1) as u8).unwrap();
            if self.random.one_in(30) {
                self.kernel.extend(self.bench.mm.take_pages(order).ok());
            } else {
                handles.extend(self.holder.take(&self.bench, order));
            }
        }
        let keep = 1 + self.random.below(4);
        for handle in handles {
            if self.random.one_in(keep) {
                self.holder.release(&self.bench, handle);
            } else if self.random.one_in(200) {
                self.holder.pin(handle, true);
            }
        }
        // Little room, so that sizes matter.
        let spare = self.random.below(room);
        while self.bench.mm.zones().map(|zone| zone.counts.free).sum::<u64>() > spare {
            let order = Order::new(self.random.below(4) as u8).unwrap();
            let Ok(pfn) =
                self.bench.mm.take_pages(order).or_else(|_| self.bench.mm.take_pages(Order::ZERO))
            else {
                break;
            };
            self.kernel.push(pfn);
        }
        if self.random.one_in(2) {
            let free: Vec<_> = self.kernel.drain(..).collect();
            for pfn in free {
                if self.random.one_in(3) {
                    self.kernel.push(pfn);
                } else {
                    self.bench.mm.free_pages(pfn).unwrap();
                }
            }
        }
        self.bench.check();
    }

    /// A prediction made in steps, of as few extents each as there may be.
    fn estimated(&mut self, ranges: &[PhysRange]) -> Removability {
        let mut estimate = Estimate::default();
        let extents = self.random.below(9);
        loop {
            let step = self.bench.mm.estimate_remove(&mut estimate, ranges, extents);
            if let Some(removability) = step {
                return removability;
            }
        }
    }

    /// Takes a block offline, and compares the outcome with the prediction.
    fn offline_as_predicted(&self, id: BlockId) {
        let predicted = self.bench.mm.explain_offline(id);
        let moves = self.holder.moves();
        let before = self.bench.snapshot();
        let done = self.bench.mm.offline(id);
        self.bench.check();
        self.holder.check(&self.bench);
        let extents = self.holder.moves().0 - moves.0;
        match (predicted, done) {
            (Removability::Now, Ok(_)) => assert_eq!(extents, 0),
            (Removability::AfterMoving { extents: predicted, .. }, Ok(_)) => {
                assert_eq!(extents, predicted);
            }
            (
                Removability::Blocked(Obstacle::InUse { pfn, block, owner, .. }),
                Err(OfflineError::InUse { block: at, first, .. }),
            ) => {
                assert_eq!((block, Some((pfn, owner))), (at, first));
                assert_same(&before, &self.bench.snapshot());
            }
            (
                Removability::Blocked(Obstacle::NoRoom(order)),
                Err(OfflineError::NoRoom { order: wanted, .. }),
            ) => assert_eq!(order, wanted),
            (predicted, done) => panic!("predicted {predicted:?}, but {done:?}"),
        }
    }
}

#[test]
fn e23_each_offline_has_the_predicted_outcome() {
    let (mut now, mut moved, mut held, mut full) = (0, 0, 0, 0);
    for seed in 0..60 {
        let mut rig = rig(seed);
        rig.fill(64);
        for id in rig.bench.blocks(rig.dimm) {
            match rig.bench.mm.explain_offline(id) {
                Removability::Now => now += 1,
                Removability::AfterMoving { .. } => moved += 1,
                Removability::Blocked(Obstacle::InUse { .. }) => held += 1,
                Removability::Blocked(Obstacle::NoRoom(_)) => full += 1,
                Removability::Blocked(other) => panic!("{other:?}"),
            }
            rig.offline_as_predicted(id);
        }
    }
    assert!(now > 3 && moved > 9 && held > 9 && full > 9, "{now} {moved} {held} {full}");
}

#[test]
fn e23_the_removal_of_several_blocks_has_the_predicted_outcome() {
    let (mut can, mut cannot) = (0, 0);
    for seed in 1000..1400 {
        let mut rig = rig(seed);
        rig.fill(1500);
        let count = 2 + rig.random.below(BLOCKS - 1);
        let part = range(TINY_WINDOW, count * MIB);
        let predicted = rig.bench.mm.explain_remove(part);
        assert_eq!(rig.estimated(&[part]), predicted);
        if let Removability::Blocked(Obstacle::Range(error)) = predicted {
            assert_eq!(rig.bench.mm.remove(part), Err(error));
            continue;
        }
        let done =
            rig.bench.blocks(part).iter().try_for_each(|&id| rig.bench.mm.offline(id).map(drop));
        rig.holder.check(&rig.bench);
        let blocked = matches!(predicted, Removability::Blocked(_));
        assert_eq!(blocked, done.is_err(), "seed {seed}: predicted {predicted:?}, but {done:?}");
        if done.is_ok() {
            can += 1;
            rig.bench.remove(part);
        } else {
            cannot += 1;
        }
    }
    assert!(can > 9 && cannot > 9, "{can} {cannot}");
}

#[test]
fn ranges_that_go_together_have_room_outside_all_of_them_or_none() {
    let (mut can, mut cannot) = (0, 0);
    for seed in 2000..2300 {
        let mut rig = rig(seed);
        rig.fill(if seed % 3 == 0 { 1500 } else { 400 });
        let count = 2 + rig.random.below(BLOCKS - 1);
        let whole = rig.bench.mm.explain_remove(range(TINY_WINDOW, count * MIB));
        if matches!(whole, Removability::Blocked(Obstacle::InUse { .. } | Obstacle::Range(_))) {
            continue;
        }
        let mut parts: Vec<_> = (0..count).map(|i| range(TINY_WINDOW + i * MIB, MIB)).collect();
        parts.rotate_left(rig.random.below(count) as usize);
        // A block that two of them touch counts once.
        parts.push(parts[0]);
        assert_eq!(rig.estimated(&parts), whole, "seed {seed}");
        match whole {
            Removability::Blocked(_) => cannot += 1,
            _ => can += 1,
        }
    }
    assert!(can > 4 && cannot > 4, "{can} {cannot}");
}

#[test]
fn a_step_of_an_estimate_examines_as_many_extents_as_it_may() {
    let mut rig = rig(21);
    rig.fill(64);
    rig.holder.handles().into_iter().for_each(|handle| rig.holder.pin(handle, false));
    let part = block_range(&rig.bench, rig.bench.blocks(rig.dimm)[1]);
    let steps_of = |extents| {
        let mut estimate = Estimate::default();
        let step = || rig.bench.mm.estimate_remove(&mut estimate, &[part], extents);
        core::iter::repeat_with(step).position(|result| result.is_some()).unwrap() as u64
    };
    // The last step has the result.
    let extents = steps_of(1) + 1;
    assert!(extents > 20, "{extents}");
    assert_eq!(steps_of(7) + 1, extents.div_ceil(7));
    assert_eq!((steps_of(u64::MAX), steps_of(0)), (0, extents - 1));
}

#[test]
fn explain_gives_the_reason_of_a_remove_for_memory_that_can_never_be_removed() {
    let rig = rig(3);
    let explain = |range| rig.bench.mm.explain_remove(range);
    let blocked = |error| Removability::Blocked(Obstacle::Range(error));
    assert_eq!(explain(range(0, MIB)), blocked(RemoveError::BootMemory(BlockId::new(0))));
    let system = BlockId::new(0);
    assert_eq!(
        rig.bench.mm.explain_offline(system),
        Removability::Blocked(Obstacle::SystemMemory(system))
    );
    let beyond = TINY_WINDOW + 100 * MIB;
    let absent = BlockId::new(beyond / MIB);
    assert_eq!(explain(range(beyond, MIB)), blocked(RemoveError::NoSuchBlock(absent)));
    let odd = range(TINY_WINDOW + 4096, MIB);
    assert_eq!(
        explain(odd),
        blocked(RemoveError::NotWholeSubsections(NotWholeSubsections {
            range: odd,
            subsection: 256 << 10
        }))
    );
}

#[test]
fn e16_a_bad_free_page_is_not_allocated_and_its_block_stays_offline_once_it_is() {
    let rig = rig(11);
    let id = rig.bench.blocks(rig.dimm)[2];
    let pfn = rig.bench.mm.block(id).unwrap().pfns.end.add(1_u64.wrapping_neg());
    assert_eq!(rig.bench.mm.poison(pfn), Ok(Quarantined::Page));
    rig.bench.check();
    assert_eq!(rig.bench.mm.poison(pfn), Err(PoisonError::Already(pfn)));
    while let Ok(page) = rig.bench.alloc_movable(Order::ZERO) {
        assert_ne!(page, pfn);
    }
    let rig = self::rig(11);
    rig.bench.mm.poison(pfn).unwrap();
    assert_eq!(rig.bench.mm.explain_offline(id), Removability::Now);
    rig.bench.mm.offline(id).unwrap();
    rig.bench.check();
    assert_eq!(
        rig.bench.mm.online(id, ZoneKind::Movable).unwrap_err(),
        hotmem::OnlineError::Poisoned(id)
    );
    assert_eq!(rig.bench.mm.block(id).unwrap().state, BlockState::Offline);
    rig.bench.remove(block_range(&rig.bench, id));
}

#[test]
fn e16_a_bad_page_in_use_is_migrated_first_and_the_rest_of_its_extent_is_free() {
    let rig = rig(12);
    let order = Order::new(4).unwrap();
    let handle = rig.holder.take(&rig.bench, order).unwrap();
    let (pfn, _) = rig.holder.at(handle).unwrap();
    let free = rig.bench.mm.stats().pages.free;
    assert_eq!(rig.bench.mm.poison(pfn.add(5)), Ok(Quarantined::Page));
    rig.bench.check();
    rig.holder.check(&rig.bench);
    assert_ne!(rig.holder.at(handle).unwrap().0, pfn);
    assert_eq!(rig.bench.mm.stats().pages.free, free - 1);
}

#[test]
fn e16_a_bad_page_that_cannot_be_migrated_is_refused_and_named() {
    let rig = rig(13);
    let kernel = rig.bench.mm.take_pages(Order::new(2).unwrap()).unwrap();
    let before = rig.bench.snapshot();
    let bad = kernel.add(3);
    assert_eq!(rig.bench.mm.poison(bad), Err(PoisonError::InUse(bad, Owner::Kernel, "kernel")));
    let absent = Pfn::new((TINY_WINDOW + 100 * MIB) / 4096);
    assert_eq!(rig.bench.mm.poison(absent), Err(PoisonError::NotMemory(absent)));
    assert_same(&before, &rig.bench.snapshot());
}

#[test]
fn e16_bad_descriptors_mark_their_block_and_the_one_they_describe() {
    let bench = tiny(MIB);
    let dimm = range(TINY_WINDOW, 4 * MIB);
    bench.plug(dimm);
    bench.add(dimm, Placement::PerRange);
    bench.online(dimm);
    let blocks = bench.blocks(dimm);
    let head = bench.mm.block(blocks[0]).unwrap().group.unwrap();
    // Four memmap pages a block: the tenth describes pages of the third.
    assert_eq!(bench.mm.poison(head.add(9)), Ok(Quarantined::Memmap));
    bench.check();
    let poisoned: Vec<_> = blocks.iter().map(|&id| bench.mm.block(id).unwrap().poisoned).collect();
    assert_eq!(poisoned, [true, false, true, false]);
    bench.offline(dimm);
    bench.remove(dimm);
}

#[test]
fn an_offline_takes_at_most_the_stated_steps_with_any_owners() {
    for seed in 0..20 {
        let mut rig = rig(seed);
        rig.fill(64);
        for handle in rig.holder.handles() {
            rig.holder.pin(handle, false);
            let times = rig.random.below(12) as u32;
            rig.holder.be_busy(handle, times);
        }
        for id in rig.bench.blocks(rig.dimm) {
            let Ok(mut op) = rig.bench.mm.start_offline(id) else { continue };
            let bound = OfflineOp::bound(&rig.bench.mm);
            let mut steps = 0;
            while let Ok(Stepped::Going(more)) = op.step(1) {
                steps = more.progress().steps;
                op = more;
            }
            assert!(steps <= bound, "{steps} of {bound}");
            rig.holder.check(&rig.bench);
        }
    }
}

/// A free extent is half in a part that goes, all other memory is in use: what stays of it is room for the part's pages.
#[test]
fn a_part_fits_beside_itself_in_what_stays_of_a_free_extent() {
    let bench = tiny(MIB);
    let holder = Holder::register(&bench);
    let (low, high) = (range(TINY_WINDOW, MIB / 4), range(TINY_WINDOW + MIB / 4, MIB * 3 / 4));
    bench.plug(range(TINY_WINDOW, MIB));
    [low, high].into_iter().for_each(|part| _ = bench.add(part, Placement::Boot));
    let id = bench.blocks(low)[0];
    bench.mm.online(id, ZoneKind::Movable).unwrap();
    while bench.mm.take_pages(Order::ZERO).is_ok() {}
    let handles: Vec<_> = std::iter::from_fn(|| holder.take_in_zone(&bench, Order::ZERO)).collect();
    let first = bench.mm.block_shares(id).next().unwrap().pfns.start;
    let stays = |pfn: Pfn| (128..136).contains(&(pfn.get() - first.get()));
    for handle in handles {
        if !holder.at(handle).is_some_and(|(pfn, _)| stays(pfn)) {
            holder.release(&bench, handle);
        }
    }
    let predicted = bench.mm.explain_remove(high);
    assert_eq!(predicted, Removability::AfterMoving { extents: 8, pages: 8 });
    bench.mm.offline_part(id, high).unwrap();
    bench.remove(high);
    holder.check(&bench);
    bench.check();
}
