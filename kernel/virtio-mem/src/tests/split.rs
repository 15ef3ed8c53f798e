//! Pieces are split, so that what can go leaves beside pages that cannot.

use std::boxed::Box;
use std::format;
use std::string::String;
use std::vec;
use std::vec::Vec;

use hotmem::testing::{Holder, Random, range};
use hotmem::{Order, ZoneKind};
use hotmem_hotplug::{Clock, Hotplug, Latch, Plugged, Policy};

use super::{KIB, MIB, Rig, UNIT, WINDOW, machine, region};
use crate::VirtioMemSource;
use crate::testing::{Fake, Ticks};

#[test]
fn all_leaves_but_the_units_of_pages_that_stay_and_their_blocks_stay_online() {
    for seed in 0..12 {
        let mut this = if seed % 2 == 0 { Rig::of_leaves() } else { Rig::new() };
        this.request(0, 8 * MIB);
        let (holder, mut random) = (Holder::register(this.bench), Random::new(seed));
        let take = || holder.take_in_zone(this.bench, Order::ZERO);
        let mut handles: Vec<_> = core::iter::from_fn(take).collect();
        handles.retain(|&handle| {
            let keeps = random.one_in(3);
            if !keeps {
                holder.release(this.bench, handle);
            }
            keeps
        });
        let at = |handle: u64| holder.at(handle).unwrap().0.get() * 4096;
        let inside = |handle: &u64| region().contains(hotmem::PhysAddr::new(at(*handle)));
        let count = 1 + random.below(5) as usize;
        let pinned: Vec<_> =
            handles.iter().copied().filter(inside).step_by(97).take(count).collect();
        pinned.iter().for_each(|&handle| holder.pin(handle, true));
        let places: Vec<_> = pinned.iter().map(|&handle| at(handle)).collect();
        this.fakes[0].request(0);
        this.latch.raise(0, 1);
        let mut out = std::string::String::new();
        while this.driver.run_one(&mut out) {
            for place in &places {
                let id = this.bench.mm.block_at(hotmem::PhysAddr::new(*place));
                let state = this.bench.mm.block(id).unwrap().state;
                assert_eq!(state, hotmem::BlockState::Online(ZoneKind::Movable));
            }
        }
        this.bench.check();
        holder.check(this.bench);
        // Leaves of the linear map with a page that stays, and the one before if it stays where the memmap would be.
        let kept = |entry: &Plugged| {
            let leaf = |at: u64| at / MIB;
            let (first, last) = (entry.range.start().get(), entry.range.end().get() - 1);
            let stays = |at| {
                places.iter().any(|&place| {
                    leaf(place) == at || leaf(place) == at + 1 && place % MIB < 64 * KIB
                })
            };
            (leaf(first)..=leaf(last)).all(stays)
        };
        assert!(this.driver.plugged().iter().all(kept), "{seed}: {places:x?}: {}", this.report());
        assert!(this.fakes[0].plugged() <= 8 * MIB - MIB, "{seed}: {places:x?}: {}", this.report());
        for (&handle, &place) in pinned.iter().zip(&places) {
            assert_eq!(at(handle), place);
            holder.pin(handle, false);
        }
        this.wait();
        assert_eq!(this.fakes[0].plugged(), 0, "{}", this.report());
        holder.check(this.bench);
        handles.into_iter().for_each(|handle| holder.release(this.bench, handle));
    }
}

#[test]
fn a_page_that_stays_where_the_memmap_of_its_unit_would_be_keeps_the_unit_before_it_too() {
    let mut this = Rig::of_leaves();
    this.request(0, 4 * MIB);
    let holder = Holder::register(this.bench);
    let take = || holder.take_in_zone(this.bench, Order::ZERO);
    let handles: Vec<_> = core::iter::from_fn(take).collect();
    let first = (WINDOW + 2 * MIB) / 4096;
    let pinned = handles.iter().find(|&&at| holder.at(at).unwrap().0.get() == first).unwrap();
    holder.pin(*pinned, true);
    this.request(0, 0);
    assert_eq!(this.fakes[0].plugged(), 2 * MIB, "{}", this.report());
    assert_eq!(this.driver.plugged()[0].range, range(WINDOW + MIB, 2 * MIB));
    holder.check(this.bench);
}

#[test]
fn a_piece_that_is_one_leaf_leaves_whole_and_no_failure_of_a_split_is_reported() {
    let bench = machine(MIB);
    let mut this = Rig::of(bench, vec![Fake::new(bench, region(), 128 * KIB)]);
    this.request(0, MIB);
    this.request(0, MIB - UNIT);
    assert_eq!(this.fakes[0].plugged(), MIB - UNIT);
    assert!(!this.report().contains("split"), "{}", this.report());
}

/// A clock that stands still.
struct Still;

impl Clock for Still {
    fn instructions(&self) -> Option<u64> {
        Some(1000)
    }
}

#[test]
fn a_request_takes_until_the_part_that_was_split_off_has_left() {
    let bench = machine(4 * MIB);
    let fake = Fake::new(bench, region(), MIB);
    let latch: &'static Latch = Box::leak(Box::new(Latch::new()));
    let mut source = VirtioMemSource::new(&bench.mm, Ticks::default(), latch);
    source.start(fake.clone()).unwrap();
    let mut driver = Hotplug::new(source, &bench.mm, Still, Policy::default()).unwrap();
    for (bytes, since) in [(4 * MIB, 100), (3 * MIB, 200)] {
        fake.request(bytes);
        latch.raise(0, since);
        let mut out = String::new();
        while driver.run_one(&mut out) {}
        assert!(out.contains(&format!("\"event_instructions\":{}", 1000 - since)), "{out}");
    }
    assert_eq!(driver.plugged().len(), 1);
}
