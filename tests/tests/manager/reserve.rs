//! Adding memory needs no free memory: the reserve taken at boot suffices for its window, and system memory beyond
//! that.

use hotmem::paging::{MapError, Mapper};
use hotmem::testing::{Bench, Random, Setup, Shape, Tiny, range};
use hotmem::{AddError, NodeId, Order, Pfn, PhysAddr, PhysRange, Placement, ZoneKind};
use hotmem_tests::memory::{
    GIB, MIB, REAL_WINDOW, Sequence, TINY_WINDOW, assert_same, real, shuffle, tiny_without_reserve,
};

const BLOCK: u64 = 128 * MIB;
const PAGE: u64 = 4096;
const HOSTED: [Placement; 2] = [Placement::PerRange, Placement::PerBlock];

/// Page-table bytes in use.
fn table_bytes<S: Shape>(bench: &Bench<S>) -> u64 {
    let mut bytes = 0;
    bench.mm.tables().visit_tables(&mut |table| bytes += table.bytes);
    bytes
}

/// Allocates every page that the kernel can have; the buddy then has none for tables or memmaps.
fn exhaust<S: Shape>(bench: &Bench<S>) -> Vec<Pfn> {
    let one = || bench.mm.take_pages(Order::ZERO).ok();
    let held = std::iter::from_fn(one).collect();
    assert_eq!(bench.mm.stats().pages.free, 0);
    held
}

fn free_all<S: Shape>(bench: &Bench<S>, pages: Vec<Pfn>) {
    pages.into_iter().for_each(|pfn| assert_eq!(bench.mm.free_pages(pfn), Ok(())));
}

#[test]
fn a_gigabyte_is_added_used_and_removed_with_no_free_page_in_the_buddy() {
    for placement in HOSTED {
        let bench = real(64 * MIB, BLOCK, 64 * GIB);
        let booted = bench.snapshot();
        let held = exhaust(&bench);
        let before = bench.snapshot();
        let dimm = range(REAL_WINDOW, GIB);
        bench.plug(dimm);
        assert_eq!(bench.add(dimm, placement).system_bytes, 0);
        bench.online(dimm);
        let page = bench.alloc_movable(Order::ZERO);
        assert!(page.is_ok_and(|pfn| dimm.contains(PhysAddr::new(pfn.get() * PAGE))));
        page.into_iter().for_each(|pfn| assert_eq!(bench.mm.free_pages(pfn), Ok(())));
        bench.offline(dimm);
        assert_eq!(bench.remove(dimm).system_bytes, 0);
        assert_same(&before, &bench.snapshot());
        free_all(&bench, held);
        assert_same(&booted, &bench.snapshot());
        bench.unplug(dimm);
    }
}

#[test]
fn a_boot_memmap_without_a_free_page_is_a_clean_out_of_memory() {
    let bench = real(64 * MIB, BLOCK, 64 * GIB);
    let held = exhaust(&bench);
    let before = bench.snapshot();
    let dimm = range(REAL_WINDOW, GIB);
    bench.plug(dimm);
    let error = bench.mm.hot_add(dimm, NodeId::default(), Placement::Boot);
    assert!(matches!(error, Err(AddError::NoRoomForMemmap { .. })), "{error:?}");
    bench.check();
    assert_same(&before, &bench.snapshot());
    bench.unplug(dimm);
    free_all(&bench, held);
}

#[test]
fn sixteen_gib_are_added_to_64_mib_if_they_hold_their_own_memmap() {
    let bench = real(64 * MIB, BLOCK, 64 * GIB);
    let before = bench.snapshot();
    let dimm = range(REAL_WINDOW, 16 * GIB);
    bench.plug(dimm);
    for placement in HOSTED {
        assert_eq!(bench.add(dimm, placement).system_bytes, 0);
        bench.online(dimm);
        let memmap = 16 * GIB / PAGE * 64 / PAGE;
        let zone = bench.mm.zones().find(|zone| zone.kind == ZoneKind::Movable);
        assert_eq!(zone.map(|zone| zone.counts.memmap), Some(memmap));
        assert_eq!(zone.map(|zone| zone.counts.free), Some(16 * GIB / PAGE - memmap));
        bench.offline(dimm);
        bench.remove(dimm);
        assert_same(&before, &bench.snapshot());
    }
    let error = bench.mm.hot_add(dimm, NodeId::default(), Placement::Boot);
    assert!(matches!(error, Err(AddError::NoRoomForMemmap { .. })), "{error:?}");
    bench.check();
    assert_same(&before, &bench.snapshot());
    bench.unplug(dimm);
}

