//! Memory follows the size that the host requests.

use std::format;
use std::string::ToString as _;
use std::vec;
use std::vec::Vec;

use hotmem::testing::{Holder, range};
use hotmem::{NodeId, Order, ZoneKind};
use hotmem_hotplug::{Claim, Verdict};

use super::{KIB, MIB, Rig, UNIT, WINDOW, machine, region};
use crate::testing::Fake;
use crate::{Kind, MOST_DEVICES};

#[test]
fn memory_grows_and_shrinks_to_each_requested_size_and_leaves_no_trace() {
    let mut this = Rig::new();
    let before = this.bench.snapshot();
    // Up and down, in whole blocks and parts of them, to nothing and to all.
    let sizes = [
        UNIT,
        2 * UNIT,
        4 * MIB,
        13 * MIB,
        12 * MIB + UNIT,
        64 * MIB,
        5 * MIB,
        UNIT,
        0,
        9 * MIB,
        0,
    ];
    for size in sizes {
        this.request(0, size);
        assert_eq!(this.fakes[0].plugged(), size);
        assert_eq!(this.online(), size);
        assert!(
            matches!(this.driver.verdict(), Verdict::Pass),
            "{size:#x}: {}",
            this.driver.verdict()
        );
    }
    assert_eq!(this.bench.snapshot(), before);
    assert!(this.driver.plugged().is_empty());
}

#[test]
fn growing_takes_no_memory_from_elsewhere() {
    let mut this = Rig::new();
    let free = |this: &Rig| {
        let zones = this.bench.mm.zones().filter(|zone| zone.kind != ZoneKind::Movable);
        zones.map(|zone| zone.counts.free).sum::<u64>()
    };
    let before = free(&this);
    for size in [UNIT, 4 * MIB, 8 * MIB + UNIT, 60 * MIB] {
        this.request(0, size);
        assert_eq!(free(&this), before, "{size:#x}");
        // Each descriptor is in what was plugged: a 64th of it.
        let movable = this.bench.mm.zones().find(|zone| zone.kind == ZoneKind::Movable).unwrap();
        assert_eq!(movable.counts.memmap * 4096, size / 64);
        assert_eq!(movable.counts.free * 4096, size - size / 64);
    }
    assert_eq!(this.bench.mm.stats().system_pages, 0);
}

#[test]
fn whole_blocks_are_one_piece_and_a_part_of_a_piece_can_go() {
    let mut this = Rig::new();
    let pieces = |this: &Rig| {
        let pieces = this
            .driver
            .plugged()
            .iter()
            .map(|entry| (entry.range.start().get() - WINDOW, entry.range.len()));
        let mut pieces: Vec<_> = pieces.collect();
        pieces.sort_unstable();
        pieces
    };
    this.request(0, 9 * MIB);
    assert_eq!(pieces(&this), [(0, 4 * MIB), (4 * MIB, 4 * MIB), (8 * MIB, MIB)]);
    // What is requested in addition joins the block that has room.
    this.request(0, 9 * MIB + UNIT);
    let last = [(8 * MIB, MIB), (9 * MIB, UNIT)];
    assert_eq!(pieces(&this)[2..], last);
    // Of a piece that is larger than what is to go, the end goes.
    this.request(0, 8 * MIB + 2 * UNIT);
    assert_eq!(pieces(&this)[2..], [(8 * MIB, 2 * UNIT)]);
    // Of a block a leaf of the linear map is split off, and what stays of that comes back in parts that halve.
    this.request(0, 8 * MIB - UNIT);
    let left = [(0, 4 * MIB), (4 * MIB, 3 * MIB), (7 * MIB, MIB / 2), (7 * MIB + MIB / 2, UNIT)];
    assert_eq!(pieces(&this), left);
    this.request(0, 8 * MIB - 2 * UNIT);
    assert_eq!(pieces(&this), left[..3]);

    // If that is a unit, it leaves alone.
    let mut this = Rig::of_leaves();
    this.request(0, 8 * MIB);
    this.request(0, 7 * MIB);
    assert_eq!(pieces(&this), [(0, 4 * MIB), (4 * MIB, 3 * MIB)]);
    this.request(0, 5 * MIB);
    assert_eq!(pieces(&this), [(0, 4 * MIB), (4 * MIB, MIB)]);
}

