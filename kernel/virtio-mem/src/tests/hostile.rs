//! A device that refuses, or lies: each fault has a name, the kernel goes on, and memory in use stays.

use std::string::{String, ToString as _};

use hotmem::Order;
use hotmem::testing::{Holder, range};
use hotmem_hotplug::Latch;

use super::storm::Random;
use super::{KIB, MIB, Rig, WINDOW, machine, region};
use crate::testing::{Fake, Lie, Ticks};
use crate::{Kind, VirtioMemSource};

/// A ring that is as it should be for the first request after the start, but for what a test changes.
const fn ring(kind: Kind, index: u16) -> [u32; 6] {
    [kind as u32, index as u32, 0, 10, 0, 0]
}

fn lie(kind: Kind, [_, index, id, len, is, state]: [u32; 6]) -> Lie {
    Lie::Ring { kind, index: index as u16, id, len, is: is as u16, state: state as u16 }
}

#[test]
fn a_device_that_cannot_be_used_is_refused_by_name_and_reset() {
    let all = Kind::UnplugAll;
    let cases = [
        (Lie::NeverResets, "does not end its reset: status 0x1"),
        (Lie::Legacy, "virtio 1.0"),
        (Lie::DeniesFeatures, "features 0x100000003"),
        (Lie::Room(0), "room for 0 entries"),
        (Lie::Room(1), "room for 1 entries"),
        (Lie::NoNotify, "notifications"),
        (Lie::Unsettled, "changes all the time"),
        (Lie::Config(0, 0), "blocks of 0x0 bytes"),
        (Lie::Config(0, 3 << 16), "blocks of 0x30000 bytes"),
        (Lie::Config(0, 2048), "blocks of 0x800 bytes"),
        (Lie::Config(0, 1 << 63), "a region of 0x4000000 bytes"),
        (Lie::Config(0, 128 * MIB), "a region of 0x4000000 bytes"),
        (Lie::Config(2, WINDOW + 4096), "at 0x4001000"),
        (Lie::Config(2, u64::MAX - 128 * KIB + 1), "at 0xfffffffffffe0000"),
        (Lie::Config(3, 0), "a region of 0x0 bytes"),
        (Lie::Config(3, 128 * KIB), "not one whole unit of 0x40000 bytes"),
        (Lie::Config(3, !0x1ffff), "a region of 0xfffffffffffe0000 bytes"),
        (Lie::Config(4, 65 * MIB), "0x4100000 bytes are usable"),
        (Lie::Config(4, MIB + 1), "0x100001 bytes are usable"),
        (Lie::Config(6, 65 * MIB), "requests 0x4100000 bytes, of which 0x4000000"),
        (Lie::Config(6, u64::MAX), "requests 0xffffffffffffffff bytes"),
        (Lie::Config(6, 1), "requests 0x1 bytes"),
        (Lie::Config(5, MIB), "says that 0x100000 bytes are plugged, and 0x0 should be"),
        (Lie::Silent(all), "no response to the request to unplug all blocks"),
        (lie(all, ring(all, 2)), "went from 0 to 2"),
        (lie(all, ring(all, 0xffff)), "went from 0 to 65535"),
        (lie(all, [0, 1, 7, 10, 0, 0]), "descriptor 7"),
        (lie(all, [0, 1, u32::MAX, 10, 0, 0]), "descriptor 4294967295"),
        (lie(all, [0, 1, 0, 1, 0, 0]), "a response of 1 bytes"),
        (lie(all, [0, 1, 0, 11, 0, 0]), "a response of 11 bytes"),
        (lie(all, [0, 1, 0, 10, 4, 0]), "a response of type 0x4"),
        (lie(all, [0, 1, 0, 10, 0xffff, 0]), "a response of type 0xffff"),
        (Lie::Mute(all), "a response of type 0xffff"),
        (lie(all, [0, 1, 0, 10, 2, 0]), "it refused the request to unplug all blocks: busy"),
    ];
    for (lie, name) in cases {
        let bench = machine(4 * MIB);
        let before = bench.mm.stats().pages.free;
        let fake = Fake::new(bench, region(), 128 * KIB);
        fake.0.borrow_mut().lie = lie;
        let error = Rig::start(&fake, bench).unwrap_err().to_string();
        assert!(error.contains(name), "{lie:?}: {error}");
        assert_eq!(fake.0.borrow().status, 0, "{lie:?}");
        // The page of the queue is free, unless the device may still write to it.
        let kept =
            u64::from(matches!(lie, Lie::NeverResets) && bench.mm.stats().pages.free != before);
        assert_eq!(bench.mm.stats().pages.free + kept, before, "{lie:?}");
    }
}