#[test]
fn tables_stay_within_4_kib_per_gib_and_4_kib_per_64_gib() {
    for block in [BLOCK, GIB, 2 * GIB] {
        for placement in Placement::ALL {
            for (offset, size) in [(0, 2 * GIB), (30 * GIB, 4 * GIB), (60 * GIB, 8 * GIB)] {
                let bench = real(512 * MIB, block, 128 * GIB);
                let before = table_bytes(&bench);
                let dimm = range(REAL_WINDOW + offset, size);
                bench.plug(dimm);
                bench.add(dimm, placement);
                let touched = |span: u64| {
                    let first = dimm.start().get() / span;
                    (dimm.end().get() - 1) / span - first + 1
                };
                // The linear map, then the memmap. The upper levels exist already for boot memory.
                let budget = 4096 * (touched(GIB) + touched(64 * GIB));
                let used = table_bytes(&bench) - before;
                assert!(used <= budget, "{dimm} on {block:#x}: {used:#x} of {budget:#x}");
                bench.remove(dimm);
                assert_eq!(table_bytes(&bench), before);
                bench.unplug(dimm);
            }
        }
    }
}

#[test]
fn the_whole_window_is_added_with_tables_of_the_reserve_alone() {
    for block in [BLOCK, GIB] {
        let bench = real(256 * MIB, block, 64 * GIB);
        let reserved = bench.mm.stats().reserve * PAGE;
        assert!(reserved > 0 && reserved <= 256 * MIB / 64, "{reserved:#x}");
        let before = bench.snapshot();
        let window = range(REAL_WINDOW, 64 * GIB);
        bench.plug(window);
        for placement in HOSTED {
            assert_eq!(bench.add(window, placement).system_bytes, 0);
            assert_eq!(bench.remove(window).system_bytes, 0);
            assert_same(&before, &bench.snapshot());
        }
        bench.unplug(window);
    }
}

#[test]
fn the_reserve_never_takes_more_than_its_share_of_boot_memory() {
    for ram in [64 * MIB, 128 * MIB, GIB] {
        for window in [0, GIB, 64 * GIB, 1 << 40, 1 << 45] {
            let stats = real(ram, BLOCK, window).mm.stats();
            assert!(stats.reserve * PAGE <= ram / 64, "{:#x}", stats.reserve);
            assert_eq!(stats.reserve, stats.reserve_free);
            assert_eq!(stats.reserve == 0, window == 0);
        }
    }
}

/// Tables of a small machine that share a page; the header takes the room of one table.
const TABLES_A_PAGE: u64 = PAGE / 128 - 1;

/// Firmware describes a window of 24 MiB, and only its tables are reserved.
fn tiny_with_little_reserve() -> Bench<Tiny> {
    let ram = vec![(0, 16 * MIB, 0)];
    let window = (TINY_WINDOW, 24 * MIB);
    Bench::new(&Setup { ram, block: MIB, window, kernelcore: None })
}

/// DIMMs far larger than that.
fn many_dimms() -> Vec<PhysRange> {
    (0..14).map(|i| range(TINY_WINDOW + i * 36 * MIB, 12 * MIB)).collect()
}

#[test]
fn system_memory_taken_past_the_reserve_is_freed_in_every_order() {
    for placement in Placement::ALL {
        for sequence in Sequence::ALL {
            let bench = tiny_with_little_reserve();
            let before = bench.snapshot();
            let mut taken = 0;
            for dimm in many_dimms() {
                bench.plug(dimm);
                taken += bench.add(dimm, placement).system_bytes;
            }
            assert!(taken > 0, "the reserve was enough after all");
            assert_eq!(bench.mm.stats().reserve_free, 0);
            assert_eq!(bench.mm.stats().system_pages * PAGE, taken);
            let given = |dimm| bench.remove(dimm).system_bytes;
            assert_eq!(sequence.arrange(many_dimms()).into_iter().map(given).sum::<u64>(), taken);
            assert_same(&before, &bench.snapshot());
        }
    }
}

