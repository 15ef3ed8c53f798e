//! Devices that are gone, beside others in the same blocks: memory that is gone never comes online, and what stays comes
//! back in its own zone.

use std::string::String;
use std::vec::Vec;

use hotmem::testing::range;
use hotmem::{
    AutoOnline, BlockId, BlockState, OnlineAs, Order, Pfn, PhysRange, Placement, ZoneKind,
};

use super::{Fixture, MIB, WINDOW};
use crate::{Claim, Outcome, Policy, Request};

pub(super) const KIB: u64 = 1 << 10;
pub(super) const BASE: u64 = WINDOW + 32 * MIB;

/// Devices 0 and 1, which share block 1:
///
/// ```text
///   block     0            1            2
///             [ 0 0 0 0 ]  [ 0 1 . . ]  [ 1 1 . . ]      each place is 256 KiB
/// ```
///
/// Their memory is in the zone of the kernel; what is added from now on is movable.
pub(super) struct Beside {
    pub(super) fixture: Fixture,
    before: Vec<hotmem::Fact>,
}

/// Memory of device 1 in the block that it shares, and behind that.
pub(super) const OTHERS: [u64; 2] = [256 * KIB, 512 * KIB];

impl Beside {
    /// Begins with an eject of device 0, does so many steps more, and returns whether it still goes on.
    pub(super) fn begin_eject(&mut self, steps: u32) -> bool {
        self.fixture.driver.set_budget(100);
        self.fixture.script.eject(0);
        for _ in 0..=steps {
            self.fixture.driver.run_one(&mut String::new());
        }
        self.fixture.driver.ejecting().is_some()
    }

    fn new(lost: &[PhysRange], other: &[PhysRange]) -> Self {
        Self::of(&[lost, other])
    }

    pub(super) fn of(devices: &[&[PhysRange]]) -> Self {
        Self::with_placement(Policy::default().placement, devices)
    }

    pub(super) fn with_placement(placement: Placement, devices: &[&[PhysRange]]) -> Self {
        let mut fixture = Fixture::new();
        fixture.driver.policy.placement = placement;
        let before = fixture.bench.snapshot();
        fixture.bench.plug(range(BASE, 32 * MIB));
        fixture.bench.mm.set_auto_online(AutoOnline::Online(OnlineAs::Kernel));
        for (device, ranges) in (0..).zip(devices) {
            fixture.script.insert(device, ranges);
            fixture.run();
            assert_eq!(fixture.script.reported(), [Outcome::Inserted]);
        }
        fixture.bench.mm.set_auto_online(AutoOnline::Online(OnlineAs::Movable));
        Self { fixture, before }
    }

    pub(super) fn two() -> Self {
        let other = range(BASE + MIB + 256 * KIB, OTHERS[0]);
        let rest = range(BASE + 2 * MIB, OTHERS[1]);
        Self::new(&[range(BASE, MIB + 256 * KIB)], &[other, rest])
    }

    /// A page of block `number` in use, which does not move.
    pub(super) fn pin(&self, number: u64) -> Pfn {
        let inside = self.fixture.bench.mm.block(block(number)).unwrap().pfns;
        let mm = &self.fixture.bench.mm;
        let take = || mm.take_pages(Order::ZERO).ok();
        let mut pages: Vec<_> = core::iter::from_fn(take).collect();
        let at = pages.iter().position(|&page| inside.contains(page)).unwrap();
        let page = pages.swap_remove(at);
        pages.into_iter().for_each(|page| mm.free_pages(page).unwrap());
        page
    }

    pub(super) fn unpin(&self, page: Pfn) {
        self.fixture.bench.mm.free_pages(page).unwrap();
    }

    /// Firmware says that a device is gone, from now on.
    pub(super) fn lose(&mut self, device: u16) -> String {
        self.absent(device);
        self.fixture.script.event(device, Request::Gone);
        self.fixture.run()
    }

    pub(super) fn absent(&mut self, device: u16) {
        self.fixture.script.0.borrow_mut().absent.push(device);
    }

    /// Device 0 is gone but for block 0, of which a page is in use; so all of its first range stays.
    pub(super) fn lose_in_part(&mut self) -> Pfn {
        let page = self.pin(0);
        self.lose(0);
        assert_eq!(self.fixture.script.reported(), [Outcome::EjectFailed]);
        assert_eq!(self.state(0), Some(BlockState::Online(ZoneKind::Normal)));
        page
    }

