//! A balloon: a driver that adds memory of its host when little is free, and removes it when much is.
//!
//! `cargo run -p hotmem --features testing --example balloon` plays it on the fake machine. A kernel takes [`Balloon`] as it
//! is, calls [`Balloon::work`] from a task that [`Wake`] wakes, and implements [`Host`] for its hypervisor. The driver
//! `hotmem-virtio-mem` does the same for devices of that kind.

// UNSAFETY: vouches for the memory that the host gives.
#![expect(unsafe_code)]

use hotmem::testing::{Bench, Holder, Setup, Tiny, range};
use hotmem::{
    BlockState, Machine, Marks, Mm, NodeId, Order, PhysRange, Placement, Pressure, Removability,
    Watch, ZoneKind,
};
use std::error::Error;
use std::sync::atomic::{AtomicBool, Ordering};

const MIB: u64 = 1 << 20;
/// Below so many free bytes memory is added.
const LOW: u64 = 2 * MIB;
/// Until more than so many are free.
const HIGH: u64 = 3 * MIB;
/// Above so many free bytes memory is removed, down to the high mark: what was just added is not removed at once.
const SPARE: u64 = HIGH + (HIGH - LOW);

/// Whether there may be something to do.
static DUE: AtomicBool = AtomicBool::new(false);
static WATCH: Watch = Watch::new(&Wake);

/// Wakes the task of the balloon.
struct Wake;

impl Pressure for Wake {
    /// The caller may be in a handler, with a lock of the manager held: no memory is added here.
    fn crossed(&self, _: &'static Watch) {
        DUE.store(true, Ordering::Release);
    }
}

/// The hypervisor's side.
trait Host {
    /// Memory of no other use, in whole memory blocks; `None` if the host has no more.
    fn give(&mut self) -> Option<PhysRange>;

    /// Takes back what [`give`](Self::give) returned.
    fn take_back(&mut self, range: PhysRange);
}

/// The memory that was added.
struct Balloon<'m, M: Machine, H> {
    mm: &'m Mm<M>,
    host: H,
    added: Vec<PhysRange>,
}

impl<'m, M: Machine, H: Host> Balloon<'m, M, H> {
    fn new(mm: &'m Mm<M>, host: H) -> Result<Self, Box<dyn Error>> {
        mm.watch(&WATCH, Marks::new(LOW, HIGH)?)?;
        Ok(Self { mm, host, added: Vec::new() })
    }

    /// Adds or removes memory until enough is free, and not too much.
    fn work(&mut self) -> Result<(), Box<dyn Error>> {
        DUE.store(false, Ordering::Release);
        while WATCH.is_low() && self.grow()? {}
        if self.mm.free_of(&WATCH) > SPARE {
            while self.shrink()? {}
        }
        Ok(())
    }

    /// Adds memory; `false` if the host has no more.
    fn grow(&mut self) -> Result<bool, Box<dyn Error>> {
        let Some(range) = self.host.give() else { return Ok(false) };
        // Its memmap lies in the memory itself, so that an add needs none, however short memory is.
        // SAFETY: the host says that it is memory of no other use.
        let added = unsafe { self.mm.add(range, NodeId::default(), Placement::PerRange) };
        if let Err(error) = added {
            self.host.take_back(range);
            return Err(error.into());
        }
        self.added.push(range);
        // What is movable can be emptied again, whatever is allocated there.
        for block in self.mm.blocks_in(range) {
            self.mm.online(block, ZoneKind::Movable)?;
        }
        Ok(true)
    }

    /// Removes memory if the high mark stays free, the range that was added last first; `false` if none can go.
    fn shrink(&mut self) -> Result<bool, Box<dyn Error>> {
        let free = self.mm.free_of(&WATCH);
        let can_go = |range: &PhysRange| {
            free >= HIGH + range.len()
                && !matches!(self.mm.explain_remove(*range), Removability::Blocked(_))
        };
        let Some(at) = self.added.iter().rposition(can_go) else { return Ok(false) };
        let range = self.added[at];
        for block in self.mm.blocks_in(range) {
            if self.mm.offline(block).is_err() {
                // Something has changed since the prediction: it stays in use.
                return self.keep(range).map(|()| false);
            }
        }
        self.mm.remove(range)?;
        self.added.remove(at);
        self.host.take_back(range);
        Ok(true)
    }

    /// Brings what went offline of a range back online.
    fn keep(&self, range: PhysRange) -> Result<(), Box<dyn Error>> {
        for block in self.mm.blocks_in(range) {
            if self.mm.block(block).is_some_and(|block| block.state == BlockState::Offline) {
                self.mm.online(block, ZoneKind::Movable)?;
            }
        }
        Ok(())
    }
}

/// A host with eight mebibytes, which the fake machine plugs.
struct Window<'b>(&'b Bench<Tiny>, Vec<PhysRange>);

impl Host for Window<'_> {
    fn give(&mut self) -> Option<PhysRange> {
        let range = self.1.pop()?;
        self.0.plug(range);
        Some(range)
    }

    fn take_back(&mut self, range: PhysRange) {
        self.0.unplug(range);
        self.1.push(range);
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let setup = Setup {
        ram: vec![(0, 8 * MIB, 0)],
        block: MIB,
        window: (64 * MIB, 8 * MIB),
        kernelcore: None,
    };
    let bench = Bench::<Tiny>::new(&setup);
    let before = bench.snapshot();
    let pieces = (0..8).map(|number| range((64 + number) * MIB, MIB)).collect();
    let mut balloon = Balloon::new(&bench.mm, Window(&bench, pieces))?;

    // An owner of pages that move takes more memory than the machine booted with.
    let user = Holder::register(&bench);
    let extent = Order::new(4).ok_or("no such order")?;
    let mut held = Vec::new();
    while held.len() < 160 {
        held.push(user.take(&bench, extent).ok_or("memory is short, and none was added")?);
        if DUE.load(Ordering::Acquire) {
            balloon.work()?;
        }
    }
    println!("{} MiB are in use, {} MiB were added", held.len() / 16, balloon.added.len());
    assert!(balloon.added.len() >= 5 && !WATCH.is_low());

    while let Some(handle) = held.pop() {
        user.release(&bench, handle);
        // A kernel does this now and then, or with a second watch whose marks are higher.
        balloon.work()?;
        user.check(&bench);
    }
    println!("none is in use, {} MiB were added", balloon.added.len());
    assert!(balloon.added.is_empty());
    assert_eq!(bench.snapshot(), before);
    bench.check();
    Ok(())
}

#[test]
fn the_balloon_grows_and_shrinks_by_need() {
    main().unwrap();
}
