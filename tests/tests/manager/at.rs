//! The acceptance tests AT1 to AT18: the concerns of the reviewers of the 2019 patch series.
//!
//! Their numbers are those of 4 KiB pages, 64-byte descriptors and 128 MiB sections, so the machine here has these
//! sizes, except where many orders of removal are tried. `scripts.rs` has more of them.

use hotmem::geometry::Geometry;
use hotmem::paging::Mapper;
use hotmem::testing::{Bench, FakeMachine, Random, Shape, Tiny, range};
use hotmem::{
    BlockState, Fact, Group, NodeId, Order, PageState, Pfn, PfnRange, PhysRange, Placement,
    RemoveError, ZoneKind,
};
use hotmem_tests::memory::{
    GIB, MIB, REAL_WINDOW, Real, TINY_WINDOW, assert_same, block_range, fail_each_allocation, real,
    shuffle, tiny, tiny_without_reserve,
};

const BLOCK: u64 = 128 * MIB;
const PAGE: u64 = 4096;
const DESCRIPTOR: u64 = 64;

/// The frames that back the descriptors of `dimm`, from the page tables.
fn memmap_frames<S: Shape>(bench: &Bench<S>, dimm: PhysRange) -> Vec<PhysRange> {
    let virt = bench.mm.memmap_virt(FakeMachine::<S>::pfns(dimm));
    let mut frames = Vec::new();
    bench.mm.tables().visit(virt, &mut |leaf| frames.push(range(leaf.phys.get(), leaf.len)));
    frames
}

fn managed_bytes<S: Shape>(bench: &Bench<S>, dimm: PhysRange) -> Vec<u64> {
    let blocks = bench.blocks(dimm);
    blocks.iter().map(|&id| bench.mm.block(id).map_or(0, |b| b.counts.managed * PAGE)).collect()
}

fn pfn(address: u64) -> Pfn {
    Pfn::new(address / PAGE)
}

/// A booted machine with a gigabyte added; its snapshot before and after.
fn gigabyte(placement: Placement) -> (Bench<Real>, PhysRange, Vec<Fact>) {
    let bench = real(256 * MIB, BLOCK, 64 * GIB);
    let before = bench.snapshot();
    let dimm = range(REAL_WINDOW, GIB);
    bench.plug(dimm);
    bench.add(dimm, placement);
    (bench, dimm, before)
}

/// Removes the range, and checks that it leaves no trace.
fn leave<S: Shape>(bench: &Bench<S>, dimm: PhysRange, before: &[Fact]) {
    bench.remove(dimm);
    assert_same(before, &bench.snapshot());
    bench.unplug(dimm);
}

#[test]
fn at03_eight_blocks_are_removed_in_hundreds_of_orders_without_a_leak() {
    let bench = tiny_without_reserve(MIB);
    let before = bench.snapshot();
    let dimm = range(TINY_WINDOW, 8 * MIB);
    bench.plug(dimm);
    let mut random = Random::new(3);
    for _ in 0..300 {
        let added = bench.add(dimm, Placement::PerBlock).system_bytes;
        let mut blocks = bench.blocks(dimm);
        shuffle(&mut blocks, &mut random);
        let pieces = blocks.iter().map(|&id| bench.remove(block_range(&bench, id)).system_bytes);
        assert_eq!(pieces.sum::<u64>(), added);
        assert_same(&before, &bench.snapshot());
    }
    bench.unplug(dimm);
}

#[test]
fn at04_the_first_section_of_8_gib_per_range_is_all_memmap_and_still_online() {
    let bench = real(256 * MIB, BLOCK, 64 * GIB);
    let before = bench.snapshot();
    let dimm = range(REAL_WINDOW, 8 * GIB);
    bench.plug(dimm);
    bench.add(dimm, Placement::PerRange);
    let head = pfn(REAL_WINDOW);
    let group = bench.mm.group(head).unwrap();
    assert_eq!((group.sections, group.pfns), (64, PfnRange::new(head, 32768)));

    bench.online(dimm);
    let first = bench.blocks(dimm)[0];
    let block = bench.mm.block(first).unwrap();
    assert_eq!(block.state, BlockState::Online(ZoneKind::Movable));
    assert_eq!(
        (block.counts.managed, block.counts.memmap, block.counts.present),
        (0, 32768, 32768)
    );
    let managed = managed_bytes(&bench, dimm);
    assert_eq!(managed[0], 0);
    assert!(managed[1..].iter().all(|&bytes| bytes == BLOCK), "{managed:?}");

    // Every other page is in use: the block that is all memmap can still go offline.
    let block_order = Order::fitting(BLOCK / PAGE);
    while bench.alloc_movable_zone(block_order).is_some() {}
    bench.mm.offline(first).unwrap();
    bench.check();
    bench.mm.online(first, ZoneKind::Movable).unwrap();
    for id in &bench.blocks(dimm)[1..] {
        bench.mm.free_pages(Pfn::new(id.get() * (BLOCK / PAGE))).unwrap();
    }
    bench.offline(dimm);
    leave(&bench, dimm, &before);
}

