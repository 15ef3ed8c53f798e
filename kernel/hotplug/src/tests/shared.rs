//! Devices that share a block: each is inserted and ejected without the others.

use core::ops::Not;
use std::string::String;
use std::vec::Vec;

use hotmem::testing::{Holder, Tiny, range};
use hotmem::{BlockState, NodeId, Order, PhysRange, ZoneKind};

use super::gone::announced;
use super::{Fixture, MIB, ONLINE, WINDOW};
use crate::{Claim, Outcome, Request};

const KIB: u64 = 1 << 10;

/// Two devices, 0 and 1, with a block in common, and what memory was like before.
fn shared() -> (Fixture, [PhysRange; 2], Vec<hotmem::Fact>) {
    let mut this = Fixture::new();
    let before = this.bench.snapshot();
    let all = range(WINDOW + 32 * MIB, 4 * MIB);
    this.bench.plug(all);
    let cut = 1536 * KIB;
    let dimms = [range(all.start().get(), cut), range(all.start().get() + cut, 2 * MIB)];
    for (device, dimm) in (0..).zip(dimms) {
        this.script.insert(device, &[dimm]);
        this.run();
        assert_eq!(this.script.reported(), [Outcome::Inserted]);
    }
    assert_eq!(online(&this, dimms), 3584 * KIB);
    (this, dimms, before)
}

/// Bytes of the devices' blocks that are online.
fn online(this: &Fixture, [low, high]: [PhysRange; 2]) -> u64 {
    let all = range(low.start().get(), high.end().offset_from(low.start()));
    let blocks = this.bench.mm.blocks_in(all).filter_map(|id| this.bench.mm.block(id));
    blocks.filter(|block| block.state == ONLINE).map(|block| block.pages * 4096).sum()
}

#[test]
fn one_goes_and_the_others_memory_comes_back_online() {
    for (first, second) in [(0, 1), (1, 0)] {
        let (mut this, dimms, before) = shared();
        let holder = Holder::register(this.bench);
        let held: Vec<_> =
            (0..200).map(|_| holder.take_in_zone(this.bench, Order::ZERO).unwrap()).collect();
        this.script.eject(first);
        this.run();
        assert_eq!(this.script.reported(), [Outcome::Ejecting, Outcome::Ejected]);
        assert_eq!(online(&this, dimms), dimms[usize::from(second)].len());
        holder.check(this.bench);
        held.into_iter().for_each(|handle| holder.release(this.bench, handle));
        this.script.eject(second);
        this.run();
        assert_eq!(this.script.reported(), [Outcome::Ejecting, Outcome::Ejected]);
        assert_eq!(this.bench.snapshot(), before);
    }
}

#[test]
fn what_one_leaves_is_cleared_and_nothing_of_the_other_in_their_block() {
    let (mut this, [low, high], _) = shared();
    this.driver.set_scrub(true);
    this.driver.set_budget(1);
    let holder = Holder::<Tiny>::register(this.bench);
    let take = |_| holder.take_in_zone(this.bench, Order::ZERO).unwrap();
    let handles: Vec<_> = (0..800).map(take).collect();
    let at = |&handle: &u64| hotmem::PhysAddr::new(holder.at(handle).unwrap().0.get() * 4096);
    let pages: Vec<_> = handles.iter().map(at).collect();
    handles.into_iter().for_each(|handle| holder.release(this.bench, handle));
    let mmu = this.bench.mm.machine().mmu();
    let used = |page: &hotmem::PhysAddr| (0..512).any(|word| mmu.peek(page.add(8 * word)) != 0);
    let end = low.start().add(2 * MIB);
    let beside = || pages.iter().filter(|&&page| high.contains(page) && page < end);
    assert!(beside().count() > 50 && beside().all(used));
    this.script.eject(0);
    this.run();
    assert_eq!(this.script.reported(), [Outcome::Ejecting, Outcome::Ejected]);
    assert!(pages.iter().filter(|&&page| low.contains(page)).all(|page| used(page).not()));
    assert!(beside().all(used), "memory of the device that stays was written");
}

