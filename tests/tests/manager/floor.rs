//! System memory is reserved for data that must not be elsewhere: tables, section nodes, memmaps, the kernel.

use hotmem::testing::range;
use hotmem::{Order, Owner, Placement, SYSTEM_FLOOR_SHARE, ZoneKind};
use hotmem_tests::memory::{MIB, TINY_WINDOW, assert_same, tiny, tiny_without_reserve};

#[test]
fn movable_allocations_leave_the_memory_that_an_add_past_the_reserve_needs() {
    let bench = tiny_without_reserve(MIB);
    let before = bench.snapshot();
    let held: Vec<_> = std::iter::from_fn(|| bench.alloc_movable(Order::ZERO).ok()).collect();
    let left = bench.mm.stats().pages;
    assert_eq!(left.free, left.managed / SYSTEM_FLOOR_SHARE);

    let dimm = range(TINY_WINDOW, 8 * MIB);
    bench.plug(dimm);
    for placement in Placement::ALL {
        bench.add(dimm, placement);
        bench.online(dimm);
        bench.offline(dimm);
        bench.remove(dimm);
    }
    // The kernel can allocate the rest, to the last page.
    let kernels: Vec<_> = std::iter::from_fn(|| bench.mm.take_pages(Order::ZERO).ok()).collect();
    assert_eq!(kernels.len() as u64, left.free);
    held.into_iter().chain(kernels).for_each(|pfn| bench.mm.free_pages(pfn).unwrap());
    assert_same(&before, &bench.snapshot());
}

#[test]
fn no_movable_extent_of_any_order_reaches_into_the_floor() {
    for order in (0..=8).filter_map(Order::new) {
        let bench = tiny(MIB);
        while bench.alloc_movable(order).is_ok() {}
        let left = bench.mm.stats().pages;
        assert!(left.free >= left.managed / SYSTEM_FLOOR_SHARE, "{order}: {left:?}");
        bench.check();
    }
}

#[test]
fn kernel_allocations_use_added_memory_before_system_memory() {
    let bench = tiny_without_reserve(MIB);
    let (first, next) = (range(TINY_WINDOW, 16 * MIB), range(TINY_WINDOW + 16 * MIB, 16 * MIB));
    bench.plug(first);
    bench.plug(next);
    bench.add(first, Placement::PerBlock);
    for id in bench.blocks(first) {
        bench.mm.online(id, ZoneKind::Normal).unwrap();
    }
    let normal = bench.mm.zones().find(|zone| zone.kind == ZoneKind::Normal).unwrap().counts.free;
    for _ in 0..normal {
        let pfn = bench.mm.take_pages(Order::ZERO).unwrap();
        assert!(pfn.get() >= TINY_WINDOW / 4096, "{pfn} while added memory is free");
    }
    // Only now is system memory used; it has room for the memmap and the tables of the next range.
    bench.add(next, Placement::Boot);
    assert!(bench.mm.take_pages(Order::ZERO).unwrap().get() < 16 * MIB / 4096);
    bench.check();
}

#[test]
fn each_owner_has_its_own_order_of_zones() {
    let (normal, system) = (ZoneKind::Normal, ZoneKind::System);
    assert_eq!(ZoneKind::for_owner(Owner::Kernel), [normal, system]);
    for owner in [Owner::Table, Owner::Memmap] {
        assert_eq!(ZoneKind::for_owner(owner), [system]);
    }
}
