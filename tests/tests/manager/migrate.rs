//! Offline by migration: pages in use are migrated with their content and their owner's word; a page that cannot be
//! migrated stops the offline before any migration.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use hotmem::testing::{Bench, Holder, Random, Tiny, range};
use hotmem::{
    BlockId, BlockState, OfflineError, OfflineOp, Order, Owner, PhysRange, Placement, Stepped,
    ZoneKind,
};
use hotmem_tests::memory::{MIB, TINY_WINDOW, assert_same, tiny};

type Op<'m> = OfflineOp<'m, hotmem::testing::FakeMachine<Tiny>>;

struct Rig {
    bench: Bench<Tiny>,
    holder: &'static Holder<Tiny>,
    dimm: PhysRange,
}

/// A machine with `blocks` blocks of 1 MiB, movable, each with its own memmap.
fn rig(blocks: u64) -> Rig {
    let bench = tiny(MIB);
    let holder = Holder::register(&bench);
    let dimm = range(TINY_WINDOW, blocks * MIB);
    bench.plug(dimm);
    bench.add(dimm, Placement::PerBlock);
    bench.online(dimm);
    Rig { bench, holder, dimm }
}

impl Rig {
    fn fill(&self, orders: &[u8]) -> Vec<u64> {
        let order = |&raw: &u8| Order::new(raw).unwrap();
        let take = |order| self.holder.take_in_zone(&self.bench, order).unwrap();
        orders.iter().map(order).map(take).collect()
    }

    fn first(&self) -> BlockId {
        self.bench.blocks(self.dimm)[0]
    }

    /// The block that holds the extent of a handle.
    fn block_of(&self, handle: u64) -> BlockId {
        let (pfn, _) = self.holder.at(handle).unwrap();
        self.bench.mm.page_info(pfn).unwrap().block
    }

    #[track_caller]
    fn check(&self) {
        self.bench.check();
        self.holder.check(&self.bench);
    }

    fn start(&self, id: BlockId) -> Op<'_> {
        self.bench.mm.start_offline(id).unwrap()
    }
}

#[test]
fn pages_in_use_are_migrated_with_their_content_and_their_owners_word() {
    let rig = rig(3);
    let handles = rig.fill(&[0, 3, 0, 5, 1, 0]);
    let from = rig.block_of(handles[0]);
    let since = rig.bench.mm.page_info(rig.holder.at(handles[0]).unwrap().0).unwrap().since;
    rig.bench.mm.offline(from).unwrap();
    assert_eq!(rig.bench.mm.block(from).unwrap().state, BlockState::Offline);
    rig.check();
    assert!(rig.holder.moves().0 > 0);
    for &handle in &handles {
        assert_ne!(rig.block_of(handle), from);
    }
    let moved = rig.bench.mm.page_info(rig.holder.at(handles[0]).unwrap().0).unwrap();
    assert_eq!(moved.since, since);
}

#[test]
fn small_steps_have_the_result_of_one_large_step() {
    let ends = [1, 3, 100, u64::MAX].map(|budget| {
        let rig = rig(3);
        let handles = rig.fill(&[0, 2, 0, 4, 0]);
        let mut op = rig.start(rig.block_of(handles[0]));
        let mut last = 0;
        loop {
            rig.check();
            assert!(op.progress().steps >= last);
            last = op.progress().steps;
            match op.step(budget).unwrap() {
                Stepped::Going(more) => op = more,
                Stepped::Done => break,
            }
        }
        rig.check();
        (rig.bench.snapshot(), handles.iter().map(|&h| rig.holder.at(h)).collect::<Vec<_>>())
    });
    for end in &ends[1..] {
        assert_same(&ends[0].0, &end.0);
        assert_eq!(ends[0].1, end.1);
    }
}

#[test]
fn a_cancelled_offline_leaves_everything_as_it_was_until_something_moved() {
    let rig = rig(3);
    let handles = rig.fill(&[0, 3, 0]);
    let before = rig.bench.snapshot();
    let block = rig.block_of(handles[0]);
    for steps in 0..1000 {
        let mut op = rig.start(block);
        for _ in 0..steps {
            match op.step(1).unwrap() {
                Stepped::Going(more) => op = more,
                Stepped::Done => panic!("done after {steps} steps"),
            }
        }
        let moved = op.progress().moved;
        op.cancel();
        rig.check();
        if moved > 0 {
            assert!(steps > 3);
            return;
        }
        assert_same(&before, &rig.bench.snapshot());
    }
    panic!("nothing ever moved");
}

