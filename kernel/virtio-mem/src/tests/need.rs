//! Growth by need: the size that the host requests is the ceiling, and free memory decides.

use std::boxed::Box;
use std::string::{String, ToString};
use std::vec;
use std::vec::Vec;

use hotmem::testing::{Holder, Tiny};
use hotmem::{
    AutoOnline, Change, Event, Listen, Listener, OnlineAs, Order, Pressure, Watch, ZoneKind,
};
use hotmem_hotplug::{Growth, GrowthRefused, Hotplug, Latch, Policy};

use super::storm::Random;
use super::{KIB, MIB, Rig, UNIT, machine, region};
use crate::testing::{Fake, Lie, Ticks};
use crate::{Kind, VirtioMemSource};

const LOW: u64 = 3 * MIB;
const HIGH: u64 = 5 * MIB;

/// The tests run the driver themselves.
pub(super) struct Nobody;

impl Pressure for Nobody {
    fn crossed(&self, _: &'static Watch) {}
}

/// Memory in use that moves, in extents of 64 KiB.
struct User {
    holder: &'static Holder<Tiny>,
    held: Vec<u64>,
}

impl User {
    fn new(this: &Rig) -> Self {
        Self { holder: Holder::register(this.bench), held: Vec::new() }
    }

    /// Takes memory until so much is free.
    fn fill(&mut self, this: &Rig, free: u64) {
        while free_bytes(this) > free {
            self.held.push(self.holder.take(this.bench, Order::new(4).unwrap()).unwrap());
        }
    }

