//! A mapper of the kernel that returns errors: no operation continues as if the call had succeeded.

// UNSAFETY: boots and adds fake memory.
#![expect(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::sync::atomic::Ordering;

use hotmem::paging::UnmapError;
use hotmem::testing::{FakeMachine, range};
use hotmem::{
    AddError, Added, BlockId, BlockSize, BootError, BootMemory, ConvertError, Fact, Geometry, Mm,
    NodeId, Pfn, PhysRange, Placement, ZoneKind,
};
use hotmem_tests::memory::{MIB, TINY_WINDOW, assert_same};

use super::faulty::Faulty;

/// 16 MiB of boot memory, the upper half of it movable.
fn boot() -> Mm<Faulty> {
    let (mm, booted) = boot_with_fault(0);
    booted.unwrap();
    mm
}

/// As [`boot`], with the `nth` call of the mapper failing.
fn boot_with_fault(nth: u64) -> (Mm<Faulty>, Result<(), BootError>) {
    let ram = [range(0, 16 * MIB)];
    let (inner, mut early) = FakeMachine::start(&ram, MIB);
    let mm = Mm::new(Faulty::over(inner, nth));
    let memory = BootMemory {
        ram: &[(ram[0], NodeId::ZERO)],
        block_size: BlockSize::new::<Faulty>(MIB).unwrap(),
        window: &[range(TINY_WINDOW, 64 * MIB)],
        kernelcore: Some(8 * MIB),
    };
    // SAFETY: only the manager under test uses fake RAM.
    let booted = unsafe { mm.boot(&memory, &mut early) };
    (mm, booted)
}

fn add(mm: &Mm<Faulty>, range: PhysRange, placement: Placement) -> Result<Added, AddError> {
    // SAFETY: only the manager under test uses fake RAM.
    unsafe { mm.add(range, NodeId::ZERO, placement) }
}

fn check(mm: &Mm<Faulty>) {
    assert_eq!(mm.verify_machine(), Ok(()));
    mm.machine().inner.mmu().assert_coherent();
}

fn facts(mm: &Mm<Faulty>) -> Vec<Fact> {
    let mut facts = Vec::new();
    mm.snapshot(&mut |fact| facts.push(fact));
    facts
}

/// Runs `operation` with its first call of the mapper failing, then its second, and so on, until it succeeds without
/// a fault. After each failure the facts are unchanged.
fn fail_each_call<T, E>(mm: &Mm<Faulty>, operation: impl Fn() -> Result<T, E>) -> u64 {
    let before = facts(mm);
    let mut failing = 1;
    loop {
        mm.machine().arm(failing);
        let result = operation();
        let fired = mm.machine().fired();
        mm.machine().arm(0);
        check(mm);
        if !fired {
            assert!(result.is_ok(), "no call failed");
            return failing - 1;
        }
        assert!(result.is_err(), "call {failing} failed, and the operation did not");
        assert_same(&before, &facts(mm));
        failing += 1;
    }
}

fn dimm(blocks: u64) -> PhysRange {
    range(TINY_WINDOW, blocks * MIB)
}

#[test]
fn an_add_and_a_removal_that_the_mapper_refuses_change_nothing() {
    for placement in [Placement::PerRange, Placement::PerBlock, Placement::Boot] {
        let mm = boot();
        mm.machine().inner.plug(dimm(4));
        let calls = fail_each_call(&mm, || add(&mm, dimm(4), placement));
        assert!(calls >= 2, "{calls}");
        for id in mm.blocks_in(dimm(4)) {
            fail_each_call(&mm, || mm.online(id, ZoneKind::Movable));
            fail_each_call(&mm, || mm.offline(id));
        }
        let calls = fail_each_call(&mm, || mm.remove(dimm(4)));
        assert!(calls >= 2, "{calls}");
    }
}

#[test]
fn boot_fails_by_name_at_each_call_that_the_mapper_refuses() {
    let mut nth = 1;
    loop {
        let (mm, booted) = boot_with_fault(nth);
        if booted.is_ok() {
            assert!(nth > 16, "only {nth} calls for as many sections");
            return check(&mm);
        }
        assert!(matches!(booted, Err(BootError::Map(_))), "{booted:?}");
        nth += 1;
    }
}

