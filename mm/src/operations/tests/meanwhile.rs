//! Looks beside an operation: one that does not end, and those between two of its steps.

use super::{Bench, DIMM, FakeMachine, MIB, Tiny, bench, leaving};
use crate::geometry::Geometry;
use crate::operations::{ConvertError, OnlineError};
use crate::testing::{Setup, range};
use crate::turn::Look;
use crate::{
    Block, BlockState, Change, ContigError, Event, Listen, Listener, MovableOps, Move, Mover,
    NodeId, Order, Pfn, PhysRange, Placement, Request, ZoneKind,
};
use core::sync::atomic::{AtomicBool, Ordering};
use std::boxed::Box;
use std::sync::Mutex;
use std::vec::Vec;

extern crate std;

type Fake = FakeMachine<Tiny>;

/// Code outside the manager, during which the CPU of a look stops.
struct Outside {
    bench: Bench<Tiny>,
    stops: AtomicBool,
    look: Mutex<Option<Look<'static, Fake>>>,
    /// Where its extent is.
    at: Mutex<Option<Pfn>>,
    /// What it was notified of.
    heard: Mutex<Vec<Event>>,
}

impl Outside {
    /// On a machine with a DIMM of one memmap.
    fn new() -> &'static Self {
        Self::beside(&[range(DIMM, 4 * MIB)])
    }

    /// On a machine to which these ranges were added.
    fn beside(added: &[PhysRange]) -> &'static Self {
        let bench = bench();
        for &dimm in added {
            bench.add(dimm, Placement::PerRange);
        }
        Self::on(bench)
    }

    /// On this machine.
    fn on(bench: Bench<Tiny>) -> &'static Self {
        let (stops, look) = (AtomicBool::new(false), Mutex::default());
        let (at, heard) = (Mutex::default(), Mutex::default());
        Box::leak(Box::new(Self { bench, stops, look, at, heard }))
    }

    fn may_stop(&'static self) {
        if self.stops.swap(false, Ordering::Relaxed) {
            let look = crate::alloc::Waits::of(self.bench.mm.allocator()).look();
            *self.look.lock().unwrap() = Some(look);
        }
    }

    /// Lets the look end.
    fn goes_on(&self) {
        assert!(self.look.lock().unwrap().take().is_some(), "no look has begun");
    }
}

/// What the manager calls.
#[derive(Clone, Copy)]
struct Called(&'static Outside);

impl Listen for Called {
    fn notify(&self, event: Event, _: &Change) -> Result<(), &'static str> {
        self.0.heard.lock().unwrap().push(event);
        self.0.may_stop();
        Ok(())
    }
}

impl MovableOps for Called {
    fn name(&self) -> &'static str {
        "outside"
    }

    fn isolate(&self, _: &[Move]) {}

    fn migrate(&self, moves: &[Move]) {
        *self.0.at.lock().unwrap() = moves.last().map(Move::to);
        self.0.may_stop();
    }
}

#[test]
fn a_block_does_not_come_online_beside_a_look_that_does_not_end() {
    let outside = Outside::new();
    let (mm, id) = (&outside.bench.mm, outside.bench.blocks(range(DIMM, MIB))[0]);
    let called: &'static Called = Box::leak(Box::new(Called(outside)));
    mm.listen(Box::leak(Box::new(Listener::new("outside", 0, called)))).unwrap();
    let before = outside.bench.snapshot();
    outside.stops.store(true, Ordering::Relaxed);
    assert_eq!(mm.online(id, ZoneKind::Movable), Err(OnlineError::Busy));
    assert_eq!(*outside.heard.lock().unwrap(), [Event::GoingOnline, Event::CancelOnline]);
    outside.bench.check();
    outside.goes_on();
    assert_eq!(outside.bench.snapshot(), before);
    assert_eq!(
        mm.online(id, ZoneKind::Movable).map(|block| block.state),
        Ok(BlockState::Online(ZoneKind::Movable))
    );
}

#[test]
fn a_part_of_a_block_does_not_come_back_online_beside_a_look_that_does_not_end() {
    let parts = [range(DIMM, MIB / 2), range(DIMM + MIB / 2, MIB / 2)];
    let outside = Outside::beside(&parts);
    let (mm, id) = (&outside.bench.mm, outside.bench.blocks(range(DIMM, MIB))[0]);
    mm.online(id, ZoneKind::Movable).unwrap();
    mm.offline_part(id, parts[1]).unwrap();
    let called: &'static Called = Box::leak(Box::new(Called(outside)));
    mm.listen(Box::leak(Box::new(Listener::new("outside", 0, called)))).unwrap();
    let before = outside.bench.snapshot();
    outside.stops.store(true, Ordering::Relaxed);
    assert_eq!(mm.online_part(id, parts[1]), Err(OnlineError::Busy));
    assert_eq!(*outside.heard.lock().unwrap(), [Event::GoingOnline, Event::CancelOnline]);
    outside.bench.check();
    outside.goes_on();
    assert_eq!(outside.bench.snapshot(), before);
    assert_eq!(mm.online_part(id, parts[1]), Ok(()));
}

