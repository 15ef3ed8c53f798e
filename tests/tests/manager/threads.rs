//! Look-ups take no lock, operations exclude each other, allocation is shared: many threads do all of it at once.
//!
//! No test here waits for time to pass: loops are bounded by counts. Where look-ups meet removals the machine yields
//! to other threads at every access, so that they meet between any two accesses.
#![expect(clippy::panic, reason = "a suite fails by a panic")]

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use super::Tiny;
use hotmem::testing::{Bench, CPUS, FakeMachine, Random, become_cpu, range};
use hotmem::{
    AddError, BlockId, BlockState, Mm, NodeId, OfflineError, OnlineError, Order, Owner, PageState,
    Pfn, PhysRange, Placement, RemoveError, ZoneKind,
};
use hotmem_tests::memory::{MIB, TINY_WINDOW, assert_same, small, small_without_reserve};

const PAGE: u64 = 4096;
const SECTION_PAGES: u64 = 256;

type Manager = Mm<FakeMachine<Tiny>>;

fn dimm() -> PhysRange {
    range(TINY_WINDOW, 4 * MIB)
}

/// Adds, brings online, takes offline and removes the DIMM.
fn cycle(mm: &Manager, placement: Placement) {
    let done = mm.hot_add(dimm(), NodeId::default(), placement);
    assert!(done.is_ok(), "{done:?}");
    for id in mm.blocks_in(dimm()) {
        let online = mm.online(id, ZoneKind::Movable);
        assert!(online.is_ok_and(|block| block.id == id), "{online:?}");
    }
    for id in mm.blocks_in(dimm()) {
        let offline = mm.offline(id);
        assert!(offline.is_ok(), "{offline:?}");
    }
    let removed = mm.remove(dimm());
    assert!(removed.is_ok(), "{removed:?}");
}