#[test]
fn memory_that_the_mapper_does_not_unmap_or_map_again_stays_where_it_was() {
    let mm = boot();
    let booted = facts(&mm);
    let list = hotmem::TakeList::parse("0:9-11").unwrap();
    for id in 9..12 {
        mm.offline(BlockId::new(id)).unwrap();
    }
    let offline = facts(&mm);
    assert_eq!(fail_each_call(&mm, || mm.take(list.pieces())), 3);
    // By size too, from the middle of the allocator's memory; either all of it is freed, or none.
    assert_eq!(fail_each_call(&mm, || mm.take_contig(NodeId::ZERO, 2 * MIB)), 2);
    let bad = Pfn::new(10 * MIB / 4096);
    mm.poison(bad).unwrap();
    assert_eq!(fail_each_call(&mm, || mm.release()), 5);
    assert_ne!(facts(&mm), offline, "block 10 is bad");
    assert_eq!(mm.release(), Ok(0));
    for id in [9, 11] {
        fail_each_call(&mm, || mm.online(BlockId::new(id), ZoneKind::Movable));
    }
    assert_ne!(facts(&mm), booted, "block 10 is offline");
}

#[test]
fn a_conversion_that_the_mapper_stops_leaves_each_block_with_all_its_descriptors() {
    const BLOCKS: u64 = 66;
    for online in [false, true] {
        for failing in 1..=2 * (BLOCKS - 1) {
            let mm = boot();
            mm.machine().inner.plug(dimm(BLOCKS));
            add(&mm, dimm(BLOCKS), Placement::PerRange).unwrap();
            for id in mm.blocks_in(dimm(BLOCKS)).filter(|id| online && id.get() % 3 != 0) {
                mm.online(id, ZoneKind::Movable).unwrap();
            }
            let before = facts(&mm);
            mm.machine().arm(failing);
            let stopped = mm.convert(dimm(BLOCKS)).unwrap_err();
            mm.machine().arm(0);
            check(&mm);
            let (ConvertError::Unmap(at, _) | ConvertError::Map(at, _)) = stopped else {
                panic!("{stopped}");
            };
            // Two calls for each block, from the last one down.
            let first = TINY_WINDOW / MIB;
            if failing <= 2 {
                assert_same(&before, &facts(&mm));
            }
            for id in mm.blocks_in(dimm(BLOCKS)) {
                let placement = mm.block(id).unwrap().placement;
                let expected = if id > at { Placement::PerBlock } else { Placement::PerRange };
                assert_eq!(placement, expected, "{id} of {stopped}");
            }
            // The rest is one range, which can still be converted; and all of it can be removed.
            let rest = range(TINY_WINDOW, (at.get() - first + 1) * MIB);
            assert_eq!(mm.convert(rest), Ok(at.get() - first + 1));
            check(&mm);
            for id in mm.blocks_in(dimm(BLOCKS)) {
                if online && id.get() % 3 != 0 {
                    mm.offline(id).unwrap();
                }
                mm.remove(mm.block_range(id).unwrap()).unwrap();
            }
            check(&mm);
        }
    }
}

#[test]
fn descriptors_under_a_leaf_that_holds_those_of_other_blocks_are_not_converted() {
    let mm = boot();
    mm.machine().inner.plug(dimm(16));
    mm.machine().large.store(true, Ordering::Relaxed);
    add(&mm, dimm(16), Placement::PerRange).unwrap();
    let before = facts(&mm);
    // 16 KiB of descriptors for each block, in leaves of 64 KiB.
    let at = mm.memmap_virt(<Faulty>::pfns(dimm(16))).start();
    let first = BlockId::new(TINY_WINDOW / MIB);
    let cut = ConvertError::Unmap(first, UnmapError::CutsLeaf { at, len: 64 << 10 });
    assert_eq!(mm.convert(dimm(16)), Err(cut));
    assert_same(&before, &facts(&mm));
    mm.remove(dimm(16)).unwrap();
    check(&mm);
}
