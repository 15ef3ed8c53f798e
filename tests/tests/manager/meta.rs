//! The kernel's metadata in descriptors: initialised when a page is allocated, copied when it is migrated.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use hotmem::testing::{Bench, Holder, Setup, Tag, Tiny, range};
use hotmem::{BlockId, FreeError, Order, Owner, Pfn, Placement, Request, ZoneKind};

const MIB: u64 = 1 << 20;

/// Four mebibytes of RAM, and a window of four for DIMMs.
fn bench() -> Bench<Tiny> {
    Bench::new(&Setup {
        ram: [(0, 4 * MIB, 0)].into(),
        block: MIB,
        window: (64 * MIB, 4 * MIB),
        kernelcore: None,
    })
}

/// Adds as much memory as fits the window.
fn plug(bench: &Bench<Tiny>, placement: Placement) -> Vec<BlockId> {
    let dimm = range(64 * MIB, 4 * MIB);
    bench.plug(dimm);
    bench.add(dimm, placement);
    bench.blocks(dimm)
}

fn order(raw: u8) -> Order {
    Order::new(raw).unwrap()
}

#[test]
fn an_extent_has_new_metadata_each_time_it_is_allocated() {
    let bench = bench();
    let mut last = None;
    for round in 0..8 {
        let pages = bench.mm.alloc(order(2)).unwrap();
        assert_eq!(pages.with_meta(0, Tag::get), Ok(None), "round {round}");
        pages.with_meta(0, |tag| tag.set(round)).unwrap();
        assert_eq!(pages.with_meta(0, Tag::get), Ok(Some(round)));
        last = Some(pages.pfn()).filter(|&pfn| last.is_none_or(|last| last == pfn));
    }
    assert!(last.is_some(), "the same pages were never allocated twice");
    bench.check();
}

#[test]
fn metadata_belongs_to_the_first_page_unless_the_request_asks_for_each_page() {
    let bench = bench();
    let pages = bench.mm.alloc(order(3)).unwrap();
    let no = |index| Err(FreeError::NoMeta(pages.pfn().add(index)));
    for index in [1, 7, 8, 1 << 40] {
        assert_eq!(pages.with_meta(index, Tag::get), no(index));
    }
    let huge = pages.with_meta(u64::MAX, Tag::get);
    assert_eq!(huge, Err(FreeError::NoMeta(Pfn::new(u64::MAX))));

    let each = bench.mm.alloc(Request::from(order(3)).with_meta_of_each()).unwrap();
    for index in 0..8 {
        assert_eq!(each.with_meta(index, |tag| tag.set(index)), Ok(()));
    }
    for index in 0..8 {
        assert_eq!(each.with_meta(index, Tag::get), Ok(Some(index)));
    }
    assert_eq!(each.with_meta(8, Tag::get), Err(FreeError::NoMeta(each.pfn().add(8))));
    bench.check();
}

#[test]
fn metadata_of_a_movable_owner_is_accessible_to_that_owner_only() {
    let bench = bench();
    let (one, other) = (Holder::register(&bench), Holder::register(&bench));
    let pfn = bench.mm.alloc_movable(order(1), one.mover(), 7).unwrap();
    let owner = Owner::Movable(one.mover().id());
    let at = |pfn, mover| bench.mm.with_meta(pfn, 0, mover, Tag::get);
    assert_eq!(at(pfn, one.mover()), Ok(None));
    assert_eq!(at(pfn, other.mover()), Err(FreeError::NotYours(pfn, owner)));
    assert_eq!(at(pfn.add(1), one.mover()), Err(FreeError::NotAllocated(pfn.add(1))));
    let nowhere = Pfn::new(u64::MAX);
    assert_eq!(at(nowhere, one.mover()), Err(FreeError::NotOnline(nowhere)));
    let kernels = bench.mm.alloc(Order::ZERO).unwrap();
    let refused = Err(FreeError::NotYours(kernels.pfn(), Owner::Kernel));
    assert_eq!(at(kernels.pfn(), one.mover()), refused);
    bench.mm.free_movable(pfn, one.mover()).unwrap();
    assert_eq!(at(pfn, one.mover()), Err(FreeError::NotAllocated(pfn)));
    bench.check();
}

#[test]
#[should_panic(expected = "this thread has the lock, and waits")]
fn code_that_calls_the_manager_while_it_looks_at_metadata_waits_for_itself() {
    let bench = bench();
    let one = Holder::register(&bench);
    let pfn = bench.mm.alloc_movable(order(1), one.mover(), 7).unwrap();
    let _ = bench.mm.with_meta(pfn, 0, one.mover(), |_| bench.mm.free_movable(pfn, one.mover()));
}

#[test]
fn metadata_of_each_page_is_migrated_with_the_page() {
    for placement in Placement::ALL {
        let bench = bench();
        let blocks = plug(&bench, placement);
        let holder = Holder::register(&bench);
        for &id in &blocks {
            bench.mm.online(id, ZoneKind::Movable).unwrap();
        }
        // More than one in eight tags each of its pages.
        let taken: Vec<u64> =
            (0..32).filter_map(|nth| holder.take_in_zone(&bench, order(nth % 4))).collect();
        assert_eq!(taken.len(), 32);
        for &id in &blocks {
            bench.mm.offline(id).unwrap();
            holder.check(&bench);
        }
        assert!(holder.moves().0 >= 32);
        taken.iter().for_each(|&handle| holder.release(&bench, handle));
        bench.check();
    }
}

#[test]
fn pages_that_are_not_migrated_keep_their_metadata() {
    let bench = bench();
    let blocks = plug(&bench, Placement::PerBlock);
    bench.mm.online(blocks[0], ZoneKind::Movable).unwrap();
    let holder = Holder::register(&bench);
    while holder.take_in_zone(&bench, order(3)).is_some() {}
    holder.fail_copies(u32::MAX);
    bench.mm.offline(blocks[0]).unwrap_err();
    assert!(holder.moves().1 > 0);
    holder.check(&bench);
    bench.check();
}