/// Runs `look` on three threads repeatedly while `work` runs on this one; returns the number of runs.
fn look_while(
    bench: &Bench<Tiny>,
    look: impl Fn(&mut Random) + Sync,
    work: impl FnOnce(&AtomicU64),
) -> u64 {
    let (over, looks) = (AtomicBool::new(false), AtomicU64::new(0));
    bench.mm.machine().mmu().yield_often(true);
    thread::scope(|scope| {
        for seed in 0..3 {
            let (over, looks, look) = (&over, &looks, &look);
            scope.spawn(move || {
                let mut random = Random::new(seed);
                while !over.load(Ordering::Relaxed) {
                    look(&mut random);
                    looks.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        // A failure in `work` must end the other threads, too.
        let end = EndOnDrop(&over);
        work(&looks);
        drop(end);
    });
    bench.mm.machine().mmu().yield_often(false);
    looks.into_inner()
}

struct EndOnDrop<'a>(&'a AtomicBool);

impl Drop for EndOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Waits until the other threads have had a chance to see this state.
///
/// # Panics
///
/// If none of them makes progress: each has failed.
fn let_look(looks: &AtomicU64) {
    let seen = looks.load(Ordering::Relaxed);
    for _ in 0..1 << 24 {
        if looks.load(Ordering::Relaxed) >= seen + 3 {
            return;
        }
        thread::yield_now();
    }
    panic!("the readers make no progress");
}

#[test]
fn pages_are_looked_up_while_their_range_is_added_and_removed() {
    for placement in Placement::ALL {
        let bench = small::<Tiny>(MIB);
        let before = bench.snapshot();
        bench.plug(dimm());
        let first = TINY_WINDOW / PAGE;
        let look = |random: &mut Random| {
            let pfn = Pfn::new(first - 64 + random.below(4 * SECTION_PAGES + 128));
            let Some(info) = bench.mm.page_info(pfn) else { return };
            assert_eq!(info.pfn, pfn);
            assert_eq!(info.block.get(), pfn.get() / SECTION_PAGES);
            // No thread allocates: a page that is found is free, part of a free extent, or memmap.
            match info.state {
                Some(PageState::Used { .. } | PageState::Hole) => panic!("{info:?}"),
                Some(PageState::MemmapHead { .. }) => assert_eq!(info.head, Some(pfn)),
                _ => {}
            }
        };
        let looks = look_while(&bench, look, |looks| {
            for _ in 0..25 {
                cycle(&bench.mm, placement);
                let_look(looks);
            }
        });
        assert!(looks >= 75);
        bench.check();
        assert_same(&before, &bench.snapshot());
        bench.unplug(dimm());
    }
}

#[test]
fn blocks_are_listed_while_they_are_added_and_removed() {
    // Without a reserve the node of the section map is allocated by and freed to the allocator.
    let bench = small_without_reserve::<Tiny>(MIB);
    let far = range(1024 * MIB, 4 * MIB);
    bench.plug(far);
    let before = bench.snapshot();
    let (first, end) = (far.start().get() / MIB, far.end().get() / MIB);
    let look = |random: &mut Random| {
        let id = BlockId::new(first + random.below(end - first));
        if let Some(block) = bench.mm.block(id) {
            assert_eq!((block.id, block.boot), (id, false));
            assert_eq!(block.pfns.pages(), SECTION_PAGES);
        }
        for block in bench.mm.blocks().filter(|block| !block.boot) {
            assert!((first..end).contains(&block.id.get()), "{block:?}");
        }
        let stats = bench.mm.stats();
        assert!(stats.blocks.0 >= 16 && stats.blocks.0 + stats.blocks.1 <= 20, "{stats:?}");
    };
    look_while(&bench, look, |looks| {
        for turn in 0..25 {
            let placement = Placement::ALL[turn % 3];
            assert!(bench.mm.hot_add(far, NodeId::default(), placement).is_ok());
            let_look(looks);
            for id in bench.mm.blocks_in(far) {
                assert!(bench.mm.online(id, ZoneKind::Movable).is_ok());
                assert!(bench.mm.offline(id).is_ok());
            }
            assert!(bench.mm.remove(far).is_ok());
        }
    });
    bench.check();
    assert_same(&before, &bench.snapshot());
    bench.unplug(far);
}

#[test]
fn operations_from_many_threads_take_turns() {
    let bench = small_without_reserve::<Tiny>(MIB);
    let before = bench.snapshot();
    bench.plug(range(TINY_WINDOW, 8 * MIB));
    thread::scope(|scope| {
        for nth in 0..4 {
            let mm = &bench.mm;
            scope.spawn(move || {
                let own = range(TINY_WINDOW + nth * 2 * MIB, 2 * MIB);
                for turn in 0..60 {
                    own_cycle(mm, own, Placement::ALL[turn % 3]);
                }
            });
        }
    });
    bench.check();
    assert_same(&before, &bench.snapshot());
}

/// A cycle over a range that no other thread uses; `Busy` is the only refusal it may meet.
fn own_cycle(mm: &Manager, own: PhysRange, placement: Placement) {
    insist(|| mm.hot_add(own, NodeId::default(), placement), AddError::Busy);
    for id in mm.blocks_in(own) {
        insist(|| mm.online(id, ZoneKind::Normal), OnlineError::Busy);
    }
    for id in mm.blocks_in(own) {
        insist(|| mm.offline(id), OfflineError::Busy);
    }
    insist(|| mm.remove(own), RemoveError::Busy);
}

/// Repeats the operation until it succeeds; the only allowed error is `busy`.
fn insist<T, E: PartialEq + std::fmt::Debug>(operation: impl Fn() -> Result<T, E>, busy: E) -> T {
    loop {
        match operation() {
            Ok(done) => return done,
            Err(error) => assert_eq!(error, busy),
        }
        thread::yield_now();
    }
}

/// Allocates and frees at random, `steps` times; returns the extents that it then holds.
fn churn(bench: &Bench<Tiny>, seed: u64, steps: u64) -> Vec<(Pfn, Order)> {
    // One CPU has no cache.
    become_cpu(seed as usize % (CPUS + 1));
    let mut random = Random::new(seed);
    let mut held = Vec::new();
    for _ in 0..steps {
        if random.one_in(2) || held.is_empty() {
            let order = Order::new(random.below(4) as u8).unwrap_or_default();
            if let Ok(pfn) = bench.alloc_movable(order) {
                assert_eq!(bench.mm.set_private(pfn, seed), Ok(()));
                held.push((pfn, order));
            }
        } else {
            let (pfn, _) = held.swap_remove(random.below(held.len() as u64) as usize);
            assert_eq!(bench.mm.private(pfn), Ok(seed), "{pfn} is allocated twice");
            assert_eq!(bench.mm.free_pages(pfn), Ok(()));
        }
    }
    held
}

#[test]
fn threads_that_allocate_at_once_never_share_a_page() {
    let bench = small::<Tiny>(MIB);
    let before = bench.snapshot();
    bench.plug(dimm());
    bench.add(dimm(), Placement::PerBlock);
    bench.online(dimm());
    let online = bench.snapshot();
    let held: Vec<_> = thread::scope(|scope| {
        let bench = &bench;
        let start = |seed| scope.spawn(move || churn(bench, seed, 4000));
        let churns: Vec<_> = (1..5).map(start).collect();
        churns.into_iter().filter_map(|churn| churn.join().ok()).collect()
    });
    assert_eq!(held.len(), 4, "a thread failed");
    let mut pages = BTreeSet::new();
    for (pfn, order) in held.into_iter().flatten() {
        for page in 0..order.pages() {
            assert!(pages.insert(pfn.add(page)), "{pfn} is held twice");
        }
        assert_eq!(bench.mm.free_pages(pfn), Ok(()));
    }
    bench.check();
    assert_same(&online, &bench.snapshot());
    bench.offline(dimm());
    bench.remove(dimm());
    assert_same(&before, &bench.snapshot());
}

#[test]
fn blocks_go_offline_while_threads_allocate_and_free() {
    let bench = small::<Tiny>(MIB);
    let before = bench.snapshot();
    bench.plug(dimm());
    bench.add(dimm(), Placement::PerBlock);
    let over = AtomicBool::new(false);
    let mut gone = 0;
    thread::scope(|scope| {
        for seed in 1..4 {
            let (bench, over) = (&bench, &over);
            scope.spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    for (pfn, _) in churn(bench, seed, 50) {
                        assert_eq!(bench.mm.free_pages(pfn), Ok(()));
                    }
                }
            });
        }
        let end = EndOnDrop(&over);
        let blocks = bench.blocks(dimm());
        for turn in 0..2000 {
            let id = blocks[turn % blocks.len()];
            match bench.mm.block(id).map(|block| block.state) {
                Some(BlockState::Offline) => {
                    assert!(bench.mm.online(id, ZoneKind::Movable).is_ok())
                }
                _ => match bench.mm.offline(id) {
                    Ok(_) => gone += 1,
                    Err(error) => assert!(matches!(error, OfflineError::InUse { .. }), "{error}"),
                },
            }
        }
        drop(end);
    });
    assert!(gone > 0, "no block ever went offline");
    bench.check();
    for id in bench.blocks(dimm()) {
        let offline = bench.mm.offline(id);
        assert!(offline.is_ok() || offline == Err(OfflineError::AlreadyOffline(id)));
    }
    bench.remove(dimm());
    assert_same(&before, &bench.snapshot());
}

