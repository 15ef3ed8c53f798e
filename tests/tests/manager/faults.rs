//! The n-th allocation fails, for every n until a whole run meets no fault: invariant 7 holds after each.
//!
//! Just before an allocation fails the fake machine caches every translation, so an undo without a needed flush
//! leaves a stale entry, which the check after it finds.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use hotmem::testing::{Bench, Holder, Setup, Shape, Tiny, range};
use hotmem::{
    CompactError, ContigError, ConvertError, NodeId, OfflineError, Order, Pfn, PhysRange,
    Placement, PoisonError, ZoneKind,
};
use hotmem_tests::memory::{
    GIB, MIB, REAL_WINDOW, TINY_WINDOW, assert_same, fail_each_allocation, real, tiny,
    tiny_without_reserve,
};

/// Fails each allocation of adding `dimm`, then adds and removes it; returns how many failed.
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

/// Allocates all free boot memory and frees single pages, no two of them adjacent.
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
        // For each section the failed attempt to allocate one extent, then four pages; and the tables.
        assert!(failures >= 20 * 5, "only {failures} allocations");
        held.into_iter().for_each(|pfn| assert_eq!(bench.mm.free_pages(pfn), Ok(())));
    }
}

#[test]
fn a_boot_memmap_is_made_of_single_pages_of_real_memory() {
    let bench = real(64 * MIB, 128 * MIB, 64 * GIB);
    let held = fragment(&bench);
    let before = bench.snapshot();
    let dimm = range(REAL_WINDOW, 128 * MIB);
    bench.plug(dimm);
    let add = || bench.mm.hot_add(dimm, NodeId::default(), Placement::Boot);
    // Not each of its 512 pages: every 37th allocation fails, and the last.
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
fn an_add_that_runs_out_of_memory_leaves_nothing_behind() {
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

/// An operation that migrates pages in use, and whether it failed for lack of memory.
type Moves = fn(&Bench<Tiny>) -> Result<(), bool>;

const MOVES: [(&str, Moves); 5] = [
    ("offline", |bench| {
        let done = bench.mm.offline(bench.blocks(moved())[1]);
        done.map_err(|error| matches!(error, OfflineError::NoRoom { .. }))
    }),
    ("compact", |bench| {
        let order = Order::new(7).unwrap();
        let done = bench.mm.compact(NodeId::ZERO, ZoneKind::Movable, order);
        done.map(drop).map_err(|error| matches!(error, CompactError::NoRoom(_)))
    }),
    ("convert", |bench| {
        let done = bench.mm.convert(moved());
        done.map(drop).map_err(|error| matches!(error, ConvertError::NoRoom(..)))
    }),
    ("poison", |bench| {
        let pfn = Pfn::new((TINY_WINDOW + MIB) / 4096 + 1);
        let done = bench.mm.poison(pfn);
        done.map(drop).map_err(|error| matches!(error, PoisonError::NoRoom(..)))
    }),
    ("take_contig", |bench| {
        let done = bench.mm.take_contig(NodeId::ZERO, 8 * MIB);
        done.map(drop).map_err(|error| matches!(error, ContigError::NoRun(Some(_))))
    }),
];

fn moved() -> PhysRange {
    range(TINY_WINDOW, 4 * MIB)
}

/// Movable memory, some of it boot memory, with an extent of 16 pages in each 32.
fn half_full() -> (Bench<Tiny>, &'static Holder<Tiny>) {
    let ram = vec![(0, 16 * MIB, 0)];
    let window = (TINY_WINDOW, 64 * MIB);
    let bench = Bench::new(&Setup { ram, block: MIB, window, kernelcore: Some(8 * MIB) });
    bench.plug(moved());
    bench.add(moved(), Placement::PerRange);
    bench.online(moved());
    let holder = Holder::register(&bench);
    let order = Order::new(4).unwrap();
    let all: Vec<_> = std::iter::from_fn(|| holder.take_in_zone(&bench, order)).collect();
    for handle in all {
        if holder.at(handle).is_some_and(|(pfn, _)| pfn.get() % 32 != 0) {
            holder.release(&bench, handle);
        }
    }
    (bench, holder)
}

/// The facts that an operation that failed must not change; migrated pages stay where they are.
fn outline(bench: &Bench<Tiny>) -> impl PartialEq + std::fmt::Debug + use<> {
    let blocks = bench.mm.blocks();
    let blocks = blocks.map(|b| (b.id, b.state, b.placement, b.taken, b.poisoned));
    (blocks.collect::<Vec<_>>(), bench.mm.stats().pages)
}

#[test]
fn any_allocation_of_a_migration_may_fail_and_nothing_is_lost() {
    for (name, operation) in MOVES {
        for failing in 1.. {
            let (bench, holder) = half_full();
            let before = outline(&bench);
            let plan = bench.mm.machine().plan();
            plan.arm(failing);
            let done = operation(&bench);
            let fired = plan.fired();
            plan.disarm();
            bench.check();
            holder.check(&bench);
            if !fired {
                assert_eq!(done, Ok(()), "{name}");
                assert!(failing > 1, "{name} moves nothing");
                break;
            }
            assert_eq!(done, Err(true), "{name}, allocation {failing}");
            assert_eq!(outline(&bench), before, "{name}, allocation {failing}");
            assert_eq!(operation(&bench), Ok(()), "{name}, after allocation {failing} failed");
            bench.check();
            holder.check(&bench);
        }
    }
}

#[test]
fn memory_is_taken_and_released_without_an_allocation_if_nothing_is_migrated() {
    let ram = vec![(0, 16 * MIB, 0)];
    let setup = Setup { ram, block: MIB, window: (TINY_WINDOW, 0), kernelcore: Some(8 * MIB) };
    let bench = Bench::<Tiny>::new(&setup);
    let before = bench.snapshot();
    let plan = bench.mm.machine().plan();
    plan.arm(1);
    bench.mm.take_contig(NodeId::ZERO, 3 * MIB).unwrap();
    assert_eq!(bench.mm.release(), Ok(3));
    assert_eq!((plan.seen(), plan.fired()), (0, false));
    bench.check();
    assert_same(&before, &bench.snapshot());
}