#[test]
fn a_device_with_memory_that_is_kept_out_is_refused_and_one_beside_it_is_used() {
    let bench = machine(4 * MIB);
    let beside = range(WINDOW + 64 * MIB, 64 * MIB);
    let (wrong, good) =
        (Fake::new(bench, region(), 128 * KIB), Fake::new(bench, beside, 128 * KIB));
    let latch: &'static Latch = std::boxed::Box::leak(std::boxed::Box::new(Latch::new()));
    let mut source = VirtioMemSource::new(&bench.mm, Ticks::default(), latch);
    source.keep_out([range(WINDOW + 60 * MIB, 4 * MIB)].into_iter());
    let error = source.start(wrong.clone()).unwrap_err().to_string();
    assert!(error.contains("has memory of another device in it"), "{error}");
    assert_eq!(wrong.0.borrow().status, 0);
    assert!(source.start(good).is_ok());
    // Another one at the same place.
    assert!(source.start(Fake::new(bench, beside, 128 * KIB)).is_err());
    assert_eq!(source.device_count(), 1);
}

/// A rig with 8 MiB plugged, of which some is in use.
fn in_use() -> (Rig, &'static Holder<hotmem::testing::Tiny>) {
    let mut this = Rig::new();
    this.request(0, 8 * MIB);
    let holder = Holder::register(this.bench);
    (0..60).for_each(|_| assert!(holder.take_in_zone(this.bench, Order::ZERO).is_some()));
    (this, holder)
}

/// The index of the ring after the requests so far, and one more.
fn next(this: &Rig) -> u32 {
    this.fakes[0].0.borrow().requests.len() as u32 + 1
}

/// Has the device lie from now on, and the host request `bytes`; returns the report.
fn report(this: &mut Rig, lie: Lie, bytes: u64) -> String {
    this.fakes[0].0.borrow_mut().lie = lie;
    this.request(0, bytes);
    this.wait();
    this.report()
}

