//! Memory that firmware describes and that does not exist: loads read all ones, stores have no effect.

use hotmem::testing::{Bench, Shape, Tiny, TinyShared, range};
use hotmem::{AddError, NodeId, OnlineError, PhysAddr, PhysRange, Placement, ZoneKind};
use hotmem_tests::memory::{MIB, TINY_WINDOW, assert_same, small, tiny};

const DIMM: u64 = 8 * MIB;

/// A DIMM of which only the blocks that `there` accepts hold memory.
fn plug<S: Shape>(bench: &Bench<S>, there: impl Fn(u64) -> bool) -> PhysRange {
    for index in 0..DIMM / MIB {
        let block = range(TINY_WINDOW + index * MIB, MIB);
        if there(index) { bench.plug(block) } else { bench.mm.machine().plug_hollow(block) }
    }
    range(TINY_WINDOW, DIMM)
}

/// Checks that adding a DIMM fails with an error that names `at`, and changes nothing.
#[track_caller]
fn refuses<S: Shape>(bench: &Bench<S>, dimm: PhysRange, placement: Placement, at: u64) {
    let before = bench.snapshot();
    let added = bench.mm.hot_add(dimm, NodeId::default(), placement);
    assert_eq!(added, Err(AddError::NoMemory(PhysAddr::new(at))), "{placement}");
    assert_same(&before, &bench.snapshot());
    bench.check();
}

#[test]
fn missing_memory_cannot_hold_its_memmap() {
    fn on<S: Shape>(bench: &Bench<S>) {
        let dimm = plug(bench, |_| false);
        for placement in [Placement::PerRange, Placement::PerBlock] {
            // The word that is probed is in the first descriptor.
            refuses(bench, dimm, placement, TINY_WINDOW);
        }
        bench.unplug(dimm);
        // A DIMM with memory can be added at the same place.
        bench.plug(dimm);
        bench.add(dimm, Placement::PerBlock);
        bench.online(dimm);
    }
    on::<Tiny>(&tiny(MIB));
    on::<TinyShared>(&small::<TinyShared>(MIB));
}

#[test]
fn a_dimm_that_is_smaller_than_described_is_not_added_block_by_block() {
    for missing in 0..DIMM / MIB {
        let bench = tiny(MIB);
        let dimm = plug(&bench, |index| index != missing);
        refuses(&bench, dimm, Placement::PerBlock, TINY_WINDOW + missing * MIB);
    }
}

#[test]
fn a_block_without_memory_does_not_come_online() {
    // Blocks that one memmap for the whole range does not touch, and blocks with their memmap elsewhere.
    for (placement, missing) in
        [(Placement::PerRange, 5), (Placement::Boot, 0), (Placement::Boot, 7)]
    {
        let bench = tiny(MIB);
        let start = bench.snapshot();
        let dimm = plug(&bench, |index| index != missing);
        bench.add(dimm, placement);
        let (before, blocks) = (bench.snapshot(), bench.blocks(dimm));
        let at = PhysAddr::new(TINY_WINDOW + missing * MIB);
        for kind in [ZoneKind::Movable, ZoneKind::Normal] {
            let online = bench.mm.online(blocks[missing as usize], kind);
            assert_eq!(online, Err(OnlineError::NoMemory(at)));
            assert_same(&before, &bench.snapshot());
            bench.check();
        }
        for id in blocks.iter().filter(|id| **id != blocks[missing as usize]) {
            bench.mm.online(*id, ZoneKind::Movable).unwrap();
            bench.mm.offline(*id).unwrap();
        }
        bench.remove(dimm);
        assert_same(&start, &bench.snapshot());
    }
}

#[test]
fn a_refusal_names_the_address() {
    let at = PhysAddr::new(0x4000_0000);
    let text = "memory at 0x40000000 does not hold what is written";
    assert_eq!(AddError::NoMemory(at).to_string(), text);
    assert_eq!(OnlineError::NoMemory(at).to_string(), text);
}