    /// Frees memory until so much is free.
    fn drain(&mut self, this: &Rig, free: u64) {
        while free_bytes(this) < free
            && let Some(handle) = self.held.pop()
        {
            self.holder.release(this.bench, handle);
        }
        self.holder.check(this.bench);
    }
}

fn free_bytes(this: &Rig) -> u64 {
    // Watches do not count what CPUs keep.
    this.bench.mm.drain_caches();
    this.bench.mm.stats().pages.free * 4096
}

fn by_need() -> Growth {
    Growth::need("3M", "5M").unwrap()
}

/// A host that offers so much to a kernel that plugs it by need.
fn offered(bytes: u64) -> Rig {
    let mut this = Rig::new();
    this.driver.set_growth(by_need()).unwrap();
    this.request(0, bytes);
    this
}

/// Requests to the device so far.
fn requests(this: &Rig) -> usize {
    this.fakes[0].0.borrow().requests.len()
}

#[test]
fn nothing_is_plugged_until_memory_is_short_and_then_as_much_as_ends_that() {
    let mut this = offered(40 * MIB);
    let mut user = User::new(&this);
    assert_eq!((this.fakes[0].plugged(), this.driver.has_work()), (0, false));
    user.fill(&this, LOW + 128 * KIB);
    this.run();
    assert_eq!(this.fakes[0].plugged(), 0, "memory is not short yet");
    for _ in 0..3 {
        user.fill(&this, LOW - 128 * KIB);
        assert!(this.driver.has_work());
        this.run();
        let free = free_bytes(&this);
        assert!(HIGH < free && free <= HIGH + UNIT, "{free:#x}");
        assert!(!this.driver.has_work());
        let plugged = this.fakes[0].plugged();
        // Between both marks nothing is plugged, and nothing is given back.
        user.fill(&this, LOW + 128 * KIB);
        this.run();
        assert_eq!(this.fakes[0].plugged(), plugged);
    }
    assert!(this.fakes[0].plugged() >= 6 * MIB);
    user.drain(&this, u64::MAX);
}

#[test]
fn what_is_free_above_the_high_mark_is_given_back_and_the_rest_stays() {
    let mut this = offered(40 * MIB);
    let mut user = User::new(&this);
    user.fill(&this, 2 * MIB);
    for _ in 0..4 {
        this.run();
        user.fill(&this, 2 * MIB);
    }
    this.run();
    let most = this.fakes[0].plugged();
    assert!(most > 12 * MIB, "{most:#x}");
    user.drain(&this, 2 * HIGH - LOW - 256 * KIB);
    this.run();
    assert_eq!(this.fakes[0].plugged(), most, "memory is not spare yet");
    user.drain(&this, 2 * HIGH - LOW + 256 * KIB);
    assert!(this.driver.has_work());
    this.run();
    let free = free_bytes(&this);
    assert!((HIGH..=HIGH + 2 * UNIT).contains(&free), "{free:#x}");
    assert!(!this.driver.has_work());
    user.holder.check(this.bench);
    // With nothing in use boot memory alone is more than enough.
    user.drain(&this, u64::MAX);
    this.run();
    assert_eq!((this.fakes[0].plugged(), this.online()), (0, 0));
}

#[test]
fn growth_ends_at_the_size_that_the_host_requests_and_goes_on_when_it_requests_more() {
    let mut this = offered(MIB);
    let mut user = User::new(&this);
    user.fill(&this, 2 * MIB);
    this.run();
    assert_eq!(this.fakes[0].plugged(), MIB);
    let report = this.report();
    assert!(report.contains("memory is short, and all that is requested is plugged"), "{report}");
    assert!(report.contains("virtio-mem grows by need 3145728 5242880; memory is short"));
    let before = requests(&this);
    this.wait();
    assert_eq!((requests(&this), this.driver.has_work()), (before, false));
    this.request(0, 40 * MIB);
    assert!(free_bytes(&this) > HIGH);
    assert!(!this.report().contains("; memory is short"));
    // Less is requested than is plugged: it goes, though memory is short then.
    user.fill(&this, HIGH - MIB);
    this.request(0, MIB);
    assert_eq!((this.fakes[0].plugged(), this.online()), (MIB, MIB));
    user.holder.check(this.bench);
}

#[test]
fn a_device_that_refuses_is_asked_again_after_a_pause_and_one_that_is_busy_for_a_while() {
    for (is, awake) in [(1, 0), (2, 10), (3, 0)] {
        let mut this = offered(40 * MIB);
        let mut user = User::new(&this);
        this.fakes[0].0.borrow_mut().refuses = Some((Kind::Plug, is, u32::MAX));
        user.fill(&this, 2 * MIB);
        this.run();
        assert_eq!((this.fakes[0].plugged(), requests(&this)), (0, 2), "one more after UNPLUG ALL");
        assert!(this.report().contains("is not plugged: it refused"), "{}", this.report());
        let tries = (0..100).take_while(|_| {
            let awake = this.driver.has_work();
            this.wait();
            awake
        });
        assert_eq!(tries.count(), awake);
        this.fakes[0].0.borrow_mut().refuses = None;
        this.wait();
        assert!(free_bytes(&this) > HIGH);
    }
}

#[test]
fn a_device_that_does_not_take_memory_back_keeps_it_and_may_be_asked_for_more_at_once() {
    let mut this = offered(40 * MIB);
    let mut user = User::new(&this);
    user.fill(&this, 2 * MIB);
    this.run();
    let plugged = this.fakes[0].plugged();
    this.fakes[0].0.borrow_mut().refuses = Some((Kind::Unplug, 1, u32::MAX));
    user.drain(&this, u64::MAX);
    this.run();
    assert_eq!((this.fakes[0].plugged(), this.online()), (plugged, plugged));
    assert!(!this.driver.has_work(), "it is tried again after a pause");
    user.fill(&this, 2 * MIB);
    assert!(this.driver.has_work());
    this.run();
    assert!(this.fakes[0].plugged() > plugged);
    this.fakes[0].0.borrow_mut().refuses = None;
    user.drain(&this, u64::MAX);
    this.wait();
    assert_eq!(this.fakes[0].plugged(), 0);
}

#[test]
fn a_device_that_refuses_and_requests_another_size_each_time_lets_the_kernel_sleep() {
    let mut this = offered(40 * MIB);
    let mut user = User::new(&this);
    user.fill(&this, 2 * MIB);
    this.run();
    this.fakes[0].0.borrow_mut().lie = Lie::Wavers;
    for kind in [Kind::Plug, Kind::Unplug] {
        this.fakes[0].0.borrow_mut().refuses = Some((kind, 1, u32::MAX));
        match kind {
            Kind::Plug => user.fill(&this, 2 * MIB),
            _ => user.drain(&this, u64::MAX),
        }
        let turns = this.turns();
        assert!(turns < 100, "{kind:?}: {turns}");
    }
    this.fakes[0].0.borrow_mut().refuses = None;
    this.wait();
    assert_eq!(this.fakes[0].plugged(), 0);
}

#[test]
fn a_device_that_lies_is_given_up_and_memory_stays_in_use_though_it_is_short() {
    for lie in [Lie::Silent(Kind::Plug), Lie::SaysUnplugged, Lie::AcksOnly(Kind::Plug)] {
        let mut this = offered(40 * MIB);
        let mut user = User::new(&this);
        user.fill(&this, 2 * MIB);
        this.run();
        let online = this.online();
        this.fakes[0].0.borrow_mut().lie = lie;
        user.fill(&this, 2 * MIB);
        this.run();
        assert!(this.report().contains("given up"), "{lie:?}: {}", this.report());
        let before = requests(&this);
        this.wait();
        assert_eq!((requests(&this), this.driver.has_work()), (before, false), "{lie:?}");
        user.drain(&this, u64::MAX);
        this.wait();
        assert_eq!((this.online(), requests(&this)), (online, before), "{lie:?}");
    }
}

/// Takes memory while a block is about to go offline.
struct Taker(
    std::sync::Mutex<Option<(usize, Vec<u64>)>>,
    &'static Holder<Tiny>,
    &'static hotmem::testing::Bench<Tiny>,
);

impl Listen for Taker {
    fn notify(&self, event: Event, _: &Change) -> Result<(), &'static str> {
        if let (Event::GoingOffline, Some((count, held))) = (event, &mut *self.0.lock().unwrap()) {
            let order = Order::new(4).unwrap();
            held.extend((0..*count).map_while(|_| self.1.take(self.2, order)));
        }
        Ok(())
    }
}

