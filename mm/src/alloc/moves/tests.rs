extern crate std;

use super::MOST;
use crate::alloc::evacuate::PASSES;
use crate::testing::{Bench, FakeMachine, Holder, Setup, Tiny, range};
use crate::{
    BlockId, Extent, Mm, MovableOps, Move, Mover, NodeId, OfflineError, Order, Pfn, Placement,
    Request, Stepped, ZoneKind,
};
use std::boxed::Box;
use std::sync::{Mutex, OnceLock};
use std::vec::Vec;

const MIB: u64 = 1 << 20;
const WINDOW: u64 = 64 * MIB;

fn order(raw: u8) -> Order {
    Order::new(raw).unwrap()
}

/// Sixteen mebibytes at boot, and two blocks of one, the first of them online: extents are taken from there.
fn bench() -> Bench<Tiny> {
    let ram = [(0, 16 * MIB, 0)].into();
    let setup = Setup { ram, block: MIB, window: (WINDOW, 64 * MIB), kernelcore: None };
    let bench = Bench::new(&setup);
    let dimm = range(WINDOW, 2 * MIB);
    bench.plug(dimm);
    bench.add(dimm, Placement::PerBlock);
    bench.online(range(WINDOW, MIB));
    bench
}

/// The block with extents, with room for them in the other.
fn filled(bench: &Bench<Tiny>) -> BlockId {
    bench.online(range(WINDOW + MIB, MIB));
    bench.mm.block_at(range(WINDOW, MIB).start())
}

fn check(bench: &Bench<Tiny>, holders: &[&Holder<Tiny>]) {
    bench.check();
    holders.iter().for_each(|holder| holder.check(bench));
}

/// Takes extents in the first block.
fn fill(bench: &Bench<Tiny>, holder: &Holder<Tiny>, count: u64, raw: u8) -> (Vec<u64>, BlockId) {
    let take = |_| holder.take_in_zone(bench, order(raw)).unwrap();
    let handles: Vec<_> = (0..count).map(take).collect();
    (handles, filled(bench))
}

fn free(bench: &Bench<Tiny>) -> u64 {
    bench.mm.stats().pages.free
}

#[test]
fn an_owner_is_called_once_for_as_many_extents_as_a_batch_holds() {
    for (count, batches) in [(1, 1), (64, 1), (65, 2), (200, 4)] {
        let bench = bench();
        let holder = Holder::register(&bench);
        let (_, id) = fill(&bench, holder, count, 0);
        let before = free(&bench);
        bench.mm.offline(id).unwrap();
        assert_eq!((holder.moves(), holder.batches()), ((count, 0), batches));
        // A block of 256 pages, 4 of them memmap.
        assert_eq!(free(&bench), before - 252);
        check(&bench, &[holder]);
    }
    assert_eq!(MOST, 64);
}

#[test]
fn a_batch_holds_two_mebibytes_or_one_extent() {
    let mut batch = super::Batch::new(false);
    assert!(batch.fits::<FakeMachine<Tiny>>(Order::MAX));
    batch.len = 1;
    batch.pages = 256;
    assert!(batch.fits::<FakeMachine<Tiny>>(order(8)));
    assert!(!batch.fits::<FakeMachine<Tiny>>(order(9)));
    batch.len = MOST;
    assert!(!batch.fits::<FakeMachine<Tiny>>(order(0)));
}

#[test]
fn extents_that_an_owner_refuses_stay_and_the_others_of_the_batch_move() {
    let bench = bench();
    let holder = Holder::register(&bench);
    let (handles, id) = fill(&bench, holder, 60, 1);
    let before: Vec<_> = handles.iter().map(|&handle| holder.at(handle)).collect();
    for &handle in handles.iter().step_by(3) {
        holder.be_busy(handle, u32::MAX);
    }
    let stays = bench.mm.offline(id).unwrap_err();
    assert!(matches!(stays, OfflineError::InUse { pages: 40, .. }), "{stays}");
    check(&bench, &[holder]);
    assert_eq!((holder.moves(), holder.batches()), ((40, 0), PASSES));
    for (index, (&handle, &at)) in handles.iter().zip(&before).enumerate() {
        assert_eq!(holder.at(handle) == at, index % 3 == 0, "handle {handle}");
    }
    handles.iter().for_each(|&handle| holder.be_busy(handle, 0));
    bench.mm.offline(id).unwrap();
    assert_eq!((holder.moves(), holder.batches()), ((60, 0), PASSES + 1));
    check(&bench, &[holder]);
}

