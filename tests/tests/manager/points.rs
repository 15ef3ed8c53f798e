//! Every step of an operation that can fail does so once: an allocation, the turn, a listener, an owner that releases
//! or copies a page, a call of the mapper, a flush, memory that keeps what is written. After each failure the facts are
//! those before, or the operation has succeeded all the same.
//!
//! `tests/fault-points.txt` has the number of steps: fewer than there means that an operation lost one, or that it is
//! no longer reached. With `HOTMEM_WRITE_POINTS=1` the file is written anew.

#![expect(clippy::unwrap_used, clippy::unreachable, reason = "helpers of tests fail as tests do")]

use std::fmt::Write as _;
use std::path::Path;

use hotmem::testing::{
    Bench, FakeMachine, FaultPlan, Holder, Setup, Shape, Tiny, TinyShared, range,
};
use hotmem::{
    BlockId, BlockState, Change, Event, Fact, Geometry, Listen, Listener, NodeId, Order, PhysRange,
    Placement, TakeList, ZoneKind,
};
use hotmem_tests::memory::{MIB, TINY_WINDOW, assert_same};

/// The CPU that does not acknowledge a flush that fails.
const SILENT: usize = 2;
/// Extents of each block that are in use when pages move.
const EXTENTS: usize = 4;
/// More steps of one kind than any operation has.
const MOST: u64 = 10_000;

/// A kind of steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Allocation,
    Turn,
    Listener,
    Release,
    Copy,
    Mapper,
    Flush,
    Memory,
}

const KINDS: [(Kind, &str); 8] = [
    (Kind::Allocation, "allocation"),
    (Kind::Turn, "turn"),
    (Kind::Listener, "listener"),
    (Kind::Release, "release"),
    (Kind::Copy, "copy"),
    (Kind::Mapper, "mapper"),
    (Kind::Flush, "flush"),
    (Kind::Memory, "memory"),
];

/// Objects to one notification that asks.
#[derive(Debug)]
struct Ear(FaultPlan);

impl Listen for Ear {
    fn notify(&self, event: Event, _: &Change) -> Result<(), &'static str> {
        let asks = matches!(event, Event::GoingOnline | Event::GoingOffline);
        if !asks || self.0.allows() { Ok(()) } else { Err("not this time") }
    }
}

/// What else is in the tables and blocks of the memory under test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sharing {
    /// Nothing.
    Nothing,
    /// Memory below and above it, in the same tables.
    Tables,
    /// The same, and its first and last block are shared with these.
    Blocks,
}

/// A machine before an operation.
struct Rig<S: Shape> {
    bench: &'static Bench<S>,
    holder: &'static Holder<S>,
    ear: &'static Ear,
    flushes: &'static FaultPlan,
    dimm: PhysRange,
    /// Memory beside it.
    others: Vec<PhysRange>,
    placement: Placement,
}

/// An operation: what comes before it, itself, and what undoes it, if anything can.
struct Operation<S: Shape> {
    name: &'static str,
    before: fn(&Rig<S>),
    run: fn(&Rig<S>) -> Result<(), String>,
    undo: Option<fn(&Rig<S>)>,
    /// It moves pages, which stay where they are if it fails.
    moves: bool,
}

fn text<T, E: std::fmt::Display>(result: Result<T, E>) -> Result<(), String> {
    result.map(drop).map_err(|error| error.to_string())
}

/// The manager of a machine is kept for ever, for its listener; the memory of over a thousand machines is not.
impl<S: Shape> Drop for Rig<S> {
    fn drop(&mut self) {
        self.bench.mm.machine().mmu().ram().turn_off();
    }
}

