//! The operator, and memory of a device that is gone.

use std::string::String;
use std::vec::Vec;

use hotmem::testing::range;
use hotmem::{BlockState, PhysRange, Placement, ZoneKind};

use super::MIB;
use super::beside::{BASE, Beside, KIB, block};
use crate::{Claim, OperatorError, Outcome, Request};

#[test]
fn the_operator_does_not_bring_memory_online_that_is_gone_beside_other() {
    let (mut this, page) = Beside::vanished_in_part();
    let mut out = String::new();
    let refused = this.fixture.driver.operator_online(block(1), ZoneKind::Movable, &mut out);
    let Err(OperatorError::Gone(entry)) = refused else { panic!("{refused:?}") };
    assert_eq!((entry.device.number(), entry.range), (0, range(BASE, MIB + 256 * KIB)));
    assert_eq!((this.state(1), out), (Some(BlockState::Offline), String::new()));
    this.lose_the_rest(page);
    this.fixture.driver.operator_offline(block(1), &mut String::new()).unwrap();
    let online =
        this.fixture.driver.operator_online(block(1), ZoneKind::Normal, &mut String::new());
    assert_eq!(online, Ok(()));
    this.check_neighbour();
}

#[test]
fn what_the_operator_removes_of_memory_that_is_gone_brings_the_other_back_online() {
    let (mut this, page) = Beside::vanished_in_part();
    this.unpin(page);
    let mut out = String::new();
    this.fixture.driver.operator_offline(block(0), &mut out).unwrap();
    assert_eq!(this.state(1), Some(BlockState::Offline));
    let gone = range(BASE, MIB + 256 * KIB);
    this.fixture.driver.operator_remove(gone, &mut out).unwrap();
    assert!(this.fixture.driver.plugged().iter().all(|entry| entry.claim == Claim::Added));
    this.check_neighbour();
}

/// Device 2 is refused, and the operator has added and uses two pieces of it, the first in a block with device 1.
fn used_by_the_operator() -> (Beside, [PhysRange; 2]) {
    let mut this = Beside::two();
    let refused = range(BASE + 2 * MIB + 512 * KIB, 4 * MIB + 4096);
    this.fixture.script.insert(2, &[refused]);
    this.fixture.run();
    assert_eq!(this.fixture.script.reported(), [Outcome::InsertFailed]);
    let pieces = [range(refused.start().get(), MIB + 256 * KIB), range(BASE + 5 * MIB, 512 * KIB)];
    for piece in pieces {
        let mut out = String::new();
        this.fixture.driver.operator_add(piece, Placement::PerRange, &mut out).unwrap();
    }
    for number in [3, 5] {
        let mut out = String::new();
        this.fixture.driver.operator_online(block(number), ZoneKind::Normal, &mut out).unwrap();
    }
    assert_eq!(this.bytes(2), MIB);
    (this, pieces)
}

#[test]
fn what_the_operator_has_added_of_a_device_goes_with_it_piece_by_piece() {
    let (mut this, pieces) = used_by_the_operator();
    this.absent(2);
    this.fixture.script.event(2, Request::Gone);
    let out = this.fixture.run();
    assert_eq!(this.fixture.script.reported(), [Outcome::Ejected]);
    let removed: Vec<_> =
        out.lines().filter(|line| line.contains("\"operation\":\"remove\"")).collect();
    assert_eq!(removed.len(), pieces.len(), "{out}");
    assert_eq!(
        (this.state(2), this.bytes(2)),
        (Some(BlockState::Online(ZoneKind::Normal)), 512 * KIB)
    );
    this.check_end(&[0, 1]);
}

