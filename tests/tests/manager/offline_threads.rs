//! Several threads free, allocate and migrate pages while their blocks go offline, are queried, or turn out to be
//! bad.
//!
//! Where two threads have to meet in a window of a few accesses, the machine yields to the other thread at each
//! access. Its TLB finds every use of a stale translation.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use super::Tiny;
use hotmem::testing::{Bench, Holder, Random, range};
use hotmem::{
    BlockState, Extent, MovableOps, Move, Mover, OfflineError, Order, Pfn, PhysRange, Placement,
    PoisonError, Removability, Request, ZoneKind,
};
use hotmem_tests::memory::{MIB, TINY_WINDOW, small};

const BLOCKS: u64 = 4;
const SECTION_PAGES: u64 = 256;

fn dimm() -> PhysRange {
    range(TINY_WINDOW, BLOCKS * MIB)
}

fn rig() -> Bench<Tiny> {
    let bench = small::<Tiny>(MIB);
    bench.plug(dimm());
    bench.add(dimm(), Placement::PerBlock);
    bench.online(dimm());
    bench
}

struct EndOnDrop<'a>(&'a AtomicBool);

impl Drop for EndOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Has some threads run `churn` repeatedly while `work` runs on this one.
fn meanwhile(threads: u64, churn: impl Fn(&mut Random) + Sync, work: impl FnOnce()) {
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        for seed in 0..threads {
            let (over, churn) = (&over, &churn);
            scope.spawn(move || {
                let mut random = Random::new(seed);
                while !over.load(Ordering::Relaxed) {
                    churn(&mut random);
                }
            });
        }
        // A failure in `work` must end the other threads, too.
        let end = EndOnDrop(&over);
        work();
        drop(end);
    });
}

/// Allocates a few pages of the added memory and frees every one of them.
fn take_and_free(bench: &Bench<Tiny>, mover: &Mover, random: &mut Random) {
    let count = 1 + random.below(6);
    let taken = (0..count).filter_map(|_| {
        let order = Order::new(random.below(3) as u8)?;
        bench.mm.alloc_movable(Request::from(order).in_movable_zone(), mover, 0).ok()
    });
    for pfn in taken.collect::<Vec<_>>() {
        assert_eq!(bench.mm.free_movable(pfn, mover), Ok(()));
    }
}

#[test]
fn a_page_is_freed_while_another_page_of_its_block_is_marked_bad() {
    for seed in 0..6 {
        let bench = rig();
        bench.mm.machine().mmu().yield_often(true);
        let holder = Holder::register(&bench);
        let churn = |random: &mut Random| take_and_free(&bench, holder.mover(), random);
        meanwhile(1, churn, || {
            let mut random = Random::new(seed);
            for block in 0..BLOCKS {
                let first = TINY_WINDOW / 4096 + block * SECTION_PAGES + 4;
                loop {
                    let pfn = Pfn::new(first + random.below(SECTION_PAGES - 4));
                    match bench.mm.poison(pfn) {
                        Ok(_) => break,
                        Err(error) => assert!(matches!(error, PoisonError::InUse(..)), "{error}"),
                    }
                }
            }
        });
        bench.mm.machine().mmu().yield_often(false);
        bench.check();
        for id in bench.blocks(dimm()) {
            let counts = bench.mm.block(id).unwrap().counts;
            assert_eq!(counts.managed - counts.free, 1, "all was freed but the bad page");
        }
    }
}

#[test]
fn explain_returns_while_other_threads_allocate_and_free() {
    let bench = rig();
    let other = Holder::register(&bench);
    let churn = |random: &mut Random| take_and_free(&bench, other.mover(), random);
    meanwhile(1, churn, || {
        for _ in 0..2000 {
            for id in bench.blocks(dimm()) {
                let removability = bench.mm.explain_offline(id);
                assert!(!matches!(removability, Removability::Blocked(_)), "{removability}");
            }
        }
    });
    bench.check();
    assert_eq!(bench.mm.explain_remove(dimm()), Removability::Now);
}

#[test]
fn contents_are_migrated_while_other_pages_are_allocated_and_freed() {
    let bench = rig();
    let holder = Holder::register(&bench);
    let other = Holder::register(&bench);
    let kept = 200;
    for _ in 0..kept {
        holder.take_in_zone(&bench, Order::ZERO).unwrap();
    }
    let mut gone = 0;
    let churn = |random: &mut Random| take_and_free(&bench, other.mover(), random);
    meanwhile(2, churn, || {
        let blocks = bench.blocks(dimm());
        for turn in 0..200 {
            let id = blocks[turn % blocks.len()];
            match bench.mm.offline(id) {
                Ok(()) => {
                    assert_eq!(bench.mm.block(id).unwrap().state, BlockState::Offline);
                    gone += 1;
                    bench.mm.online(id, ZoneKind::Movable).unwrap();
                }
                // The second owner does not record its pages: they stay until they are freed.
                Err(error) => assert!(matches!(error, OfflineError::InUse { .. }), "{error}"),
            }
        }
    });
    assert!(gone > 0, "no block ever went offline");
    assert_eq!(holder.handles().len(), kept);
    holder.check(&bench);
    bench.check();
}