    /// Device 0 is gone but for block 0, of which a page is in use. Its eject had taken block 1 offline, and only then
    /// device 1 came there, which waits for it.
    pub(super) fn vanished_in_part() -> (Self, Pfn) {
        let mut this = Self::of(&[&[range(BASE, MIB + 256 * KIB)]]);
        let page = this.pin(0);
        this.fixture.bench.mm.set_auto_online(AutoOnline::Online(OnlineAs::Kernel));
        this.fixture.driver.set_budget(100);
        this.fixture.script.eject(0);
        while this.state(1) != Some(BlockState::Offline) {
            assert!(this.fixture.driver.run_one(&mut String::new()));
        }
        let other = range(BASE + MIB + 256 * KIB, OTHERS[0]);
        this.fixture.script.insert(1, &[other, range(BASE + 2 * MIB, OTHERS[1])]);
        let mut reported = Vec::new();
        while !reported.contains(&Outcome::Inserted) {
            assert!(this.fixture.driver.run_one(&mut String::new()));
            reported.extend(this.fixture.script.reported());
        }
        this.absent(0);
        this.fixture.run();
        reported.extend(this.fixture.script.reported());
        assert_eq!(reported, [Outcome::Ejecting, Outcome::Inserted, Outcome::EjectFailed]);
        this.fixture.bench.mm.set_auto_online(AutoOnline::Online(OnlineAs::Movable));
        assert_eq!(this.state(0), Some(BlockState::Online(ZoneKind::Normal)));
        assert_eq!((this.state(1), this.bytes(1)), (Some(BlockState::Offline), 512 * KIB));
        (this, page)
    }

    /// The page is not in use any more: the rest of device 0 goes.
    pub(super) fn lose_the_rest(&mut self, page: Pfn) {
        self.unpin(page);
        self.fixture.script.event(0, Request::Gone);
        self.fixture.run();
        assert_eq!(self.fixture.script.reported(), [Outcome::Ejected]);
        let plugged = self.fixture.driver.plugged().iter();
        assert_eq!(plugged.filter(|entry| entry.claim == Claim::Gone).count(), 0);
    }

    pub(super) fn state(&self, number: u64) -> Option<BlockState> {
        self.fixture.bench.mm.block(block(number)).map(|block| block.state)
    }

    /// Pages of a block that are offline while the block is online.
    fn offline_in(&self, number: u64) -> u64 {
        self.fixture.bench.mm.shares(block(number)).offline
    }

    /// Bytes of a block that are there.
    pub(super) fn bytes(&self, number: u64) -> u64 {
        self.fixture.bench.mm.block(block(number)).map_or(0, |block| block.pages * 4096)
    }

    /// Device 1 is as it was, and device 0 has left nothing.
    pub(super) fn check_neighbour(&mut self) {
        let was = Some(BlockState::Online(ZoneKind::Normal));
        assert_eq!((self.state(1), self.bytes(1)), (was, OTHERS[0]));
        assert_eq!((self.state(2), self.bytes(2)), (was, OTHERS[1]));
        self.fixture.bench.check();
        self.check_end(&[1]);
    }

    /// The devices that are still there go, and leave nothing.
    pub(super) fn check_end(&mut self, devices: &[u16]) {
        for &device in devices {
            self.fixture.script.eject(device);
            self.fixture.run();
            let reported = self.fixture.script.reported();
            assert_eq!(reported, [Outcome::Ejecting, Outcome::Ejected], "device {device}");
        }
        assert_eq!(self.fixture.bench.snapshot(), self.before);
    }
}

pub(super) fn block(number: u64) -> BlockId {
    BlockId::new(BASE / MIB + number)
}

#[test]
fn one_that_vanishes_at_any_step_of_its_eject_leaves_the_other_online_in_its_zone() {
    let mut vanished = 0;
    for steps in 0.. {
        let mut this = Beside::two();
        if !this.begin_eject(steps) {
            break;
        }
        this.absent(0);
        this.fixture.driver.cancel_eject(&mut String::new());
        this.fixture.run();
        assert_eq!(this.fixture.script.reported(), [Outcome::Ejecting, Outcome::Ejected]);
        assert_eq!(this.bytes(0), 0, "after {steps} steps");
        this.check_neighbour();
        vanished += 1;
    }
    assert!(vanished >= 6, "{vanished}");
}

