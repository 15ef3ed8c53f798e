//! The n-th allocation fails, for every n until a whole run meets no fault: law 7 holds after each.
//!
//! Just before an allocation fails the fake machine caches every translation there is, so an undo
//! that forgets a flush leaves a stale entry behind, which the check after it finds.

use hotmem::testing::{Bench, Shape, range};
use hotmem::{NodeId, Order, Pfn, PhysRange, Placement, ZoneKind};
use hotmem_tests::memory::{
    GIB, MIB, REAL_WINDOW, TINY_WINDOW, assert_same, fail_each_allocation, real, tiny,
    tiny_without_reserve,
};

/// Fails each allocation of adding `dimm`, then adds and removes it; how many failed.
fn fail_each<S: Shape>(bench: &Bench<S>, dimm: PhysRange, placement: Placement) -> u64 {
    let before = bench.snapshot();
    let add = || bench.mm.hot_add(dimm, NodeId::default(), placement);
    let remove = |_| _ = bench.remove(dimm);
    let (_, failures) = fail_each_allocation(bench, add, remove);
    bench.online(dimm);
    bench.offline(dimm);
    bench.remove(dimm);
    assert_same(&before, &bench.snapshot());
    failures
}

#[test]
fn any_allocation_of_an_add_may_fail() {
    for block in [MIB, 4 * MIB] {
        for bench in [tiny(block), tiny_without_reserve(block)] {
            let dimm = range(TINY_WINDOW, 48 * MIB);
            bench.plug(dimm);
            for placement in Placement::ALL {
                let failures = fail_each(&bench, dimm, placement);
                // Three tables of the linear map and one or more of the memmap.
                assert!(failures >= 4, "{placement}: only {failures} allocations");
            }
        }
    }
}

#[test]
fn any_allocation_of_a_real_add_may_fail() {
    for block in [128 * MIB, GIB] {
        let bench = real(256 * MIB, block, 64 * GIB);
        let dimm = range(REAL_WINDOW + 62 * GIB, 4 * GIB);
        bench.plug(dimm);
        for placement in Placement::ALL {
            assert!(fail_each(&bench, dimm, placement) >= 2);
        }
    }
}

#[test]
fn any_allocation_may_fail_while_other_ranges_share_the_tables() {
    let bench = tiny_without_reserve(MIB);
    let low = range(TINY_WINDOW, 8 * MIB);
    let high = range(TINY_WINDOW + 40 * MIB, 8 * MIB);
    let between = range(TINY_WINDOW + 8 * MIB, 32 * MIB);
    for dimm in [low, between, high] {
        bench.plug(dimm);
    }
    for others in Placement::ALL {
        bench.add(low, others);
        bench.add(high, others);
        bench.online(low);
        for placement in Placement::ALL {
            fail_each(&bench, between, placement);
        }
        bench.offline(low);
        bench.remove(low);
        bench.remove(high);
    }
}

#[test]
fn the_allocation_of_either_section_node_may_fail() {
    let bench = tiny_without_reserve(MIB);
    // From 512 MiB on and from 1 GiB on sections are in nodes of their own.
    let dimm = range(1008 * MIB, 32 * MIB);
    bench.plug(dimm);
    for placement in Placement::ALL {
        assert!(fail_each(&bench, dimm, placement) >= 2 + 2 + 2);
    }
}

/// Takes what boot memory has free and gives back single pages, no two of them neighbours.
fn fragment<S: Shape>(bench: &Bench<S>) -> Vec<Pfn> {
    let one = || bench.mm.take_pages(Order::ZERO).ok();
    let all: Vec<_> = std::iter::from_fn(one).collect();
    let (held, freed): (Vec<_>, Vec<_>) = all.into_iter().partition(|pfn| pfn.get() % 2 == 0);
    freed.into_iter().for_each(|pfn| assert_eq!(bench.mm.free_pages(pfn), Ok(())));
    let zone = bench.mm.zones().find(|zone| zone.kind == ZoneKind::System);
    assert!(zone.is_some_and(|zone| zone.extents[0] > 0 && zone.extents[1..] == [0; 19]));
    held
}

#[test]
fn any_allocation_of_a_boot_memmap_in_single_pages_may_fail() {
    for bench in [tiny(MIB), tiny_without_reserve(MIB)] {
        let dimm = range(TINY_WINDOW, 20 * MIB);
        bench.plug(dimm);
        let held = fragment(&bench);
        let failures = fail_each(&bench, dimm, Placement::Boot);
        // For each section the extent that is not there, then four pages; and the tables.
        assert!(failures >= 20 * 5, "only {failures} allocations");
        held.into_iter().for_each(|pfn| assert_eq!(bench.mm.free_pages(pfn), Ok(())));
    }
}

#[test]
fn a_boot_memmap_is_put_together_from_single_pages_of_real_memory() {
    let bench = real(64 * MIB, 128 * MIB, 64 * GIB);
    let held = fragment(&bench);
    let before = bench.snapshot();
    let dimm = range(REAL_WINDOW, 128 * MIB);
    bench.plug(dimm);
    let add = || bench.mm.hot_add(dimm, NodeId::default(), Placement::Boot);
    // Not each of its 512 pages: one of every 37 fails, and the last.
    let plan = bench.mm.machine().plan();
    for failing in (1..=512).step_by(37).chain([513]) {
        plan.arm(failing);
        let result = add();
        plan.disarm();
        bench.check();
        if result.is_ok() {
            bench.remove(dimm);
        }
        assert_same(&before, &bench.snapshot());
    }
    assert!(add().is_ok_and(|added| added.system_bytes == 2 * MIB));
    bench.check();
    bench.online(dimm);
    bench.offline(dimm);
    bench.remove(dimm);
    assert_same(&before, &bench.snapshot());
    held.into_iter().for_each(|pfn| assert_eq!(bench.mm.free_pages(pfn), Ok(())));
}

#[test]
fn memory_running_out_in_earnest_leaves_nothing_behind_either() {
    let bench = tiny_without_reserve(MIB);
    let dimm = range(TINY_WINDOW, 32 * MIB);
    bench.plug(dimm);
    let mut held = Vec::new();
    let mut outcomes = [0, 0];
    // With every page fewer in the system the add fails one step earlier.
    while let Ok(pfn) = bench.mm.take_pages(Order::ZERO) {
        held.push(pfn);
        if bench.mm.stats().pages.free > 160 {
            continue;
        }
        let before = bench.snapshot();
        let added = bench.mm.hot_add(dimm, NodeId::default(), Placement::Boot);
        bench.check();
        outcomes[usize::from(added.is_ok())] += 1;
        if added.is_ok() {
            bench.remove(dimm);
        }
        assert_same(&before, &bench.snapshot());
    }
    assert!(outcomes[0] > 128 && outcomes[1] > 0, "{outcomes:?}");
    held.into_iter().for_each(|pfn| assert_eq!(bench.mm.free_pages(pfn), Ok(())));
}

#[test]
fn online_offline_and_remove_allocate_nothing() {
    for placement in Placement::ALL {
        let bench = tiny_without_reserve(MIB);
        let dimm = range(TINY_WINDOW, 16 * MIB);
        bench.plug(dimm);
        bench.add(dimm, placement);
        let plan = bench.mm.machine().plan();
        plan.arm(1);
        bench.online(dimm);
        bench.offline(dimm);
        bench.remove(dimm);
        assert_eq!((plan.seen(), plan.fired()), (0, false), "{placement}");
    }
}