#[test]
fn after_a_late_cancel_the_block_is_whole_and_what_moved_stays_moved() {
    let rig = rig(3);
    let handles = rig.fill(&[3, 3, 0, 0]);
    let block = rig.block_of(handles[0]);
    let free = rig.bench.mm.stats().pages.free;
    let mut op = rig.start(block);
    while op.progress().moved == 0 {
        let Stepped::Going(more) = op.step(1).unwrap() else { panic!("done too soon") };
        op = more;
    }
    op.cancel();
    rig.check();
    assert_eq!(rig.bench.mm.stats().pages.free, free);
    let known = rig.bench.mm.block(block).unwrap();
    assert_eq!(known.state, BlockState::Online(ZoneKind::Movable));
    handles.iter().for_each(|&handle| rig.holder.release(&rig.bench, handle));
    rig.check();
    rig.bench.offline(rig.dimm);
    rig.bench.remove(rig.dimm);
}

#[test]
fn nothing_is_allocated_in_a_block_that_is_going_offline_and_freed_pages_stay_isolated() {
    let rig = rig(2);
    let handles = rig.fill(&[0, 0, 0, 0, 0, 0, 0, 0]);
    let block = rig.block_of(handles[0]);
    let mut op = rig.start(block);
    while op.progress().phase == "isolating" {
        let Stepped::Going(more) = op.step(1).unwrap() else { panic!("done too soon") };
        op = more;
    }
    rig.holder.release(&rig.bench, handles[3]);
    rig.holder.release(&rig.bench, handles[0]);
    rig.check();
    while let Some(handle) = rig.holder.take_in_zone(&rig.bench, Order::ZERO) {
        assert_ne!(rig.block_of(handle), block);
        if rig.bench.mm.zones().all(|zone| zone.counts.free < 40) {
            break;
        }
    }
    op.cancel();
    rig.check();
}

#[test]
fn an_unmovable_page_stops_the_offline_before_anything_moves_and_is_named() {
    let rig = rig(3);
    let id = rig.first();
    rig.bench.mm.offline(id).unwrap();
    rig.bench.mm.online(id, ZoneKind::Normal).unwrap();
    while rig.bench.mm.take_pages(Order::ZERO).is_ok() {}
    let before = rig.bench.snapshot();
    let error = rig.bench.mm.offline(id).unwrap_err();
    let OfflineError::InUse { block, first: Some((pfn, Owner::Kernel)), .. } = error else {
        panic!("{error:?}");
    };
    assert_eq!((block, rig.bench.mm.page_info(pfn).unwrap().block), (id, id));
    assert_same(&before, &rig.bench.snapshot());
}

#[test]
fn a_pinned_page_stops_the_offline_before_anything_moves_until_it_is_unpinned() {
    let rig = rig(3);
    let handles = rig.fill(&[0, 3, 1]);
    let block = rig.block_of(handles[1]);
    rig.holder.pin(handles[1], true);
    let before = rig.bench.snapshot();
    let error = rig.bench.mm.offline(block).unwrap_err();
    let held =
        rig.holder.at(handles[1]).map(|(pfn, _)| (pfn, Owner::Movable(rig.holder.mover().id())));
    let OfflineError::InUse { first, .. } = error else { panic!("{error:?}") };
    assert_eq!(first, held);
    assert_same(&before, &rig.bench.snapshot());
    rig.holder.pin(handles[1], false);
    rig.bench.mm.offline(block).unwrap();
    rig.check();
}

#[test]
fn an_owner_that_is_busy_is_asked_a_limited_number_of_times() {
    let rig = rig(3);
    let handles = rig.fill(&[0, 0, 0]);
    let block = rig.block_of(handles[0]);
    rig.holder.be_busy(handles[1], 3);
    rig.bench.mm.offline(block).unwrap();
    rig.check();

    let block = rig.block_of(handles[1]);
    rig.holder.be_busy(handles[1], u32::MAX);
    let error = rig.bench.mm.offline(block).unwrap_err();
    let held =
        rig.holder.at(handles[1]).map(|(pfn, _)| (pfn, Owner::Movable(rig.holder.mover().id())));
    let OfflineError::InUse { first, .. } = error else { panic!("{error:?}") };
    assert_eq!(first, held);
    rig.check();
}