#[test]
fn a_piece_goes_from_a_block_that_stays_online_beside_pages_that_do_not_move() {
    let mut this = Rig::new();
    for units in 1..=8 {
        this.request(0, units * UNIT);
    }
    let holder = Holder::register(this.bench);
    let order = Order::ZERO;
    let handles: Vec<_> = core::iter::from_fn(|| holder.take_in_zone(this.bench, order)).collect();
    let piece = |handle: &u64| (holder.at(*handle).unwrap().0.get() * 4096 - WINDOW) / UNIT;
    // One page of the third piece stays.
    let pinned = *handles.iter().find(|handle| piece(handle) == 2).unwrap();
    holder.pin(pinned, true);
    let (kept, go): (Vec<_>, Vec<_>) =
        handles.into_iter().partition(|handle| *handle == pinned || handle % 4 == 0);
    go.into_iter().for_each(|handle| holder.release(this.bench, handle));
    let id = this.bench.mm.block_at(region().start());
    for units in (1..8).rev() {
        this.fakes[0].request(units * UNIT);
        this.latch.raise(0, 1);
        let mut out = std::string::String::new();
        while this.driver.run_one(&mut out) {
            assert_eq!(
                this.bench.mm.block(id).unwrap().state,
                hotmem::BlockState::Online(ZoneKind::Movable)
            );
        }
        assert_eq!(this.fakes[0].plugged(), units * UNIT, "{}", this.report());
        holder.check(this.bench);
    }
    assert_eq!(piece(&pinned), 2);
    holder.pin(pinned, false);
    kept.into_iter().for_each(|handle| holder.release(this.bench, handle));
    this.request(0, 0);
    assert_eq!(this.fakes[0].plugged(), 0);
}

#[test]
fn what_is_less_than_a_unit_is_not_plugged() {
    let mut this = Rig::new();
    this.request(0, UNIT + 128 * KIB);
    assert_eq!(this.fakes[0].plugged(), UNIT);
    this.request(0, 128 * KIB);
    assert_eq!(this.fakes[0].plugged(), 0);
}

#[test]
fn empty_blocks_go_before_those_that_are_used_and_pages_move() {
    let mut this = Rig::new();
    this.request(0, 16 * MIB);
    let holder = Holder::register(this.bench);
    // All that is in use is in one block, and no cache keeps some of it.
    let (order, mut handles) = (Order::new(4).unwrap(), Vec::new());
    while let Some(handle) = holder.take_in_zone(this.bench, order) {
        handles.push(handle);
    }
    let used = this.bench.mm.block_at(region().start().add(8 * MIB));
    let (stay, go): (Vec<_>, Vec<_>) = handles.into_iter().partition(|&handle| {
        let (pfn, _) = holder.at(handle).unwrap();
        this.bench.mm.page_info(pfn).unwrap().block == used
    });
    go.into_iter().for_each(|handle| holder.release(this.bench, handle));
    let count = stay.len() as u64;
    let blocks = |this: &Rig| this.bench.mm.blocks().filter(|block| !block.boot).count();
    this.request(0, 4 * MIB);
    assert_eq!((blocks(&this), holder.moves().0), (1, 0), "pages moved in vain");
    holder.check(this.bench);
    // The last one goes, too: its pages find room in boot memory.
    this.request(0, 0);
    assert_eq!((this.fakes[0].plugged(), holder.moves().0), (0, count));
    holder.check(this.bench);
    stay.into_iter().for_each(|handle| holder.release(this.bench, handle));
}