/// Each part of a block in turn leaves while other threads use the rest of it; its record and the block's words move with
/// readers of the block under way.
#[test]
fn a_part_leaves_and_joins_its_block_while_other_pages_of_it_are_allocated_and_freed() {
    let bench = small::<Tiny>(MIB);
    let parts = [range(TINY_WINDOW, MIB / 2), range(TINY_WINDOW + MIB / 2, MIB / 2)];
    let room = range(TINY_WINDOW + MIB, MIB);
    for dimm in [parts[0], parts[1], room] {
        bench.plug(dimm);
        bench.add(dimm, Placement::PerBlock);
    }
    bench.online(range(TINY_WINDOW, 2 * MIB));
    bench.mm.machine().mmu().yield_often(true);
    let (holder, other) = (Holder::register(&bench), Holder::register(&bench));
    let kept = 150;
    for _ in 0..kept {
        holder.take_in_zone(&bench, Order::ZERO).unwrap();
    }
    let id = bench.blocks(parts[0])[0];
    let mut gone = 0;
    let churn = |random: &mut Random| take_and_free(&bench, other.mover(), random);
    meanwhile(2, churn, || {
        for turn in 0..60 {
            let part = parts[turn % 2];
            match bench.mm.offline_part(id, part) {
                Ok(()) if turn % 3 == 0 => bench.mm.online_part(id, part).unwrap(),
                Ok(()) => {
                    bench.mm.scrub_part(id, part, u64::MAX).unwrap();
                    bench.mm.remove(part).unwrap();
                    gone += 1;
                    bench.mm.hot_add(part, hotmem::NodeId::ZERO, Placement::PerBlock).unwrap();
                }
                Err(error) => assert!(matches!(error, OfflineError::InUse { .. }), "{error}"),
            }
            assert_ne!(bench.mm.block(id).unwrap().state, BlockState::Offline);
        }
    });
    bench.mm.machine().mmu().yield_often(false);
    assert!(gone > 2, "{gone} parts left");
    assert_eq!(holder.handles().len(), kept);
    holder.check(&bench);
    bench.check();
}

/// The word of each extent of [`Sure`].
const WORD: u64 = 0x5eed_feed;

/// An owner that refuses every migration, and counts the requests; at each it must know the extent.
struct Sure(AtomicU64);

impl Sure {
    fn knows(&self, extent: &Extent) {
        assert_eq!(extent.private, WORD, "{}", extent.pfn);
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl MovableOps for Sure {
    fn name(&self) -> &'static str {
        "sure"
    }

    fn pinned(&self, extent: &Extent) -> bool {
        self.knows(extent);
        false
    }

    fn isolate(&self, moves: &[Move]) {
        moves.iter().for_each(|one| self.knows(one.from()));
        moves.iter().for_each(Move::refuse);
    }

    fn migrate(&self, moves: &[Move]) {
        assert!(moves.is_empty(), "all were refused");
    }
}

#[test]
fn an_owner_is_asked_about_an_extent_with_its_word_from_the_first_moment_on() {
    let bench = rig();
    let sure: &'static Sure = Box::leak(Box::new(Sure(AtomicU64::new(0))));
    let mover = bench.mm.register(sure).unwrap();
    bench.mm.machine().mmu().yield_often(true);
    let churn = |random: &mut Random| {
        let order = Order::new(random.below(3) as u8).unwrap();
        let request = Request::from(order).in_movable_zone();
        if let Ok(pfn) = bench.mm.alloc_movable(request, &mover, WORD) {
            bench.mm.free_movable(pfn, &mover).unwrap();
        }
    };
    meanwhile(2, churn, || {
        let mut turn = 0;
        while sure.0.load(Ordering::Relaxed) < 100 {
            let blocks = bench.blocks(dimm());
            let id = blocks[turn % blocks.len()];
            bench.mm.explain_offline(id);
            if bench.mm.offline(id).is_ok() {
                bench.mm.online(id, ZoneKind::Movable).unwrap();
            }
            turn += 1;
        }
    });
    bench.mm.machine().mmu().yield_often(false);
    bench.check();
}