impl<S: Shape> Rig<S> {
    fn new(block: u64, placement: Placement, sharing: Sharing) -> Self {
        let setup = Setup {
            ram: vec![(0, 16 * MIB, 0)],
            block,
            window: (TINY_WINDOW, 0),
            kernelcore: Some(8 * MIB),
        };
        let bench: &'static Bench<S> = Box::leak(Box::new(Bench::new(&setup)));
        let mmu = bench.mm.machine().mmu();
        mmu.start_cpus(SILENT + 1);
        let ear: &'static Ear = Box::leak(Box::new(Ear(FaultPlan::never())));
        bench.mm.listen(Box::leak(Box::new(Listener::new("ear", 0, ear)))).unwrap();
        let flushes: &'static FaultPlan = Box::leak(Box::default());
        mmu.on_flush(move || {
            if !flushes.allows() {
                bench.mm.machine().mmu().silence(Some(SILENT));
            }
        });
        let at = TINY_WINDOW + 2 * block + if sharing == Sharing::Blocks { block / 2 } else { 0 };
        let dimm = range(at, 2 * block);
        let mut others = vec![range(at - block, block), range(at + 2 * block, block)];
        others.retain(|_| sharing != Sharing::Nothing);
        for &other in &others {
            bench.plug(other);
            bench.add(other, placement);
        }
        bench.plug(dimm);
        Self { bench, holder: Holder::register(bench), ear, flushes, dimm, others, placement }
    }

    fn plan(&self, kind: Kind) -> &FaultPlan {
        let machine = self.bench.mm.machine();
        match kind {
            Kind::Allocation => machine.plan(),
            Kind::Turn => machine.busy(),
            Kind::Listener => &self.ear.0,
            Kind::Release => self.holder.releases(),
            Kind::Copy => self.holder.copies(),
            Kind::Mapper => machine.tables().refusals(),
            Kind::Flush => self.flushes,
            Kind::Memory => machine.keeps(),
        }
    }

    /// The facts that a failure must not change.
    fn facts(&self, moves: bool) -> Vec<Fact> {
        let moved = |fact: &Fact| {
            matches!(fact, Fact::Free(_) | Fact::Frames(..) | Fact::Zone(..) | Fact::Block(_))
        };
        let stays = |fact: &Fact| !moves || !moved(fact);
        self.bench.snapshot().into_iter().filter(stays).collect()
    }

    /// States of blocks, which no failure changes even if pages have moved.
    fn states(&self) -> Vec<(BlockId, hotmem::BlockState, bool)> {
        self.bench.mm.blocks().map(|block| (block.id, block.state, block.taken)).collect()
    }

    fn first(&self) -> BlockId {
        self.bench.blocks(self.dimm)[0]
    }

    /// The last block of boot memory.
    fn last(&self) -> BlockId {
        let boot = self.bench.mm.blocks().filter(|block| block.boot);
        boot.map(|block| block.id).max().unwrap()
    }

    fn add(&self) -> Result<(), String> {
        text(self.bench.mm.hot_add(self.dimm, NodeId::ZERO, self.placement))
    }

    /// As [`used`](Self::used), in blocks whose other memory is online, too.
    fn used_beside(&self) {
        self.others.iter().for_each(|&other| self.bench.online(other));
        self.used();
    }

    /// Added and online, with extents in use in each block: every second one from its start on.
    fn used(&self) {
        self.add().unwrap();
        // What joined a block that is online is online.
        for block in self.bench.mm.blocks().filter(|block| block.state == BlockState::Offline) {
            self.bench.mm.online(block.id, ZoneKind::Movable).unwrap();
        }
        let order = Order::new(3).unwrap();
        let taken = std::iter::from_fn(|| self.holder.take_in_zone(self.bench, order));
        let taken: Vec<_> = taken.collect();
        let mut places: Vec<_> =
            taken.into_iter().map(|handle| (self.holder.at(handle).unwrap().0, handle)).collect();
        places.sort_unstable();
        let (mut block, mut index) = (None, 0);
        for (pfn, handle) in places {
            let at = FakeMachine::<S>::address(pfn);
            let inside = self.dimm.contains(at);
            if inside {
                let id = self.bench.mm.block_at(at);
                index = if block.replace(id) == Some(id) { index + 1 } else { 0 };
            }
            if !inside || index % 2 == 1 || index / 2 >= EXTENTS {
                self.holder.release(self.bench, handle);
            }
        }
    }
}

