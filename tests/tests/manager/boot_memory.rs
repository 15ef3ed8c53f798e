//! Boot memory: blocks that are only partly RAM are counted to the page.

use hotmem::testing::{Bench, FakeMachine, Setup, Shape, Tiny, TinyShared, range};
use hotmem::{
    BlockId, BlockSize, BootError, BootMemory, FreeError, NodeId, OfflineError, Order, Owner,
    PageState, Pfn, PhysAddr, Placement, RemoveError,
};
use hotmem_tests::memory::{MIB, TINY_WINDOW, assert_same};

const PAGE: u64 = 4096;

/// A PC's memory: a hole below 1 MiB, and an unaligned end.
fn pc<S: Shape>(block: u64) -> Bench<S> {
    let ram = vec![(0, 0x9_f000, 0), (MIB, 31 * MIB + 0x3000, 0)];
    Bench::new(&Setup { ram, block, window: (TINY_WINDOW, 64 * MIB), kernelcore: None })
}

/// Pages that each block of `block` bytes has of the RAM in `ram`.
fn expected(ram: &[(u64, u64)], block: u64) -> Vec<(u64, u64)> {
    let last = ram.iter().map(|(start, len)| start + len).max().unwrap_or(0);
    let pages_in = |low: u64| {
        let in_range = |&(start, len): &(u64, u64)| {
            (start + len).min(low + block).saturating_sub(start.max(low)) / PAGE
        };
        ram.iter().map(in_range).sum::<u64>()
    };
    let all = (0..last.div_ceil(block)).map(|id| (id, pages_in(id * block)));
    all.filter(|&(_, pages)| pages > 0).collect()
}

#[track_caller]
fn check_counts<S: Shape>(bench: &Bench<S>, ram: &[(u64, u64)], block: u64) {
    let expected = expected(ram, block);
    let found: Vec<_> =
        bench.mm.blocks().map(|block| (block.id.get(), block.counts.present)).collect();
    assert_eq!(found, expected);
    let all = bench.mm.blocks().map(|block| block.counts.managed).sum::<u64>();
    assert_eq!(all, ram.iter().map(|(_, len)| len / PAGE).sum::<u64>());
    assert_eq!(bench.mm.stats().pages.present, all);
    bench.check();
}

#[test]
fn holes_and_ends_of_boot_memory_are_counted_to_the_page() {
    for block in [MIB, 2 * MIB, 4 * MIB, 16 * MIB, 64 * MIB] {
        let ram = [(0, 0x9_f000), (MIB, 31 * MIB + 0x3000)];
        check_counts(&pc::<Tiny>(block), &ram, block);
        check_counts(&pc::<TinyShared>(block), &ram, block);
    }
}

#[test]
fn ram_in_many_pieces_on_odd_pages_is_counted_to_the_page() {
    let ram = [
        (0x1000, 0x8_e000),
        (MIB, 8 * MIB),
        (9 * MIB + 0x7000, 0x1000),
        (9 * MIB + 0x9000, 0x2000),
        (20 * MIB + 0xf_f000, 0x1000),
        (21 * MIB + 0x1000, 0x3_0000),
        (40 * MIB, 4 * MIB),
    ];
    for block in [MIB, 4 * MIB, 16 * MIB] {
        let setup = Setup {
            ram: ram.iter().map(|&(start, len)| (start, len, 0)).collect(),
            block,
            window: (TINY_WINDOW, 64 * MIB),
            kernelcore: None,
        };
        check_counts(&Bench::<Tiny>::new(&setup), &ram, block);
        check_counts(&Bench::<TinyShared>::new(&setup), &ram, block);
    }
}

#[test]
fn a_hole_has_a_descriptor_and_a_subsection_without_ram_has_none() {
    let bench = pc::<Tiny>(4 * MIB);
    let state = |pfn| bench.mm.page_info(Pfn::new(pfn)).and_then(|info| info.state);
    // 0x9f000 shares its subsection (four pages) with RAM; 0xa0000 does not.
    assert_eq!(state(0x9f), Some(PageState::Hole));
    assert_eq!(state(0xa0), None);
    assert_eq!(state(0xff), None);
    assert!(state(0x9e).is_some() && state(0x100).is_some());
    assert_eq!(state(0x2003), Some(PageState::Hole));
    for pfn in [0x9f, 0xa0].map(Pfn::new) {
        assert_eq!(bench.mm.free_pages(pfn), Err(FreeError::NotAllocated(pfn)));
    }
}

#[test]
fn a_partial_block_is_never_taken_offline_or_removed() {
    stays::<Tiny>();
    stays::<TinyShared>();
}

fn stays<S: Shape>() {
    let bench = pc::<S>(4 * MIB);
    let before = bench.snapshot();
    for raw in [0, 8] {
        let id = BlockId::new(raw);
        assert_eq!(bench.mm.offline(id), Err(OfflineError::SystemMemory(id)));
        let bytes = range(raw * 4 * MIB, 4 * MIB);
        assert_eq!(bench.mm.remove(bytes), Err(RemoveError::BootMemory(id)));
        assert!(bench.mm.hot_add(bytes, NodeId::default(), Placement::PerBlock).is_err());
    }
    bench.check();
    assert_same(&before, &bench.snapshot());
}