#[test]
fn adds_and_removes_in_turns_sum_to_zero_and_return_the_reserve() {
    for seed in 0..20 {
        let bench = tiny_with_little_reserve();
        let before = bench.snapshot();
        let dimms = many_dimms();
        dimms.iter().for_each(|&dimm| bench.plug(dimm));
        let mut random = Random::new(seed);
        let mut there = [false; 14];
        let mut balance = 0_i64;
        for _ in 0..60 {
            let nth = random.below(14) as usize;
            if there[nth] {
                balance -= bench.remove(dimms[nth]).system_bytes as i64;
            } else {
                let placement = *random.pick(&Placement::ALL);
                balance += bench.add(dimms[nth], placement).system_bytes as i64;
            }
            there[nth] = !there[nth];
            assert_eq!(bench.mm.stats().system_pages as i64 * PAGE as i64, balance, "seed {seed}");
        }
        let mut last: Vec<_> = (0..14).filter(|&nth| there[nth]).collect();
        shuffle(&mut last, &mut random);
        for nth in last {
            balance -= bench.remove(dimms[nth]).system_bytes as i64;
        }
        assert_eq!(balance, 0, "seed {seed}");
        assert_same(&before, &bench.snapshot());
    }
}

#[test]
fn without_a_window_system_bytes_count_every_table_that_is_allocated_and_freed() {
    for placement in HOSTED {
        let bench = tiny_without_reserve(MIB);
        let before = bench.snapshot();
        let tables = table_bytes(&bench);
        let dimm = range(TINY_WINDOW, 64 * MIB);
        bench.plug(dimm);
        let taken = bench.add(dimm, placement).system_bytes;
        // A small machine's tables have 128 bytes. Its node exists already.
        let tables = (table_bytes(&bench) - tables) / 128;
        assert_eq!(taken, tables.div_ceil(TABLES_A_PAGE) * PAGE);
        assert_eq!(bench.remove(dimm).system_bytes, taken);
        assert_same(&before, &bench.snapshot());
    }
}

#[test]
fn a_node_of_the_section_map_is_part_of_system_bytes() {
    let bench = tiny_without_reserve(MIB);
    // Sections from 512 MiB on are in the map's second node, which was not needed before.
    let (low, high) = (range(496 * MIB, 16 * MIB), range(512 * MIB, 16 * MIB));
    bench.plug(low);
    bench.plug(high);
    let before = table_bytes(&bench);
    let without = bench.add(low, Placement::PerBlock).system_bytes;
    let tables = (table_bytes(&bench) - before) / 128;
    assert_eq!(without, tables.div_ceil(TABLES_A_PAGE) * PAGE);
    let with = bench.add(high, Placement::PerBlock).system_bytes;
    let tables = (table_bytes(&bench) - before) / 128;
    assert_eq!(with, (tables.div_ceil(TABLES_A_PAGE) + 1) * PAGE - without);
    assert_eq!(bench.remove(high).system_bytes, with);
    assert_eq!(bench.remove(low).system_bytes, without);
}

#[test]
fn tables_never_come_from_added_memory() {
    let bench = tiny_without_reserve(MIB);
    let (normal, next) = (range(TINY_WINDOW, 16 * MIB), range(TINY_WINDOW + 32 * MIB, 128 * MIB));
    bench.plug(normal);
    bench.plug(next);
    bench.add(normal, Placement::PerBlock);
    // The system's own memory is used up; the added memory is free, and must not be used for tables.
    let held: Vec<_> = std::iter::from_fn(|| bench.mm.take_pages(Order::ZERO).ok()).collect();
    for id in bench.blocks(normal) {
        assert!(bench.mm.online(id, ZoneKind::Normal).is_ok());
    }
    assert!(held.iter().all(|pfn| pfn.get() < 16 * MIB / PAGE));
    let added = bench.snapshot();
    for placement in Placement::ALL {
        let error = bench.mm.hot_add(next, NodeId::default(), placement);
        // Without pages for tables, or earlier, without pages for the memmap.
        assert!(
            matches!(
                error,
                Err(AddError::Map(MapError::OutOfFrames(_)) | AddError::NoRoomForMemmap { .. })
            ),
            "{error:?}"
        );
        bench.check();
        assert_same(&added, &bench.snapshot());
    }
    bench.offline(normal);
    bench.remove(normal);
}