#[test]
fn one_that_vanishes_between_its_removals_leaves_the_other_online_in_its_zone() {
    // Two blocks go offline, and two ranges are removed: the one or the other removal fails.
    for fails in [3, 4] {
        let other = range(BASE + MIB + 256 * KIB, OTHERS[0]);
        let lost = [range(BASE, MIB + 256 * KIB), range(BASE + MIB + 768 * KIB, 256 * KIB)];
        let rest = range(BASE + 2 * MIB, OTHERS[1]);
        let mut this = Beside::new(&lost, &[other, rest]);
        this.absent(0);
        this.fixture.fail(fails - 1);
        this.fixture.script.eject(0);
        this.fixture.run();
        assert_eq!(this.fixture.script.reported(), [Outcome::Ejecting, Outcome::Ejected]);
        this.check_neighbour();
    }
}

#[test]
fn ranges_that_are_gone_go_one_by_one_from_a_block_that_stays_online() {
    for order in [[0, 1], [1, 0]] {
        let other = range(BASE + MIB + 256 * KIB, OTHERS[0]);
        let lost = [range(BASE, MIB + 256 * KIB), range(BASE + MIB + 768 * KIB, 256 * KIB)];
        let lost = order.map(|at| lost[at]);
        let rest = range(BASE + 2 * MIB, OTHERS[1]);
        let mut this = Beside::new(&lost, &[other, rest]);
        this.absent(0);
        this.fixture.script.event(0, Request::Gone);
        let (mut bytes, mut offline) = (this.bytes(1), false);
        while this.fixture.driver.run_one(&mut String::new()) {
            assert_eq!(this.state(1), Some(BlockState::Online(ZoneKind::Normal)), "{order:?}");
            assert!(this.bytes(1) <= bytes, "{order:?}");
            bytes = this.bytes(1);
            offline |= this.offline_in(1) != 0;
        }
        assert!(offline);
        assert_eq!(this.fixture.script.reported(), [Outcome::Ejected]);
        this.check_neighbour();
    }
}

#[test]
fn the_zone_of_a_block_is_kept_until_the_last_of_what_is_gone_is_removed() {
    for attempts in 0..3 {
        let (mut this, page) = Beside::vanished_in_part();
        for _ in 0..attempts {
            this.lose(0);
            assert_eq!(this.fixture.script.reported(), [Outcome::EjectFailed]);
        }
        this.lose_the_rest(page);
        this.check_neighbour();
    }
}

#[test]
fn one_that_joins_a_block_with_memory_that_is_gone_is_online_when_that_is_removed() {
    let (mut this, page) = Beside::vanished_in_part();
    let joins = [range(BASE + MIB + 512 * KIB, 512 * KIB), range(BASE + 4 * MIB, MIB)];
    this.fixture.script.insert(2, &joins);
    this.fixture.run();
    assert_eq!(this.fixture.script.reported(), [Outcome::Inserted]);
    assert_eq!((this.state(1), this.bytes(1)), (Some(BlockState::Offline), MIB));
    assert_eq!(this.state(4), Some(BlockState::Online(ZoneKind::Movable)));
    // So it is when it is announced again.
    this.fixture.script.insert(2, &joins);
    this.fixture.run();
    assert_eq!(this.fixture.script.reported(), [Outcome::Inserted]);
    assert_eq!(this.state(1), Some(BlockState::Offline));

    this.lose_the_rest(page);
    let bytes = OTHERS[0] + joins[0].len();
    let online = Some(BlockState::Online(ZoneKind::Normal));
    assert_eq!((this.state(1), this.bytes(1)), (online, bytes));
    this.check_end(&[2, 1]);
}

#[test]
fn a_block_with_nothing_but_memory_that_is_gone_goes_with_it() {
    let (mut this, page) = Beside::vanished_in_part();
    this.fixture.script.eject(1);
    this.fixture.run();
    assert_eq!(this.fixture.script.reported(), [Outcome::Ejecting, Outcome::Ejected]);
    assert_eq!(this.state(1), Some(BlockState::Offline));
    this.lose_the_rest(page);
    assert_eq!(this.state(1), None);
    this.check_end(&[]);
}

