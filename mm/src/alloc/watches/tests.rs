extern crate std;

use super::*;
use crate::alloc::node::{NodeTable, Nodes};
use crate::testing::{Bench, CPUS, Random, Setup, Tiny, become_cpu, locks_held, on_cpu, range};
use crate::{Mm, Order, Pages, Placement, ZoneKind};
use core::sync::atomic::AtomicUsize;
use std::boxed::Box;
use std::thread;
use std::vec::Vec;

const MIB: u64 = 1 << 20;
const KIB: u64 = 1 << 10;
const WINDOW: u64 = 64 * MIB;

/// Counts what it is notified of.
#[derive(Default)]
struct Ear {
    low: AtomicUsize,
    ended: AtomicUsize,
    /// The most locks that were held.
    locks: AtomicUsize,
}

impl Pressure for Ear {
    fn crossed(&self, watch: &'static Watch) {
        let count = if watch.is_low() { &self.low } else { &self.ended };
        count.fetch_add(1, Ordering::Relaxed);
        self.locks.fetch_max(locks_held(), Ordering::Relaxed);
    }
}

impl Ear {
    /// How often memory became low, and how often it no longer was.
    fn heard(&self) -> (usize, usize) {
        (self.low.load(Ordering::Relaxed), self.ended.load(Ordering::Relaxed))
    }
}

fn watch(node: Option<u32>) -> (&'static Watch, &'static Ear) {
    let ear: &'static Ear = Box::leak(Box::default());
    let node = node.map(|raw| NodeId::new(raw).unwrap());
    let watch = node.map_or_else(|| Watch::new(ear), |node| Watch::of_node(node, ear));
    (Box::leak(Box::new(watch)), ear)
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

/// A watch that sees memory become low once `bytes` more are in use, and no longer be so once `bytes` are free again.
fn watched(bench: &Bench<Tiny>, node: Option<u32>, bytes: u64) -> (&'static Watch, &'static Ear) {
    let (watch, ear) = watch(node);
    bench.mm.watch(watch, Marks::new(0, 0).unwrap()).unwrap();
    bench.mm.drain_caches();
    let free = bench.mm.free_of(watch);
    bench.mm.watch(watch, Marks::new(free - bytes + 1, free - 1).unwrap()).unwrap();
    assert_eq!((watch.is_low(), ear.heard()), (false, (0, 0)));
    (watch, ear)
}

fn pages(
    mm: &Mm<crate::testing::FakeMachine<Tiny>>,
    raw: u8,
) -> Pages<'_, crate::testing::FakeMachine<Tiny>> {
    mm.alloc(Order::new(raw).unwrap()).unwrap()
}

#[test]
fn a_watch_is_notified_once_below_the_low_mark_and_once_above_the_high_mark() {
    let bench = bench();
    let (watch, ear) = watched(&bench, None, 128 * KIB);
    for round in 1..=3 {
        let held: Vec<_> = (0..3).map(|_| pages(&bench.mm, 4)).collect();
        assert_eq!((watch.is_low(), ear.heard()), (true, (round, round - 1)));
        // Between both marks nothing changes.
        let mut held = held;
        held.truncate(1);
        held.push(pages(&bench.mm, 4));
        assert_eq!((watch.is_low(), ear.heard()), (true, (round, round - 1)));
        drop(held);
        assert_eq!((watch.is_low(), ear.heard()), (false, (round, round)));
    }
    assert_eq!(ear.locks.load(Ordering::Relaxed), 0, "extents of 64 KiB are in no cache");
    bench.check();
}

#[test]
fn single_pages_and_one_large_extent_are_noticed_alike() {
    let bench = bench();
    let (watch, ear) = watched(&bench, None, 512 * KIB);
    let small: Vec<_> = (0..160).map(|_| pages(&bench.mm, 0)).collect();
    assert_eq!((watch.is_low(), ear.heard()), (true, (1, 0)));
    drop(small);
    bench.mm.drain_caches();
    assert_eq!((watch.is_low(), ear.heard()), (false, (1, 1)));
    let large = pages(&bench.mm, 7);
    assert_eq!((watch.is_low(), ear.heard()), (true, (2, 1)));
    drop(large);
    assert_eq!(ear.heard(), (2, 2));
    assert!(ear.locks.load(Ordering::Relaxed) <= 1, "a cache may be locked, a zone is not");
    bench.check();
}

#[test]
fn memory_that_goes_offline_and_comes_online_passes_the_marks() {
    let bench = bench();
    let dimm = range(WINDOW, 2 * MIB);
    bench.plug(dimm);
    bench.add(dimm, Placement::PerBlock);
    bench.online(dimm);
    let (watch, ear) = watched(&bench, None, MIB);
    bench.offline(dimm);
    assert_eq!((watch.is_low(), ear.heard()), (true, (1, 0)));
    bench.remove(dimm);
    assert_eq!(ear.heard(), (1, 0));
    bench.add(dimm, Placement::PerBlock);
    assert_eq!(ear.heard(), (1, 0), "it is offline");
    bench.online(dimm);
    assert_eq!((watch.is_low(), ear.heard()), (false, (1, 1)));
    bench.mm.drain_caches();
    assert_eq!(bench.mm.free_of(watch), bench.mm.stats().pages.free * 4096);
}

