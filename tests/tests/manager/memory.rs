//! The allocator on added memory: each page is allocated once, merges again, and is freed by its owner only; and
//! descriptors are not initialised until they are needed.
#![expect(clippy::panic, reason = "a suite fails by a panic")]

use std::collections::BTreeMap;

use hotmem::geometry::Geometry;
use hotmem::paging::Mapper;
use hotmem::testing::{Bench, FakeMachine, Random, Shape, Tiny, range};
use hotmem::{
    FreeError, Order, OutOfMemory, Owner, PageState, Pfn, PhysAddr, PhysRange, Placement, ZoneKind,
};
use hotmem_tests::memory::{
    GIB, MIB, REAL_WINDOW, Real, TINY_WINDOW, assert_same, real, shuffle, tiny,
};

const PAGE: u64 = 4096;
const DESCRIPTOR: u64 = 64;

fn order(raw: u8) -> Order {
    Order::new(raw).unwrap_or_else(|| panic!("no order {raw}"))
}

/// Adds a DIMM and brings it online.
fn online<S: Shape>(bench: &Bench<S>, dimm: PhysRange, placement: Placement) {
    bench.plug(dimm);
    bench.add(dimm, placement);
    bench.online(dimm);
}

/// Takes it offline and removes it.
fn leave<S: Shape>(bench: &Bench<S>, dimm: PhysRange) {
    bench.offline(dimm);
    bench.remove(dimm);
    bench.unplug(dimm);
}

/// Allocates every page of the movable zones, one by one.
fn take_all<S: Shape>(bench: &Bench<S>) -> Vec<Pfn> {
    std::iter::from_fn(|| bench.alloc_movable_zone(Order::ZERO)).collect()
}

#[track_caller]
fn free<S: Shape>(bench: &Bench<S>, pfn: Pfn) {
    assert_eq!(bench.mm.free_pages(pfn), Ok(()), "{pfn}");
}

/// Allocates every page of `dimm`, frees them in random order, and checks each.
fn every_page_once<S: Shape>(bench: &Bench<S>, dimm: PhysRange, placement: Placement) {
    let before = bench.snapshot();
    online(bench, dimm, placement);
    let onlined = bench.snapshot();
    let usable: u64 = bench.blocks(dimm).iter().map(|&id| managed(bench, id)).sum();

    let mut pages = take_all(bench);
    assert_eq!(pages.len() as u64, usable);
    for &pfn in &pages {
        assert!(dimm.contains(FakeMachine::<S>::address(pfn)), "{pfn} is elsewhere");
        let info = bench.mm.page_info(pfn);
        let used =
            PageState::Used { order: Order::ZERO, owner: Owner::Movable(bench.stubborn.id()) };
        assert_eq!(info.and_then(|info| info.state), Some(used));
        let group = bench.mm.block(info.map_or(bench.blocks(dimm)[0], |info| info.block));
        let memmap = group.and_then(|block| bench.mm.group(block.group?));
        assert!(memmap.is_none_or(|memmap| !memmap.pfns.contains(pfn)), "{pfn} is memmap");
    }
    bench.check();

    shuffle(&mut pages, &mut Random::new(11));
    pages.iter().for_each(|&pfn| free(bench, pfn));
    pages.sort();
    pages.dedup();
    assert_eq!(pages.len() as u64, usable, "a page was allocated twice");
    bench.check();
    assert_same(&onlined, &bench.snapshot());
    leave(bench, dimm);
    assert_same(&before, &bench.snapshot());
}

fn managed<S: Shape>(bench: &Bench<S>, id: hotmem::BlockId) -> u64 {
    bench.mm.block(id).map_or(0, |block| block.counts.managed)
}

#[test]
fn every_page_is_allocated_once_and_none_of_them_is_memmap() {
    for block in [MIB, 4 * MIB] {
        for placement in Placement::ALL {
            every_page_once(&tiny(block), range(TINY_WINDOW, 12 * MIB), placement);
        }
    }
}

#[test]
fn every_page_of_a_real_dimm_is_allocated_once_and_none_of_them_is_memmap() {
    for placement in [Placement::PerRange, Placement::PerBlock] {
        let bench = real(64 * MIB, 128 * MIB, 64 * GIB);
        every_page_once(&bench, range(REAL_WINDOW, 256 * MIB), placement);
    }
}