#[test]
fn a_copy_that_fails_puts_the_page_back_and_frees_the_target() {
    let rig = rig(3);
    let handles = rig.fill(&[2, 0]);
    let block = rig.block_of(handles[0]);
    let before = rig.bench.snapshot();
    rig.holder.fail_copies(u32::MAX);
    assert!(rig.bench.mm.offline(block).is_err());
    rig.check();
    assert!(rig.holder.moves().1 > 0);
    assert_same(&before, &rig.bench.snapshot());
    rig.holder.fail_copies(2);
    rig.bench.mm.offline(block).unwrap();
    rig.check();
}

#[test]
fn without_room_elsewhere_the_block_stays_and_the_size_is_named() {
    let rig = rig(2);
    let handles = rig.fill(&[4]);
    while rig.bench.mm.take_pages(Order::new(4).unwrap()).is_ok() {}
    let block = rig.block_of(handles[0]);
    while let Some(handle) = rig.holder.take_in_zone(&rig.bench, Order::new(4).unwrap()) {
        assert!(handle < 1000);
    }
    let before = rig.bench.snapshot();
    let error = rig.bench.mm.offline(block).unwrap_err();
    assert_eq!(error, OfflineError::NoRoom { block, order: Order::new(4).unwrap() });
    rig.check();
    assert_same(&before, &rig.bench.snapshot());
}

#[test]
fn an_offline_never_takes_more_steps_than_stated() {
    let mut random = Random::new(7);
    for _ in 0..40 {
        let rig = rig(3);
        let mut handles = Vec::new();
        for _ in 0..random.below(200) {
            let order = Order::new(random.below(5) as u8).unwrap();
            handles.extend(rig.holder.take_in_zone(&rig.bench, order));
        }
        for &handle in &handles {
            if random.one_in(2) {
                rig.holder.release(&rig.bench, handle);
            } else if random.one_in(4) {
                rig.holder.be_busy(handle, random.below(4) as u32);
            }
        }
        let bound = Op::bound(&rig.bench.mm);
        for id in rig.bench.blocks(rig.dimm) {
            let mut op = rig.start(id);
            let mut steps = op.progress().steps;
            while let Ok(Stepped::Going(more)) = op.step(1) {
                steps = more.progress().steps;
                op = more;
            }
            assert!(steps <= bound, "{steps} steps, {bound} stated");
            rig.check();
        }
    }
}

#[test]
fn while_a_block_goes_offline_other_operations_are_busy_and_lookups_work() {
    let rig = rig(2);
    let blocks = rig.bench.blocks(rig.dimm);
    let op = rig.start(blocks[0]);
    assert_eq!(rig.bench.mm.offlining(), Some(blocks[0]));
    assert_eq!(rig.bench.mm.offline(blocks[1]).unwrap_err(), OfflineError::Busy);
    assert_eq!(
        rig.bench.mm.online(blocks[1], ZoneKind::Normal).unwrap_err(),
        hotmem::OnlineError::Busy
    );
    let dimm = range(TINY_WINDOW + 64 * MIB, MIB);
    let node = hotmem::NodeId::default();
    assert_eq!(
        rig.bench.mm.hot_add(dimm, node, Placement::PerBlock).unwrap_err(),
        hotmem::AddError::Busy
    );
    assert_eq!(rig.bench.mm.remove(rig.dimm).unwrap_err(), hotmem::RemoveError::Busy);
    assert!(rig.bench.mm.block(blocks[0]).is_some());
    rig.check();
    drop(op);
    assert_eq!(rig.bench.mm.offlining(), None);
    rig.check();
}

