//! Every path that removes a translation flushes it: with one flush less, one of these tests fails.
//!
//! ```text
//!   map ... MMU caches all of it ... operation unmaps -> flush -> nothing stale -> memory is free
//! ```
//!
//! [`PATHS`] lists each path with the steps before the operation. The MMU then caches every translation, the
//! operation runs, and no stale entry may remain. With flushes switched off the detector must trip on every path:
//! otherwise it would miss a flush there.
#![expect(clippy::panic, reason = "a suite fails by a panic")]

use std::panic::{AssertUnwindSafe, catch_unwind};

use hotmem::testing::{Bench, Tiny, range};
use hotmem::{NodeId, Order, PhysRange, Placement};
use hotmem_tests::memory::{
    GIB, MIB, REAL_WINDOW, TINY_WINDOW, assert_same, real, tiny_without_reserve,
};

/// A path through an operation that removes translations.
struct Path {
    name: &'static str,
    /// Memory that is plugged, in MiB.
    size: u64,
    /// The steps before the operation.
    before: fn(&Bench<Tiny>, PhysRange),
    /// The operation.
    operation: fn(&Bench<Tiny>, PhysRange),
}

const PATHS: [Path; 10] = [
    Path { name: "remove a device range", size: 4, before: add_range, operation: remove },
    Path { name: "remove memblock ranges", size: 4, before: add_blocks, operation: remove },
    Path { name: "remove one block of many", size: 8, before: add_blocks, operation: remove_last },
    Path { name: "remove a boot memmap", size: 4, before: add_boot, operation: remove },
    Path {
        name: "remove a boot memmap of single pages",
        size: 20,
        before: add_pages,
        operation: remove,
    },
    Path {
        name: "remove more tables than a gather holds",
        size: 192,
        before: add_blocks,
        operation: remove,
    },
    Path { name: "undo a linear map cut short", size: 32, before: nothing, operation: fail_linear },
    Path {
        name: "undo a linear map alone",
        size: 16,
        before: nothing,
        operation: fail_first_memmap,
    },
    Path { name: "undo some memmaps", size: 16, before: nothing, operation: fail_later_memmap },
    Path {
        name: "undo some boot memmaps",
        size: 16,
        before: fragment,
        operation: fail_boot_memmap,
    },
];

fn nothing(_: &Bench<Tiny>, _: PhysRange) {}

fn add_range(bench: &Bench<Tiny>, dimm: PhysRange) {
    bench.add(dimm, Placement::PerRange);
}

fn add_blocks(bench: &Bench<Tiny>, dimm: PhysRange) {
    bench.add(dimm, Placement::PerBlock);
}

fn add_boot(bench: &Bench<Tiny>, dimm: PhysRange) {
    bench.add(dimm, Placement::Boot);
}

/// Leaves boot memory without two adjacent free pages.
fn fragment(bench: &Bench<Tiny>, _: PhysRange) {
    let one = || bench.mm.take_pages(Order::ZERO).ok();
    let all: Vec<_> = std::iter::from_fn(one).collect();
    for pfn in all.into_iter().filter(|pfn| pfn.get() % 2 == 0) {
        assert_eq!(bench.mm.free_pages(pfn), Ok(()));
    }
}

fn add_pages(bench: &Bench<Tiny>, dimm: PhysRange) {
    fragment(bench, dimm);
    bench.add(dimm, Placement::Boot);
}

fn remove(bench: &Bench<Tiny>, dimm: PhysRange) {
    assert!(bench.mm.remove(dimm).is_ok());
}

fn remove_last(bench: &Bench<Tiny>, dimm: PhysRange) {
    remove(bench, range(dimm.end().get() - MIB, MIB));
}

/// Adds with the `nth` allocation failing.
fn fail(bench: &Bench<Tiny>, dimm: PhysRange, placement: Placement, nth: u64) {
    let plan = bench.mm.machine().plan();
    plan.arm(nth);
    let result = bench.mm.hot_add(dimm, NodeId::default(), placement);
    plan.disarm();
    assert!(result.is_err(), "allocation {nth} was not needed");
}

/// The second table of the linear map fails: the leaves in the first are unmapped again.
fn fail_linear(bench: &Bench<Tiny>, dimm: PhysRange) {
    fail(bench, dimm, Placement::PerRange, 2);
}

/// The linear map needs one table; then the memmap's first fails, and none is mapped.
fn fail_first_memmap(bench: &Bench<Tiny>, dimm: PhysRange) {
    fail(bench, dimm, Placement::PerBlock, 2);
}

/// One table of the linear map, two of the memmap for the first four blocks, none for the fifth's.
fn fail_later_memmap(bench: &Bench<Tiny>, dimm: PhysRange) {
    fail(bench, dimm, Placement::PerBlock, 4);
}

/// Among single pages: the third page of the second section's memmap fails, after a table of the linear map, two of
/// the memmap, and for each section an attempt to allocate one extent.
fn fail_boot_memmap(bench: &Bench<Tiny>, dimm: PhysRange) {
    fail(bench, dimm, Placement::Boot, 12);
}