#[test]
fn of_the_largest_extents_that_are_refused_the_first_in_the_block_is_named() {
    for sizes in [[2, 0], [0, 2], [0, 0]] {
        let bench = bench();
        let holder = Holder::register(&bench);
        let take = |raw| holder.take_in_zone(&bench, order(raw)).unwrap();
        let handles: Vec<_> = sizes.into_iter().flat_map(|raw| [raw; 5]).map(take).collect();
        let id = filled(&bench);
        handles.iter().for_each(|&handle| holder.be_busy(handle, u32::MAX));
        // The largest ones are asked for first.
        let [one, other] = sizes;
        let extents = handles.iter().filter_map(|&handle| holder.at(handle));
        let largest = extents.filter(|(_, size)| *size == order(one.max(other)));
        let (lowest, _) = largest.min().unwrap();
        let stays = bench.mm.offline(id).unwrap_err();
        let OfflineError::InUse { first: Some((first, _)), .. } = stays else { panic!("{stays}") };
        assert_eq!(first, lowest, "{sizes:?}");
        check(&bench, &[holder]);
    }
}

#[test]
fn a_copy_that_fails_in_a_batch_frees_its_target_once_and_its_extent_is_used_again() {
    let bench = bench();
    let holder = Holder::register(&bench);
    let (_, id) = fill(&bench, holder, 40, 0);
    let before = free(&bench);
    holder.fail_copies(u32::MAX);
    let stays = bench.mm.offline(id).unwrap_err();
    assert!(matches!(stays, OfflineError::InUse { pages: 40, .. }), "{stays}");
    assert_eq!((holder.moves(), free(&bench)), ((0, 40 * PASSES), before));
    check(&bench, &[holder]);
    holder.fail_copies(7);
    bench.mm.offline(id).unwrap();
    assert_eq!(holder.moves(), (40, 40 * PASSES + 7));
    check(&bench, &[holder]);
}

#[test]
fn if_any_target_of_a_batch_cannot_be_allocated_no_owner_is_called_and_nothing_changes() {
    let bench = bench();
    let holder = Holder::register(&bench);
    let (_, id) = fill(&bench, holder, 30, 1);
    let before = bench.snapshot();
    for nth in 1..=30 {
        bench.mm.machine().plan().arm(nth);
        let refused = bench.mm.offline(id).unwrap_err();
        assert_eq!(refused, OfflineError::NoRoom { block: id, order: order(1) });
        assert_eq!((holder.moves(), holder.batches()), ((0, 0), 0));
        check(&bench, &[holder]);
        assert_eq!(bench.snapshot(), before);
    }
    bench.mm.machine().plan().arm(31);
    bench.mm.offline(id).unwrap();
    check(&bench, &[holder]);
}

#[test]
fn each_owner_in_a_batch_is_called_once_for_its_extents() {
    let bench = bench();
    let holders = [Holder::register(&bench), Holder::register(&bench)];
    let take = |index: usize| holders[index % 2].take_in_zone(&bench, Order::ZERO).unwrap();
    let handles: Vec<_> = (0..50).map(take).collect();
    let id = filled(&bench);
    holders[1].be_busy(handles[1], 1);
    bench.mm.offline(id).unwrap();
    assert_eq!((holders[0].moves(), holders[0].batches()), ((25, 0), 1));
    assert_eq!((holders[1].moves(), holders[1].batches()), ((25, 0), 2));
    check(&bench, &holders);
}

#[test]
fn a_call_moves_no_more_pages_than_its_budget_but_for_an_extent_that_is_larger() {
    let bench = bench();
    let holder = Holder::register(&bench);
    let orders = [0, 5, 0, 0, 4, 2, 0, 3];
    for raw in orders {
        holder.take_in_zone(&bench, order(raw)).unwrap();
    }
    let id = filled(&bench);
    let mut op = bench.mm.start_offline(id).unwrap();
    let (mut moved, mut beyond) = (0, Vec::new());
    loop {
        match op.step(6).unwrap() {
            Stepped::Going(more) => op = more,
            Stepped::Done => break,
        }
        let progress = op.progress();
        let pages = progress.moved - moved;
        moved = progress.moved;
        assert!(pages <= 6 || [8, 16, 32].contains(&pages), "{pages} pages");
        if pages > 6 {
            beyond.push(pages);
            assert_eq!(progress.beyond, 26);
        }
        check(&bench, &[holder]);
    }
    assert_eq!((beyond, moved), ([32, 16, 8].into(), 64));
}