#[test]
fn an_offline_whose_value_is_leaked_is_found_and_cancelled_at_any_step() {
    let rig = rig(2);
    rig.fill(&[0, 3, 1, 0]);
    let blocks = rig.bench.blocks(rig.dimm);
    let (id, other) = (blocks[0], blocks[1]);
    let free = rig.bench.mm.stats().pages.free;
    let mut done = false;
    for steps in 0.. {
        let mut op = Some(rig.start(id));
        for _ in 0..steps {
            op = match op.take().map(|op| op.step(1)) {
                Some(Ok(Stepped::Going(op))) => Some(op),
                _ => None,
            };
        }
        let Some(op) = op else {
            done = true;
            break;
        };
        std::mem::forget(op);
        let mm = &rig.bench.mm;
        assert_eq!(mm.offline(other), Err(OfflineError::Busy));
        assert_eq!(mm.cancel_offline(other), Err(OfflineError::NotGoing(other)));
        assert_eq!(mm.offlining(), Some(id));
        assert_eq!(mm.cancel_offline(id), Ok(()));
        assert_eq!(mm.offlining(), None);
        assert_eq!(mm.cancel_offline(id), Err(OfflineError::NotGoing(id)));
        rig.check();
        assert_eq!(mm.stats().pages.free, free, "after {steps} steps");
    }
    assert!(done);
    // The offline that is not leaked ends at its next step, and does not end another.
    rig.bench.mm.online(id, ZoneKind::Movable).unwrap();
    let op = rig.start(id);
    rig.bench.mm.cancel_offline(id).unwrap();
    let another = rig.start(other);
    assert_eq!(op.step(1).map(drop), Err(OfflineError::NotGoing(id)));
    assert_eq!(rig.bench.mm.offlining(), Some(other));
    let op = rig.bench.mm.cancel_offline(other).map(|()| another);
    drop(op);
    rig.check();
    rig.bench.mm.offline(other).unwrap();
    rig.check();
}

#[test]
fn at11_compaction_never_touches_the_memmap_at_the_start_of_a_block() {
    let rig = rig(4);
    let before: Vec<_> = rig.bench.mm.blocks().filter_map(|block| block.group).collect();
    // Scatter single pages over every block, then ask for a large extent.
    let handles: Vec<_> =
        std::iter::from_fn(|| rig.holder.take_in_zone(&rig.bench, Order::ZERO)).collect();
    for (i, &handle) in handles.iter().enumerate() {
        if i % 3 != 0 {
            rig.holder.release(&rig.bench, handle);
        }
    }
    let (node, order) = (hotmem::NodeId::default(), Order::new(6).unwrap());
    let none = |zone: &hotmem::ZoneInfo| {
        zone.kind == ZoneKind::Movable && zone.extents[6..].iter().sum::<u64>() == 0
    };
    assert!(rig.bench.mm.zones().any(|zone| none(&zone)), "nothing to compact");
    for _ in 0..6 {
        let run = rig.bench.mm.compact(node, ZoneKind::Movable, order).unwrap();
        let held = rig.bench.alloc_movable_zone(order);
        assert_eq!(held, Some(run.start));
        rig.check();
    }
    let after: Vec<_> = rig.bench.mm.blocks().filter_map(|block| block.group).collect();
    assert_eq!(before, after);
}

#[test]
fn compaction_moves_as_few_pages_as_possible_and_names_the_obstacle() {
    let rig = rig(1);
    let order = Order::new(7).unwrap();
    let node = hotmem::NodeId::default();
    let compact = || rig.bench.mm.compact(node, ZoneKind::Movable, order);
    let run = compact().unwrap();
    assert_eq!(rig.holder.moves().0, 0, "it was free already");
    assert_eq!(run.pages(), 128);
    // A block of 256 pages, of which 4 are memmap: only the upper half can be a run of 128.
    let pinned = rig.bench.alloc_movable_zone(Order::ZERO).unwrap();
    while rig.bench.alloc_movable_zone(Order::ZERO).is_some() {}
    let error = compact().unwrap_err();
    assert!(matches!(error, hotmem::CompactError::InUse(..)), "{error}");
    assert_eq!(
        rig.bench.mm.compact(node, ZoneKind::Movable, Order::MAX),
        Err(hotmem::CompactError::TooLarge(Order::MAX))
    );
    rig.bench.mm.free_pages(pinned).unwrap();
    rig.check();
}