#[test]
fn a_block_that_stays_online_after_all_is_free_again() {
    let bench = bench();
    let dimm = range(WINDOW, MIB);
    bench.plug(dimm);
    bench.add(dimm, Placement::PerBlock);
    bench.mm.online(bench.mm.block_at(dimm.start()), ZoneKind::Movable).unwrap();
    let stays = bench.alloc_movable_zone(Order::ZERO).unwrap();
    let (watch, _) = watched(&bench, None, MIB / 2);
    assert!(bench.mm.offline(bench.mm.block_at(dimm.start())).is_err());
    assert!(!watch.is_low());
    bench.mm.free_movable(stays, &bench.stubborn).unwrap();
    bench.mm.drain_caches();
    assert_eq!(bench.mm.free_of(watch), bench.mm.stats().pages.free * 4096);
}

#[test]
fn a_watch_of_a_node_sees_its_memory_only() {
    let bench = bench();
    let (here, ear) = watched(&bench, Some(0), 64 * KIB);
    let (there, other) = watched(&bench, Some(1), 64 * KIB);
    let on = |raw| {
        let request = crate::Request::from(Order::new(5).unwrap());
        bench.mm.alloc(request.on(NodeId::new(raw).unwrap())).unwrap()
    };
    let held = on(1);
    assert_eq!((ear.heard(), other.heard()), ((0, 0), (1, 0)));
    let more = on(0);
    assert_eq!((here.is_low(), there.is_low(), ear.heard()), (true, true, (1, 0)));
    drop((held, more));
    assert_eq!((ear.heard(), other.heard()), ((1, 1), (1, 1)));
}

#[test]
fn other_marks_take_effect_at_once() {
    let bench = bench();
    let (watch, ear) = watch(None);
    let set = |low, high| bench.mm.watch(watch, Marks::new(low, high).unwrap()).unwrap();
    set(64 * MIB, 65 * MIB);
    assert_eq!((watch.is_low(), ear.heard()), (true, (1, 0)));
    let free = bench.mm.free_of(watch);
    set(1, free);
    assert_eq!((watch.is_low(), ear.heard()), (true, (1, 0)), "not above the high mark");
    set(1, free - 1);
    assert_eq!((watch.is_low(), ear.heard()), (false, (1, 1)));
    set(free + 1, free + 1);
    assert_eq!(ear.heard(), (2, 1));
    set(0, 0);
    assert_eq!((watch.is_low(), ear.heard()), (false, (2, 2)));
}

#[test]
fn what_cannot_be_watched_is_refused_by_name() {
    let bench = bench();
    let error = Marks::new(3, 2).unwrap_err();
    assert_eq!(
        std::format!("{error}"),
        "the low mark of 0x3 bytes is above the high mark of 0x2 bytes"
    );
    let marks = Marks::new(2, 2).unwrap();
    let two = Nodes::<NodeTable<2>>::new();
    let result = two.watch(watch(Some(2)).0, bench.mm.allocator().owners.number(), (0, 0));
    assert_eq!(result, Err(WatchError::NoNode(NodeId::new(2).unwrap())));
    let all: Vec<_> = (0..=MAX_WATCHES).map(|_| watch(None).0).collect();
    let (last, rest) = all.split_last().unwrap();
    for watch in rest.iter().chain(rest) {
        assert_eq!(bench.mm.watch(watch, marks), Ok(()));
    }
    assert_eq!(bench.mm.watch(last, marks), Err(WatchError::TooMany));
    let other = self::bench();
    assert_eq!(other.mm.watch(last, marks), Ok(()));
    assert_eq!(other.mm.watch(rest[0], marks), Err(WatchError::Elsewhere));
}

#[test]
fn cpus_that_allocate_and_free_at_once_lose_no_crossing() {
    let bench = bench();
    let (watch, ear) = watched(&bench, None, 1024 * KIB);
    thread::scope(|scope| {
        for cpu in 0..CPUS {
            let mm = &bench.mm;
            scope.spawn(move || {
                on_cpu(cpu, || {
                    let mut random = Random::new(cpu as u64);
                    for _ in 0..200 {
                        let count = random.below(24) as usize;
                        let order = Order::new(random.below(6) as u8).unwrap();
                        let held: Vec<_> = (0..count).map_while(|_| mm.alloc(order).ok()).collect();
                        drop(held);
                    }
                })
            });
        }
    });
    let all: Vec<_> = core::iter::from_fn(|| bench.mm.alloc(Order::new(4).unwrap()).ok()).collect();
    assert!(watch.is_low());
    drop(all);
    bench.mm.drain_caches();
    assert!(!watch.is_low());
    assert_eq!(bench.mm.free_of(watch), bench.mm.stats().pages.free * 4096);
    let (low, ended) = ear.heard();
    assert!(low > 0 && ended > 0, "{low}, {ended}");
    bench.check();
}