/// An eject of device 0, whose pages move one at a time, and memory of device 1 in its first block, which is not
/// announced yet.
fn beside_an_eject(steps: u32) -> Option<(Fixture, [PhysRange; 2], &'static Holder<Tiny>)> {
    let mut this = Fixture::new();
    let all = range(WINDOW + 32 * MIB, 4 * MIB);
    this.bench.plug(all);
    let cut = 512 * KIB;
    let joins = range(all.start().get(), cut);
    let leaves = range(all.start().get() + cut, 3 * MIB);
    this.script.insert(0, &[leaves]);
    this.run();
    let holder = Holder::register(this.bench);
    for i in 0..60 {
        holder.take_in_zone(this.bench, Order::new(i % 3).unwrap()).unwrap();
    }
    this.driver.set_budget(1);
    this.script.eject(0);
    for _ in 0..=steps {
        this.driver.run_one(&mut String::new());
    }
    this.script.reported();
    this.driver.ejecting().is_some().then_some((this, [joins, leaves], holder))
}

#[test]
fn one_that_comes_to_a_block_during_an_eject_is_online_after_it() {
    let mut inserted = 0;
    for steps in (0..).step_by(3) {
        let Some((mut this, [joins, leaves], holder)) = beside_an_eject(steps) else { break };
        this.script.insert(1, &[joins]);
        this.run();
        let reported = this.script.reported();
        assert!(reported.contains(&Outcome::Inserted) && reported.contains(&Outcome::Ejected));
        assert_eq!(online(&this, [joins, leaves]), joins.len(), "after {steps} steps");
        holder.check(this.bench);
        inserted += 1;
    }
    assert!(inserted >= 10, "{inserted}");
}

#[test]
fn one_that_comes_to_a_block_during_an_eject_that_is_cancelled_is_online_after_it() {
    for steps in (0..).step_by(7) {
        let Some((mut this, [joins, leaves], holder)) = beside_an_eject(steps) else { break };
        this.script.insert(1, &[joins]);
        while this.driver.ejecting().is_some()
            && !this.script.reported().contains(&Outcome::Inserted)
        {
            this.driver.run_one(&mut String::new());
        }
        if this.driver.cancel_eject(&mut String::new()) {
            assert_eq!(online(&this, [joins, leaves]), joins.len() + leaves.len());
        }
        holder.check(this.bench);
    }
}

#[test]
fn one_that_is_refused_leaves_the_other_as_it_was() {
    let (mut this, dimms, _) = shared();
    let before = this.bench.snapshot();
    let third = range(dimms[1].end().get(), 512 * KIB);
    // Its first range joins a block that is online; the second is not a whole number of subsections.
    this.script.insert(2, &[third, range(WINDOW + 64 * MIB + 4096, MIB)]);
    this.run();
    assert_eq!(this.script.reported(), [Outcome::InsertFailed]);
    assert_eq!(this.bench.snapshot(), before);
}

#[test]
fn one_with_two_ranges_in_one_block_comes_and_goes_as_one() {
    let mut this = Fixture::new();
    let before = this.bench.snapshot();
    let block = WINDOW + 32 * MIB;
    this.bench.plug(range(block, MIB));
    let ranges = [range(block + 256 * KIB, 256 * KIB), range(block + 512 * KIB, 512 * KIB)];
    for ranges in [ranges, [ranges[1], ranges[0]]] {
        this.script.insert(0, &ranges);
        this.run();
        assert_eq!(this.script.reported(), [Outcome::Inserted]);
        let id = this.bench.mm.block_at(ranges[0].start());
        let there = this.bench.mm.block(id).unwrap();
        assert_eq!((there.pages * 4096, there.state), (768 * KIB, ONLINE));
        this.script.eject(0);
        this.run();
        assert_eq!(this.script.reported(), [Outcome::Ejecting, Outcome::Ejected]);
        assert_eq!(this.bench.snapshot(), before);
    }
}