#[test]
fn extents_of_all_orders_are_aligned_and_disjoint_and_merge_again() {
    for placement in Placement::ALL {
        let bench = tiny(4 * MIB);
        let dimm = range(TINY_WINDOW, 16 * MIB);
        online(&bench, dimm, placement);
        let onlined = bench.snapshot();
        let mut random = Random::new(5);
        let mut held = BTreeMap::new();
        for _ in 0..20_000 {
            let wanted = order(random.below(12) as u8);
            if random.one_in(2) {
                if let Some(pfn) = bench.alloc_movable_zone(wanted) {
                    assert!(pfn.is_aligned(wanted), "{pfn} for {wanted}");
                    assert_eq!(held.insert(pfn, wanted), None);
                }
            } else if !held.is_empty() {
                let nth = random.below(held.len() as u64) as usize;
                let Some((&pfn, _)) = held.iter().nth(nth) else { continue };
                held.remove(&pfn);
                free(&bench, pfn);
            }
            if random.one_in(2000) {
                check_apart(&held);
                bench.check();
            }
        }
        check_apart(&held);
        held.keys().for_each(|&pfn| free(&bench, pfn));
        bench.check();
        assert_same(&onlined, &bench.snapshot());
    }
}

fn check_apart(held: &BTreeMap<Pfn, Order>) {
    let mut end = Pfn::new(0);
    for (&pfn, order) in held {
        assert!(pfn >= end, "{pfn} lies in the extent before it");
        end = pfn.add(order.pages());
    }
}

#[test]
fn a_free_block_has_as_few_extents_as_possible() {
    let bench = tiny(4 * MIB);
    let dimm = range(TINY_WINDOW, 4 * MIB);
    online(&bench, dimm, Placement::Boot);
    let movable = |kind| bench.mm.zones().find(|zone| zone.kind == kind);
    let extents = movable(ZoneKind::Movable).map(|zone| zone.extents);
    // 1024 pages, all in one extent of order 10.
    let mut whole = [0; Order::COUNT];
    whole[10] = 1;
    assert_eq!(extents, Some(whole));
    assert_eq!(bench.alloc_movable_zone(order(11)), None);
    let all = bench.alloc_movable_zone(order(10));
    assert_eq!(all, Some(Pfn::new(TINY_WINDOW / PAGE)));
    free(&bench, Pfn::new(TINY_WINDOW / PAGE));
    leave(&bench, dimm);

    online(&bench, dimm, Placement::PerBlock);
    let extents = movable(ZoneKind::Movable).map(|zone| zone.extents);
    // 16 pages of memmap, then one extent of each order from 4 to 9.
    let mut steps = [0; Order::COUNT];
    steps[4..=9].fill(1);
    assert_eq!(extents, Some(steps));
    leave(&bench, dimm);
}

/// Tries to free `pfn`, which must be refused, and compares before with after.
#[track_caller]
fn refused<S: Shape>(bench: &Bench<S>, pfn: Pfn) -> FreeError {
    let before = bench.snapshot();
    let Err(error) = bench.mm.free_pages(pfn) else {
        panic!("{pfn} was freed");
    };
    assert!(bench.mm.private(pfn).is_err() && bench.mm.set_private(pfn, 1).is_err());
    bench.check();
    assert_same(&before, &bench.snapshot());
    error
}

#[test]
fn a_page_is_freed_once_by_its_head_and_while_it_is_online() {
    for placement in Placement::ALL {
        let bench = tiny(MIB);
        let dimm = range(TINY_WINDOW, 2 * MIB);
        let first = Pfn::new(TINY_WINDOW / PAGE);
        assert_eq!(refused(&bench, first), FreeError::NotOnline(first));
        bench.plug(dimm);
        bench.add(dimm, placement);
        assert_eq!(refused(&bench, first), FreeError::NotOnline(first));
        bench.online(dimm);

        for raw in [0, 1, 2, 3, 5] {
            let Some(pfn) = bench.alloc_movable_zone(order(raw)) else {
                panic!("nothing of order {raw}");
            };
            for tail in 1..1 << raw {
                let tail = pfn.add(tail);
                assert_eq!(refused(&bench, tail), FreeError::NotAllocated(tail));
            }
            free(&bench, pfn);
            assert_eq!(refused(&bench, pfn), FreeError::NotAllocated(pfn));
        }
        if let Some(block) = bench.mm.block(bench.blocks(dimm)[0])
            && let Some(memmap) = block.group.and_then(|head| bench.mm.group(head))
        {
            for pfn in memmap.pfns.iter() {
                assert_eq!(refused(&bench, pfn), FreeError::NotAllocated(pfn));
            }
        }
        leave(&bench, dimm);
        assert_eq!(refused(&bench, first), FreeError::NotOnline(first));
    }
}