#[test]
fn at12_going_online_and_offline_keeps_the_marks_links_and_counts_of_the_memmap() {
    for placement in [Placement::PerRange, Placement::PerBlock] {
        let (bench, dimm, before) = gigabyte(placement);
        let groups = groups(&bench, dimm);
        let offline = bench.snapshot();
        let mut online = None;
        for _ in 0..5 {
            bench.online(dimm);
            check_marks(&bench, &groups);
            let now = bench.snapshot();
            assert_same(online.get_or_insert_with(|| now.clone()), &now);
            bench.offline(dimm);
            check_marks(&bench, &groups);
            assert_same(&offline, &bench.snapshot());
        }
        leave(&bench, dimm, &before);
    }
}

/// The memmaps of a range, each with the sections it describes.
fn groups<S: Shape>(bench: &Bench<S>, dimm: PhysRange) -> Vec<Group> {
    let heads = bench.blocks(dimm).into_iter().filter_map(|id| bench.mm.block(id)?.group);
    let mut heads: Vec<_> = heads.collect();
    heads.dedup();
    heads.into_iter().filter_map(|head| bench.mm.group(head)).collect()
}

/// The counts of each head are unchanged; each of its pages is memmap, and has it as head.
fn check_marks<S: Shape>(bench: &Bench<S>, groups: &[Group]) {
    assert!(!groups.is_empty());
    for group in groups {
        let head = group.pfns.start;
        assert_eq!(bench.mm.group(head).as_ref(), Some(group));
        for pfn in group.pfns.iter() {
            let info = bench.mm.page_info(pfn);
            assert_eq!(info.and_then(|info| info.head), Some(head));
            let counts = PageState::MemmapHead {
                sections: group.sections as u32,
                pages: group.pfns.pages(),
            };
            let tail = PageState::MemmapTail { head };
            let state = info.and_then(|info| info.state);
            assert_eq!(state, Some(if pfn == head { counts } else { tail }));
        }
    }
}

#[test]
fn at12_a_gigabyte_per_range_has_one_head_and_one_per_block_has_eight() {
    let (bench, dimm, before) = gigabyte(Placement::PerRange);
    let whole = groups(&bench, dimm);
    assert_eq!(whole.len(), 1);
    assert_eq!((whole[0].pfns, whole[0].sections), (PfnRange::new(pfn(REAL_WINDOW), 4096), 8));
    bench.online(dimm);
    let mut managed = vec![BLOCK; 8];
    managed[0] -= 16 * MIB;
    assert_eq!(managed_bytes(&bench, dimm), managed);
    bench.offline(dimm);
    leave(&bench, dimm, &before);

    let (bench, dimm, before) = gigabyte(Placement::PerBlock);
    let each = groups(&bench, dimm);
    assert_eq!(each.len(), 8);
    for (block, group) in (0..).zip(each) {
        let head = pfn(REAL_WINDOW + block * BLOCK);
        assert_eq!((group.pfns, group.sections), (PfnRange::new(head, 512), 1));
    }
    bench.online(dimm);
    assert_eq!(managed_bytes(&bench, dimm), [BLOCK - 2 * MIB; 8]);
    bench.offline(dimm);
    leave(&bench, dimm, &before);
}

#[test]
fn at12_blocks_of_1_and_2_gib_hold_one_head_each_for_8_and_16_sections() {
    for (block, sections, pages) in [(GIB, 8, 4096), (2 * GIB, 16, 8192)] {
        let bench = real(256 * MIB, block, 64 * GIB);
        let before = bench.snapshot();
        let dimm = range(REAL_WINDOW, 4 * GIB);
        bench.plug(dimm);
        bench.add(dimm, Placement::PerBlock);
        let each = groups(&bench, dimm);
        assert_eq!(each.len() as u64, 4 * GIB / block);
        assert!(each.iter().all(|group| (group.sections, group.pfns.pages()) == (sections, pages)));
        bench.online(dimm);
        assert!(managed_bytes(&bench, dimm).iter().all(|&bytes| bytes == block - pages * PAGE));
        bench.offline(dimm);
        leave(&bench, dimm, &before);
    }
}

