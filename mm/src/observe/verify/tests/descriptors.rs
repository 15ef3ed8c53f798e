//! Invariant 1: descriptors that are not mapped, or hold no state.

use super::*;
use crate::alloc::class::Class;

#[test]
fn a_section_left_leaving_is_named() {
    let bench = added(MIB, Placement::PerBlock);
    let word = section(&bench, 1).word().with_state(SectionState::Leaving);
    bench.mm.allocator().memmap.sections().set_word(bench.mm.machine(), DIMM / MIB + 1, word);
    names(&bench, 1, "no section is leaving between operations");
}

#[test]
fn a_record_with_garbage_for_its_block_is_named() {
    for placement in Placement::ALL {
        for garbage in [0, 5, 1 << 7, u64::MAX] {
            let bench = added(MIB, placement);
            let at = section(&bench, 1).word().record();
            let block = &bench.mm.allocator().memmap.alone().page(at).payload()[4];
            let word = block.swap(garbage, Ordering::Relaxed);
            names(&bench, 1, "a record holds a block's word");
            block.store(word, Ordering::Relaxed);
            bench.check();
        }
    }
}

#[test]
fn a_block_whose_word_lost_its_seal_is_named() {
    let bench = added(MIB, Placement::PerBlock);
    let at = section(&bench, 1).word().record();
    let block = &bench.mm.allocator().memmap.alone().page(at).payload()[4];
    let word = block.load(Ordering::Relaxed);
    // The seal, and each bit that says which granules may hold data: any word without the seal could be a block's.
    for bit in 16..64 {
        block.store(word ^ 1 << bit, Ordering::Relaxed);
        names(&bench, 1, "a record holds a block's word");
    }
    block.store(word, Ordering::Relaxed);
    bench.check();
}

#[test]
fn a_missing_memmap_leaf_is_named() {
    for placement in Placement::ALL {
        for page in 1..MEMMAP {
            let bench = added(MIB, placement);
            unmap(&bench, memmap_at(&bench, 2 * SECTION).add(page * PAGE), PAGE);
            names(&bench, 1, "mapped memmap of a section");
        }
    }
}

#[test]
fn a_page_that_is_not_a_head_where_an_extent_must_begin_is_named() {
    let what = "a page of an online block is in an extent";
    let bench = online(MIB, Placement::PerBlock);
    bench.mm.allocator().memmap.alone().page(pfn(64)).set_state(PageState::Tail);
    names(&bench, 1, what);

    // Garbage, as in an uninitialised descriptor.
    let bench = online(MIB, Placement::PerBlock);
    bench.mm.machine().mmu().store(memmap_at(&bench, 64), u64::MAX);
    names(&bench, 1, what);

    let bench = online(MIB, Placement::PerBlock);
    record(&bench, 0).heads().remove(part(64));
    names(&bench, 1, what);
}

#[test]
fn a_head_bit_without_a_head_is_named() {
    let bench = online(MIB, Placement::PerBlock);
    record(&bench, 0).heads().insert(part(80));
    names(&bench, 1, "a part's head bit");
}

#[test]
fn an_initialised_part_with_garbage_is_named() {
    let bench = online(MIB, Placement::PerBlock);
    record(&bench, 0).initialised().insert(part(80));
    names(&bench, 1, "an initialised part holds states");
}

#[test]
fn a_head_bit_inside_another_extent_is_named() {
    let bench = online(MIB, Placement::PerBlock);
    bench
        .mm
        .allocator()
        .memmap
        .alone()
        .page(pfn(80))
        .set_state(PageState::Free { order: order(4) });
    record(&bench, 0).heads().insert(part(80));
    names(&bench, 1, "extents of a part or more in a block");
}

#[test]
fn a_head_without_an_extent_is_named() {
    let bench = online(MIB, Placement::PerBlock);
    // Splits a subsection into a used page, a free one, and two that are free together.
    let page = bench.alloc_movable_zone(Order::ZERO).unwrap();
    bench.mm.drain_caches();
    let stray = PageState::Used { order: Order::ZERO, owner: Owner::Movable(bench.stubborn.id()) };
    let tail = Pfn::new(page.get() ^ 3);
    bench.mm.allocator().memmap.alone().page(tail).set_state(stray);
    names(&bench, 1, "heads in a block's initialised parts");
}

#[test]
fn an_offline_section_with_initialised_descriptors_is_named() {
    for placement in Placement::ALL {
        let bench = added(MIB, placement);
        record(&bench, 1).heads().insert(part(80));
        names(&bench, 1, "an offline section's bitmaps are empty");

        let bench = added(MIB, placement);
        record(&bench, 1).initialised().insert(part(80));
        names(&bench, 1, "an offline section's bitmaps are empty");
    }
}

#[test]
fn a_cached_page_in_no_cache_is_named_and_one_in_a_closed_range() {
    let cached = || {
        let bench = online(MIB, Placement::PerBlock);
        let page = bench.alloc_movable_zone(Order::ZERO).unwrap();
        bench.mm.free_pages(page).unwrap();
        bench.check();
        (bench, page)
    };
    let (bench, page) = cached();
    let allocator = bench.mm.allocator();
    let class = Class::of::<FakeMachine<Tiny>>(Order::ZERO).unwrap();
    let mut cache = allocator.caches.lock(0).unwrap();
    let lost = cache.list(ZoneKind::Movable, class).pop(*allocator.memmap.alone());
    assert_eq!(lost, Some(page));
    drop(cache);
    names(&bench, 4, "cached pages of a zone");

    let (bench, page) = cached();
    bench.mm.allocator().caches.closing.close(PfnRange::new(page, 1));
    names(&bench, 4, "a range that is being emptied has no cached page");
}