#[test]
fn pages_of_boot_of_tables_and_of_the_memmap_cannot_be_freed() {
    let bench = hotmem_tests::memory::tiny_without_reserve(MIB);
    let dimm = range(TINY_WINDOW, 4 * MIB);
    bench.plug(dimm);
    bench.add(dimm, Placement::Boot);
    let mut owners = BTreeMap::new();
    for raw in 0..16 * MIB / PAGE {
        let pfn = Pfn::new(raw);
        if let Some(PageState::Used { owner, .. }) = bench.mm.page_info(pfn).and_then(|i| i.state) {
            assert_eq!(bench.mm.free_pages(pfn), Err(FreeError::NotYours(pfn, owner)));
            *owners.entry(owner).or_insert(0) += 1;
        }
    }
    bench.check();
    let owners: Vec<_> = owners.into_keys().collect();
    assert_eq!(owners, [Owner::Boot, Owner::Table, Owner::Memmap]);
    bench.remove(dimm);
}

#[test]
fn free_refuses_every_invalid_page_number() {
    let bench = tiny(MIB);
    let before = bench.snapshot();
    for raw in [1 << 19, 1 << 20, 1 << 31, 1 << 51, 1 << 52, u64::MAX >> 1, u64::MAX - 1, u64::MAX]
    {
        let pfn = Pfn::new(raw);
        assert_eq!(bench.mm.free_pages(pfn), Err(FreeError::NotOnline(pfn)));
        assert_eq!(bench.mm.private(pfn), Err(FreeError::NotOnline(pfn)));
        assert_eq!(bench.mm.set_private(pfn, 1), Err(FreeError::NotOnline(pfn)));
        assert_eq!(bench.mm.page_info(pfn), None);
        assert_eq!(bench.mm.group(pfn), None);
    }
    bench.check();
    assert_same(&before, &bench.snapshot());
}

#[test]
fn an_owner_keeps_a_word_with_its_extent_until_it_frees_it() {
    let bench = tiny(MIB);
    let dimm = range(TINY_WINDOW, MIB);
    online(&bench, dimm, Placement::PerBlock);
    let pages = take_all(&bench);
    for &pfn in &pages {
        assert_eq!(bench.mm.private(pfn), Ok(0));
        assert_eq!(bench.mm.set_private(pfn, !pfn.get()), Ok(()));
    }
    for &pfn in &pages {
        assert_eq!(bench.mm.private(pfn), Ok(!pfn.get()));
    }
    for &pfn in &pages {
        free(&bench, pfn);
        assert_eq!(bench.mm.private(pfn), Err(FreeError::NotAllocated(pfn)));
        assert_eq!(bench.mm.set_private(pfn, 1), Err(FreeError::NotAllocated(pfn)));
    }
    assert!(take_all(&bench).into_iter().all(|pfn| bench.mm.private(pfn) == Ok(0)));
}

