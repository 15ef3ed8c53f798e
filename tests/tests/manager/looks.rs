//! Queries beside operations: no query makes an operation fail, and code that an operation or a query calls may
//! query without a deadlock.
//!
//! A deadlock does not return, so a fault here is a test that does not end.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use hotmem::testing::{Bench, FakeMachine, Tiny, range};
use hotmem::{
    AddError, BlockId, BlockState, Change, CompactError, ConvertError, Event, Extent, Listen,
    Listener, Mm, MovableOps, Move, NodeId, OfflineError, OnlineError, Order, Pfn, PhysRange,
    Placement, PoisonError, Removability, RemoveError, Stepped, ZoneKind,
};
use hotmem_tests::memory::{MIB, TINY_WINDOW, assert_same, tiny};

type Manager = Mm<FakeMachine<Tiny>>;

fn dimm() -> PhysRange {
    range(TINY_WINDOW, 4 * MIB)
}

/// Three blocks of the DIMM online in one zone, one offline.
fn rig() -> &'static Bench<Tiny> {
    let bench: &'static Bench<Tiny> = Box::leak(Box::new(tiny(MIB)));
    bench.plug(dimm());
    bench.add(dimm(), Placement::PerBlock);
    bench.online(range(TINY_WINDOW, 3 * MIB));
    bench
}

/// Calls every query; returns the number of items.
fn look(mm: &Manager) -> u64 {
    let mut items = 0;
    mm.dump(&mut |_| items += 1);
    mm.snapshot(&mut |_| items += 1);
    let _ = (mm.explain_remove(dimm()), mm.offlining(), mm.stats(), mm.nodes().count());
    for id in mm.blocks_in(dimm()) {
        let _ = (mm.explain_offline(id), mm.block(id));
    }
    // Its result counts only while no operation is under way.
    let _ = mm.verify_machine();
    items
}

/// Tries every operation while another is under way: all are refused, none waits.
fn operate(mm: &Manager) {
    let (id, next) = (BlockId::new(TINY_WINDOW / MIB), range(TINY_WINDOW + 8 * MIB, MIB));
    for placement in Placement::ALL {
        assert_eq!(mm.hot_add(next, NodeId::ZERO, placement), Err(AddError::Busy));
    }
    assert_eq!(mm.online(id, ZoneKind::Movable), Err(OnlineError::Busy));
    assert_eq!(mm.offline(id), Err(OfflineError::Busy));
    assert_eq!(mm.remove(dimm()), Err(RemoveError::Busy));
    assert_eq!(mm.convert(dimm()), Err(ConvertError::Busy));
    let compact = mm.compact(NodeId::ZERO, ZoneKind::Movable, Order::ZERO);
    assert_eq!(compact, Err(CompactError::Busy));
    assert!(mm.take(&[]).is_err() && mm.take_contig(NodeId::ZERO, MIB).is_err());
    assert!(mm.release().is_err());
    // Look-ups and the allocator work.
    let page = mm.take_pages(Order::ZERO);
    assert!(page.is_ok_and(|pfn| mm.page_info(pfn).is_some() && mm.free_pages(pfn).is_ok()));
}

struct EndOnDrop<'a>(&'a AtomicBool);

impl Drop for EndOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn queries_on_other_cpus_never_make_an_operation_fail_and_see_none_half_done() {
    for placement in Placement::ALL {
        let bench = tiny(MIB);
        bench.plug(dimm());
        let before = bench.snapshot();
        let (over, looks) = (AtomicBool::new(false), AtomicU64::new(0));
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while !over.load(Ordering::Relaxed) {
                        look(&bench.mm);
                        assert_eq!(bench.mm.verify_machine(), Ok(()));
                        looks.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
            let end = EndOnDrop(&over);
            let mut turns = 0;
            while turns < 10 || looks.load(Ordering::Relaxed) < 10 {
                cycle(&bench.mm, placement);
                turns += 1;
            }
            drop(end);
        });
        bench.check();
        assert_same(&before, &bench.snapshot());
    }
}

/// A life cycle of the DIMM in which no operation may fail.
fn cycle(mm: &Manager, placement: Placement) {
    mm.hot_add(dimm(), NodeId::ZERO, placement).unwrap();
    for id in mm.blocks_in(dimm()) {
        mm.online(id, ZoneKind::Movable).unwrap();
    }
    if placement == Placement::PerRange {
        mm.convert(dimm()).unwrap();
    }
    mm.compact(NodeId::ZERO, ZoneKind::Movable, Order::ZERO).unwrap();
    for id in mm.blocks_in(dimm()) {
        mm.offline(id).unwrap();
    }
    mm.remove(dimm()).unwrap();
}

/// A listener and an owner of pages that queries and tries to operate whenever it is called.
struct Curious {
    mm: &'static Manager,
    calls: AtomicU64,
}

impl Curious {
    fn new(mm: &'static Manager) -> &'static Self {
        Box::leak(Box::new(Self { mm, calls: AtomicU64::new(0) }))
    }

    fn ask(&self) {
        assert!(look(self.mm) > 0);
        operate(self.mm);
        assert_eq!(self.mm.poison(Pfn::new(0)), Err(PoisonError::Busy));
        self.calls.fetch_add(1, Ordering::Relaxed);
    }
}

impl Listen for Curious {
    fn notify(&self, _: Event, _: &Change) -> Result<(), &'static str> {
        self.ask();
        Ok(())
    }
}

