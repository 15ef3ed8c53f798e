//! Pages of 16 KiB: the memmap of a section is 32 pages of a subsection's 128, so that allocatable pages share
//! subsections with pages that never are, in boot memory and in added memory.

use hotmem::geometry::Geometry;
use hotmem::testing::{Bench, FakeMachine, Granule16, Setup, range};
use hotmem::{
    BlockState, FreeError, Group, Order, Owner, PageState, Pfn, PfnRange, PhysRange, Placement,
    ZoneKind,
};
use hotmem_tests::memory::{GIB, KIB, MIB, Sequence, assert_same, block_range};

type Machine = FakeMachine<Granule16>;

const PAGE: u64 = 16 * KIB;
/// Bytes of a section, and pages of its memmap.
const SECTION: u64 = 128 * MIB;
const MEMMAP: u64 = 32;
/// Pages of a subsection of a section.
const PART: u64 = 128;
/// The address where DIMMs are plugged.
const WINDOW: u64 = GIB;

fn booted(ram: u64, block: u64, window: u64) -> Bench<Granule16> {
    let ram = vec![(0, ram, 0)];
    Bench::new(&Setup { ram, block, window: (WINDOW, window), kernelcore: None })
}

/// Allocates pages from `next` until it returns none.
fn take_all(next: impl FnMut() -> Option<Pfn>) -> Vec<Pfn> {
    let mut pages: Vec<_> = std::iter::from_fn(next).collect();
    let taken = pages.len();
    pages.sort();
    pages.dedup();
    assert_eq!(pages.len(), taken, "a page was allocated twice");
    pages
}

#[track_caller]
fn free_all(bench: &Bench<Granule16>, pages: Vec<Pfn>) {
    pages.into_iter().for_each(|pfn| assert_eq!(bench.mm.free_pages(pfn), Ok(()), "{pfn}"));
    bench.check();
}

/// The memmaps that lie in the blocks of `range`.
fn groups(bench: &Bench<Granule16>, range: PhysRange) -> Vec<Group> {
    let blocks = bench.blocks(range).into_iter().filter_map(|id| bench.mm.block(id));
    let mut heads: Vec<_> = blocks.filter_map(|block| block.group).collect();
    heads.dedup();
    heads.into_iter().filter_map(|head| bench.mm.group(head)).collect()
}

#[test]
fn boot_memory_of_any_size_is_described_and_counted_to_the_page() {
    for mib in [128, 129, 200, 256, 257, 300, 385] {
        for window in [SECTION, 4 * GIB] {
            let ram = mib * MIB;
            let bench = booted(ram, SECTION, window);
            let expected: Vec<_> = (0..ram.div_ceil(SECTION))
                .map(|id| (id, true, (ram - id * SECTION).min(SECTION) / PAGE))
                .collect();
            let blocks = bench.mm.blocks();
            let found: Vec<_> = blocks.map(|b| (b.id.get(), b.boot, b.counts.present)).collect();
            assert_eq!(found, expected, "{mib} MiB");
            assert_eq!(bench.mm.stats().pages.present, ram / PAGE);
        }
    }
}

#[test]
fn boot_memory_of_any_size_is_allocated_once_and_can_be_freed() {
    for mib in [128, 129, 200, 257, 300, 385] {
        let bench = booted(mib * MIB, SECTION, 4 * GIB);
        let before = bench.snapshot();
        let free = bench.mm.stats().pages.free;
        // Page by page: this initialises each subsection that memmap and free pages share.
        let pages = take_all(|| bench.mm.take_pages(Order::ZERO).ok());
        assert_eq!(pages.len() as u64, free, "{mib} MiB");
        assert!(pages.iter().all(|pfn| pfn.get() < mib * MIB / PAGE));
        bench.check();
        free_all(&bench, pages);
        assert_same(&before, &bench.snapshot());
    }
}

/// Online: every usable page is allocated, and no memmap page is.
fn use_every_page(bench: &Bench<Granule16>, dimm: PhysRange) {
    let blocks: Vec<_> = bench.blocks(dimm).iter().filter_map(|&id| bench.mm.block(id)).collect();
    let managed: u64 = blocks.iter().map(|block| block.counts.managed).sum();
    for block in &blocks {
        assert_eq!(block.state, BlockState::Online(ZoneKind::Movable));
        assert_eq!(block.counts.present, block.counts.managed + block.counts.memmap);
        assert_eq!(block.counts.free, block.counts.managed);
    }
    let groups = groups(bench, dimm);
    let memmap: u64 = groups.iter().map(|group| group.pfns.pages()).sum();
    assert_eq!(managed + memmap, dimm.len() / PAGE);

    let pages = take_all(|| bench.alloc_movable_zone(Order::ZERO));
    assert_eq!(pages.len() as u64, managed);
    for &pfn in &pages {
        assert!(dimm.contains(Machine::address(pfn)), "{pfn} is elsewhere");
        assert!(!groups.iter().any(|group| group.pfns.contains(pfn)), "{pfn} is memmap");
    }
    bench.check();
    free_all(bench, pages);
}