#[test]
fn a_page_that_two_threads_free_is_freed_once() {
    let bench = small::<Tiny>(MIB);
    for _ in 0..500 {
        let Ok(pfn) = bench.alloc_movable(Order::ZERO) else {
            panic!("no page");
        };
        let freed = AtomicU64::new(0);
        thread::scope(|scope| {
            for cpu in 0..2 {
                let (mm, freed) = (&bench.mm, &freed);
                scope.spawn(move || {
                    become_cpu(cpu);
                    freed.fetch_add(mm.free_pages(pfn).is_ok().into(), Ordering::Relaxed)
                });
            }
        });
        assert_eq!(freed.into_inner(), 1);
    }
    bench.check();
}

#[test]
fn no_look_up_uses_stale_descriptors_of_a_dimm_that_comes_online() {
    let bench = small::<Tiny>(MIB);
    let block = range(TINY_WINDOW, MIB);
    bench.plug(block);
    // As left by an earlier life: each descriptor is the head of a bad page.
    let stale = PageState::Used { order: Order::ZERO, owner: Owner::Poison }.encode();
    let first = TINY_WINDOW / PAGE;
    let look = |random: &mut Random| {
        // The first pages of the block's extents once it is online.
        let pfn = Pfn::new(first + (4 << random.below(6)));
        let state = bench.mm.page_info(pfn).and_then(|info| info.state);
        assert!(!matches!(state, Some(PageState::Used { .. })), "{pfn}: {state:?}");
    };
    let id = BlockId::new(TINY_WINDOW / MIB);
    look_while(&bench, look, |looks| {
        for _ in 0..60 {
            for word in (0..4 * PAGE).step_by(8) {
                bench.mm.machine().mmu().poke(block.start().add(word), stale);
            }
            bench.mm.hot_add(block, NodeId::default(), Placement::PerBlock).unwrap();
            bench.mm.online(id, ZoneKind::Movable).unwrap();
            let_look(looks);
            bench.mm.offline(id).unwrap();
            bench.mm.remove(block).unwrap();
        }
    });
    bench.check();
}