#[test]
fn movable_memory_is_allocated_for_movable_pages_only() {
    let bench = tiny(MIB);
    let (movable, normal) = (range(TINY_WINDOW, MIB), range(TINY_WINDOW + MIB, MIB));
    for dimm in [movable, normal] {
        bench.plug(dimm);
        bench.add(dimm, Placement::Boot);
    }
    bench.online(movable);
    let id = bench.blocks(normal)[0];
    assert!(bench.mm.online(id, ZoneKind::Normal).is_ok());

    let at = |pfn: Pfn| PhysAddr::new(pfn.get() * PAGE);
    let held: Vec<_> = std::iter::from_fn(|| bench.alloc_movable(Order::ZERO).ok()).collect();
    let places: Vec<_> = held.iter().map(|&pfn| at(pfn)).collect();
    assert!(places[..256].iter().all(|&at| movable.contains(at)), "movable memory first");
    assert!(places[256..512].iter().all(|&at| normal.contains(at)), "then normal");
    assert!(places[512..].iter().all(|at| at.get() < 16 * MIB), "then system memory");
    held.iter().for_each(|&pfn| free(&bench, pfn));

    let held: Vec<_> = std::iter::from_fn(|| bench.mm.take_pages(Order::ZERO).ok()).collect();
    assert!(held.iter().all(|&pfn| !movable.contains(at(pfn))));
    assert_eq!(held.iter().filter(|&&pfn| normal.contains(at(pfn))).count(), 256);
    for owner in [Owner::Table, Owner::Memmap, Owner::Kernel] {
        let out = OutOfMemory { order: Order::ZERO };
        assert_eq!(bench.alloc_as(Order::ZERO, owner), Err(out));
    }
    bench.check();
    held.iter().for_each(|&pfn| free(&bench, pfn));
    bench.check();
}

/// The facts and pages of a machine whose DIMM was filled with `fill` before.
fn life_on(fill: Option<u8>, placement: Placement) -> (Vec<hotmem::Fact>, Vec<Pfn>) {
    let bench = tiny(4 * MIB);
    let dimm = range(TINY_WINDOW, 16 * MIB);
    bench.mm.machine().mmu().ram().plug(dimm, fill);
    bench.add(dimm, placement);
    let mut facts = bench.snapshot();
    let pages = one_life(&bench, dimm, &mut facts);
    (facts, pages)
}

/// Online, every page allocated and freed, offline; records the facts.
fn one_life(bench: &Bench<Tiny>, dimm: PhysRange, facts: &mut Vec<hotmem::Fact>) -> Vec<Pfn> {
    bench.online(dimm);
    facts.extend(bench.snapshot());
    let mut pages = Vec::new();
    for raw in [2, 0, 7, 1, 3, 0] {
        pages.extend(bench.alloc_movable_zone(order(raw)));
        bench.check();
    }
    let some = pages.len();
    pages.extend(take_all(bench));
    bench.check();
    facts.extend(bench.snapshot());
    pages[some..].iter().for_each(|&pfn| free(bench, pfn));
    bench.check();
    facts.extend(bench.snapshot());
    pages[..some].iter().for_each(|&pfn| free(bench, pfn));
    bench.offline(dimm);
    facts.extend(bench.snapshot());
    pages
}

#[test]
fn the_old_contents_of_a_dimm_change_nothing() {
    for placement in Placement::ALL {
        let clean = life_on(None, placement);
        // Bytes whose words would be a tail, a hole, a free, a used and a memmap page, except for the upper bits;
        // and the contents of an erased DIMM.
        for fill in [0xff, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x11, 0xa5] {
            let (facts, pages) = life_on(Some(fill), placement);
            assert_same(&clean.0, &facts);
            assert_eq!(clean.1, pages, "{fill:#x}");
        }
    }
}

#[test]
fn the_descriptors_of_a_dimms_previous_life_change_nothing() {
    for before in Placement::ALL {
        for placement in Placement::ALL {
            let (clean_facts, clean_pages) = life_on(None, placement);
            let bench = tiny(4 * MIB);
            let dimm = range(TINY_WINDOW, 16 * MIB);
            bench.plug(dimm);
            // Every descriptor is written, and left as it was: the DIMM is not unplugged.
            bench.add(dimm, before);
            one_life(&bench, dimm, &mut Vec::new());
            bench.remove(dimm);

            bench.add(dimm, placement);
            let mut facts = bench.snapshot();
            let pages = one_life(&bench, dimm, &mut facts);
            // The free extents are elsewhere in boot memory only if the memmap's place is allocated.
            assert_same(&clean_facts, &facts);
            assert_eq!(clean_pages, pages);
        }
    }
}

#[test]
fn descriptors_go_stale_offline_and_are_not_used_online() {
    for placement in Placement::ALL {
        let bench = tiny(4 * MIB);
        let dimm = range(TINY_WINDOW, 16 * MIB);
        bench.plug(dimm);
        bench.add(dimm, placement);
        let mut first = Vec::new();
        let pages = one_life(&bench, dimm, &mut first);
        for _ in 0..3 {
            let mut again = Vec::new();
            assert_eq!(one_life(&bench, dimm, &mut again), pages);
            assert_same(&first, &again);
        }
    }
}