#[test]
fn the_metadata_of_each_page_and_the_age_go_with_it_in_a_batch() {
    let bench = bench();
    let holder = Holder::register(&bench);
    // Every eighth handle has metadata in each page, which `check` compares.
    let (handles, id) = fill(&bench, holder, 40, 2);
    let since = |handle| bench.mm.page_info(holder.at(handle).unwrap().0).unwrap().since;
    let before: Vec<_> = handles.iter().map(|&handle| since(handle)).collect();
    bench.mm.offline(id).unwrap();
    check(&bench, &[holder]);
    assert_eq!(handles.iter().map(|&handle| since(handle)).collect::<Vec<_>>(), before);
}

/// An owner that frees extents of its own when it is asked about one.
struct Fickle {
    mm: &'static Mm<FakeMachine<Tiny>>,
    mover: OnceLock<Mover>,
    held: Mutex<Vec<Pfn>>,
    /// Whether it frees in the survey, or when it is asked to stop using them.
    early: bool,
}

impl Fickle {
    fn new(bench: &'static Bench<Tiny>, early: bool) -> &'static Self {
        let (mover, held) = (OnceLock::new(), Mutex::new(Vec::new()));
        let one: &'static Self = Box::leak(Box::new(Self { mm: &bench.mm, mover, held, early }));
        one.mover.get_or_init(|| bench.mm.register(one).unwrap());
        one
    }

    fn take(&self) {
        let request = Request::from(Order::ZERO).in_movable_zone();
        let pfn = self.mm.alloc_movable(request, self.mover.get().unwrap(), 1).unwrap();
        self.held.lock().unwrap().push(pfn);
    }

    /// Frees every third of its pages.
    fn free_some(&self) {
        let mut held = self.held.lock().unwrap();
        for index in (0..held.len()).rev().step_by(3) {
            let pfn = held.swap_remove(index);
            self.mm.free_movable(pfn, self.mover.get().unwrap()).unwrap();
        }
    }
}

impl MovableOps for Fickle {
    fn name(&self) -> &'static str {
        "fickle"
    }

    fn pinned(&self, _: &Extent) -> bool {
        if self.early {
            self.free_some();
        }
        false
    }

    fn isolate(&self, moves: &[Move]) {
        self.free_some();
        let held = self.held.lock().unwrap();
        moves.iter().filter(|one| !held.contains(&one.from().pfn)).for_each(Move::refuse);
    }

    fn migrate(&self, moves: &[Move]) {
        let mut held = self.held.lock().unwrap();
        for one in moves {
            let place = held.iter_mut().find(|place| **place == one.from().pfn).unwrap();
            *place = one.to();
            assert_eq!(self.mm.private(one.to()), Ok(one.from().private));
        }
    }
}

#[test]
fn extents_that_their_owner_frees_before_or_while_it_is_asked_are_neither_moved_nor_freed_again() {
    for early in [false, true] {
        let bench: &'static Bench<Tiny> = Box::leak(Box::new(bench()));
        let owner = Fickle::new(bench, early);
        (0..40).for_each(|_| owner.take());
        let id = filled(bench);
        let all = free(bench) + 40;
        bench.mm.offline(id).unwrap();
        bench.check();
        let held = owner.held.lock().unwrap().len() as u64;
        assert!(held < 30, "{held} were not freed");
        bench.mm.online(id, ZoneKind::Movable).unwrap();
        assert_eq!(free(bench), all - held);
        for pfn in owner.held.lock().unwrap().drain(..) {
            bench.mm.free_movable(pfn, owner.mover.get().unwrap()).unwrap();
        }
        assert_eq!(free(bench), all);
        bench.check();
    }
}