#[test]
fn what_the_operator_has_added_of_a_device_that_is_gone_does_not_come_online() {
    let (mut this, pieces) = used_by_the_operator();
    let page = this.pin(5);
    this.lose(2);
    assert_eq!(this.fixture.script.reported(), [Outcome::EjectFailed]);
    let mut out = String::new();
    let refused = this.fixture.driver.operator_online(block(3), ZoneKind::Normal, &mut out);
    assert!(matches!(refused, Err(OperatorError::Gone(_))), "{refused:?}");
    // One piece is given up by hand, and another device comes there.
    assert_eq!(this.state(2), Some(BlockState::Online(ZoneKind::Normal)));
    this.fixture.driver.operator_offline(block(2), &mut out).unwrap();
    this.fixture.driver.operator_remove(pieces[0], &mut out).unwrap();
    this.fixture.driver.operator_online(block(2), ZoneKind::Normal, &mut out).unwrap();
    this.fixture.script.insert(3, &[pieces[0]]);
    this.fixture.run();
    assert_eq!(this.fixture.script.reported(), [Outcome::Inserted]);
    assert_eq!(this.state(3), Some(BlockState::Online(ZoneKind::Movable)));
    this.unpin(page);
    this.lose(2);
    assert_eq!(this.fixture.script.reported(), [Outcome::Ejected]);
    assert_eq!((this.state(3), this.state(5)), (Some(BlockState::Online(ZoneKind::Movable)), None));
    this.check_end(&[3, 0, 1]);
}

#[test]
fn a_block_stays_online_while_a_piece_of_the_operators_inside_the_range_cannot_go() {
    let (mut this, _) = used_by_the_operator();
    let page = this.pin(3);
    this.lose(2);
    assert_eq!(this.fixture.script.reported(), [Outcome::EjectFailed]);
    let online = Some(BlockState::Online(ZoneKind::Normal));
    assert_eq!((this.state(2), this.bytes(2)), (online, MIB));
    this.unpin(page);
    this.lose(2);
    assert_eq!(this.fixture.script.reported(), [Outcome::Ejected]);
    assert_eq!((this.state(2), this.bytes(2)), (online, 512 * KIB));
    this.check_end(&[0, 1]);
}

#[test]
fn a_device_that_was_refused_over_memory_that_is_gone_leaves_no_more_of_it() {
    let mut this = Beside::two();
    let page = this.lose_in_part();
    let gone = |this: &Beside| {
        let plugged = this.fixture.driver.plugged().iter();
        plugged.filter(|entry| entry.claim == Claim::Gone).count()
    };
    for (device, outcome) in [(0, Outcome::EjectFailed), (3, Outcome::Ejected)] {
        this.fixture.script.insert(device, &[range(BASE, MIB + 256 * KIB)]);
        this.fixture.run();
        assert_eq!(this.fixture.script.reported(), [Outcome::InsertFailed]);
        this.lose(device);
        assert_eq!(this.fixture.script.reported(), [outcome], "device {device}");
        assert_eq!(gone(&this), 1, "device {device}");
    }
    this.lose_the_rest(page);
    this.check_neighbour();
}

#[test]
fn memory_that_is_gone_is_not_cleared_when_the_operator_removes_it() {
    let (mut this, page) = Beside::vanished_in_part();
    this.fixture.driver.set_scrub(true);
    this.unpin(page);
    let mut out = String::new();
    this.fixture.driver.operator_offline(block(0), &mut out).unwrap();
    this.fixture.driver.operator_remove(range(BASE, MIB + 256 * KIB), &mut out).unwrap();
    let scrubs: Vec<_> = out.lines().filter(|line| line.contains("scrub")).collect();
    assert!(scrubs.iter().all(|line| line.contains("\"scrubbed_bytes\":0,")), "{scrubs:?}");
    this.check_neighbour();
}

#[test]
fn the_undo_of_an_insert_beside_memory_that_is_gone_leaves_the_other_online() {
    let mut this = Beside::two();
    let page = this.lose_in_part();
    let joins = range(BASE + MIB + 512 * KIB, 512 * KIB);
    this.fixture.script.insert(2, &[joins, range(BASE + 4 * MIB, 4096)]);
    this.fixture.run();
    assert_eq!(this.fixture.script.reported(), [Outcome::InsertFailed]);
    let online = Some(BlockState::Online(ZoneKind::Normal));
    assert_eq!((this.state(1), this.bytes(1)), (online, 512 * KIB));
    this.lose_the_rest(page);
    this.fixture.script.eject(2);
    this.fixture.run();
    assert_eq!(this.fixture.script.reported(), [Outcome::Ejecting, Outcome::Ejected]);
    this.check_neighbour();
}