#[test]
fn a_shrink_by_less_than_a_block_moves_at_most_what_the_least_used_block_holds() {
    let mut this = Rig::new();
    this.request(0, 12 * MIB);
    let holder = Holder::register(this.bench);
    // No block is without pages in use, and boot memory has room for those of any.
    let take = |_| holder.take_in_zone(this.bench, Order::ZERO).unwrap();
    let handles: Vec<u64> = (0..2500).map(take).collect();
    let at = |handle| holder.at(handle).unwrap().0;
    let block = |pfn| this.bench.mm.page_info(pfn).unwrap().block;
    let before: Vec<_> = handles.iter().map(|&handle| (at(handle), block(at(handle)))).collect();
    let used = |block| before.iter().filter(|(_, other)| *other == block).count() as u64;
    let fewest = this.bench.mm.blocks_in(range(WINDOW, 12 * MIB)).map(used).min().unwrap();
    assert!(fewest > 0 && holder.moves().0 == 0);

    this.request(0, 12 * MIB - UNIT);
    assert_eq!((this.fakes[0].plugged(), this.online()), (12 * MIB - UNIT, 12 * MIB - UNIT));
    let moved = before.iter().zip(&handles).filter(|((was, _), handle)| *was != at(**handle));
    let mut blocks: Vec<_> = moved.map(|((_, block), _)| *block).collect();
    assert_eq!(blocks.len() as u64, holder.moves().0);
    assert!(holder.moves().0 <= fewest, "{} of {fewest}", holder.moves().0);
    blocks.dedup();
    assert!(blocks.len() <= 1, "{blocks:?}");
    holder.check(this.bench);
}

#[test]
fn what_cannot_go_is_not_asked_for_and_the_reason_is_reported() {
    let mut this = Rig::new();
    this.request(0, 12 * MIB);
    let holder = Holder::register(this.bench);
    let handle = holder.take_in_zone(this.bench, Order::ZERO).unwrap();
    holder.pin(handle, true);
    let (pfn, _) = holder.at(handle).unwrap();
    let out = this.request(0, 0);
    // The others went, and what could be split off; nothing was tried on the rest, a leaf of the linear map.
    assert_eq!(this.fakes[0].plugged(), MIB);
    assert!(!out.contains("error\":\""), "{out}");
    let report = this.report();
    assert!(report.contains(&format!("cannot go: {pfn}")), "{report}");
    assert!(matches!(this.driver.verdict(), Verdict::Pass));
    // It is not tried all the time, but again after a while.
    holder.pin(handle, false);
    this.run();
    assert_eq!(this.fakes[0].plugged(), MIB);
    this.wait();
    assert_eq!(this.fakes[0].plugged(), 0);
    holder.check(this.bench);
    // Or at once, if the host requests another size, be it for a moment.
    this.request(0, 12 * MIB);
    let handle = holder.take_in_zone(this.bench, Order::ZERO).unwrap();
    holder.pin(handle, true);
    this.request(0, 0);
    assert_eq!(this.fakes[0].plugged(), MIB);
    holder.pin(handle, false);
    this.request(0, 0);
    assert_eq!(this.fakes[0].plugged(), MIB);
    this.request(0, MIB);
    this.request(0, 0);
    assert_eq!(this.fakes[0].plugged(), 0);
}

#[test]
fn a_size_that_is_set_while_a_block_goes_counts_for_those_that_could_not_go_before() {
    // A block is a leaf of the linear map, so it is not split.
    let bench = machine(MIB);
    let mut this = Rig::of(bench, vec![Fake::new(bench, region(), 128 * KIB)]);
    this.request(0, 12 * MIB);
    let holder = Holder::register(bench);
    let handles: Vec<u64> =
        (0..2900).map(|_| holder.take_in_zone(bench, Order::ZERO).unwrap()).collect();
    // The least used block is tried first, and cannot go.
    let block = |handle| bench.mm.page_info(holder.at(handle).unwrap().0).unwrap().block;
    let used = |of| handles.iter().filter(|&&handle| block(handle) == of).count();
    let least = bench.mm.blocks_in(range(WINDOW, 12 * MIB)).min_by_key(|&of| used(of)).unwrap();
    let pinned = handles.iter().copied().find(|&handle| block(handle) == least).unwrap();
    holder.pin(pinned, true);
    this.fakes[0].request(UNIT);
    this.latch.raise(0, 1);
    let mut out = std::string::String::new();
    while this.driver.ejecting().is_none() {
        assert!(this.driver.run_one(&mut out));
    }
    assert!(this.report().contains("cannot go"), "{}", this.report());
    holder.pin(pinned, false);
    this.request(0, 0);
    assert_eq!(this.fakes[0].plugged(), 0, "{}", this.report());
    holder.check(this.bench);
}

