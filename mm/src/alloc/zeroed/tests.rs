extern crate std;

use crate::memmap::page::{Owner, PageState};
use crate::testing::{Bench, FakeMachine, Holder, Setup, Tiny, become_cpu, range};
use crate::{BlockId, MoverId, OfflineError, Order, Pages, Pfn, Placement, Request, ZoneKind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::vec::Vec;

const MIB: u64 = 1 << 20;
const WINDOW: u64 = 64 * MIB;
/// A batch of single pages.
const BATCH: u64 = 32;

fn order(raw: u8) -> Order {
    Order::new(raw).unwrap()
}

/// Eight mebibytes, and a block in `kind`; this thread is CPU 0.
fn with_block(kind: ZoneKind) -> (Bench<Tiny>, BlockId) {
    become_cpu(0);
    let ram = [(0, 8 * MIB, 0)].into();
    let bench =
        Bench::new(&Setup { ram, block: MIB, window: (WINDOW, 64 * MIB), kernelcore: None });
    let dimm = range(WINDOW, MIB);
    bench.plug(dimm);
    bench.add(dimm, Placement::PerBlock);
    let id = bench.mm.block_at(dimm.start());
    bench.mm.online(id, kind).unwrap();
    (bench, id)
}

fn words<'p>(pages: &'p Pages<'_, FakeMachine<Tiny>>) -> impl Iterator<Item = &'p AtomicU64> {
    (0..pages.order().pages()).flat_map(|page| pages.words(page).unwrap())
}

/// Writes to all memory that the kernel may have, and frees it.
fn dirty(bench: &Bench<Tiny>) {
    let all: Vec<_> = core::iter::from_fn(|| bench.mm.alloc(Order::ZERO).ok()).collect();
    for pages in &all {
        words(pages).for_each(|word| word.store(u64::MAX, Ordering::Relaxed));
    }
}

fn zeroed(raw: u8) -> Request {
    Request::from(order(raw)).zeroed()
}

#[test]
fn pages_of_a_zeroed_request_hold_zeroes_whatever_was_there() {
    let (bench, _) = with_block(ZoneKind::Normal);
    dirty(&bench);
    let used = bench.mm.alloc(Order::ZERO).unwrap();
    assert!(words(&used).any(|word| word.load(Ordering::Relaxed) != 0));
    for raw in [0, 1, 3, 6, 0] {
        let pages = bench.mm.alloc(zeroed(raw)).unwrap();
        assert!(words(&pages).all(|word| word.load(Ordering::Relaxed) == 0), "order {raw}");
        let state = bench.mm.page_info(pages.pfn()).unwrap().state;
        assert_eq!(state, Some(PageState::Used { order: order(raw), owner: Owner::Kernel }));
        bench.check();
    }
}

#[test]
fn an_idle_cpu_clears_a_batch_ahead_which_is_given_out_first_and_drained_like_all_cached_pages() {
    let (bench, id) = with_block(ZoneKind::Normal);
    dirty(&bench);
    let before = bench.mm.stats().pages;
    let ahead = (0..1000).take_while(|_| bench.mm.zero_ahead()).count() as u64;
    assert_eq!(ahead, BATCH);
    bench.check();
    assert_eq!(bench.mm.stats().pages, before, "pages that wait are free");
    let held: Vec<_> = (0..BATCH).map(|_| bench.mm.alloc(zeroed(0)).unwrap()).collect();
    for pages in &held {
        assert!(words(pages).all(|word| word.load(Ordering::Relaxed) == 0));
    }
    assert!(bench.mm.zero_ahead(), "those were the ones that waited");
    drop(held);
    bench.check();

    while bench.mm.zero_ahead() {}
    bench.mm.offline(id).unwrap();
    bench.check();
    bench.mm.drain_caches();
    assert_eq!(bench.mm.stats().cached, 0);
    bench.check();
}

#[test]
fn a_page_that_was_freed_is_not_given_out_as_one_of_zeroes() {
    let (bench, _) = with_block(ZoneKind::Normal);
    while bench.mm.zero_ahead() {}
    for _ in 0..2 * BATCH {
        let pages = bench.mm.alloc(zeroed(0)).unwrap();
        assert!(words(&pages).all(|word| word.load(Ordering::Relaxed) == 0));
        words(&pages).for_each(|word| word.store(7, Ordering::Relaxed));
    }
}

#[test]
fn an_extent_is_neither_moved_nor_freed_before_it_is_cleared() {
    let (bench, id) = with_block(ZoneKind::Movable);
    let holder = Holder::register(&bench);
    let handle = holder.take_in_zone(&bench, order(2)).unwrap();
    let (pfn, order) = holder.at(handle).unwrap();
    let owner = Owner::Movable(mover_of(holder));
    // As while the manager clears it.
    with_page(&bench, pfn, |page| page.set_held(order, owner));
    let refused = bench.mm.offline(id).unwrap_err();
    assert!(matches!(refused, OfflineError::InUse { first, .. } if first == Some((pfn, owner))));
    assert!(bench.mm.free_movable(pfn, holder.mover()).is_err());
    assert_eq!(holder.moves(), (0, 0));
    with_page(&bench, pfn, |page| page.release(order, owner));
    bench.mm.offline(id).unwrap();
    assert_eq!(holder.moves().0, 1);
    holder.check(&bench);
}

#[test]
fn an_extent_that_is_to_be_cleared_is_held_from_the_start() {
    let (bench, _) = with_block(ZoneKind::Movable);
    let holder = Holder::register(&bench);
    let owner = Owner::Movable(mover_of(holder));
    let pfn = bench.mm.allocator().alloc_request(zeroed(2), owner).unwrap();
    with_page(&bench, pfn, |page| assert!(page.is_held()));
    assert!(bench.mm.free_movable(pfn, holder.mover()).is_err());
    with_page(&bench, pfn, |page| page.release(order(2), owner));
    bench.mm.free_movable(pfn, holder.mover()).unwrap();
    bench.check();
}

fn mover_of(holder: &Holder<Tiny>) -> MoverId {
    holder.mover().id()
}

fn with_page(bench: &Bench<Tiny>, pfn: Pfn, change: impl FnOnce(&crate::memmap::page::Page)) {
    change(bench.mm.allocator().memmap.read(pfn).here().unwrap().page());
}

#[test]
fn movable_pages_that_were_cleared_ahead_are_given_out_first() {
    let (bench, _) = with_block(ZoneKind::Movable);
    let holder = Holder::register(&bench);
    while bench.mm.zero_ahead() {}
    let before = bench.mm.cpu_pages(0).unwrap().cached;
    let pfn = bench.mm.alloc_movable(zeroed(0), holder.mover(), 0).unwrap();
    assert_eq!(bench.mm.cpu_pages(0).unwrap().cached, before - 1, "it waited");
    bench.mm.free_movable(pfn, holder.mover()).unwrap();
    bench.check();
}

#[test]
fn movable_pages_are_cleared_too_and_a_page_moves_with_what_was_written_to_it() {
    let (bench, id) = with_block(ZoneKind::Movable);
    while bench.mm.zero_ahead() {}
    let holder = Holder::register(&bench);
    let handles: Vec<_> =
        (0..4).map(|raw| holder.take_cleared(&bench, order(raw)).unwrap()).collect();
    bench.mm.offline(id).unwrap();
    holder.check(&bench);
    handles.into_iter().for_each(|handle| holder.release(&bench, handle));
    bench.check();
}
