extern crate std;

use crate::alloc::batch::Cached;
use crate::alloc::class::Class;
use crate::memmap::page::PageState;
use crate::memmap::state::StateWord;
use crate::testing::{Bench, CPUS, FakeMachine, Holder, Lmb, Setup, Tiny, become_cpu, range};
use crate::{
    BlockId, NodeId, OfflineError, Order, OutOfMemory, Pages, Pfn, PhysRange, Placement, Request,
    Stepped, ZoneKind,
};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::vec::Vec;

mod races;

const MIB: u64 = 1 << 20;
const WINDOW: u64 = 64 * MIB;

fn order(raw: u8) -> Order {
    Order::new(raw).unwrap()
}

/// Two nodes with four mebibytes each, this thread on CPU 0.
fn bench() -> Bench<Tiny> {
    become_cpu(0);
    Bench::new(&Setup {
        ram: [(0, 4 * MIB, 0), (4 * MIB, 4 * MIB, 1)].into(),
        block: MIB,
        window: (WINDOW, 64 * MIB),
        kernelcore: None,
    })
}

/// With a block online in `kind`.
fn with_block(kind: ZoneKind) -> (Bench<Tiny>, BlockId) {
    let (bench, dimm) = (bench(), range(WINDOW, MIB));
    bench.plug(dimm);
    bench.add(dimm, Placement::PerBlock);
    let id = bench.mm.block_at(dimm.start());
    bench.mm.online(id, kind).unwrap();
    (bench, id)
}

fn state(bench: &Bench<Tiny>, pfn: Pfn) -> Option<PageState> {
    let state = bench.mm.page_info(pfn)?.state;
    assert_eq!(bench.mm.state(pfn).and_then(StateWord::decode), state);
    state
}

fn is_cached(bench: &Bench<Tiny>, pfn: Pfn) -> bool {
    matches!(state(bench, pfn), Some(PageState::Cached { .. }))
}

#[test]
fn a_freed_page_waits_in_the_cache_of_its_cpu_and_is_free_all_the_same() {
    let bench = bench();
    let before = bench.mm.stats();
    let page = bench.mm.alloc(Order::ZERO).unwrap();
    let pfn = page.pfn();
    assert_eq!(bench.mm.stats().pages.free, before.pages.free - 1);
    drop(page);
    assert_eq!(state(&bench, pfn), Some(PageState::Cached { order: Order::ZERO }));
    assert_eq!(bench.mm.page_info(pfn).unwrap().held_by, None);
    let stats = bench.mm.stats();
    assert_eq!(stats.pages, before.pages);
    let counts = bench.mm.cpu_pages(0).unwrap();
    assert_eq!((counts.allocated, counts.freed, counts.cached), (1, 1, stats.cached));
    assert!(stats.cached >= 1);
    bench.check();
    assert_eq!(bench.mm.alloc(Order::ZERO).unwrap().pfn(), pfn, "what was freed last");

    bench.mm.drain_caches();
    assert_eq!((bench.mm.stats().cached, bench.mm.cpu_pages(0).unwrap().cached), (0, 0));
    assert!(matches!(state(&bench, pfn), Some(PageState::Free { .. } | PageState::Tail)));
    bench.check();
}

#[test]
fn the_state_alone_is_that_of_the_whole_answer_for_every_page() {
    let (bench, id) = with_block(ZoneKind::Normal);
    let held: Vec<_> = (0..50).map(|_| bench.mm.alloc(Order::ZERO).unwrap()).collect();
    let pages = (0..8 * MIB / 4096).chain(WINDOW / 4096..(WINDOW + 2 * MIB) / 4096).map(Pfn::new);
    let known = pages.clone().filter(|&pfn| state(&bench, pfn).is_some()).count() as u64;
    assert_eq!(known, 9 * MIB / 4096);
    drop(held);
    bench.mm.offline(id).unwrap();
    let known = pages.filter(|&pfn| state(&bench, pfn).is_some()).count() as u64;
    assert!(known < 9 * MIB / 4096 && known > 8 * MIB / 4096);
}

#[test]
fn a_cpu_past_the_storage_allocates_from_zones() {
    let bench = bench();
    become_cpu(CPUS);
    let page = bench.mm.alloc(Order::ZERO).unwrap();
    let pfn = page.pfn();
    drop(page);
    assert!(!is_cached(&bench, pfn));
    assert_eq!((bench.mm.stats().cached, bench.mm.cpu_pages(CPUS)), (0, None));
    bench.check();
}