#[test]
fn without_room_elsewhere_as_much_goes_as_can_and_the_reason_is_reported() {
    let mut this = Rig::new();
    this.request(0, 40 * MIB);
    let holder = Holder::register(this.bench);
    // More than boot memory and half of the rest can hold.
    let mut handles = Vec::new();
    for _ in 0..9 * 256 {
        handles.extend(holder.take_in_zone(this.bench, Order::new(2).unwrap()));
    }
    this.request(0, 0);
    let plugged = this.fakes[0].plugged();
    assert!(plugged > 20 * MIB && plugged < 40 * MIB, "{plugged:#x}");
    assert!(this.report().contains("too few free extents"), "{}", this.report());
    holder.check(this.bench);
    handles.into_iter().for_each(|handle| holder.release(this.bench, handle));
    this.wait();
    assert_eq!(this.fakes[0].plugged(), 0);
}

#[test]
fn a_request_that_is_withdrawn_while_memory_goes_leaves_it_in_use() {
    let mut this = Rig::new();
    this.request(0, 8 * MIB);
    this.fakes[0].request(4 * MIB);
    this.latch.raise(0, 1);
    let mut out = std::string::String::new();
    assert!(this.driver.run_one(&mut out) && this.driver.ejecting().is_some());
    this.fakes[0].request(8 * MIB);
    this.latch.raise(0, 1);
    this.run();
    assert_eq!((this.fakes[0].plugged(), this.online()), (8 * MIB, 8 * MIB));
    let kinds: Vec<_> = this.fakes[0].0.borrow().requests.iter().map(|words| words[0]).collect();
    assert!(!kinds.contains(&(Kind::Unplug as u64)), "{kinds:?}");
    assert!(matches!(this.driver.verdict(), Verdict::Pass), "{}", this.driver.verdict());
}

#[test]
fn only_the_usable_part_of_the_region_is_used_and_it_may_grow() {
    let mut this = Rig::with(|model| model.usable = 6 * MIB);
    this.request(0, 6 * MIB);
    assert_eq!(this.fakes[0].plugged(), 6 * MIB);
    this.fakes[0].0.borrow_mut().usable = 10 * MIB;
    this.request(0, 9 * MIB);
    assert_eq!((this.fakes[0].plugged(), this.online()), (9 * MIB, 9 * MIB));
}

#[test]
fn several_devices_share_a_block_and_each_follows_its_own_size() {
    let bench = machine(4 * MIB);
    let regions = [range(WINDOW, 6 * MIB), range(WINDOW + 6 * MIB, 6 * MIB)];
    let fakes = regions.map(|region| Fake::new(bench, region, UNIT));
    let mut this = Rig::of(bench, fakes.to_vec());
    let before = bench.snapshot();
    for [first, second] in [[6, 6], [5, 6], [6, 1], [0, 3], [2, 0], [0, 0]] {
        this.fakes[1].request(second * MIB);
        this.request(0, first * MIB);
        let plugged = [this.fakes[0].plugged(), this.fakes[1].plugged()];
        assert_eq!(plugged, [first * MIB, second * MIB]);
        assert_eq!(this.online(), (first + second) * MIB);
    }
    assert_eq!(this.bench.snapshot(), before);
}

#[test]
fn a_device_whose_region_is_anothers_and_one_too_many_are_refused() {
    let bench = machine(4 * MIB);
    let fakes: Vec<_> = (0..MOST_DEVICES as u64 + 1)
        .map(|n| Fake::new(bench, range(WINDOW + n * 8 * MIB, 8 * MIB), UNIT))
        .collect();
    let latch: &'static hotmem_hotplug::Latch =
        std::boxed::Box::leak(std::boxed::Box::new(hotmem_hotplug::Latch::new()));
    let mut source = crate::VirtioMemSource::new(&bench.mm, super::Ticks::default(), latch);
    source.start(fakes[0].clone()).unwrap();
    let over = Fake::new(bench, range(WINDOW + 4 * MIB, 8 * MIB), UNIT);
    let error = source.start(over.clone()).unwrap_err().to_string();
    assert!(error.contains("another device"), "{error}");
    assert_eq!(over.0.borrow().status, 0);
    for fake in &fakes[1..MOST_DEVICES] {
        assert!(source.start(fake.clone()).unwrap());
    }
    assert!(source.start(fakes[MOST_DEVICES].clone()).is_err());
    assert_eq!(source.device_count(), MOST_DEVICES);
}