#[test]
fn memory_that_becomes_short_while_some_is_given_back_stays() {
    let mut this = offered(40 * MIB);
    let mut user = User::new(&this);
    user.fill(&this, 2 * MIB);
    for _ in 0..4 {
        this.run();
        user.fill(&this, 2 * MIB);
    }
    this.run();
    let plugged = this.fakes[0].plugged();
    let taker = Taker(std::sync::Mutex::default(), user.holder, this.bench);
    let taker: &'static Taker = Box::leak(Box::new(taker));
    let listener = Box::leak(Box::new(Listener::new("taker", 0, taker)));
    this.bench.mm.listen(listener).unwrap();
    user.drain(&this, 2 * HIGH);
    // All but a megabyte of it is taken while the first block goes.
    *taker.0.lock().unwrap() = Some((((2 * HIGH - MIB) / (64 * KIB)) as usize, Vec::new()));
    let mut out = String::new();
    while !out.contains("memory has become short") && this.driver.run_one(&mut out) {}
    assert!(out.contains("memory has become short"), "{out}");
    let (_, held) = taker.0.lock().unwrap().take().unwrap();
    this.run();
    assert!(this.fakes[0].plugged() >= plugged, "{:#x}", this.fakes[0].plugged());
    held.into_iter().for_each(|handle| user.holder.release(this.bench, handle));
    user.drain(&this, u64::MAX);
    this.wait();
    assert_eq!((this.fakes[0].plugged(), this.online()), (0, 0));
}

#[test]
fn memory_that_stays_offline_is_not_plugged_again_and_again() {
    let mut this = offered(40 * MIB);
    let mut user = User::new(&this);
    this.bench.mm.set_auto_online(AutoOnline::Offline);
    user.fill(&this, 2 * MIB);
    this.run();
    let plugged = this.fakes[0].plugged();
    assert!(plugged <= HIGH - 2 * MIB + 2 * UNIT, "{plugged:#x}");
    this.wait();
    assert_eq!((this.fakes[0].plugged(), this.driver.has_work()), (plugged, false));
    // The operator brings it online, and more is needed.
    let blocks: Vec<_> = this.bench.mm.blocks().filter(|block| !block.boot).collect();
    for block in blocks {
        this.bench.mm.online(block.id, ZoneKind::Movable).unwrap();
    }
    this.bench.mm.set_auto_online(AutoOnline::Online(OnlineAs::Movable));
    user.fill(&this, 2 * MIB);
    this.run();
    assert!(this.fakes[0].plugged() > plugged && free_bytes(&this) > HIGH);
}

#[test]
fn eager_growth_is_the_default_and_both_can_be_set_at_any_time() {
    let mut this = Rig::new();
    let before = this.bench.snapshot();
    assert_eq!(this.driver.growth(), Some(Growth::Eager));
    this.request(0, 8 * MIB);
    assert_eq!(this.fakes[0].plugged(), 8 * MIB);
    this.driver.set_growth(by_need()).unwrap();
    this.run();
    assert_eq!((this.fakes[0].plugged(), this.driver.growth()), (0, Some(by_need())));
    assert_eq!(this.bench.snapshot(), before);
    this.driver.set_growth(Growth::Eager).unwrap();
    this.run();
    assert_eq!(this.fakes[0].plugged(), 8 * MIB);
    this.request(0, 0);
    assert_eq!(this.bench.snapshot(), before);
    // The watch notices nothing then.
    let mut user = User::new(&this);
    user.fill(&this, LOW - 128 * KIB);
    assert!(!this.watch.is_low());
    this.driver.set_growth(by_need()).unwrap();
    assert!(this.watch.is_low());
    this.driver.set_growth(Growth::Eager).unwrap();
    assert!(!this.watch.is_low());
}

