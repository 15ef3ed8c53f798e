//! The operator's operations, and which device owns which memory.

use std::string::String;

use hotmem::testing::range;
use hotmem::{AddError, BlockState, OfflineError, Placement, RemoveError, ZoneKind};

use super::{Fixture, MIB, ONLINE, WINDOW};
use crate::{OperatorError, Outcome, Refusal};

/// A device that was refused: 4 MiB and a page, of which the operator may use whole blocks.
fn refused() -> Fixture {
    let mut this = Fixture::new();
    let dimm = range(WINDOW + 32 * MIB, 4 * MIB + 4096);
    this.bench.plug(dimm);
    this.script.insert(1, &[dimm]);
    this.run();
    assert_eq!(this.script.reported(), [Outcome::InsertFailed]);
    this
}

#[test]
fn plugged_memory_that_was_refused_is_the_operators_to_use() {
    let mut this = refused();
    let (before, mut out) = (this.bench.snapshot(), String::new());
    let part = range(WINDOW + 32 * MIB, 4 * MIB);
    this.driver.operator_add(part, Placement::PerRange, &mut out).unwrap();

    // Another granularity than it was added with is refused, and nothing changes.
    for at in [0, 1, 3] {
        let piece = range(WINDOW + (32 + at) * MIB, MIB);
        let error = this.driver.operator_remove(piece, &mut out).unwrap_err();
        assert!(matches!(error, OperatorError::Remove(RemoveError::SplitsGroup { .. })));
    }

    let ids: std::vec::Vec<_> = this.bench.mm.blocks_in(part).collect();
    for &id in &ids {
        this.driver.operator_online(id, ZoneKind::Movable, &mut out).unwrap();
        this.driver.operator_offline(id, &mut out).unwrap();
    }
    let again = this.driver.operator_offline(ids[0], &mut out).unwrap_err();
    assert_eq!(again, OperatorError::Offline(OfflineError::AlreadyOffline(ids[0])));
    this.driver.operator_remove(part, &mut out).unwrap();
    assert_eq!(this.bench.snapshot(), before);

    let operations: std::vec::Vec<_> =
        out.lines().filter_map(|line| line.split('"').nth(3)).collect();
    assert_eq!(operations[..5], ["add", "remove", "remove", "remove", "online"]);
    assert_eq!(operations.last(), Some(&"remove"));
    this.bench.check();
}

#[test]
fn memory_the_firmware_owns_is_not_the_operators() {
    let mut this = Fixture::inserted();
    let (before, mut out) = (this.bench.snapshot(), String::new());
    let piece = this.pieces[0];
    let inside = range(WINDOW + MIB, MIB);
    for range in [piece, inside] {
        let add = this.driver.operator_add(range, Placement::PerBlock, &mut out);
        assert!(matches!(add, Err(OperatorError::Firmwares(entry)) if entry.range == piece));
        let remove = this.driver.operator_remove(range, &mut out);
        assert!(matches!(remove, Err(OperatorError::Firmwares(entry)) if entry.range == piece));
    }
    assert_eq!((out.as_str(), this.bench.snapshot()), ("", before));
    assert_eq!(this.states(), [ONLINE; 5]);
}

#[test]
fn memory_that_is_not_plugged_cannot_be_added() {
    let mut this = refused();
    let mut out = String::new();
    for absent in [range(WINDOW, MIB), range(WINDOW + 32 * MIB, 8 * MIB), range(0, MIB)] {
        let error = this.driver.operator_add(absent, Placement::PerBlock, &mut out);
        assert_eq!(error, Err(OperatorError::NotPlugged(absent)));
    }
    let odd = range(WINDOW + 32 * MIB, MIB + 4096);
    let error = this.driver.operator_add(odd, Placement::PerBlock, &mut out);
    assert!(matches!(error, Err(OperatorError::Add(AddError::NotWholeSubsections(_)))));
    assert!(out.contains("\"operation\":\"add\"") && out.contains("is not whole"), "{out}");
}

#[test]
fn boot_memory_cannot_be_removed() {
    let mut this = Fixture::new();
    let error = this.driver.operator_remove(range(MIB, MIB), &mut String::new());
    assert!(matches!(error, Err(OperatorError::Remove(RemoveError::BootMemory(_)))));
}

#[test]
fn the_firmware_does_not_get_memory_that_the_operator_uses() {
    let mut this = refused();
    let mut out = String::new();
    let part = range(WINDOW + 33 * MIB, MIB);
    this.driver.operator_add(part, Placement::PerRange, &mut out).unwrap();
    let before = this.bench.snapshot();
    this.script.eject(1);
    let reported = this.run();
    assert_eq!(this.script.reported(), [Outcome::Ejecting, Outcome::EjectRefused(Refusal::InUse)]);
    assert!(reported.contains("is in use, and was not added for the device"), "{reported}");
    assert_eq!(this.bench.snapshot(), before);
    let id = this.bench.mm.block_at(part.start());
    assert_eq!(this.bench.mm.block(id).map(|block| block.state), Some(BlockState::Offline));

    this.driver.operator_remove(part, &mut out).unwrap();
    this.script.eject(1);
    this.run();
    assert_eq!(this.script.reported(), [Outcome::Ejecting, Outcome::Ejected]);
}

#[test]
fn a_refused_device_that_is_announced_again_is_tried_again() {
    let mut this = refused();
    let dimm = range(WINDOW + 32 * MIB, 4 * MIB);
    this.script.insert(1, &[dimm]);
    this.run();
    assert_eq!(this.script.reported(), [Outcome::Inserted]);
    assert_eq!(this.driver.plugged().len(), 1);
}
