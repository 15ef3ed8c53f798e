//! Tests on the real memory manager and the real driver: a device that grows and shrinks, refuses, and lies.

mod hostile;
mod need;
mod sizes;
mod split;
mod storm;

use std::boxed::Box;
use std::string::String;
use std::vec;

use hotmem::testing::{Bench, FakeMachine, Setup, Tiny, range};
use hotmem::{BlockState, PhysRange, Watch, ZoneKind};
use hotmem_hotplug::{Hotplug, Latch, Policy};

use crate::testing::{Fake, Model, Ticks};
use crate::{VirtioMemError, VirtioMemSource};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
/// Where devices have their regions.
const WINDOW: u64 = 64 * MIB;
/// The unit of the fake machine.
const UNIT: u64 = 256 * KIB;

type Source = VirtioMemSource<'static, FakeMachine<Tiny>, Fake<'static>, Ticks>;
type Driver = Hotplug<'static, Source, FakeMachine<Tiny>, ()>;

/// A kernel with devices.
struct Rig {
    bench: &'static Bench<Tiny>,
    fakes: std::vec::Vec<Fake<'static>>,
    latch: &'static Latch,
    watch: &'static Watch,
    time: Ticks,
    driver: Driver,
}

/// A machine with 16 MiB of memory, in blocks of `block`.
fn machine(block: u64) -> &'static Bench<Tiny> {
    let ram = vec![(0, 16 * MIB, 0)];
    let setup = Setup { ram, block, window: (WINDOW, 1024 * MIB), kernelcore: None };
    Box::leak(Box::new(Bench::new(&setup)))
}

/// A region of 64 MiB.
fn region() -> PhysRange {
    range(WINDOW, 64 * MIB)
}

impl Rig {
    /// A device with blocks of 128 KiB, half a unit, and a region of 64 MiB; memory blocks have 4 MiB.
    fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut Model<'static>)) -> Self {
        let bench = machine(4 * MIB);
        let fake = Fake::new(bench, region(), 128 * KIB);
        change(&mut fake.0.borrow_mut());
        Self::of(bench, vec![fake])
    }

    /// The same with units of 1 MiB, each a leaf of the linear map.
    fn of_leaves() -> Self {
        let bench = machine(4 * MIB);
        Self::of(bench, vec![Fake::new(bench, region(), MIB)])
    }

    fn of(bench: &'static Bench<Tiny>, fakes: std::vec::Vec<Fake<'static>>) -> Self {
        let latch: &'static Latch = Box::leak(Box::new(Latch::new()));
        let time = Ticks::default();
        let mut source = VirtioMemSource::new(&bench.mm, time.clone(), latch);
        let watch: &'static Watch = Box::leak(Box::new(Watch::new(&need::Nobody)));
        source.watch_by(watch);
        for fake in &fakes {
            source.start(fake.clone()).unwrap();
        }
        let driver = Hotplug::new(source, &bench.mm, (), Policy::default()).unwrap();
        Self { bench, fakes, latch, watch, time, driver }
    }

    /// Starts a device alone.
    fn start(fake: &Fake<'static>, bench: &'static Bench<Tiny>) -> Result<bool, VirtioMemError> {
        let latch: &'static Latch = Box::leak(Box::new(Latch::new()));
        VirtioMemSource::new(&bench.mm, Ticks::default(), latch).start(fake.clone())
    }

    /// Serves all events, and checks everything.
    fn run(&mut self) -> String {
        let mut out = String::new();
        while self.driver.run_one(&mut out) {}
        self.bench.check();
        out
    }

    /// The host requests a size of a device, which interrupts.
    fn request(&mut self, device: usize, bytes: u64) -> String {
        self.fakes[device].request(bytes);
        self.latch.raise(0, 1);
        self.run()
    }

    /// How many turns the kernel serves the driver until it sleeps, a thousand at the most.
    fn turns(&mut self) -> usize {
        let mut out = String::new();
        let turn = |_: &i32| self.driver.run_one(&mut out) || self.driver.has_work();
        let turns = (0..1000).take_while(turn).count();
        self.bench.check();
        turns
    }

    /// So much time passes that what failed is tried again.
    fn wait(&mut self) -> String {
        self.time.now.set(self.time.now.get() + 2_000);
        self.run()
    }

    fn report(&self) -> String {
        let mut out = String::new();
        hotmem_hotplug::HotplugSource::write_firmware(self.driver.source(), false, &mut out)
            .unwrap();
        out
    }

    /// Bytes of the region that are online, descriptors included.
    fn online(&self) -> u64 {
        let state = BlockState::Online(ZoneKind::Movable);
        let blocks = self.bench.mm.blocks().filter(|block| !block.boot && block.state == state);
        blocks.map(|block| block.pages * 4096).sum()
    }
}
