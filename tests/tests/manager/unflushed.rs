//! A CPU does not acknowledge a flush: the operation names it, memory that it may still reach is never allocated,
//! and everything else is unchanged.

// UNSAFETY: maps memory of its own a second time.
#![expect(unsafe_code)]

use hotmem::paging::{MapError, Mapping, NotFlushed, UnmapError};
use hotmem::testing::{Bench, Shape, Tiny, TinyShared, range};
use hotmem::{
    AddError, BlockId, ContigError, ConvertError, Fact, NodeId, Order, OwnMapError, Owner,
    PageState, Pfn, PhysRange, Placement, RemoveError, TakeError, TakeList, VirtAddr, VirtRange,
};
use hotmem_tests::memory::{MIB, TINY_WINDOW, assert_same, small, tiny, tiny_without_reserve};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};

/// The CPU, of three, that does not acknowledge.
const SILENT: NotFlushed = NotFlushed { cpu: 2 };

fn start<S: Shape>(bench: Bench<S>) -> Bench<S> {
    bench.mm.machine().mmu().start_cpus(3);
    bench
}

fn silence<S: Shape>(bench: &Bench<S>) {
    bench.mm.machine().mmu().speculate();
    bench.mm.machine().mmu().silence(Some(SILENT.cpu));
}

/// The CPU acknowledges again. Stranded pages are counted page by page, and are never allocated.
fn wake<S: Shape>(bench: &Bench<S>) {
    bench.mm.machine().mmu().silence(None);
    bench.check();
    let stranded: BTreeSet<_> =
        (0..16 * MIB / 4096).map(Pfn::new).filter(|&pfn| is_stranded(bench, pfn)).collect();
    assert_eq!(bench.mm.stats().stranded, stranded.len() as u64);
    let all: Vec<_> = std::iter::from_fn(|| bench.mm.take_pages(Order::ZERO).ok()).collect();
    assert!(all.iter().all(|pfn| !stranded.contains(pfn)), "a stranded page was allocated");
    all.into_iter().for_each(|pfn| assert_eq!(bench.mm.free_pages(pfn), Ok(())));
    bench.check();
}

fn is_stranded<S: Shape>(bench: &Bench<S>, pfn: Pfn) -> bool {
    let head = bench.mm.page_info(pfn).and_then(|info| info.head);
    let state = head.and_then(|head| bench.mm.page_info(head)?.state);
    matches!(state, Some(PageState::Used { owner: Owner::Stranded, .. }))
}

/// The facts that a stranded page does not change.
fn facts<S: Shape>(bench: &Bench<S>) -> Vec<Fact> {
    let frames = |fact: &Fact| match fact {
        Fact::Free(_) | Fact::Frames(..) => false,
        Fact::Zone(..) | Fact::Block(_) => bench.mm.stats().stranded == 0,
        _ => true,
    };
    bench.snapshot().into_iter().filter(frames).collect()
}

/// Checks that the DIMM is as before the remove that failed: it can be used, and then removed.
fn goes_after_all<S: Shape>(bench: &Bench<S>, dimm: PhysRange) {
    wake(bench);
    bench.online(dimm);
    assert!(
        bench.alloc_movable_zone(Order::ZERO).is_some_and(|pfn| bench.mm.free_pages(pfn).is_ok())
    );
    bench.offline(dimm);
    bench.remove(dimm);
    bench.unplug(dimm);
    bench.check();
}

fn fails_to_remove<S: Shape>(bench: &Bench<S>, dimm: PhysRange) {
    let word = |fact: &Fact| {
        matches!(fact, Fact::Section(..) | Fact::Group(_) | Fact::Mapping { .. } | Fact::Tables(..))
    };
    let state = || -> Vec<_> { bench.snapshot().into_iter().filter(word).collect() };
    let before = state();
    silence(bench);
    for _ in 0..2 {
        assert_eq!(bench.mm.remove(dimm), Err(RemoveError::Unmap(UnmapError::NotFlushed(SILENT))));
        assert_eq!(bench.mm.verify(), Ok(()));
        assert_same(&before, &state());
    }
    assert!(bench.mm.stats().stranded > 0);
    goes_after_all(bench, dimm);
}

#[test]
fn a_remove_without_an_acknowledgement_leaves_the_range_mapped_in_every_placement() {
    let dimm = range(TINY_WINDOW, 8 * MIB);
    for placement in Placement::ALL {
        // One after the other: a stack has no room for many.
        for make in [tiny, tiny_without_reserve] {
            let bench = start(make(MIB));
            bench.plug(dimm);
            bench.add(dimm, placement);
            fails_to_remove(&bench, dimm);
        }
        let bench = start(small::<TinyShared>(MIB));
        bench.plug(dimm);
        bench.add(dimm, placement);
        fails_to_remove(&bench, dimm);
    }
}

#[test]
fn groups_that_were_added_apart_are_mapped_again_each_by_its_own_memmap() {
    let bench = start(tiny(MIB));
    let dimm = range(TINY_WINDOW, 8 * MIB);
    bench.plug(dimm);
    bench.add(range(TINY_WINDOW, 4 * MIB), Placement::PerRange);
    bench.add(range(TINY_WINDOW + 4 * MIB, MIB), Placement::PerBlock);
    bench.add(range(TINY_WINDOW + 5 * MIB, 3 * MIB), Placement::PerRange);
    fails_to_remove(&bench, dimm);
}

