//! Ranges come and go whole, or not at all.

// UNSAFETY: asks for mappings that are refused.
#![expect(unsafe_code)]

extern crate std;

use crate::addr::{Pfn, PhysAddr, PhysRange, VirtAddr, VirtRange};
use crate::operations::{
    AddError, ConvertError, OfflineError, OnlineError, OwnMapError, RemoveError, ScrubError,
};
use crate::paging::{Attr, Mapping};
use crate::testing::{Bench, Setup, Tiny, range};
use crate::{
    BlockState, ContigError, NodeId, PageState, Placement, PoisonError, ReleaseError, TakeError,
    ZoneKind,
};

const MIB: u64 = 1 << 20;
/// The address of the DIMM: its sections are in two nodes of the section map, one of them new.
const DIMM: u64 = 510 * MIB;

fn dimm() -> PhysRange {
    range(DIMM, 4 * MIB)
}

/// A machine with blocks of one section and a plugged DIMM of four.
fn bench() -> Bench<Tiny> {
    let ram = [(0, 16 * MIB, 0)].into_iter().collect();
    let window = (480 * MIB, 64 * MIB);
    let bench = Bench::new(&Setup { ram, block: MIB, window, kernelcore: None });
    bench.plug(dimm());
    bench
}

#[test]
fn a_part_of_a_range_with_one_memmap_is_not_removed() {
    let bench = bench();
    let before = bench.snapshot();
    bench.add(dimm(), Placement::PerRange);
    let added = bench.snapshot();
    let head = bench.mm.page_info(Pfn::new(DIMM / 4096)).unwrap().state;
    assert_eq!(head, Some(PageState::MemmapHead { sections: 4, pages: 16 }));
    for (first, count) in [(0, 1), (1, 2), (3, 1), (0, 3), (1, 3)] {
        let part = range(DIMM + first * MIB, count * MIB);
        let refused = bench.mm.remove(part);
        assert!(matches!(refused, Err(RemoveError::SplitsGroup { .. })), "{part}: {refused:?}");
        bench.check();
        assert_eq!(bench.snapshot(), added);
    }
    bench.remove(dimm());
    assert_eq!(bench.snapshot(), before);
    bench.unplug(dimm());
}

#[test]
fn boot_memory_and_memory_that_is_online_are_not_removed() {
    let bench = bench();
    bench.add(dimm(), Placement::PerBlock);
    let last = bench.blocks(dimm())[3];
    bench.mm.online(last, ZoneKind::Movable).unwrap();
    let before = bench.snapshot();
    assert_eq!(bench.mm.remove(dimm()), Err(RemoveError::NotOffline(last)));
    let boot = range(8 * MIB, MIB);
    let refused = RemoveError::BootMemory(bench.blocks(boot)[0]);
    assert_eq!(bench.mm.remove(boot), Err(refused));
    bench.check();
    assert_eq!(bench.snapshot(), before);
}

#[test]
fn an_add_that_the_mapper_refuses_at_any_call_fails_and_leaves_nothing() {
    for placement in Placement::ALL {
        let bench = bench();
        let (before, refusals) = (bench.snapshot(), bench.mm.machine().tables().refusals());
        for nth in 1.. {
            refusals.arm(nth);
            let added = bench.mm.hot_add(dimm(), NodeId::ZERO, placement);
            let fired = refusals.fired();
            refusals.disarm();
            bench.check();
            assert_eq!(added.is_err(), fired, "{placement}: {added:?} at call {nth}");
            if !fired {
                assert!(nth > 2, "{placement}: only {nth} calls");
                break;
            }
            assert_eq!(bench.snapshot(), before, "{placement}, call {nth}");
        }
        bench.remove(dimm());
        assert_eq!(bench.snapshot(), before, "{placement}");
        bench.unplug(dimm());
    }
}

