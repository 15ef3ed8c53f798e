//! Parts of online blocks go offline, come back and leave.

extern crate std;

use super::{DIMM, MIB, bench, bench_of};
use crate::addr::{Pfn, PhysRange};
use crate::operations::{OfflineError, OnlineError, RemoveError};
use crate::testing::{Bench, FaultPlan, Tiny, range};
use crate::{BlockId, Placement, Quarantined, ScrubError, ZoneKind};
use std::boxed::Box;

/// A block that is online, with memory of two devices.
struct Shared {
    bench: Bench<Tiny>,
    id: BlockId,
    low: PhysRange,
    high: PhysRange,
}

impl Shared {
    fn new() -> Self {
        Self::of(MIB)
    }

    /// With a block of so many bytes.
    fn of(block: u64) -> Self {
        let (bench, half) = (bench_of(block), block / 2);
        let (low, high) = (range(DIMM, half), range(DIMM + half, half));
        for part in [low, high] {
            bench.add(part, Placement::PerBlock);
        }
        bench.online(low);
        let id = bench.blocks(low)[0];
        Self { bench, id, low, high }
    }

    /// The pages of `high` that are not memmap.
    fn usable(&self) -> impl Iterator<Item = Pfn> + use<> {
        let share = self.bench.mm.block_shares(self.id).last().unwrap();
        (share.memmap().end.get()..share.pfns.end.get()).map(Pfn::new)
    }
}

#[test]
fn only_the_pages_of_a_part_go_offline_and_they_come_back_once() {
    let Shared { bench, id, high, .. } = &Shared::new();
    let online = bench.snapshot();
    let free = bench.mm.block(*id).unwrap().counts.free;
    bench.mm.offline_part(*id, *high).unwrap();
    bench.check();
    assert_eq!(free - bench.mm.block(*id).unwrap().counts.free, 126);
    assert_eq!(bench.mm.offline_part(*id, *high), Err(OfflineError::AlreadyOffline(*id)));
    bench.mm.online_part(*id, *high).unwrap();
    assert_eq!(bench.snapshot(), online);
    assert_eq!(bench.mm.online_part(*id, *high), Err(OnlineError::AlreadyOnline(*id)));
    // And a part that was given up half-way.
    core::mem::forget(bench.mm.start_offline_part(*id, *high).unwrap());
    bench.mm.cancel_offline(*id).unwrap();
    bench.check();
    assert_eq!(bench.snapshot(), online);
}

#[test]
fn what_is_not_exactly_one_share_is_not_a_part() {
    let this = Shared::new();
    let (bench, quarter) = (&this.bench, MIB / 4);
    let online = bench.snapshot();
    for at in [DIMM, DIMM + quarter, DIMM + MIB / 2, DIMM + MIB / 2 + quarter] {
        let error = bench.mm.offline_part(this.id, range(at, quarter)).unwrap_err();
        assert!(matches!(error, OfflineError::NotOneShare { .. }), "{error}");
    }
    let error = bench.mm.offline_part(this.id, range(DIMM, MIB)).unwrap_err();
    assert_eq!(error, OfflineError::WholeBlock(this.id));
    assert_eq!(bench.snapshot(), online);
}

#[test]
fn a_part_leaves_only_when_it_is_offline_and_beside_memory_that_stays() {
    let Shared { bench, id, low, high } = &Shared::new();
    assert_eq!(bench.mm.remove(*high), Err(RemoveError::NotOffline(*id)));
    for part in [low, high] {
        bench.mm.offline_part(*id, *part).unwrap();
    }
    bench.mm.remove(*high).unwrap();
    bench.check();
    assert_eq!(bench.mm.remove(*low), Err(RemoveError::NotOffline(*id)));
    bench.mm.offline(*id).unwrap();
    bench.mm.remove(*low).unwrap();
    bench.check();
}

/// The part is there again, offline in a block that is online, also one that has sections without other memory.
#[test]
fn a_part_that_a_cpu_may_still_translate_to_stays_offline_in_its_block() {
    [MIB, 2 * MIB].into_iter().for_each(undo);
}

fn undo(block: u64) {
    let Shared { bench, id, low, high } = Box::leak(Box::new(Shared::of(block)));
    let (mmu, flushes) = (bench.mm.machine().mmu(), FaultPlan::never());
    let flushes: &'static FaultPlan = Box::leak(Box::new(flushes));
    mmu.start_cpus(8);
    mmu.on_flush(|| {
        if !flushes.allows() {
            mmu.silence(Some(7))
        }
    });
    // The record and the words of the block are in the memmap of the first one.
    for part in [high, low] {
        bench.mm.offline_part(*id, *part).unwrap();
        let offline = bench.snapshot();
        flushes.arm(1);
        let error = bench.mm.remove(*part).unwrap_err();
        assert!(matches!(error, RemoveError::Unmap(_)), "{error}");
        flushes.disarm();
        mmu.silence(None);
        bench.check();
        assert_eq!(bench.snapshot(), offline);
        bench.mm.online_part(*id, *part).unwrap();
        bench.check();
    }
}

#[test]
fn a_part_that_is_offline_is_no_obstacle_for_its_block() {
    let Shared { bench, id, high, .. } = &Shared::new();
    let online = bench.snapshot();
    bench.mm.offline_part(*id, *high).unwrap();
    bench.mm.offline(*id).unwrap();
    bench.check();
    bench.mm.online(*id, ZoneKind::Movable).unwrap();
    bench.check();
    assert_eq!(bench.snapshot(), online);
}

#[test]
fn each_page_of_a_part_is_cleared_once_and_none_beside_a_bad_one() {
    let this = Shared::new();
    let Shared { bench, id, high, .. } = &this;
    bench.mm.offline_part(*id, *high).unwrap();
    let scrub = || bench.mm.scrub_part(*id, *high, 100).map(|done| (done.pages, done.more));
    assert_eq!((scrub(), scrub(), scrub()), (Ok((100, true)), Ok((26, false)), Ok((0, false))));
    assert_eq!(bench.mm.poison(this.usable().last().unwrap()), Ok(Quarantined::Page));
    assert_eq!(bench.mm.shares(*id).offline, 125);
    assert_eq!(scrub(), Err(ScrubError::Poisoned(*id)));
    bench.mm.remove(*high).unwrap();
    bench.check();
    assert!(!bench.mm.block(*id).unwrap().poisoned);
}

/// All that a range has of a block may be the memmap of the rest: that leaves without an offline.
#[test]
fn a_part_that_is_all_memmap_is_offline_as_it_is() {
    let bench = bench();
    let (low, high) = (range(DIMM, 3 * MIB / 4), range(DIMM + 3 * MIB / 4, 16 * MIB + MIB / 4));
    bench.plug(range(DIMM + 4 * MIB, 13 * MIB));
    let before = bench.snapshot();
    bench.add(low, Placement::PerBlock);
    bench.online(low);
    bench.add(high, Placement::PerRange);
    let id = bench.blocks(low)[0];
    let share = bench.mm.block_shares(id).last().unwrap();
    assert_eq!(share.memmap(), share.pfns);
    let with = bench.snapshot();
    assert_eq!(bench.mm.offline_part(id, high), Err(OfflineError::AlreadyOffline(id)));
    assert_eq!(bench.snapshot(), with);
    bench.remove(high);
    bench.check();
    bench.offline(low);
    bench.remove(low);
    assert_eq!(bench.snapshot(), before);
}