fn path(name: &str) -> &'static Path {
    PATHS.iter().find(|path| path.name == name).unwrap_or_else(|| panic!("no path {name}"))
}

/// The CPUs of the machine, each with caches of its own.
const CPUS: usize = 3;

/// Runs a path, and fails if a stale entry remains on any CPU, or any fact has changed.
fn walk(name: &str) {
    let path = path(name);
    let bench = tiny_without_reserve(MIB);
    bench.mm.machine().mmu().start_cpus(CPUS);
    let dimm = range(TINY_WINDOW, path.size * MIB);
    bench.plug(dimm);
    let booted = bench.snapshot();
    (path.before)(&bench, dimm);
    let before = bench.snapshot();
    bench.mm.machine().mmu().speculate();
    (path.operation)(&bench, dimm);
    bench.check();

    if name.starts_with("undo") {
        assert_same(&before, &bench.snapshot());
    } else {
        if bench.mm.blocks().any(|block| !block.boot) {
            bench.remove(range(dimm.start().get(), dimm.len() - MIB));
        }
        // All memory of the system is free again, including each table that was detached.
        assert_eq!(bench.mm.stats().system_pages, 0);
        if !name.ends_with("of single pages") {
            assert_same(&booted, &bench.snapshot());
        }
    }
    bench.unplug(dimm);
    // Other memory is plugged at the place of the unplugged memory.
    bench.plug(dimm);
    bench.add(dimm, Placement::PerRange);
    bench.online(dimm);
    assert!(bench.alloc_movable_zone(Order::ZERO).is_some());
    bench.check();
}

#[test]
fn removing_a_device_range_flushes_its_memmap_and_its_linear_map() {
    walk("remove a device range");
}

#[test]
fn removing_memblock_ranges_flushes_their_memmaps_and_their_linear_map() {
    walk("remove memblock ranges");
    walk("remove one block of many");
}

#[test]
fn removing_a_boot_memmap_flushes_it_before_its_pages_are_free() {
    walk("remove a boot memmap");
    walk("remove a boot memmap of single pages");
}

#[test]
fn removing_more_than_a_gather_holds_flushes_all_of_it() {
    walk("remove more tables than a gather holds");
}

#[test]
fn a_mapping_that_fails_half_way_flushes_what_it_mapped() {
    walk("undo a linear map cut short");
}

#[test]
fn an_add_that_fails_before_its_memmap_flushes_the_linear_map() {
    walk("undo a linear map alone");
}

#[test]
fn an_add_that_fails_among_its_memmaps_flushes_those_it_mapped() {
    walk("undo some memmaps");
}

#[test]
fn an_add_that_fails_among_its_boot_memmaps_flushes_those_it_mapped() {
    walk("undo some boot memmaps");
}

#[test]
fn without_flushes_the_detector_trips_on_every_path() {
    trips_on_every_path(|bench| bench.mm.machine().mmu().skip_flushes(true));
}

#[test]
fn with_flushes_that_miss_one_cpu_the_detector_trips_on_every_path() {
    for cpu in 0..CPUS {
        trips_on_every_path(|bench| bench.mm.machine().mmu().miss(Some(cpu)));
    }
}

fn trips_on_every_path(breaks: impl Fn(&Bench<Tiny>)) {
    for path in &PATHS {
        let bench = tiny_without_reserve(MIB);
        bench.mm.machine().mmu().start_cpus(CPUS);
        let dimm = range(TINY_WINDOW, path.size * MIB);
        bench.plug(dimm);
        (path.before)(&bench, dimm);
        bench.mm.machine().mmu().speculate();
        breaks(&bench);
        let seen = catch_unwind(AssertUnwindSafe(|| {
            (path.operation)(&bench, dimm);
            bench.mm.machine().mmu().assert_coherent();
        }));
        let why = seen.err().and_then(|why| why.downcast::<String>().ok());
        let why = why.unwrap_or_else(|| panic!("{}: no check failed", path.name));
        assert!(
            why.contains("stale") || why.contains("freed before flush"),
            "{}: {why}",
            path.name
        );
    }
}

#[test]
fn the_operations_flush_a_range_at_a_time_and_not_page_by_page() {
    let bench = real(256 * MIB, 128 * MIB, 64 * GIB);
    let dimm = range(REAL_WINDOW, 4 * GIB);
    bench.plug(dimm);
    for placement in [Placement::PerRange, Placement::PerBlock] {
        let before = bench.mm.machine().mmu().flushes();
        assert!(bench.mm.hot_add(dimm, NodeId::default(), placement).is_ok());
        assert_eq!(bench.mm.machine().mmu().flushes(), before, "an add drops nothing");
        bench.remove(dimm);
        let flushes = bench.mm.machine().mmu().flushes() - before;
        assert_eq!(flushes, 1, "{placement}: a round for all ranges");
    }
}