#[test]
fn a_lie_about_a_plug_ends_the_device_by_name_and_memory_stays_in_use() {
    type Case = (fn(u32) -> Lie, &'static str);
    let cases: [Case; 16] = [
        (|_| Lie::Mute(Kind::Plug), "a response of type 0xffff to the request to plug"),
        (|_| Lie::Mute(Kind::State), "a response of type 0xffff to the request for the state"),
        (|_| Lie::Silent(Kind::Plug), "given up: no response to the request to plug 32 blocks"),
        (|_| Lie::Silent(Kind::State), "given up: no response to the request for the state"),
        (|at| lie(Kind::Plug, ring(Kind::Plug, at as u16 + 1)), "of its ring went from"),
        (|at| lie(Kind::Plug, [0, at, 1, 10, 0, 0]), "descriptor 1"),
        (|at| lie(Kind::Plug, [0, at, 0, 0, 0, 0]), "a response of 0 bytes"),
        (|at| lie(Kind::Plug, [0, at, 0, u32::MAX, 0, 0]), "a response of 4294967295 bytes"),
        (|at| lie(Kind::Plug, [0, at, 0, 10, 9, 0]), "a response of type 0x9"),
        (|at| lie(Kind::State, [0, at + 1, 0, 10, 0, 3]), "the state 0x3"),
        (|at| lie(Kind::State, [0, at + 1, 0, 9, 0, 0]), "a response of 9 bytes"),
        (|at| lie(Kind::State, [0, at + 1, 0, 10, 0, 2]), "says that it did not"),
        (|_| Lie::AcksOnly(Kind::Plug), "says that it did not"),
        (|_| Lie::SaysUnplugged, "0x0 bytes are plugged, and 0xc00000 should be"),
        (|_| Lie::NeedsReset, "given up: it reports that it needs a reset"),
        (|_| Lie::Config(0, MIB), "its block size was 0x20000, and is 0x100000"),
    ];
    for (make, name) in cases {
        let (mut this, holder) = in_use();
        let lie = make(next(&this));
        let report = report(&mut this, lie, 12 * MIB);
        assert!(report.contains(name), "{lie:?}: {report}");
        assert_eq!(this.online(), 8 * MIB, "{lie:?}");
        holder.check(this.bench);
        assert_eq!(this.fakes[0].0.borrow().status, 0, "{lie:?}: it is not silent");
        // Nothing is requested any more, whatever it says.
        let before = this.fakes[0].0.borrow().requests.len();
        this.fakes[0].0.borrow_mut().lie = Lie::None;
        this.request(0, 0);
        this.wait();
        assert_eq!(this.fakes[0].0.borrow().requests.len(), before, "{lie:?}");
        assert_eq!(this.online(), 8 * MIB, "{lie:?}");
        holder.check(this.bench);
    }
}

#[test]
fn a_line_is_unmasked_as_long_as_a_device_on_it_is_used() {
    let bench = machine(4 * MIB);
    let second = range(WINDOW + 64 * MIB, 64 * MIB);
    let fakes = vec![Fake::new(bench, region(), 128 * KIB), Fake::new(bench, second, 128 * KIB)];
    let mut this = Rig::of(bench, fakes);
    let unmasked = |this: &mut Rig| {
        let before = this.time.unmasked.get();
        this.latch.raise(0, 1);
        this.run();
        this.time.unmasked.get() - before
    };
    assert_eq!(unmasked(&mut this), 1);
    this.fakes[0].0.borrow_mut().lie = Lie::NeedsReset;
    assert_eq!(unmasked(&mut this), 1);
    assert_eq!(this.fakes[0].0.borrow().status, 0);
    assert_ne!(this.fakes[1].0.borrow().status, 0);
    this.request(1, 4 * MIB);
    assert_eq!(this.fakes[1].plugged(), 4 * MIB);
    // The last one keeps the line active: it is not looked at again and again.
    this.fakes[1].0.borrow_mut().lie = Lie::NeedsReset;
    assert_eq!(unmasked(&mut this), 0);
}

#[test]
fn a_device_that_refuses_to_unplug_and_requests_another_size_each_time_lets_the_kernel_sleep() {
    let mut this = Rig::new();
    this.request(0, 16 * MIB);
    this.fakes[0].0.borrow_mut().lie = Lie::Wavers;
    this.fakes[0].0.borrow_mut().refuses = Some((Kind::Unplug, 1, u32::MAX));
    this.fakes[0].request(2 * MIB);
    this.latch.raise(0, 1);
    let turns = this.turns();
    assert!(turns < 100, "{turns}");
    this.fakes[0].0.borrow_mut().refuses = None;
    this.wait();
    assert!(this.fakes[0].plugged() <= 3 * MIB);
}

#[test]
fn a_size_that_cannot_be_is_ignored_until_it_is_another() {
    for (word, value, name) in [
        (6, 65 * MIB, "requests 0x4100000 bytes"),
        (6, MIB + 1, "requests 0x100001 bytes"),
        (4, 4 * MIB, "requests 0x800000 bytes, of which 0x400000 are usable"),
        (4, 1 << 40, "0x10000000000 bytes are usable"),
    ] {
        let (mut this, holder) = in_use();
        let report = report(&mut this, Lie::Config(word, value), 8 * MIB);
        assert!(report.contains(name) && report.contains("ignored"), "{report}");
        assert_eq!(this.online(), 8 * MIB);
        this.fakes[0].0.borrow_mut().lie = Lie::None;
        this.request(0, 12 * MIB);
        assert_eq!(this.online(), 12 * MIB);
        assert!(!this.report().contains("ignored"));
        holder.check(this.bench);
    }
}

#[test]
fn a_refused_plug_is_tried_again_after_a_while() {
    for (is, name) in [(1, "not allowed now"), (2, "busy"), (3, "an error")] {
        let (mut this, _) = in_use();
        this.fakes[0].0.borrow_mut().refuses = Some((Kind::Plug, is, 1));
        this.request(0, 12 * MIB);
        let report = this.report();
        assert!(report.contains(name), "{report}");
        assert_eq!(this.online(), 8 * MIB);
        // The kernel stays awake only for a device that is busy.
        assert_eq!(this.driver.has_work(), is == 2);
        this.wait();
        assert_eq!((this.fakes[0].plugged(), this.online()), (12 * MIB, 12 * MIB));
        assert!(!this.driver.has_work());
    }
}

#[test]
fn a_size_that_is_set_while_a_plug_is_refused_counts_at_once() {
    let (mut this, _) = in_use();
    {
        let mut model = this.fakes[0].0.borrow_mut();
        (model.refuses, model.meanwhile) = (Some((Kind::Plug, 1, 1)), Some(10 * MIB));
    }
    this.request(0, 12 * MIB);
    // Its interrupt; no time has passed.
    this.latch.raise(0, 1);
    this.run();
    assert_eq!((this.fakes[0].plugged(), this.online()), (10 * MIB, 10 * MIB));
}

/// Serves events, up to far more than a pause has.
fn serve(this: &mut Rig) -> usize {
    let mut out = String::new();
    let served = (0..200).take_while(|_| this.driver.run_one(&mut out)).count();
    this.bench.check();
    served
}

#[test]
fn a_device_that_counts_generations_is_not_tried_more_often_for_it() {
    // The device plugs memory, and the add then fails, because nothing is stored there.
    let mut this = Rig::with(|model| (model.hollow, model.interrupts) = (true, false));
    this.driver.set_patience(1);
    this.fakes[0].0.borrow_mut().lie = Lie::Restless;
    this.fakes[0].request(40 * MIB);
    let served = serve(&mut this);
    assert!(served < 20, "{served} events");
    assert!(!this.driver.has_work());
    // Or it does not unplug: all of it stays in use.
    let (mut this, holder) = in_use();
    {
        let mut model = this.fakes[0].0.borrow_mut();
        (model.lie, model.interrupts) = (Lie::Restless, false);
        model.refuses = Some((Kind::Unplug, 1, u32::MAX));
    }
    this.fakes[0].request(0);
    let served = serve(&mut this);
    assert!(served < 20, "{served} events");
    assert_eq!(this.online(), 8 * MIB);
    holder.check(this.bench);
    // It is after a pause.
    this.fakes[0].0.borrow_mut().refuses = None;
    this.wait();
    assert_eq!((this.fakes[0].plugged(), this.online()), (0, 0));
}

#[test]
fn a_device_that_is_always_busy_does_not_keep_the_kernel_awake_for_ever() {
    let (mut this, _) = in_use();
    this.fakes[0].0.borrow_mut().refuses = Some((Kind::Plug, 2, u32::MAX));
    this.request(0, 12 * MIB);
    let tries = (0..100).take_while(|_| {
        let awake = this.driver.has_work();
        this.wait();
        awake
    });
    assert_eq!(tries.count(), 10);
}

#[test]
fn a_refused_unplug_leaves_memory_in_use_and_another_piece_is_tried() {
    for is in [1, 2, 3] {
        let (mut this, holder) = in_use();
        this.fakes[0].0.borrow_mut().refuses = Some((Kind::Unplug, is, 1));
        this.request(0, 4 * MIB);
        assert_eq!((this.fakes[0].plugged(), this.online()), (4 * MIB, 4 * MIB));
        holder.check(this.bench);
        // All are refused: all of it stays in use.
        this.fakes[0].0.borrow_mut().refuses = Some((Kind::Unplug, is, u32::MAX));
        this.request(0, 0);
        assert_eq!((this.fakes[0].plugged(), this.online()), (4 * MIB, 4 * MIB));
        assert!(this.report().contains("stays plugged"), "{}", this.report());
        this.fakes[0].0.borrow_mut().refuses = None;
        this.wait();
        assert_eq!((this.fakes[0].plugged(), this.online()), (0, 0));
        holder.check(this.bench);
    }
}

#[test]
fn after_an_unplug_without_a_sound_response_the_memory_counts_as_gone() {
    let cases: [fn(u32) -> Lie; 4] = [
        |_| Lie::Silent(Kind::Unplug),
        |at| lie(Kind::Unplug, [0, at, 0, 10, 77, 0]),
        |_| Lie::AcksOnly(Kind::Unplug),
        |_| Lie::SaysUnplugged,
    ];
    for make in cases {
        let (mut this, holder) = in_use();
        let lie = make(next(&this));
        let report = report(&mut this, lie, 4 * MIB);
        assert!(report.contains("given up"), "{lie:?}: {report}");
        assert_eq!(this.online(), 4 * MIB, "{lie:?}");
        holder.check(this.bench);
    }
}

#[test]
fn a_region_as_large_as_all_addresses_takes_no_longer_than_a_small_one() {
    let bench = machine(4 * MIB);
    let huge = range(1 << 31, 1 << 62);
    let fake = Fake::new(bench, huge, 128 * KIB);
    let mut this = Rig::of(bench, std::vec![fake]);
    this.fakes[0].0.borrow_mut().lie = Lie::Config(6, 1 << 61);
    this.request(0, 1 << 61);
    this.wait();
    assert_eq!(this.online(), 0);
    assert!(this.driver.plugged().len() < 100);
}

/// What a device says at random: one lie, with values that are nearly right or any.
fn any_lie(random: &mut Random, this: &Rig) -> Lie {
    let kind = [Kind::Plug, Kind::Unplug, Kind::State, Kind::UnplugAll][random.below(4) as usize];
    let any = |random: &mut Random| match random.below(3) {
        0 => random.below(4),
        1 => random.below(1 << 16),
        _ => random.below(u64::MAX),
    };
    match random.below(9) {
        0 => Lie::Silent(kind),
        1 => Lie::AcksOnly(kind),
        2 => Lie::SaysUnplugged,
        3 => Lie::NeedsReset,
        4 => Lie::Unsettled,
        5 => Lie::Config(random.below(7) as usize, any(random)),
        6 => Lie::Config(4 + random.below(3) as usize, random.below(600) * 128 * KIB),
        7 => {
            let index = (next(this) as u16).wrapping_add(random.below(3) as u16).wrapping_sub(1);
            let [id, len, is, state] = [(); 4].map(|()| any(random));
            Lie::Ring {
                kind,
                index,
                id: id as u32,
                len: len as u32,
                is: is as u16,
                state: state as u16,
            }
        }
        _ => Lie::None,
    }
}

#[test]
fn whatever_a_device_says_memory_in_use_keeps_its_content_and_every_invariant_holds() {
    let mut given_up = 0;
    for seed in 1..=150 {
        let mut random = Random(seed);
        let (mut this, holder) = in_use();
        for _ in 0..3 {
            let lie = any_lie(&mut random, &this);
            this.fakes[0].0.borrow_mut().lie = lie;
            this.request(0, random.below(512) * 128 * KIB);
            this.wait();
            this.fakes[0].0.borrow_mut().lie = Lie::None;
            this.request(0, random.below(512) * 128 * KIB);
            this.wait();
            holder.check(this.bench);
            // What the kernel uses is there.
            assert!(this.online() <= this.fakes[0].plugged(), "seed {seed}: {lie:?}");
        }
        given_up += u64::from(this.report().contains("given up"));
    }
    // Some lies pass; the others end the device.
    assert!((50..145).contains(&given_up), "{given_up}");
}