#[test]
fn one_that_is_gone_takes_nothing_of_the_other_with_it() {
    let (mut this, dimms, _) = shared();
    this.script.0.borrow_mut().absent.push(0);
    this.script.event(0, Request::Gone);
    this.run();
    assert_eq!(this.script.reported(), [Outcome::Ejected]);
    assert_eq!(online(&this, dimms), dimms[1].len());
    let states = this.bench.mm.blocks_in(dimms[1]).filter_map(|id| this.bench.mm.block(id));
    assert!(states.map(|block| block.state).eq([BlockState::Online(ZoneKind::Movable); 3]));
}

#[test]
fn what_is_reported_of_one_that_joins_a_block_of_another_node_is_the_node_it_is_on() {
    let (mut this, dimms, _) = shared();
    let one = NodeId::new(1).unwrap();
    let end = dimms[1].end().get();
    let (inside, next) = (range(end, 256 * KIB), range(end + 256 * KIB, MIB + 256 * KIB));
    this.bench.plug(range(WINDOW + 36 * MIB, MIB));
    for (device, joins, on) in [(2, inside, NodeId::ZERO), (3, next, one)] {
        this.script.event(device, announced(&[joins]));
        let out = this.run();
        assert_eq!(this.script.reported(), [Outcome::Inserted]);
        let added = out.lines().find(|line| line.contains("\"operation\":\"add\"")).unwrap();
        assert!(added.contains(&std::format!("\"node\":{},", on.get())), "{on}: {added}");
        // The first block is that of the other devices.
        let ids = [joins.start(), joins.end().add(u64::MAX)].map(|at| this.bench.mm.block_at(at));
        let nodes = ids.map(|id| this.bench.mm.block(id).unwrap().node);
        assert_eq!(nodes, [NodeId::ZERO, on]);
    }
}

#[test]
fn the_undo_of_an_insert_moves_no_page_of_the_block_that_it_joined() {
    let mut this = Fixture::new();
    let all = range(WINDOW + 32 * MIB, 2 * MIB);
    this.bench.plug(all);
    let upper = range(all.start().get() + 1536 * KIB, 512 * KIB);
    this.script.insert(1, &[upper]);
    this.run();
    this.script.reported();
    // Pages in its block that do not move.
    while this.bench.alloc_movable_zone(Order::ZERO).is_some() {}
    let before = this.bench.snapshot();
    // The first range joins that block with its end; the second is not a whole number of subsections.
    let lower = range(all.start().get(), 1536 * KIB);
    this.script.insert(2, &[lower, range(WINDOW + 64 * MIB + 4096, MIB)]);
    this.run();
    assert_eq!(this.script.reported(), [Outcome::InsertFailed]);
    assert_eq!(this.bench.snapshot(), before);
    let claims: Vec<_> = this.driver.plugged().iter().map(|entry| entry.claim).collect();
    assert_eq!(claims, [Claim::Added, Claim::Refused, Claim::Refused]);
}

#[test]
fn one_that_firmware_keeps_is_offline_but_for_the_block_that_it_shares() {
    for gone in [0, 1] {
        let (mut this, dimms, _) = shared();
        this.script.0.borrow_mut().stuck = true;
        this.script.eject(gone);
        this.run();
        assert_eq!(this.script.reported(), [Outcome::Ejecting, Outcome::EjectFailed]);
        // The first block is that of device 0 alone, the second is shared, the others are those of device 1.
        let all = range(dimms[0].start().get(), 4 * MIB);
        let blocks = this.bench.mm.blocks_in(all).filter_map(|id| this.bench.mm.block(id));
        let offline: Vec<_> =
            blocks.map(|block| u16::from(block.state == BlockState::Offline)).collect();
        let expected = [[1, 0, 0, 0], [0, 0, 1, 1]];
        assert_eq!(offline, expected[usize::from(gone)]);
        assert_eq!(this.driver.plugged().len(), 2);
    }
}