fn live(bench: &Bench<Granule16>, dimm: PhysRange, placement: Placement, sequence: Sequence) {
    let before = bench.snapshot();
    bench.plug(dimm);
    let system = bench.add(dimm, placement).system_bytes;
    let memmap = dimm.len() / SECTION * MEMMAP * PAGE;
    assert_eq!(system >= memmap, placement == Placement::Boot, "{system:#x} bytes taken");
    let added = bench.snapshot();
    for _ in 0..2 {
        bench.online(dimm);
        use_every_page(bench, dimm);
        bench.offline(dimm);
        assert_same(&added, &bench.snapshot());
    }
    let apart = || bench.blocks(dimm).into_iter().map(|id| block_range(bench, id)).collect();
    let pieces = if placement == Placement::PerRange { vec![dimm] } else { apart() };
    let pieces = sequence.arrange(pieces).into_iter();
    let given: u64 = pieces.map(|piece| bench.remove(piece).system_bytes).sum();
    assert_eq!(given, system);
    bench.unplug(dimm);
    assert_same(&before, &bench.snapshot());
}

#[test]
fn blocks_of_16_kib_pages_are_used_and_removed_in_every_order() {
    // With memmaps of 32, 64, 96 and 128 pages: a subsection of 128 is shared, or filled to the last page.
    for (block, len) in [(SECTION, 3 * SECTION), (2 * SECTION, 4 * SECTION)] {
        let bench = booted(257 * MIB, block, 4 * GIB);
        for placement in Placement::ALL {
            for sequence in Sequence::ALL {
                live(&bench, range(WINDOW, len), placement, sequence);
            }
        }
    }
}

/// Writes `state`, and an empty payload, where the descriptors of the first subsection of each block of `dimm` will
/// be; the DIMM is added and removed for that, and keeps its contents.
fn leave_behind(bench: &Bench<Granule16>, dimm: PhysRange, state: PageState) {
    bench.add(dimm, Placement::Boot);
    for id in bench.blocks(dimm) {
        let linear = bench.mm.linear_virt(block_range(bench, id)).start();
        for nth in 0..PART {
            let descriptor = linear.add(nth * 64);
            bench.mm.machine().mmu().store(descriptor, state.encode());
            for word in 1..8 {
                bench.mm.machine().mmu().store(descriptor.add(word * 8), 0);
            }
        }
    }
    bench.remove(dimm);
}

/// Each page of a memmap is marked as memmap, and cannot be freed.
fn check_memmap(bench: &Bench<Granule16>, memmap: PfnRange) {
    let head = memmap.start;
    for pfn in memmap.iter() {
        let state = bench.mm.page_info(pfn).and_then(|info| info.state);
        let tail = state == Some(PageState::MemmapTail { head });
        let is_head =
            matches!(state, Some(PageState::MemmapHead { pages, .. }) if pages == memmap.pages());
        assert!(if pfn == head { is_head } else { tail }, "{pfn}: {state:?}");
        assert_eq!(bench.mm.free_pages(pfn), Err(FreeError::NotAllocated(pfn)));
        assert_eq!(bench.mm.set_private(pfn, 1), Err(FreeError::NotAllocated(pfn)));
    }
}

#[test]
fn stale_descriptors_of_memmap_pages_are_never_used() {
    let bench = booted(128 * MIB, SECTION, 4 * GIB);
    let large = Order::new(5).unwrap_or_default();
    let stale = [Order::ZERO, large].into_iter().flat_map(|order| {
        let used = [Owner::Movable(bench.stubborn.id()), Owner::Memmap]
            .map(|owner| PageState::Used { order, owner });
        [PageState::Free { order }].into_iter().chain(used)
    });
    // The memmap of the whole range ends 32 pages, one extent, before its subsection does: the buddy of the usable
    // part is memmap.
    let dimm = range(WINDOW, 3 * SECTION);
    bench.plug(dimm);
    let before = bench.snapshot();
    for state in
        stale.chain([PageState::Hole, PageState::MemmapHead { sections: 1, pages: MEMMAP }])
    {
        for placement in [Placement::PerRange, Placement::PerBlock] {
            leave_behind(&bench, dimm, state);
            bench.add(dimm, placement);
            bench.online(dimm);
            let memmaps: Vec<_> = groups(&bench, dimm).iter().map(|group| group.pfns).collect();
            memmaps.iter().for_each(|&memmap| check_memmap(&bench, memmap));

            // Extents that are split off next to the memmap, and merge again, never merge with it.
            let extents: Vec<_> = [large, Order::ZERO, large]
                .iter()
                .filter_map(|&o| bench.alloc_movable_zone(o))
                .collect();
            assert_eq!(extents.len(), 3);
            free_all(&bench, extents);
            use_every_page(&bench, dimm);
            memmaps.iter().for_each(|&memmap| check_memmap(&bench, memmap));
            bench.offline(dimm);
            bench.remove(dimm);
            assert_same(&before, &bench.snapshot());
        }
    }
    bench.unplug(dimm);
}