#[test]
fn need_is_refused_without_a_watch_and_nothing_changes() {
    let bench = machine(4 * MIB);
    let latch: &'static Latch = Box::leak(Box::new(Latch::new()));
    let mut source = VirtioMemSource::new(&bench.mm, Ticks::default(), latch);
    source.start(Fake::new(bench, region(), 128 * KIB)).unwrap();
    let mut driver = Hotplug::new(source, &bench.mm, (), Policy::default()).unwrap();
    let refused = driver.set_growth(by_need());
    assert_eq!(refused, Err(GrowthRefused::NoWatch));
    assert_eq!(refused.unwrap_err().to_string(), "this kernel does not watch free memory");
    assert_eq!(driver.growth(), Some(Growth::Eager));
}

#[test]
fn two_devices_grow_by_need_together_and_no_further() {
    let bench = machine(4 * MIB);
    let second = hotmem::testing::range(super::WINDOW + 64 * MIB, 64 * MIB);
    let fakes = vec![Fake::new(bench, region(), 128 * KIB), Fake::new(bench, second, MIB)];
    let mut this = Rig::of(bench, fakes);
    this.driver.set_growth(by_need()).unwrap();
    this.request(0, 2 * MIB);
    this.request(1, 40 * MIB);
    let mut user = User::new(&this);
    for _ in 0..4 {
        user.fill(&this, 2 * MIB);
        this.run();
        let free = free_bytes(&this);
        assert!(HIGH < free && free <= HIGH + MIB, "{free:#x}");
    }
    assert_eq!(this.fakes[0].plugged(), 2 * MIB);
    // The one with the smaller unit does not take its memory back: the other does, and the kernel rests.
    this.fakes[0].0.borrow_mut().refuses = Some((Kind::Unplug, 1, u32::MAX));
    user.drain(&this, u64::MAX);
    let mut out = String::new();
    let served = (0..200).take_while(|_| this.driver.run_one(&mut out)).count();
    assert!(served < 100 && !this.driver.has_work(), "{served} events");
    assert_eq!((this.fakes[0].plugged(), this.fakes[1].plugged()), (2 * MIB, 0));
    this.fakes[0].0.borrow_mut().refuses = None;
    this.wait();
    assert_eq!(this.fakes.iter().map(Fake::plugged).sum::<u64>(), 0);
}

#[test]
fn a_ceiling_is_named_though_the_first_device_was_given_up() {
    let bench = machine(4 * MIB);
    let second = hotmem::testing::range(super::WINDOW + 64 * MIB, 64 * MIB);
    let fakes = vec![Fake::new(bench, region(), 128 * KIB), Fake::new(bench, second, 128 * KIB)];
    let mut this = Rig::of(bench, fakes);
    this.driver.set_growth(by_need()).unwrap();
    this.fakes[0].0.borrow_mut().lie = Lie::NeedsReset;
    this.request(0, 40 * MIB);
    this.request(1, MIB);
    let mut user = User::new(&this);
    user.fill(&this, 2 * MIB);
    this.run();
    assert_eq!(this.fakes[1].plugged(), MIB);
    let report = this.report();
    assert!(report.contains("memory is short, and all that is requested is plugged"), "{report}");
    assert!(report.contains("] on node 0, in units"), "{report}");
}

#[test]
fn whatever_is_used_and_requested_memory_settles_between_the_marks_or_at_a_ceiling() {
    for seed in 1..=4 {
        let mut random = Random(seed);
        let mut this = offered(20 * MIB);
        let before = this.bench.snapshot();
        let mut user = User::new(&this);
        for round in 0..60 {
            match random.below(3) {
                0 => user.fill(&this, MIB + random.below(8) * MIB),
                1 => user.drain(&this, random.below(16) * MIB),
                _ => drop(this.request(0, 8 * MIB + random.below(30) * MIB)),
            }
            this.wait();
            let (plugged, free) = (this.fakes[0].plugged(), free_bytes(&this));
            let requested = this.fakes[0].0.borrow().requested;
            assert!(plugged <= requested, "seed {seed}, round {round}: {}", this.report());
            let full = plugged + UNIT > requested;
            assert!(
                free >= LOW || full,
                "seed {seed}, round {round}: {free:#x}: {}",
                this.report()
            );
            let spare = free > 2 * HIGH - LOW + UNIT && plugged != 0;
            assert!(!spare, "seed {seed}, round {round}: {free:#x}: {}", this.report());
            // It stays so.
            let count = requests(&this);
            this.wait();
            assert_eq!(requests(&this), count, "seed {seed}, round {round}: {}", this.report());
            user.holder.check(this.bench);
        }
        user.drain(&this, u64::MAX);
        this.wait();
        this.request(0, 20 * MIB);
        assert_eq!(this.bench.snapshot(), before, "seed {seed}");
    }
}