#[test]
fn a_cache_holds_three_batches_of_an_order_at_the_most() {
    let bench = bench();
    for (raw, batch) in [(0, 32), (1, 16), (2, 8), (3, 4)] {
        let held: Vec<_> = (0..100).map(|_| bench.mm.alloc(order(raw)).unwrap()).collect();
        bench.mm.drain_caches();
        bench.check();
        for pages in held {
            drop(pages);
            assert!(bench.mm.stats().cached <= (3 * batch) << raw, "order {raw}");
        }
        assert!(bench.mm.stats().cached >= batch << raw, "order {raw}");
        bench.check();
        bench.mm.drain_caches();
    }
    let free = bench.mm.stats().pages.free;
    drop(bench.mm.alloc(order(4)).unwrap());
    assert_eq!((bench.mm.stats().cached, bench.mm.stats().pages.free), (0, free));
}

#[test]
fn pages_that_go_up_and_down_by_two_batches_need_no_zone_wherever_that_begins() {
    let bench = bench();
    let cached = || bench.mm.stats().cached;
    let pages =
        |count| -> Vec<_> { (0..count).map(|_| bench.mm.alloc(Order::ZERO).unwrap()).collect() };
    for kept in 0..32 {
        bench.mm.drain_caches();
        let kept = pages(kept);
        drop(pages(64));
        let before = cached();
        for _ in 0..3 {
            let held = pages(64);
            assert_eq!(cached(), before - 64, "{} pages are kept", kept.len());
            drop(held);
            assert_eq!(cached(), before, "{} pages are kept", kept.len());
        }
    }
    bench.check();
}

#[test]
fn what_a_cpu_allocated_and_freed_is_counted_through_batches_and_drains() {
    let bench = bench();
    let mut held = Vec::new();
    for round in 0..8 {
        held.extend((0..40).map(|_| bench.mm.alloc(Order::ZERO).unwrap()));
        held.push(bench.mm.alloc(order(2)).unwrap());
        while bench.mm.zero_ahead() {}
        held.push(bench.mm.alloc(Request::from(Order::ZERO).zeroed()).unwrap());
        if round % 3 == 0 {
            bench.mm.drain_caches();
        }
        let freed: Vec<_> = held.drain(..30).collect();
        drop(freed);
    }
    let pages: u64 = held.iter().map(|pages| pages.order().pages()).sum();
    let counts = bench.mm.cpu_pages(0).unwrap();
    assert_eq!((counts.allocated, counts.freed), (8 * 45, 8 * 45 - pages));
    drop(held);
    let counts = bench.mm.cpu_pages(0).unwrap();
    assert_eq!((counts.allocated, counts.freed), (8 * 45, 8 * 45));
    assert_eq!(counts.cached, bench.mm.stats().cached);
    bench.check();
}

#[test]
fn pages_of_2_mib_are_cached_one_by_one_whatever_their_order_is() {
    assert!(Class::of::<FakeMachine<Tiny>>(order(9)).is_some_and(|class| class.batch() == 1));
    let large = Class::of::<FakeMachine<Lmb>>(order(5)).unwrap();
    assert_eq!((large.batch(), large.order::<FakeMachine<Lmb>>()), (1, order(5)));
    assert_eq!(Class::of::<FakeMachine<Lmb>>(order(9)), None);
    assert_eq!(Class::of::<FakeMachine<Tiny>>(order(4)), None);
}

#[test]
fn what_other_cpus_cache_is_given_back_before_an_allocation_fails() {
    let bench = bench();
    let mut held: Vec<_> = std::iter::from_fn(|| bench.mm.alloc(Order::ZERO).ok()).collect();
    assert_eq!(bench.mm.stats().pages.free, 0);
    for cpu in 1..CPUS {
        // From memory of its node alone; other pages go to their zone.
        become_cpu(cpu);
        let pages = held.iter().position(|pages| pages.pfn().get() < 4 * MIB / 4096).unwrap();
        drop(held.swap_remove(pages));
        let mine = bench.mm.alloc(Order::ZERO).unwrap();
        let pfn = mine.pfn();
        drop(mine);
        assert!(is_cached(&bench, pfn));
    }
    become_cpu(0);
    let refused = bench.mm.alloc(order(3)).map(drop);
    assert_eq!(refused, Err(OutOfMemory { order: order(3) }));
    for _ in 1..CPUS {
        held.push(bench.mm.alloc(Order::ZERO).unwrap());
    }
    assert!(bench.mm.alloc(Order::ZERO).is_err());
    bench.check();
    drop(held);
    bench.check();
}