/// Leaves `mover` one page: the first of `block`.
fn use_head(outside: &Outside, mover: &Mover, block: PhysRange) {
    let mm = &outside.bench.mm;
    let request = || Request::from(Order::ZERO).in_movable_zone();
    let taken = std::iter::from_fn(|| mm.alloc_movable(request(), mover, 0).ok());
    let taken: Vec<_> = taken.collect();
    let head = Fake::pfns(block).start;
    assert!(taken.contains(&head));
    taken.iter().filter(|&&pfn| pfn != head).for_each(|&pfn| {
        mm.free_movable(pfn, mover).unwrap();
    });
}

#[test]
fn no_memmap_moves_beside_a_look_that_does_not_end() {
    let outside = Outside::new();
    let (mm, dimm) = (&outside.bench.mm, range(DIMM, 4 * MIB));
    outside.bench.online(dimm);
    let called: &'static Called = Box::leak(Box::new(Called(outside)));
    let mover = mm.register(called).unwrap();
    // A conversion empties that block.
    use_head(outside, &mover, range(DIMM + 3 * MIB, MIB));
    let counts = || mm.blocks().map(|block| block.counts.managed).collect::<Vec<_>>();
    let (before, free) = (counts(), mm.stats().pages.free);
    outside.stops.store(true, Ordering::Relaxed);
    assert_eq!(mm.convert(dimm), Err(ConvertError::Busy));
    outside.bench.check();
    outside.goes_on();
    // One page has moved; the heads are free again.
    assert_eq!((counts(), mm.stats().pages.free), (before, free));
    let at = outside.at.lock().unwrap().unwrap();
    mm.free_movable(at, &mover).unwrap();
    assert_eq!(mm.convert(dimm), Ok(4));
    outside.bench.check();
}

#[test]
fn no_run_of_boot_memory_is_taken_beside_a_look_that_does_not_end() {
    let (ram, kernelcore) = ([(0, 16 * MIB, 0)].into(), Some(8 * MIB));
    let setup = Setup { ram, block: MIB, window: (DIMM, 64 * MIB), kernelcore };
    let outside = Outside::on(Bench::new(&setup));
    let mm = &outside.bench.mm;
    let called: &'static Called = Box::leak(Box::new(Called(outside)));
    let mover = mm.register(called).unwrap();
    let movable = |block: &Block| block.state == BlockState::Online(ZoneKind::Movable);
    let first = mm.blocks().find(movable).unwrap().id;
    use_head(outside, &mover, range(first.get() * MIB, MIB));
    let states = || mm.blocks().map(|block| (block.state, block.taken)).collect::<Vec<_>>();
    let (before, free) = (states(), mm.stats().pages.free);
    outside.stops.store(true, Ordering::Relaxed);
    assert_eq!(mm.take_contig(NodeId::ZERO, 2 * MIB), Err(ContigError::Busy));
    outside.bench.check();
    outside.goes_on();
    assert_eq!((states(), mm.stats().pages.free), (before, free));
    let at = outside.at.lock().unwrap().unwrap();
    mm.free_movable(at, &mover).unwrap();
    assert_eq!(mm.take_contig(NodeId::ZERO, 2 * MIB), Ok(range(first.get() * MIB, 2 * MIB)));
    outside.bench.check();
}

#[test]
fn memory_is_found_only_as_long_as_its_block_is() {
    let ram = [(0, 16 * MIB, 0)].into();
    let setup = Setup { ram, block: 4 * MIB, window: (DIMM, 64 * MIB), kernelcore: None };
    let bench: &'static Bench<Tiny> = Box::leak(Box::new(Bench::new(&setup)));
    let dimm = range(DIMM, 4 * MIB);
    let (pfns, id) = (Fake::pfns(dimm), bench.mm.block_at(dimm.start()));
    bench.plug(dimm);
    bench.add(dimm, Placement::PerBlock);
    static LOOKS: AtomicBool = AtomicBool::new(false);
    static FOUND: Mutex<Vec<(bool, u64)>> = Mutex::new(Vec::new());
    // Another CPU looks before each access of the operation.
    bench.mm.machine().mmu().on_access(move || {
        if LOOKS.swap(false, Ordering::Relaxed) {
            let block = bench.mm.allocator().memmap.block(id).is_some();
            let firsts = pfns.iter().step_by(256);
            let sections = firsts.filter(|&pfn| bench.mm.is_ram(pfn)).count();
            FOUND.lock().unwrap().push((block, sections as u64));
            LOOKS.store(true, Ordering::Relaxed);
        }
    });
    for leaves in [true, false] {
        LOOKS.store(true, Ordering::Relaxed);
        let mut leaving = leaving(bench, pfns);
        if leaves {
            leaving.hide().unwrap()
        } else {
            leaving.show()
        }
        LOOKS.store(false, Ordering::Relaxed);
        let found = core::mem::take(&mut *FOUND.lock().unwrap());
        assert!(found.iter().all(|&(block, sections)| block || sections == 0), "{found:?}");
        assert!(found.iter().any(|&(_, sections)| (1..4).contains(&sections)), "{found:?}");
    }
    bench.remove(dimm);
}