#[test]
fn at12_three_blocks_share_their_memmap_as_the_patch_meant_it() {
    let bench = real(256 * MIB, BLOCK, 64 * GIB);
    let before = bench.snapshot();
    let dimm = range(REAL_WINDOW, 3 * BLOCK);
    bench.plug(dimm);
    let first = pfn(REAL_WINDOW);

    bench.add(dimm, Placement::PerRange);
    bench.online(dimm);
    let group = groups(&bench, dimm)[0];
    assert_eq!((group.pfns, group.sections), (PfnRange::new(first, 1536), 3));
    let free = bench.snapshot().into_iter().filter_map(|fact| match fact {
        Fact::Free(pfns) if pfns.start >= first => Some(pfns),
        _ => None,
    });
    // The patch prints pages 0-1533 and 1534-98304; it is 0-1535 and 1536-98303.
    let usable = PfnRange { start: first.add(1536), end: first.add(98304) };
    assert_eq!(free.collect::<Vec<_>>(), [usable]);
    bench.offline(dimm);
    leave(&bench, dimm, &before);
}

#[test]
fn at14_adding_memory_that_holds_its_own_memmap_takes_no_page_of_boot_memory() {
    for placement in [Placement::PerRange, Placement::PerBlock] {
        for size in [BLOCK, GIB, 8 * GIB, 32 * GIB] {
            let bench = real(256 * MIB, BLOCK, 64 * GIB);
            let before = bench.snapshot();
            let free = bench.mm.stats().pages.free;
            let dimm = range(REAL_WINDOW, size);
            bench.plug(dimm);
            assert_eq!(bench.add(dimm, placement).system_bytes, 0);
            assert_eq!(bench.mm.stats().pages.free, free);
            assert_eq!(bench.mm.stats().system_pages, 0);
            assert_eq!(bench.remove(dimm).system_bytes, 0);
            assert_same(&before, &bench.snapshot());
            bench.unplug(dimm);
        }
    }
}

#[test]
fn at14_a_boot_memmap_takes_64_bytes_a_page_and_gives_them_back() {
    let (bench, dimm, before) = gigabyte(Placement::Boot);
    let stats = bench.mm.stats();
    assert_eq!(stats.system_pages * PAGE, GIB / PAGE * DESCRIPTOR);
    assert!(memmap_frames(&bench, dimm).iter().all(|&frame| !dimm.overlaps(frame)));
    let added = bench.mm.remove(dimm).unwrap().system_bytes;
    assert_eq!(added, GIB / PAGE * DESCRIPTOR);
    assert_same(&before, &bench.snapshot());
    bench.check();
}

#[test]
fn at16_every_page_of_the_memmap_lies_in_the_memory_it_describes() {
    for placement in [Placement::PerRange, Placement::PerBlock] {
        let (bench, dimm, before) = gigabyte(placement);
        let frames = memmap_frames(&bench, dimm);
        assert_eq!(frames.iter().map(|frame| frame.len()).sum::<u64>(), 16 * MIB);
        assert!(frames.iter().all(|&frame| dimm.covers(frame)));
        if placement == Placement::PerBlock {
            for id in bench.blocks(dimm) {
                let block = block_range(&bench, id);
                assert!(memmap_frames(&bench, block).iter().all(|&frame| block.covers(frame)));
            }
        }
        leave(&bench, dimm, &before);
    }
}

#[test]
fn at16_the_memmap_of_a_node_is_on_that_node() {
    let bench = real(256 * MIB, BLOCK, 64 * GIB);
    let before = bench.snapshot();
    let dimm = range(REAL_WINDOW, GIB);
    bench.plug(dimm);
    let node = NodeId::new(5).unwrap();
    bench.mm.hot_add(dimm, node, Placement::PerRange).unwrap();
    bench.online(dimm);
    let zone = bench.mm.zones().find(|zone| zone.node == node).unwrap();
    assert_eq!((zone.counts.present, zone.counts.memmap), (GIB / PAGE, 4096));
    assert_eq!(bench.mm.page_info(pfn(REAL_WINDOW + PAGE)).unwrap().node, node);
    bench.offline(dimm);
    assert!(bench.mm.zones().all(|zone| zone.node != node));
    leave(&bench, dimm, &before);
}