#[test]
fn a_request_for_certain_memory_is_not_served_from_a_cache_that_has_other() {
    let bench = bench();
    let warm = |_| bench.mm.alloc(Order::ZERO).unwrap();
    drop((0..40).map(warm).collect::<Vec<_>>());
    assert!(bench.mm.stats().cached > 32);
    let node = |raw| NodeId::new(raw).unwrap();
    let request = Request::from(Order::ZERO);
    for raw in [1, 0, 1] {
        let pages = bench.mm.alloc(request.on(node(raw))).unwrap();
        assert_eq!(bench.mm.page_info(pages.pfn()).unwrap().node, node(raw));
    }
    let wide = bench.mm.alloc(request.aligned(order(5))).unwrap();
    assert!(wide.pfn().is_aligned(order(5)));
    let low = Pfn::new(MIB / 4096);
    let held: Vec<_> = std::iter::from_fn(|| bench.mm.alloc(request.below(low)).ok()).collect();
    assert!(held.iter().all(|pages| pages.pfns().end <= low) && !held.is_empty());
    assert!(bench.mm.alloc_movable(request.in_movable_zone(), &bench.stubborn, 0).is_err());
    let user = bench.mm.register_user("heap").unwrap();
    let named = bench.mm.alloc(request.named(&user).with_private(7)).unwrap();
    assert_eq!(bench.mm.page_info(named.pfn()).unwrap().held_by, Some("heap"));
    assert_eq!(bench.mm.private(named.pfn()), Ok(7));
    let pfn = named.pfn();
    drop(named);
    assert!(is_cached(&bench, pfn));
    bench.check();
}

#[test]
fn a_cpu_takes_memory_of_its_node_then_of_the_nearest() {
    let node = |raw| NodeId::new(raw).unwrap();
    become_cpu(0);
    let ram = (0..4).map(|raw| (u64::from(raw) * 2 * MIB, 2 * MIB, raw)).collect();
    let setup = Setup { ram, block: MIB, window: (WINDOW, 64 * MIB), kernelcore: None };
    let bench = Bench::<Tiny>::new(&setup);
    // CPU 0 is on node 2; node 3 is nearer to it than node 0, and node 1 as far as that.
    bench.mm.machine().place_cpus(|_| NodeId(2), |_, to| [40, 40, 10, 20][to.get() as usize]);
    let mut nodes = Vec::new();
    let mut held = Vec::new();
    while let Ok(pages) = bench.mm.alloc(Order::ZERO) {
        nodes.push(bench.mm.page_info(pages.pfn()).unwrap().node);
        held.push(pages);
    }
    nodes.dedup();
    assert_eq!(nodes, [2, 3, 0, 1].map(node));
    bench.check();
    // Only pages of its node are kept.
    held.clear();
    let cached = bench.mm.zones().filter(|zone| zone.cached > 0).map(|zone| zone.node);
    assert_eq!(cached.collect::<Vec<_>>(), [node(2)]);
    bench.check();
}

#[test]
fn the_cache_of_a_cpu_whose_node_has_no_memory_keeps_that_of_the_nearest_until_memory_comes() {
    let node = |raw| NodeId::new(raw).unwrap();
    let bench = bench();
    // CPU 0 is on node 2, and node 1 is nearer to it than node 0.
    bench.mm.machine().place_cpus(|_| NodeId(2), |_, to| [30, 20, 10][to.get() as usize]);
    let [near, own] = [(WINDOW, 1), (WINDOW + MIB, 2)].map(|(start, raw)| {
        let dimm = range(start, MIB);
        bench.plug(dimm);
        bench.mm.hot_add(dimm, node(raw), Placement::PerBlock).unwrap();
        dimm
    });
    let online = |dimm: PhysRange| {
        bench.mm.online(bench.mm.block_at(dimm.start()), ZoneKind::Normal).unwrap();
    };
    let allocates_from = |raw: u32| {
        let page = bench.mm.alloc(Order::ZERO).unwrap();
        let pfn = page.pfn();
        assert_eq!(bench.mm.page_info(pfn).unwrap().node, node(raw));
        drop(page);
        assert!(is_cached(&bench, pfn));
        bench.check();
    };
    allocates_from(1);
    online(near);
    allocates_from(1);
    online(own);
    allocates_from(2);
    bench.offline(own);
    allocates_from(1);
    bench.offline(near);
    allocates_from(1);
}