/// Free pages of system memory.
fn system(bench: &Bench<Tiny>) -> u64 {
    let zones = bench.mm.zones().filter(|zone| zone.kind == ZoneKind::System);
    zones.map(|zone| zone.counts.free).sum()
}

#[test]
fn targets_are_in_system_memory_only_if_there_is_no_other() {
    let bench = bench();
    let holder = Holder::register(&bench);
    // A free page in system memory, which is the smallest free extent.
    let (one, two) = (bench.mm.alloc(order(0)).unwrap(), bench.mm.alloc(order(0)).unwrap());
    drop(one);
    let (_, id) = fill(&bench, holder, 200, 0);
    let before = system(&bench);
    bench.mm.offline(id).unwrap();
    assert_eq!((holder.moves(), before - system(&bench)), ((200, 0), 0));
    check(&bench, &[holder]);

    // Back to the first block, where 252 pages are free; then there is no other.
    bench.online(range(WINDOW, MIB));
    let fill: Vec<_> = (0..100).map(|_| holder.take_in_zone(&bench, order(0)).unwrap()).collect();
    let second = bench.mm.block_at(range(WINDOW + MIB, MIB).start());
    bench.mm.offline(second).unwrap();
    assert_eq!(before - system(&bench), 300 - 252);
    fill.into_iter().for_each(|handle| holder.release(&bench, handle));
    check(&bench, &[holder]);
    drop(two);
}

#[test]
fn targets_are_the_smallest_extents_while_larger_ones_may_have_to_move() {
    let bench = bench();
    let holder = Holder::register(&bench);
    let (one, two) = (bench.mm.alloc(order(0)).unwrap(), bench.mm.alloc(order(0)).unwrap());
    let (_, id) = fill(&bench, holder, 8, 0);
    let large = holder.take_in_zone(&bench, order(5)).unwrap();
    drop(one);
    let before = system(&bench);
    bench.mm.offline(id).unwrap();
    assert!(system(&bench) < before, "a large extent was split");
    holder.release(&bench, large);
    check(&bench, &[holder]);
    drop(two);
}

/// Blocks of node 1 at the start of the window, then one of node 0.
fn two_nodes() -> (Bench<Tiny>, [NodeId; 2]) {
    let ram = [(0, 16 * MIB, 0)].into();
    let setup = Setup { ram, block: MIB, window: (WINDOW, 64 * MIB), kernelcore: None };
    let bench = Bench::<Tiny>::new(&setup);
    let nodes = [NodeId::ZERO, NodeId::new(1).unwrap()];
    for (first, count, node) in [(0, 2, nodes[1]), (4, 1, nodes[0])] {
        let dimm = range(WINDOW + first * MIB, count * MIB);
        bench.plug(dimm);
        bench.mm.hot_add(dimm, node, Placement::PerBlock).unwrap();
    }
    (bench, nodes)
}

#[test]
fn targets_are_on_the_node_of_their_extents_while_it_has_room_though_another_has_smaller_ones() {
    let (bench, nodes) = two_nodes();
    let holder = Holder::register(&bench);
    let first = range(WINDOW, MIB);
    bench.online(first);
    let id = bench.mm.block_at(first.start());
    let handles: Vec<_> = (0..8).map(|_| holder.take_in_zone(&bench, order(0)).unwrap()).collect();
    bench.online(range(WINDOW + MIB, MIB));
    bench.online(range(WINDOW + 4 * MIB, MIB));
    // The smallest extents are on the other node.
    let used: Vec<_> = {
        let on = Request::from(order(0)).on(nodes[0]).in_movable_zone();
        (0..7).map(|at| bench.mm.alloc_movable(on, holder.mover(), 1000 + at).unwrap()).collect()
    };
    bench.mm.offline(id).unwrap();
    let node = |handle| bench.mm.page_info(holder.at(handle).unwrap().0).unwrap().node;
    assert!(handles.iter().all(|&handle| node(handle) == nodes[1]), "node 1 has room");
    used.into_iter().for_each(|pfn| bench.mm.free_movable(pfn, holder.mover()).unwrap());
    check(&bench, &[holder]);

    // Without room there, they go to another node.
    bench.mm.offline(bench.mm.block_at(range(WINDOW + MIB, MIB).start())).unwrap();
    assert!(handles.iter().all(|&handle| node(handle) == nodes[0]));
    check(&bench, &[holder]);
}