/// Words of garbage that remain in the memmap of a range, and words in total.
fn garbage_left<S: Shape>(bench: &Bench<S>, dimm: PhysRange) -> (u64, u64) {
    let virt = bench.mm.memmap_virt(FakeMachine::<S>::pfns(dimm));
    let (mut left, mut all) = (0, 0);
    bench.mm.tables().visit(virt, &mut |leaf| {
        for offset in (0..leaf.len).step_by(8) {
            let word = bench.mm.machine().mmu().peek(leaf.phys.add(offset));
            left += u64::from(word == u64::MAX);
            all += 1;
        }
    });
    (left, all)
}

#[test]
fn adding_and_onlining_write_a_handful_of_descriptors_in_each_block() {
    for placement in [Placement::PerRange, Placement::PerBlock] {
        let bench: Bench<Real> = real(256 * MIB, 128 * MIB, 64 * GIB);
        let dimm = range(REAL_WINDOW, GIB);
        let written = |when: &str, most: u64| {
            let (left, all) = garbage_left(&bench, dimm);
            assert_eq!(all * 8, GIB / PAGE * DESCRIPTOR);
            let written = all - left;
            assert!(written <= most, "{placement}, {when}: {written} words are not garbage");
        };
        bench.plug(dimm);
        bench.add(dimm, placement);
        // For each section its record, for each group its head.
        written("added", 8 * 16);
        // For each block the heads of its extents: at most one of each order.
        bench.online(dimm);
        written("online", 8 * 16 + 8 * 20 * 8);
        bench.offline(dimm);
        written("offline", 8 * 16 + 8 * 20 * 8);
        // One page splits one block down to its last subsection, and initialises that subsection's descriptors.
        bench.online(dimm);
        let page = bench.alloc_movable_zone(Order::ZERO);
        written("one page used", 8 * 16 + 8 * 20 * 8 + 512 * 8 + 20 * 8);
        page.into_iter().for_each(|pfn| free(&bench, pfn));
        leave(&bench, dimm);
    }
}

#[test]
fn the_contents_of_added_memory_are_not_touched_outside_its_memmap() {
    for placement in Placement::ALL {
        let bench = tiny(MIB);
        let dimm = range(TINY_WINDOW, 4 * MIB);
        online(&bench, dimm, placement);
        let pages = take_all(&bench);
        for &pfn in &pages {
            let at = FakeMachine::<Tiny>::address(pfn);
            for offset in (0..PAGE).step_by(8) {
                assert_eq!(bench.mm.machine().mmu().peek(at.add(offset)), u64::MAX, "{pfn}");
            }
        }
        pages.iter().for_each(|&pfn| free(&bench, pfn));
        leave(&bench, dimm);
    }
}

#[test]
fn a_batch_of_a_cpu_is_one_extent_unless_small_ones_make_up_all_of_it() {
    let bench = real(64 * MIB, 128 * MIB, GIB);
    let (mm, dimm) = (&bench.mm, range(REAL_WINDOW, 128 * MIB));
    bench.plug(dimm);
    bench.add(dimm, Placement::PerBlock);
    mm.online(mm.block_at(dimm.start()), ZoneKind::Normal).unwrap();
    let batch = || (0..32).map(|_| mm.take_pages(Order::ZERO).unwrap()).collect::<Vec<_>>();
    // The other half of 32 pages is free: too few for a batch.
    let first = mm.take_pages(order(4)).unwrap();
    let pfns = batch();
    assert!(pfns[0].is_aligned(order(5)), "{}", pfns[0]);
    assert!(pfns.iter().copied().eq((0..32).map(|index| pfns[0].add(index))));
    // Two halves are enough, and are taken before another extent is split.
    let second = mm.take_pages(order(4)).unwrap();
    assert_eq!(second.get(), first.get() ^ 16);
    let third = mm.take_pages(order(4)).unwrap();
    mm.free_pages(first).unwrap();
    let halves = [first, Pfn::new(third.get() ^ 16)];
    let in_half = |pfn: &Pfn| halves.contains(&pfn.align_down(order(4)));
    assert!(batch().iter().all(in_half));
    bench.check();
}