#[test]
fn an_eject_that_is_cancelled_does_not_bring_memory_online_that_is_gone_meanwhile() {
    for gone_first in [false, true] {
        let mut this = Beside::two();
        let page = this.pin(0);
        this.fixture.driver.set_budget(100);
        if gone_first {
            this.lose(0);
        }
        let before = this.offline_in(1);
        assert_eq!(before != 0, gone_first);
        this.fixture.script.eject(1);
        while this.offline_in(1) == before {
            assert!(this.fixture.driver.run_one(&mut String::new()));
        }
        if !gone_first {
            this.absent(0);
            this.fixture.script.event(0, Request::Gone);
            let own = this.offline_in(1);
            while this.offline_in(1) == own && this.fixture.driver.ejecting().is_some() {
                assert!(this.fixture.driver.run_one(&mut String::new()));
            }
        }
        if this.fixture.driver.cancel_eject(&mut String::new()) {
            this.fixture.run();
            assert_eq!((this.bytes(1), this.offline_in(1)), (512 * KIB, 64), "{gone_first}");
            assert_eq!(this.state(1), Some(BlockState::Online(ZoneKind::Normal)));
            assert_eq!(this.state(2), Some(BlockState::Online(ZoneKind::Normal)));
        }
        this.fixture.script.reported();
        this.lose_the_rest(page);
        this.check_neighbour();
    }
}

#[test]
fn three_in_one_block_go_in_any_way_and_what_stays_is_online() {
    let shares = [0, 1, 2].map(|n| range(BASE + MIB + n * 256 * KIB, 256 * KIB));
    let ranges = [0, 1, 2].map(|n: usize| [shares[n], range(BASE + (3 + n as u64) * MIB, MIB)]);
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        for ways in 0..8 {
            let mut this = Beside::new(&ranges[0], &ranges[1]);
            this.fixture.script.insert(2, &ranges[2]);
            this.fixture.run();
            this.fixture.script.reported();
            for (n, device) in (0..).zip(order) {
                let expected: &[_] = if ways >> n & 1 == 0 {
                    this.lose(device);
                    &[Outcome::Ejected]
                } else {
                    this.fixture.script.eject(device);
                    this.fixture.run();
                    &[Outcome::Ejecting, Outcome::Ejected]
                };
                assert_eq!(this.fixture.script.reported(), expected);
                let (stays, online) = (2 - n, Some(BlockState::Online(ZoneKind::Normal)));
                let state = online.filter(|_| stays != 0);
                assert_eq!((this.state(1), this.bytes(1)), (state, stays * 256 * KIB));
            }
            this.check_end(&[]);
        }
    }
}

#[test]
fn a_block_stays_online_for_the_other_while_what_is_gone_cannot_be_removed() {
    for attempts in 0..3 {
        let mut this = Beside::two();
        let page = this.lose_in_part();
        for _ in 0..attempts {
            this.lose(0);
            assert_eq!(this.fixture.script.reported(), [Outcome::EjectFailed]);
        }
        // No page of it that is gone is given out.
        let lost = range(BASE + MIB, 256 * KIB);
        let inside = lost.start().get() / 4096..lost.end().get() / 4096;
        let take = || this.fixture.bench.mm.take_pages(Order::ZERO).ok();
        let pages: Vec<_> = core::iter::from_fn(take).collect();
        assert!(pages.len() > 64 && pages.iter().all(|page| !inside.contains(&page.get())));
        pages.into_iter().for_each(|page| this.unpin(page));
        let joins = [range(BASE + MIB + 512 * KIB, 512 * KIB)];
        this.fixture.script.insert(2, &joins);
        this.fixture.run();
        assert_eq!(this.fixture.script.reported(), [Outcome::Inserted]);
        let online = Some(BlockState::Online(ZoneKind::Normal));
        assert_eq!((this.state(1), this.bytes(1)), (online, MIB));
        this.lose_the_rest(page);
        assert_eq!((this.state(1), this.bytes(1)), (online, 768 * KIB));
        this.fixture.script.eject(2);
        this.fixture.run();
        assert_eq!(this.fixture.script.reported(), [Outcome::Ejecting, Outcome::Ejected]);
        this.check_neighbour();
    }
}