#[test]
fn no_page_outside_the_ram_is_ever_allocated() {
    only_ram_is_allocated::<Tiny>();
    only_ram_is_allocated::<TinyShared>();
}

fn only_ram_is_allocated<S: Shape>() {
    let bench = pc::<S>(4 * MIB);
    let before = bench.snapshot();
    let mut held = Vec::new();
    while let Ok(pfn) = bench.mm.take_pages(Order::ZERO) {
        let at = pfn.get() * PAGE;
        assert!(at < 0x9_f000 || (MIB..32 * MIB + 0x3000).contains(&at), "{pfn}");
        assert!(bench.mm.machine().mmu().ram().is_plugged(PhysAddr::new(at)));
        held.push(pfn);
    }
    held.sort();
    held.dedup();
    assert_eq!(held.len() as u64, bench.mm.stats().pages.managed - boot_pages(&bench));
    bench.check();
    held.iter().for_each(|&pfn| assert_eq!(bench.mm.free_pages(pfn), Ok(())));
    bench.check();
    assert_same(&before, &bench.snapshot());
}

/// Pages that boot keeps: those that were never free.
fn boot_pages<S: Shape>(bench: &Bench<S>) -> u64 {
    let mut pages = 0;
    let mut pfn = 0;
    while pfn < 36 * MIB / PAGE {
        let info = bench.mm.page_info(Pfn::new(pfn));
        let used = match info.and_then(|info| info.state) {
            Some(PageState::Used { order, owner: Owner::Boot }) => order.pages(),
            _ => 0,
        };
        pages += used;
        pfn += used.max(1);
    }
    pages
}

#[test]
fn memory_on_two_nodes_is_counted_apart() {
    nodes_are_counted_apart::<Tiny>();
    nodes_are_counted_apart::<TinyShared>();
}

fn nodes_are_counted_apart<S: Shape>() {
    let ram = vec![(0, 8 * MIB, 0), (8 * MIB, 24 * MIB, 3)];
    let bench: Bench<S> = Bench::new(&Setup {
        ram,
        block: 2 * MIB,
        window: (TINY_WINDOW, 64 * MIB),
        kernelcore: None,
    });
    let zones: Vec<_> =
        bench.mm.zones().map(|zone| (zone.node.get(), zone.counts.present * PAGE)).collect();
    assert_eq!(zones, [(0, 8 * MIB), (3, 24 * MIB)]);
}

/// A record holds sections of eight times 64 KiB: holes, ends and nodes inside one record.
#[test]
fn sections_that_share_a_record_are_counted_separately() {
    let kib = 1024;
    let ram = [(0, 8 * MIB), (8 * MIB + 128 * kib, 64 * kib), (8 * MIB + 320 * kib, 100 * kib)];
    for nodes in [[0, 0, 0], [0, 1, 2]] {
        let with_nodes = ram.iter().zip(nodes).map(|(&(start, len), node)| (start, len, node));
        let (ram_on, window) = (with_nodes.collect(), (TINY_WINDOW, 64 * MIB));
        let setup = Setup { ram: ram_on, block: MIB, window, kernelcore: Some(4 * MIB) };
        let bench = Bench::<TinyShared>::new(&setup);
        check_counts(&bench, &ram, MIB);
        for (at, there) in [(0, false), (128, true), (192, false), (320, true), (416, true)] {
            let pfn = Pfn::new((8 * MIB + at * kib) / PAGE);
            let state = bench.mm.page_info(pfn).and_then(|info| info.state);
            let ram = !matches!(state, None | Some(PageState::Hole));
            assert_eq!(ram, there, "{at} KiB: {state:?}");
        }
    }
}

#[test]
fn ram_without_an_aligned_run_for_the_memmap_of_a_section_is_refused_by_name() {
    // A section's memmap is four aligned pages: in some runs of seven pages only three are on one side of the
    // boundary.
    for (run, fits) in [(7, true), (3, false)] {
        let ram: Vec<_> = (0..100).map(|n| range((n * 8 + 1) * PAGE, run * PAGE)).collect();
        let tables = range(16 * MIB, 4 * PAGE);
        let (machine, mut early) =
            FakeMachine::<Tiny>::start(&[&[tables], &ram[..]].concat(), PAGE);
        let bench = Bench::over(machine);
        let ram: Vec<_> = ram.iter().map(|&range| (range, NodeId::ZERO)).collect();
        let block_size = BlockSize::new::<FakeMachine<Tiny>>(MIB).unwrap();
        let memory = BootMemory { ram: &ram, block_size, window: &[], kernelcore: None };
        let booted = bench.mm.start(&memory, &mut early);
        assert_eq!(
            booted,
            if fits { Ok(()) } else { Err(BootError::OutOfMemory) },
            "runs of {run}"
        );
    }
}