#[test]
fn a_listener_may_query_and_is_refused_operations() {
    let bench = rig();
    let curious = Curious::new(&bench.mm);
    bench.mm.listen(Box::leak(Box::new(Listener::new("curious", 0, curious)))).unwrap();
    let id = bench.blocks(dimm())[1];
    bench.mm.offline(id).unwrap();
    bench.mm.online(id, ZoneKind::Normal).unwrap();
    let mut op = bench.mm.start_offline(id).unwrap();
    while curious.calls.load(Ordering::Relaxed) < 5 {
        let Stepped::Going(more) = op.step(1).unwrap() else { panic!("no listener was called") };
        op = more;
    }
    assert_eq!(bench.mm.offlining(), Some(id));
    operate(&bench.mm);
    op.cancel();
    assert_eq!((curious.calls.load(Ordering::Relaxed), bench.mm.offlining()), (6, None));
    bench.check();
}

/// An owner that agrees to every migration, and queries and tries to operate each time.
struct Mover(&'static Curious);

impl MovableOps for Mover {
    fn name(&self) -> &'static str {
        "curious"
    }

    fn pinned(&self, _: &Extent) -> bool {
        assert!(look_but_do_not_explain(self.0.mm) > 0);
        self.0.calls.fetch_add(1, Ordering::Relaxed);
        false
    }

    fn isolate(&self, _: &[Move]) {
        look_but_do_not_explain(self.0.mm);
        operate(self.0.mm);
    }

    fn migrate(&self, _: &[Move]) {
        look_but_do_not_explain(self.0.mm);
        operate(self.0.mm);
    }
}

/// As `look`, without the queries that would call the owner of pages again.
fn look_but_do_not_explain(mm: &Manager) -> u64 {
    let mut items = 0;
    mm.dump(&mut |_| items += 1);
    mm.snapshot(&mut |_| items += 1);
    let _ = (mm.verify_machine(), mm.offlining());
    items
}

#[test]
fn an_owner_of_pages_may_query_and_is_refused_operations_while_its_pages_move() {
    let bench = rig();
    let curious = Curious::new(&bench.mm);
    let mover = bench.mm.register(Box::leak(Box::new(Mover(curious)))).unwrap();
    let pfn = bench.mm.alloc_movable(Order::ZERO, &mover, 0).unwrap();
    let id = bench.mm.page_info(pfn).unwrap().block;
    // `explain` calls the owner, too: from outside, and from the owner's own query.
    assert_eq!(bench.mm.explain_offline(id), Removability::AfterMoving { extents: 1, pages: 1 });
    assert_eq!(curious.calls.load(Ordering::Relaxed), 1);
    bench.mm.offline(id).unwrap();
    assert_eq!(bench.mm.block(id).unwrap().state, BlockState::Offline);
    bench.mm.online(id, ZoneKind::Movable).unwrap();
    bench.check();
}

#[test]
fn code_called_by_a_query_may_query_and_operate() {
    let bench = rig();
    let (mm, id) = (&bench.mm, bench.blocks(dimm())[3]);
    let mut items = 0;
    mm.dump(&mut |_| {
        items += look(mm);
        mm.online(id, ZoneKind::Movable).unwrap();
        mm.offline(id).unwrap();
    });
    mm.snapshot(&mut |_| {
        items += 1;
        mm.online(id, ZoneKind::Movable).unwrap();
        mm.offline(id).unwrap();
    });
    assert!(items > 0);
    bench.check();
}

#[test]
fn a_stepped_offline_continues_between_queries() {
    let bench = rig();
    let id = bench.blocks(dimm())[0];
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                look(&bench.mm);
            }
        });
        let end = EndOnDrop(&over);
        for _ in 0..20 {
            let mut op = bench.mm.start_offline(id).unwrap();
            loop {
                match op.step(1).unwrap() {
                    Stepped::Going(more) => op = more,
                    Stepped::Done => break,
                }
                assert_eq!(bench.mm.verify_machine(), Ok(()));
            }
            bench.mm.online(id, ZoneKind::Movable).unwrap();
        }
        drop(end);
    });
    bench.check();
}

/// Runs one of three queries until `over`; counts the runs.
fn look_on(mm: &Manager, way: usize, looks: &AtomicU64, over: &AtomicBool) {
    let id = BlockId::new(TINY_WINDOW / MIB);
    while !over.load(Ordering::Relaxed) {
        let _ = mm.offlining();
        match way {
            0 => _ = mm.explain_offline(id),
            1 => assert_eq!(mm.verify_machine(), Ok(())),
            _ => mm.snapshot(&mut |_| ()),
        }
        looks.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn none_of_2000_operations_fails_while_three_cpus_query_without_pause() {
    let bench = rig();
    let (over, id) = (AtomicBool::new(false), BlockId::new(TINY_WINDOW / MIB + 3));
    let looks = [const { AtomicU64::new(0) }; 3];
    let few = || looks.iter().any(|looks| looks.load(Ordering::Relaxed) < 10);
    let (mut pairs, mut failed) = (0, 0);
    thread::scope(|scope| {
        for (way, looks) in looks.iter().enumerate() {
            let (mm, over) = (&bench.mm, &over);
            scope.spawn(move || look_on(mm, way, looks, over));
        }
        let end = EndOnDrop(&over);
        // More than that if a thread has not run its query yet.
        while pairs < 1000 || (few() && pairs < 1 << 20) {
            failed += u64::from(bench.mm.online(id, ZoneKind::Movable).is_err());
            failed += u64::from(bench.mm.offline(id).is_err());
            pairs += 1;
        }
        drop(end);
    });
    assert_eq!(failed, 0, "of {} operations beside {looks:?} looks", 2 * pairs);
    assert!(!few(), "{looks:?}");
    bench.check();
}
