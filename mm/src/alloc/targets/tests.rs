extern crate std;

use crate::addr::PhysRange;
use crate::testing::{Bench, Setup, Tiny, locks_held, range};
use crate::{MovableOps, Move, Mover, Order, Pfn, Placement, Request};
use core::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::boxed::Box;
use std::sync::OnceLock;

const MIB: u64 = 1 << 20;
const WINDOW: u64 = 64 * MIB;
/// Two parts of a block, and a block of the same size.
const PARTS: [(u64, u64); 2] = [(WINDOW, MIB / 2), (WINDOW + MIB / 2, MIB / 2)];
const ROOM: (u64, u64) = (WINDOW + MIB, MIB);

fn dimm((start, len): (u64, u64)) -> PhysRange {
    range(start, len)
}

/// An owner of one extent, which another CPU frees just before an access of this one.
struct Leaver {
    bench: Bench<Tiny>,
    mover: OnceLock<Mover>,
    /// The first page of the extent; 0 once it is free.
    at: AtomicU64,
    /// Accesses until it is freed.
    left: AtomicI64,
    /// It is about to move, and not freed.
    moves: AtomicBool,
}

impl Leaver {
    fn new() -> &'static Self {
        let ram = [(0, 16 * MIB, 0)].into();
        let setup = Setup { ram, block: MIB, window: (WINDOW, 64 * MIB), kernelcore: None };
        let (bench, mover) = (Bench::new(&setup), OnceLock::new());
        for part in [PARTS[0], PARTS[1], ROOM].map(dimm) {
            bench.plug(part);
            bench.add(part, Placement::Boot);
        }
        bench.online(range(WINDOW, MIB));
        let (at, left, moves) = Default::default();
        let leaver: &'static Self = Box::leak(Box::new(Self { bench, mover, at, left, moves }));
        leaver.mover.get_or_init(|| leaver.bench.mm.register(leaver).unwrap());
        leaver.bench.mm.machine().mmu().on_access(|| leaver.meet());
        leaver
    }

    /// Another CPU waits for the locks that this one holds.
    fn meet(&self) {
        let runs = locks_held() == 0 && !self.moves.load(Ordering::Relaxed);
        if runs && self.left.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.free();
        }
    }

    fn free(&self) {
        let at = self.at.swap(0, Ordering::Relaxed);
        if at != 0 {
            self.bench.mm.free_movable(Pfn::new(at), self.mover.get().unwrap()).unwrap();
        }
    }

    /// A part of the block goes offline, and with it the extent, which is all of the block; it is freed before the access
    /// `nth` if there are so many. Returns whether there are, and the pages that are free when all is freed.
    fn offline(&self, nth: i64) -> (bool, u64) {
        let mm = &self.bench.mm;
        let id = mm.block_at(dimm(PARTS[0]).start());
        // The free extents of both parts become one.
        mm.offline_part(id, dimm(PARTS[1])).unwrap();
        mm.online_part(id, dimm(PARTS[1])).unwrap();
        let request = Request::from(Order::new(8).unwrap()).in_movable_zone().with_meta_of_each();
        let pfn = mm.alloc_movable(request, self.mover.get().unwrap(), 0).unwrap();
        self.at.store(pfn.get(), Ordering::Relaxed);
        self.bench.online(dimm(ROOM));
        self.left.store(nth, Ordering::Relaxed);
        mm.offline_part(id, dimm(PARTS[1])).unwrap();
        let freed = self.left.swap(0, Ordering::Relaxed) <= 0;
        self.free();
        self.bench.check();
        let free = mm.stats().pages.free;
        mm.online_part(id, dimm(PARTS[1])).unwrap();
        self.bench.offline(dimm(ROOM));
        (freed, free)
    }
}

impl MovableOps for Leaver {
    fn name(&self) -> &'static str {
        "leaver"
    }

    fn isolate(&self, moves: &[Move]) {
        self.moves.store(true, Ordering::Relaxed);
        let at = self.at.load(Ordering::Relaxed);
        moves.iter().filter(|one| one.from().pfn.get() != at).for_each(Move::refuse);
        self.moves.store(moves.iter().any(|one| !one.is_refused()), Ordering::Relaxed);
    }

    fn migrate(&self, moves: &[Move]) {
        moves.iter().for_each(|one| self.at.store(one.to().get(), Ordering::Relaxed));
        self.moves.store(false, Ordering::Relaxed);
    }
}

#[test]
fn an_extent_that_is_freed_at_any_time_while_a_part_of_it_is_emptied_leaves_no_target_behind() {
    let leaver = Leaver::new();
    let (_, all) = leaver.offline(i64::MAX);
    let freed = (1..).find(|&nth| {
        let (freed, free) = leaver.offline(nth);
        assert_eq!(free, all, "freed before access {nth}");
        !freed
    });
    assert!(freed > Some(20), "{freed:?}");
}
