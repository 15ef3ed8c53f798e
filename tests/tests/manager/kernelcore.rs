//! Boot memory past `kernelcore`: whole blocks that can go offline and online, and are never removed.

use hotmem::testing::{Bench, Setup, Tiny, range};
use hotmem::{
    BlockState, NodeId, OfflineError, Order, Owner, PageState, Placement, RemoveError, ZoneKind,
};
use hotmem_tests::memory::{MIB, TINY_WINDOW, assert_same, block_range};

fn bench(ram: &[(u64, u64, u32)], block: u64, kernelcore: u64) -> Bench<Tiny> {
    let window = (TINY_WINDOW, 64 * MIB);
    Bench::new(&Setup { ram: ram.to_vec(), block, window, kernelcore: Some(kernelcore) })
}

/// The numbers of the blocks that are movable, with their nodes.
fn movable(bench: &Bench<Tiny>) -> Vec<(u64, u32)> {
    let blocks = bench.mm.blocks();
    let blocks = blocks.filter(|block| block.state == BlockState::Online(ZoneKind::Movable));
    blocks.map(|block| (block.id.get(), block.node.get())).collect()
}

const FLAT: [(u64, u64, u32); 1] = [(0, 16 * MIB, 0)];

#[test]
fn blocks_past_the_size_are_movable_and_those_below_are_not() {
    // The allocations of boot are in the lowest block, for any size.
    for (kernelcore, first) in
        [(0, 1), (1, 1), (MIB, 1), (MIB + 1, 2), (9 * MIB, 9), (15 * MIB, 15)]
    {
        let bench = bench(&FLAT, MIB, kernelcore);
        let expected: Vec<_> = (first..16).map(|raw| (raw, 0)).collect();
        assert_eq!(movable(&bench), expected, "kernelcore {kernelcore:#x}");
    }
    for kernelcore in [16 * MIB, 17 * MIB, u64::MAX] {
        assert_eq!(movable(&bench(&FLAT, MIB, kernelcore)), [], "kernelcore {kernelcore:#x}");
    }
    assert_eq!(movable(&bench(&FLAT, 4 * MIB, 5 * MIB)), [(2, 0), (3, 0)]);
}

#[test]
fn only_blocks_that_are_entirely_ram_of_one_node_are_movable() {
    let ram = [
        (0, 0x9_f000, 0),
        (MIB, 7 * MIB, 0),
        // A hole in block 9, and block 12 on two nodes.
        (8 * MIB, MIB + 0x4_0000, 1),
        (9 * MIB + 0x8_0000, 3 * MIB, 1),
        (12 * MIB + 0x8_0000, 2 * MIB, 2),
    ];
    let bench = bench(&ram, MIB, 4 * MIB);
    let found = movable(&bench);
    assert!(found.iter().all(|(raw, _)| ![0, 9, 12, 14].contains(raw)), "{found:?}");
    for wanted in [(6, 0), (7, 0), (8, 1), (10, 1), (11, 1), (13, 2)] {
        assert!(found.contains(&wanted), "{wanted:?} is not in {found:?}");
    }
}

#[test]
fn no_unmovable_page_is_in_a_movable_block() {
    let bench = bench(&FLAT, MIB, 6 * MIB);
    let dimm = range(TINY_WINDOW, 8 * MIB);
    bench.plug(dimm);
    // The tables and the memmap of added memory, and all that the kernel can allocate.
    bench.add(dimm, Placement::Boot);
    while bench.mm.take_pages(Order::ZERO).is_ok() {}
    for block in bench.mm.blocks().filter(|block| block.id.get() < 16) {
        let pages = block.pfns.iter().filter_map(|pfn| bench.mm.page_info(pfn)?.state);
        let stays = pages.filter(|state| {
            matches!(state, PageState::Used { owner, .. } if !matches!(owner, Owner::Movable(_)))
        });
        if block.state == BlockState::Online(ZoneKind::Movable) {
            assert_eq!(stays.count(), 0, "{}", block.id);
        }
    }
    bench.check();
    for (raw, _) in movable(&bench) {
        bench.mm.offline(hotmem::BlockId::new(raw)).unwrap();
    }
    bench.check();
}

#[test]
fn a_movable_boot_block_goes_offline_and_online_in_either_zone_and_is_never_removed() {
    let bench = bench(&[(0, 8 * MIB, 0), (8 * MIB, 8 * MIB, 3)], 2 * MIB, 4 * MIB);
    let before = bench.snapshot();
    for (raw, node) in movable(&bench) {
        let id = hotmem::BlockId::new(raw);
        let bytes = block_range(&bench, id);
        let refuse = |bench: &Bench<Tiny>| {
            assert_eq!(bench.mm.remove(bytes), Err(RemoveError::BootMemory(id)));
            assert!(bench.mm.hot_add(bytes, NodeId::ZERO, Placement::PerBlock).is_err());
        };
        for kind in [ZoneKind::Normal, ZoneKind::Movable] {
            refuse(&bench);
            bench.mm.offline(id).unwrap();
            bench.check();
            refuse(&bench);
            let block = bench.mm.online(id, kind).unwrap();
            assert_eq!((block.state, block.node.get()), (BlockState::Online(kind), node));
            bench.check();
        }
    }
    assert_same(&before, &bench.snapshot());
    let system = hotmem::BlockId::new(0);
    assert_eq!(bench.mm.offline(system).unwrap_err(), OfflineError::SystemMemory(system));
}