/// The operations on memory that was added in this way.
fn operations<S: Shape>(placement: Placement, sharing: Sharing) -> Vec<Operation<S>> {
    let offline = |rig: &Rig<S>| rig.bench.mm.offline(rig.first()).unwrap();
    let mut all = vec![
        Operation {
            name: "add",
            before: |_| {},
            run: Rig::add,
            undo: Some(|rig| _ = rig.bench.remove(rig.dimm)),
            moves: false,
        },
        Operation {
            name: "online",
            before: |rig| rig.add().unwrap(),
            run: |rig| text(rig.bench.mm.online(rig.first(), ZoneKind::Movable)),
            undo: Some(offline),
            moves: false,
        },
        Operation {
            name: "offline",
            before: Rig::used,
            run: |rig| text(rig.bench.mm.offline(rig.first())),
            // The pages have moved.
            undo: None,
            moves: true,
        },
        Operation {
            name: "remove",
            before: |rig| rig.add().unwrap(),
            run: |rig| text(rig.bench.mm.remove(rig.dimm)),
            undo: Some(|rig| rig.add().unwrap()),
            moves: false,
        },
    ];
    if placement == Placement::PerRange && sharing != Sharing::Blocks {
        all.push(Operation {
            name: "convert",
            before: Rig::used,
            run: |rig| text(rig.bench.mm.convert(rig.dimm)),
            undo: None,
            moves: true,
        });
    }
    if placement == Placement::Boot && sharing == Sharing::Nothing {
        all.push(take());
    }
    if sharing == Sharing::Blocks {
        all.extend([join(), part(), come_back(), leave()]);
    }
    all
}

/// An add to blocks that are online: it stays there.
fn join<S: Shape>() -> Operation<S> {
    Operation {
        name: "join",
        before: |rig| rig.others.iter().for_each(|&other| rig.bench.online(other)),
        run: Rig::add,
        undo: None,
        moves: false,
    }
}

/// A part of a block that is online goes offline, and leaves the rest of the block where it is.
fn part<S: Shape>() -> Operation<S> {
    Operation {
        name: "offline a part",
        before: Rig::used_beside,
        run: |rig| text(rig.bench.mm.offline_part(rig.first(), rig.dimm)),
        // The pages have moved.
        undo: None,
        moves: true,
    }
}

/// A part of a block that is offline comes back.
fn come_back<S: Shape>() -> Operation<S> {
    Operation {
        name: "online a part",
        before: |rig| {
            rig.used_beside();
            rig.bench.mm.offline_part(rig.first(), rig.dimm).unwrap();
        },
        run: |rig| text(rig.bench.mm.online_part(rig.first(), rig.dimm)),
        undo: Some(|rig| rig.bench.mm.offline_part(rig.first(), rig.dimm).unwrap()),
        moves: false,
    }
}

/// A remove from blocks that are online.
fn leave<S: Shape>() -> Operation<S> {
    Operation {
        name: "remove parts",
        before: |rig| {
            rig.used_beside();
            let blocks = rig.bench.blocks(rig.dimm);
            let (first, last) = (blocks[0], blocks[blocks.len() - 1]);
            for &id in &blocks[1..blocks.len() - 1] {
                rig.bench.mm.offline(id).unwrap();
            }
            rig.bench.mm.offline_part(first, rig.dimm).unwrap();
            rig.bench.mm.offline_part(last, rig.dimm).unwrap();
        },
        run: |rig| text(rig.bench.mm.remove(rig.dimm)),
        undo: None,
        moves: false,
    }
}