#[test]
fn at17_two_device_ranges_go_offline_block_by_block_in_turns() {
    let bench = real(256 * MIB, BLOCK, 64 * GIB);
    let before = bench.snapshot();
    let low = range(REAL_WINDOW, GIB);
    let high = range(REAL_WINDOW + GIB, GIB);
    let both = range(REAL_WINDOW, 2 * GIB);
    bench.plug(low);
    bench.plug(high);
    for first in [low, high] {
        let second = if first == low { high } else { low };
        bench.add(low, Placement::PerRange);
        let one = bench.snapshot();
        bench.add(high, Placement::PerRange);
        bench.online(both);
        // Offline block by block, one of each range in turn; no part can be removed at any point.
        for (a, b) in bench.blocks(first).into_iter().zip(bench.blocks(second)) {
            for id in [a, b] {
                bench.offline(block_range(&bench, id));
                let refused = bench.mm.remove(block_range(&bench, id));
                assert!(matches!(refused, Err(RemoveError::SplitsGroup { .. })), "{refused:?}");
                bench.check();
            }
        }
        // A range that ends inside the other is refused, too.
        let across = range(REAL_WINDOW, GIB + BLOCK);
        assert!(matches!(bench.mm.remove(across), Err(RemoveError::SplitsGroup { .. })));
        bench.remove(first);
        assert_eq!(groups(&bench, second)[0].sections, 8);
        if second == low {
            assert_same(&one, &bench.snapshot());
        }
        bench.remove(second);
        assert_same(&before, &bench.snapshot());
    }
    // And both at once.
    bench.add(low, Placement::PerRange);
    bench.add(high, Placement::PerRange);
    bench.remove(both);
    assert_same(&before, &bench.snapshot());
    bench.unplug(both);
}

#[test]
fn at18_a_failure_in_any_section_of_an_add_leaves_nothing_behind() {
    for placement in Placement::ALL {
        let bench = tiny_without_reserve(MIB);
        let before = bench.snapshot();
        let dimm = range(TINY_WINDOW, 64 * MIB);
        bench.plug(dimm);
        let add = || bench.mm.hot_add(dimm, NodeId::default(), placement);
        let remove = |_| _ = bench.remove(dimm);
        let (_, failures) = fail_each_allocation(&bench, add, remove);
        // Tables of the linear map and of the memmap; for Boot also the memmap of each section.
        assert!(failures >= 16, "{placement}: {failures} allocations");
        leave(&bench, dimm, &before);
    }
}

#[test]
fn at18_memory_of_a_failed_add_can_be_unplugged() {
    let bench = tiny(MIB);
    let dimm = range(TINY_WINDOW, 32 * MIB);
    let before = bench.snapshot();
    bench.plug(dimm);
    bench.mm.machine().plan().arm(3);
    assert!(bench.mm.hot_add(dimm, NodeId::default(), Placement::PerRange).is_err());
    bench.mm.machine().plan().disarm();
    bench.unplug(dimm);
    assert_same(&before, &bench.snapshot());
    bench.check();
}

#[test]
fn at03_a_block_with_a_page_in_use_stays_while_its_neighbours_are_removed() {
    let bench: Bench<Tiny> = tiny(MIB);
    let before = bench.snapshot();
    let dimm = range(TINY_WINDOW, 4 * MIB);
    bench.plug(dimm);
    bench.add(dimm, Placement::PerBlock);
    bench.online(dimm);
    let held = bench.alloc_movable(Order::ZERO).unwrap();
    let home = bench.mm.page_info(held).unwrap().block;
    for id in bench.blocks(dimm).into_iter().filter(|&id| id != home) {
        bench.offline(block_range(&bench, id));
        bench.remove(block_range(&bench, id));
    }
    assert_eq!(bench.mm.remove(block_range(&bench, home)), Err(RemoveError::NotOffline(home)));
    bench.mm.free_pages(held).unwrap();
    bench.offline(block_range(&bench, home));
    bench.remove(block_range(&bench, home));
    assert_same(&before, &bench.snapshot());
    bench.unplug(dimm);
}