#[test]
fn a_block_goes_offline_while_cpus_have_its_pages_cached_and_free_more_of_them() {
    let (bench, id) = with_block(ZoneKind::Movable);
    let holder = Holder::register(&bench);
    become_cpu(1);
    let take = || bench.mm.alloc_movable(Order::ZERO, holder.mover(), 0).unwrap();
    let held: Vec<_> = (0..80).map(|_| take()).collect();
    let (now, later) = held.split_at(60);
    now.iter().for_each(|&pfn| bench.mm.free_movable(pfn, holder.mover()).unwrap());
    assert!(bench.mm.stats().cached > 0);
    become_cpu(0);
    let mut op = bench.mm.start_offline(id).unwrap();
    assert_eq!(bench.mm.stats().cached, 0);
    let mut later = later.iter();
    loop {
        // Another CPU frees what is left, before, while and after the rest is isolated.
        become_cpu(1);
        if let Some(&pfn) = later.next() {
            bench.mm.free_movable(pfn, holder.mover()).unwrap();
            assert!(!is_cached(&bench, pfn));
        }
        become_cpu(0);
        match op.step(1).unwrap() {
            Stepped::Going(more) => op = more,
            Stepped::Done => break,
        }
        bench.check();
    }
    assert_eq!(later.len(), 0, "gone too soon");
    bench.check();
    // Its pages are cached again once it is back.
    bench.mm.online(id, ZoneKind::Movable).unwrap();
    let pfn = take();
    bench.mm.free_movable(pfn, holder.mover()).unwrap();
    assert!(is_cached(&bench, pfn));
    bench.mm.offline(id).unwrap();
    bench.check();
}

#[test]
fn a_cached_page_that_turns_out_bad_is_taken_out_of_use_between_steps_of_an_offline_too() {
    let (bench, id) = with_block(ZoneKind::Normal);
    let page = bench.mm.alloc(Order::ZERO).unwrap();
    let pfn = page.pfn();
    drop(page);
    assert!(is_cached(&bench, pfn));
    bench.mm.poison(pfn).unwrap();
    bench.check();

    let boot = bench.mm.alloc(Request::from(order(1)).below(Pfn::new(MIB / 4096 * 2))).unwrap();
    let (page, held) = (boot.pfn(), bench.mm.alloc(Order::ZERO).unwrap());
    let op = bench.mm.start_offline(id).unwrap();
    drop(boot);
    assert!(is_cached(&bench, page));
    bench.mm.poison(page).unwrap();
    // The block that goes is still kept out of caches.
    let freed = held.pfn();
    drop(held);
    assert!(!is_cached(&bench, freed));
    drop(op);
    bench.check();
}

#[test]
fn a_page_whose_metadata_is_looked_at_is_not_freed_meanwhile() {
    let (bench, _) = with_block(ZoneKind::Movable);
    let holder = Holder::register(&bench);
    let pfn = bench.mm.alloc_movable(Order::ZERO, holder.mover(), 0).unwrap();
    let freed = AtomicBool::new(false);
    thread::scope(|scope| {
        let looked = bench.mm.with_meta(pfn, 0, holder.mover(), |_| {
            scope.spawn(|| {
                become_cpu(1);
                bench.mm.free_movable(pfn, holder.mover()).unwrap();
                freed.store(true, Ordering::SeqCst);
            });
            (0..2000).for_each(|_| thread::yield_now());
            freed.load(Ordering::SeqCst)
        });
        assert_eq!(looked, Ok(false));
    });
    assert!(freed.into_inner());
    bench.check();
}

#[test]
fn caches_hold_nothing_whose_descriptors_move() {
    let bench = bench();
    let pages = bench.mm.alloc(Order::ZERO).unwrap();
    let pfn = pages.pfn();
    let block = bench.mm.block(bench.mm.block_at(range(pfn.get() * 4096, 1).start())).unwrap();
    let paused = Cached::of(bench.mm.allocator()).pause_caches(block.pfns);
    assert_eq!(bench.mm.stats().cached, 0);
    drop(pages);
    assert!(!is_cached(&bench, pfn));
    drop(paused);
    let pages: Pages<'_, _> = bench.mm.alloc(Order::ZERO).unwrap();
    drop(pages);
    assert!(bench.mm.stats().cached > 0 || is_cached(&bench, pfn));
    bench.check();
}

#[test]
fn an_add_that_fails_at_any_allocation_leaves_what_is_cached_whole() {
    let (bench, id) = with_block(ZoneKind::Normal);
    let before = bench.snapshot();
    let dimm = range(WINDOW + 2 * MIB, MIB);
    bench.plug(dimm);
    for nth in 1.. {
        become_cpu(nth as usize % CPUS);
        drop((0..50).map(|_| bench.mm.alloc(Order::ZERO).unwrap()).collect::<Vec<_>>());
        bench.mm.machine().plan().arm(nth);
        let added = bench.mm.hot_add(dimm, NodeId::ZERO, Placement::Boot);
        bench.mm.machine().plan().disarm();
        bench.check();
        if added.is_ok() {
            break;
        }
        assert_eq!(bench.snapshot(), before);
    }
    bench.mm.remove(dimm).unwrap();
    assert_eq!(bench.snapshot(), before);
    assert!(matches!(bench.mm.offline(id), Ok(()) | Err(OfflineError::InUse { .. })));
    bench.check();
}