#[test]
fn two_that_are_gone_in_part_leave_the_third_online_and_go_each_when_it_can() {
    let lower = range(BASE, MIB + 256 * KIB);
    let upper = range(BASE + MIB + 768 * KIB, MIB + 256 * KIB);
    for first in [0, 1] {
        let mut this = Beside::new(&[lower], &[upper]);
        this.fixture.script.insert(2, &[range(BASE + MIB + 256 * KIB, 512 * KIB)]);
        this.fixture.run();
        assert_eq!(this.fixture.script.reported(), [Outcome::Inserted]);
        let online = Some(BlockState::Online(ZoneKind::Normal));
        assert_eq!((this.state(1), this.bytes(1)), (online, MIB));
        let pins = [0, 2].map(|number| this.pin(number));
        for device in [0, 1] {
            this.lose(device);
            assert_eq!(this.fixture.script.reported(), [Outcome::EjectFailed]);
        }
        for (device, bytes) in [(first, 768 * KIB), (1 - first, 512 * KIB)] {
            this.unpin(pins[usize::from(device)]);
            this.lose(device);
            assert_eq!(this.fixture.script.reported(), [Outcome::Ejected], "{device}");
            assert_eq!((this.state(1), this.bytes(1)), (online, bytes), "{device}");
        }
        this.check_end(&[2]);
    }
}

#[test]
fn one_that_comes_back_at_once_to_the_block_of_what_is_gone_waits_for_it() {
    let (mut this, page) = Beside::vanished_in_part();
    // The device that is in the slot now has the same place, which is not free yet.
    let again = [range(BASE, MIB + 256 * KIB)];
    this.fixture.script.insert(0, &again);
    this.fixture.run();
    assert_eq!(this.fixture.script.reported(), [Outcome::InsertFailed]);
    assert_eq!(this.state(1), Some(BlockState::Offline));
    this.unpin(page);
    this.fixture.script.insert(0, &again);
    this.fixture.run();
    assert_eq!(this.fixture.script.reported(), [Outcome::Inserted]);
    assert_eq!(this.state(0), Some(BlockState::Online(ZoneKind::Movable)));
    let joined = Some(BlockState::Online(ZoneKind::Normal));
    assert_eq!((this.state(1), this.bytes(1)), (joined, 512 * KIB));
    this.fixture.script.eject(0);
    this.fixture.run();
    assert_eq!(this.fixture.script.reported(), [Outcome::Ejecting, Outcome::Ejected]);
    this.check_neighbour();
}

#[test]
fn an_eject_beside_memory_that_is_gone_leaves_the_block_online_for_the_third() {
    let mut this = Beside::two();
    let page = this.pin(0);
    this.fixture.script.insert(2, &[range(BASE + MIB + 512 * KIB, 512 * KIB)]);
    this.fixture.run();
    this.fixture.script.reported();
    // The part of block 1 is offline for the eject when the other device goes.
    this.fixture.driver.set_budget(100);
    this.fixture.script.eject(1);
    while this.offline_in(1) == 0 {
        assert!(this.fixture.driver.run_one(&mut String::new()));
    }
    this.absent(0);
    this.fixture.script.event(0, Request::Gone);
    this.fixture.run();
    let reported = [Outcome::Ejecting, Outcome::EjectFailed, Outcome::Ejected];
    assert_eq!(this.fixture.script.reported(), reported);
    let online = Some(BlockState::Online(ZoneKind::Normal));
    assert_eq!((this.state(1), this.bytes(1)), (online, 768 * KIB));
    this.lose_the_rest(page);
    assert_eq!((this.state(1), this.bytes(1)), (online, 512 * KIB));
    this.check_end(&[2]);
}

#[test]
fn what_is_gone_and_has_no_users_any_more_goes_after_an_eject_beside_it() {
    for cancelled in [false, true] {
        let (mut this, page) = Beside::vanished_in_part();
        this.fixture.script.insert(2, &[range(BASE + MIB + 512 * KIB, 512 * KIB)]);
        this.fixture.run();
        this.fixture.script.reported();
        this.unpin(page);
        this.fixture.script.eject(1);
        if cancelled {
            assert!(this.fixture.driver.run_one(&mut String::new()));
        }
        assert_eq!(this.fixture.driver.cancel_eject(&mut String::new()), cancelled);
        this.fixture.run();
        // Firmware does not notify of device 0 again, and expects no reply.
        assert_eq!(this.fixture.script.reported().len(), 2);
        let bytes = 512 * KIB + if cancelled { OTHERS[0] } else { 0 };
        let online = Some(BlockState::Online(ZoneKind::Normal));
        assert_eq!((this.state(1), this.bytes(1)), (online, bytes), "{cancelled}");
        assert_eq!(this.state(0), None);
        let devices: &[_] = if cancelled { &[2, 1] } else { &[2] };
        this.check_end(devices);
    }
}