/// Of boot memory.
fn take<S: Shape>() -> Operation<S> {
    Operation {
        name: "take",
        before: |rig| rig.bench.mm.offline(rig.last()).unwrap(),
        run: |rig| {
            let list = TakeList::parse(&format!("0:{}", rig.last().get())).unwrap();
            text(rig.bench.mm.take(list.pieces()))
        },
        undo: Some(|rig| assert_eq!(rig.bench.mm.release(), Ok(1))),
        moves: false,
    }
}

/// The kinds of steps that an operation has.
fn kinds<S: Shape>(
    make: &dyn Fn() -> Rig<S>,
    operation: &Operation<S>,
) -> Vec<(Kind, &'static str)> {
    let rig = make();
    (operation.before)(&rig);
    KINDS.iter().for_each(|&(kind, _)| rig.plan(kind).arm(0));
    assert_eq!((operation.run)(&rig), Ok(()), "{}", operation.name);
    KINDS.into_iter().filter(|&(kind, _)| rig.plan(kind).seen() > 0).collect()
}

/// Fails each step of one kind of an operation; returns how many there are.
fn fail_each<S: Shape>(make: &dyn Fn() -> Rig<S>, operation: &Operation<S>, kind: Kind) -> u64 {
    let begin = || {
        let rig = make();
        (operation.before)(&rig);
        rig
    };
    let mut rig = begin();
    for nth in 1..MOST {
        let (facts, states) = (rig.facts(operation.moves), rig.states());
        rig.bench.mm.machine().mmu().speculate();
        rig.plan(kind).arm(nth);
        let done = (operation.run)(&rig);
        let fired = rig.plan(kind).fired();
        rig.plan(kind).disarm();
        rig.bench.mm.machine().mmu().silence(None);
        rig.bench.check();
        rig.holder.check(rig.bench);
        let name = operation.name;
        if !fired {
            assert_eq!(done, Ok(()), "{name}, and no step failed");
            return nth - 1;
        }
        if done.is_err() {
            assert_eq!(rig.states(), states, "{name}: {kind:?} {nth}");
            let stranded = rig.bench.mm.stats().stranded > 0;
            if stranded {
                // Pages that a CPU may still reach are lost: the next step fails on another machine.
                rig = begin();
            } else {
                assert_same(&facts, &rig.facts(operation.moves));
            }
        } else if let Some(undo) = operation.undo.filter(|_| kind != Kind::Flush) {
            undo(&rig);
        } else {
            rig = begin();
        }
    }
    unreachable!("{} has an end", operation.name)
}

/// Fails every step of all operations on machines of one shape; writes how many each has.
fn count<S: Shape>(shape: &str, block: u64, out: &mut String) {
    for placement in Placement::ALL {
        for sharing in [Sharing::Nothing, Sharing::Tables, Sharing::Blocks] {
            let make = || Rig::<S>::new(block, placement, sharing);
            for operation in operations::<S>(placement, sharing) {
                let what = format!(
                    "{shape}, blocks of {} MiB, {placement}, shares {sharing:?}",
                    block / MIB
                );
                write!(out, "{what}, {}:", operation.name).unwrap();
                for (kind, name) in kinds(&make, &operation) {
                    write!(out, " {} {name}", fail_each(&make, &operation, kind)).unwrap();
                }
                out.push('\n');
            }
        }
    }
}

#[test]
fn every_step_that_can_fail_does_and_leaves_everything_as_it_was() {
    let mut found = String::new();
    count::<Tiny>("4 KiB pages", MIB, &mut found);
    count::<Tiny>("4 KiB pages", 4 * MIB, &mut found);
    count::<TinyShared>("shared memmap pages", MIB, &mut found);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fault-points.txt");
    if std::env::var_os("HOTMEM_WRITE_POINTS").is_some() {
        std::fs::write(&path, &found).unwrap();
    }
    let listed = std::fs::read_to_string(&path).unwrap();
    for (line, listed) in found.lines().zip(listed.lines()) {
        assert_eq!(line, listed, "write the file anew if the steps of an operation have changed");
    }
    assert_eq!(found.lines().count(), listed.lines().count());
}