#[test]
fn memory_that_does_not_keep_what_is_written_is_not_added() {
    let bench = bench();
    let (before, keeps) = (bench.snapshot(), bench.mm.machine().keeps());
    keeps.arm(1);
    let added = bench.mm.hot_add(dimm(), NodeId::ZERO, Placement::PerBlock);
    assert!(keeps.fired() && matches!(added, Err(AddError::NoMemory(_))), "{added:?}");
    keeps.disarm();
    bench.check();
    assert_eq!(bench.snapshot(), before);
}

#[test]
fn a_conversion_takes_the_heads_of_blocks_out_of_free_extents_and_leaves_the_rest_free() {
    let bench = bench();
    bench.add(dimm(), Placement::PerRange);
    bench.online(dimm());
    let free = |bench: &Bench<Tiny>| -> u64 {
        let blocks = bench.mm.blocks().filter(|block| !block.boot);
        blocks.map(|block| block.counts.free).sum()
    };
    let before = free(&bench);
    assert_eq!(bench.mm.convert(dimm()), Ok(4));
    bench.check();
    assert_eq!(free(&bench), before);
    for (count, id) in bench.blocks(dimm()).into_iter().enumerate() {
        let block = bench.mm.block(id).unwrap();
        assert_eq!(block.counts.free, block.counts.managed, "block {count}");
        bench.mm.offline(id).unwrap();
        assert_eq!(bench.mm.block(id).unwrap().state, BlockState::Offline);
        bench.remove(range(DIMM + count as u64 * MIB, MIB));
    }
}

#[test]
fn each_operation_is_refused_while_another_is_under_way() {
    let bench = bench();
    bench.add(range(DIMM, 2 * MIB), Placement::PerRange);
    let before = bench.snapshot();
    let mm = &bench.mm;
    let id = bench.blocks(dimm())[0];
    let operation = mm.allocator().operation().unwrap();
    let more = range(DIMM + 2 * MIB, MIB);
    assert_eq!(mm.hot_add(more, NodeId::ZERO, Placement::PerBlock), Err(AddError::Busy));
    assert_eq!(mm.online(id, ZoneKind::Movable), Err(OnlineError::Busy));
    assert_eq!(mm.offline(id), Err(OfflineError::Busy));
    assert_eq!(mm.offline_part(id, range(DIMM, MIB)), Err(OfflineError::Busy));
    assert_eq!(mm.online_part(id, range(DIMM, MIB)), Err(OnlineError::Busy));
    assert_eq!(mm.scrub_part(id, range(DIMM, MIB), 1), Err(ScrubError::Busy));
    assert_eq!(mm.cancel_offline(id), Err(OfflineError::Busy));
    assert_eq!(mm.remove(range(DIMM, 2 * MIB)), Err(RemoveError::Busy));
    assert_eq!(mm.convert(range(DIMM, 2 * MIB)), Err(ConvertError::Busy));
    assert_eq!(mm.scrub(id, 1), Err(ScrubError::Busy));
    assert_eq!(mm.poison(Pfn::new(0)), Err(PoisonError::Busy));
    assert_eq!(mm.take(&[]), Err(TakeError::Busy));
    assert_eq!(mm.take_contig(NodeId::ZERO, MIB), Err(ContigError::Busy));
    assert_eq!(mm.release(), Err(ReleaseError::Busy));
    let (virt, phys) = (VirtAddr::new(0x9000_0000), PhysAddr::new(0));
    let mapping = Mapping { virt, phys, len: 4096, attr: Attr::empty(), max_leaf: 4096 };
    // SAFETY: nothing uses the address, and it is not mapped.
    assert_eq!(unsafe { mm.map_own(&mapping) }, Err(OwnMapError::Busy));
    let range = VirtRange::new(virt, 4096).unwrap();
    // SAFETY: as above.
    assert_eq!(unsafe { mm.unmap_own(range) }, Err(OwnMapError::Busy));
    drop(operation);
    bench.check();
    assert_eq!(bench.snapshot(), before);
}