#[test]
fn memory_is_on_the_node_that_the_device_names_if_it_names_one() {
    for (offered, node, is) in [(3, 2, 2), (2, 2, 0), (3, 0xffff, 0)] {
        let mut this = Rig::with(|model| (model.offered, model.node) = (1 << 32 | offered, node));
        assert_eq!(this.fakes[0].0.borrow().accepted, 1 << 32 | offered);
        this.request(0, MIB);
        let nodes: Vec<_> = this.driver.plugged().iter().map(|entry| entry.node).collect();
        assert_eq!(nodes, [NodeId::new(is).unwrap()]);
    }
}

#[test]
fn what_an_earlier_kernel_plugged_is_unplugged_at_the_start() {
    let this = Rig::with(|model| {
        model.requested = MIB;
        model.plugged = [WINDOW, WINDOW + MIB].into();
        model.bench_plug();
    });
    assert_eq!(this.fakes[0].plugged(), 0);
    assert_eq!(this.fakes[0].0.borrow().requests, [[2, 0, 0]]);
}

#[test]
fn a_device_that_does_not_interrupt_is_looked_at_whenever_the_kernel_is_awake() {
    let mut this = Rig::with(|model| model.interrupts = false);
    this.fakes[0].request(4 * MIB);
    this.run();
    assert_eq!(this.fakes[0].plugged(), 4 * MIB);
    // One that does is not.
    let mut this = Rig::new();
    this.fakes[0].request(4 * MIB);
    this.run();
    assert_eq!(this.fakes[0].plugged(), 0);
}

#[test]
fn a_unit_of_the_device_that_is_larger_than_a_block_is_plugged_as_a_whole() {
    let bench = machine(MIB);
    let mut this = Rig::of(bench, vec![Fake::new(bench, region(), 4 * MIB)]);
    let before = bench.snapshot();
    for size in [4 * MIB, 12 * MIB, 8 * MIB, 0] {
        this.request(0, size);
        assert_eq!((this.fakes[0].plugged(), this.online()), (size, size));
    }
    assert_eq!(bench.snapshot(), before);
}

#[test]
fn a_region_that_is_not_aligned_to_units_is_used_from_the_first_whole_one_on() {
    let bench = machine(4 * MIB);
    let part = range(WINDOW + MIB + 128 * KIB, 3 * MIB);
    let mut this = Rig::of(bench, vec![Fake::new(bench, part, 128 * KIB)]);
    this.request(0, 3 * MIB);
    assert_eq!(this.fakes[0].plugged(), 3 * MIB - UNIT);
    assert!(this.report().contains("no addresses"), "{}", this.report());
    this.request(0, 0);
    assert_eq!(this.fakes[0].plugged(), 0);
}

#[test]
fn memory_that_is_not_taken_is_unplugged_again_and_plugged_elsewhere() {
    let mut this = Rig::new();
    this.driver.set_patience(1);
    // The first add is refused.
    this.bench.mm.machine().busy().arm(1);
    this.request(0, 4 * MIB);
    this.bench.mm.machine().busy().disarm();
    this.wait();
    assert_eq!((this.fakes[0].plugged(), this.online()), (4 * MIB, 4 * MIB));
    let entries: Vec<_> = this.driver.plugged().iter().map(|entry| entry.claim).collect();
    assert_eq!(entries, [Claim::Added]);
    // All are refused, since the device plugs no memory: the driver tries a few places, and tries again later.
    let mut this = Rig::with(|model| model.hollow = true);
    let before = this.bench.snapshot();
    this.request(0, 40 * MIB);
    let plugs = |this: &Rig| {
        let model = this.fakes[0].0.borrow();
        model.requests.iter().filter(|words| words[0] == Kind::Plug as u64).count()
    };
    assert_eq!(plugs(&this), 4);
    for count in 1..10 {
        this.wait();
        assert!(plugs(&this) <= 4 + 4 * count, "{} after {count} times", plugs(&this));
        assert!(!this.driver.has_work());
    }
    assert!(plugs(&this) > 10);
    assert!(this.fakes[0].plugged() <= 4 * MIB);
    this.request(0, 0);
    this.wait();
    assert_eq!(this.fakes[0].plugged(), 0);
    assert_eq!(this.bench.snapshot(), before);
}