#[test]
fn a_boot_memmap_of_single_pages_is_mapped_again_page_by_page() {
    let bench = start(tiny_without_reserve(MIB));
    let all: Vec<_> = std::iter::from_fn(|| bench.mm.take_pages(Order::ZERO).ok()).collect();
    let (even, odd): (Vec<_>, Vec<_>) = all.into_iter().partition(|pfn| pfn.get() % 2 == 0);
    even.into_iter().for_each(|pfn| bench.mm.free_pages(pfn).unwrap());
    let dimm = range(TINY_WINDOW, 8 * MIB);
    bench.plug(dimm);
    bench.add(dimm, Placement::Boot);
    fails_to_remove(&bench, dimm);
    odd.into_iter().for_each(|pfn| bench.mm.free_pages(pfn).unwrap());
}

#[test]
fn the_undo_of_an_add_without_an_acknowledgement_names_the_cpu_and_strands_the_tables() {
    let dimm = range(TINY_WINDOW, 32 * MIB);
    for placement in Placement::ALL {
        let bench = start(tiny_without_reserve(MIB));
        bench.plug(dimm);
        let plan = bench.mm.machine().plan();
        let mut unanswered = 0;
        for failing in 1.. {
            silence(&bench);
            plan.arm(failing);
            let added = bench.mm.hot_add(dimm, NodeId::ZERO, placement);
            plan.disarm();
            assert_eq!(bench.mm.verify(), Ok(()));
            match added {
                Ok(_) => break,
                Err(AddError::Map(MapError::NotFlushed(cpu))) => {
                    assert_eq!(cpu, SILENT);
                    unanswered += 1;
                }
                // No page was mapped yet.
                Err(error) => assert!(bench.mm.stats().stranded == 0, "{placement}: {error}"),
            }
            assert!(bench.mm.blocks().all(|block| block.boot));
            wake(&bench);
        }
        assert!(unanswered > 0, "{placement}");
        goes_after_all(&bench, dimm);
    }
}

#[test]
fn memory_is_taken_only_if_every_cpu_dropped_its_translations() {
    let bench: Bench<Tiny> = start(Bench::new(&hotmem::testing::Setup {
        ram: vec![(0, 16 * MIB, 0)],
        block: MIB,
        window: (TINY_WINDOW, 8 * MIB),
        kernelcore: Some(8 * MIB),
    }));
    let list = TakeList::parse("0:14-15").unwrap();
    let (first, error) = (BlockId::new(14), UnmapError::NotFlushed(SILENT));
    [14, 15].iter().for_each(|&id| bench.mm.offline(BlockId::new(id)).unwrap());
    let before = bench.snapshot();
    silence(&bench);
    assert_eq!(bench.mm.take(list.pieces()), Err(TakeError::Unmap(first, error)));
    let run = bench.mm.take_contig(NodeId::ZERO, 2 * MIB);
    assert_eq!(run, Err(ContigError::Unmap(BlockId::new(8), error)));
    assert_same(&before, &bench.snapshot());
    wake(&bench);
    assert_eq!(bench.mm.stats().stranded, 0);
    assert_eq!(bench.mm.take(list.pieces()), Ok(2));
    assert_eq!(bench.mm.release(), Ok(2));
    bench.check();
}

/// Flushes until the CPU stops acknowledging.
static UNTIL: AtomicU64 = AtomicU64::new(0);

#[test]
fn a_conversion_without_an_acknowledgement_stops_between_two_blocks() {
    let dimm = range(TINY_WINDOW, 4 * MIB);
    for until in 0..3 {
        let bench: &'static Bench<Tiny> = Box::leak(Box::new(start(tiny(MIB))));
        let mmu = bench.mm.machine().mmu();
        bench.plug(dimm);
        bench.add(dimm, Placement::PerRange);
        bench.online(dimm);
        UNTIL.store(until, Ordering::Relaxed);
        mmu.on_flush(move || {
            if UNTIL.fetch_sub(1, Ordering::Relaxed) == 0 {
                bench.mm.machine().mmu().silence(Some(SILENT.cpu));
            }
        });
        mmu.speculate();
        let before = facts(bench);
        let id = BlockId::new(TINY_WINDOW / MIB + 3 - until);
        let refused = ConvertError::Unmap(id, UnmapError::NotFlushed(SILENT));
        assert_eq!(bench.mm.convert(dimm), Err(refused));
        if until == 0 {
            assert_same(&before, &facts(bench));
        }
        wake(bench);
        UNTIL.store(u64::MAX, Ordering::Relaxed);
        let rest = range(TINY_WINDOW, (4 - until) * MIB);
        assert_eq!(bench.mm.convert(rest), Ok(4 - until));
        bench.offline(dimm);
        bench.blocks(dimm).into_iter().for_each(|id| _ = bench.remove(range(id.get() * MIB, MIB)));
        bench.unplug(dimm);
    }
}

#[test]
fn pages_that_the_kernel_unmaps_itself_are_reported_as_still_reachable() {
    let bench = start(tiny(MIB));
    let pfn = bench.mm.take_pages(Order::ZERO).unwrap();
    let virt = VirtAddr::new(0xf000_0000);
    let attr = hotmem::paging::Attr::WRITE;
    let (phys, len) = (hotmem::PhysAddr::new(pfn.get() * 4096), 4096);
    let mapping = Mapping { virt, phys, len, attr, max_leaf: len };
    // SAFETY: no other code uses the page, nor the address.
    unsafe { bench.mm.map_own(&mapping) }.unwrap();
    silence(&bench);
    // SAFETY: the mapping is not in use.
    let unmapped = unsafe { bench.mm.unmap_own(VirtRange::new(virt, len).unwrap()) };
    assert_eq!(unmapped, Err(OwnMapError::Unmap(UnmapError::NotFlushed(SILENT))));
    assert_eq!(bench.mm.walk(virt).leaf, None);
    wake(&bench);
    bench.mm.free_pages(pfn).unwrap();
    bench.check();
}
