//! Everything that the four operations refuse: with the right error, and without a change.
#![expect(clippy::panic, reason = "a suite fails by a panic")]

use hotmem::testing::{Bench, Tiny, range};
use hotmem::{
    AddError, BlockId, BlockState, NodeId, NotWholeSubsections, OfflineError, OnlineError, Order,
    Owner, PhysAddr, PhysRange, Placement, RemoveError, ZoneKind,
};
use hotmem_tests::memory::{GIB, KIB, MIB, TINY_WINDOW, assert_same, block_range, real, tiny};

const PAGE: u64 = 4 * KIB;
const NODE: NodeId = match NodeId::new(0) {
    Some(node) => node,
    None => panic!("there is a node 0"),
};

/// Runs `operation`, which must be refused, and compares the state before and after.
#[track_caller]
fn refused<T: core::fmt::Debug, E>(
    bench: &Bench<Tiny>,
    operation: impl FnOnce() -> Result<T, E>,
) -> E {
    let before = bench.snapshot();
    let error = match operation() {
        Ok(done) => panic!("not refused: {done:?}"),
        Err(error) => error,
    };
    bench.check();
    assert_same(&before, &bench.snapshot());
    error
}

#[test]
fn present_memory_is_not_added_again_not_even_one_block_of_it() {
    let bench = tiny(MIB);
    let dimm = range(TINY_WINDOW + 4 * MIB, 4 * MIB);
    bench.plug(range(TINY_WINDOW, 12 * MIB));
    let first = bench.mm.block_at(dimm.start());
    for placement in Placement::ALL {
        bench.add(dimm, placement);
        for again in Placement::ALL {
            let add = |start, len| {
                let range = range(start, len);
                match refused(&bench, || bench.mm.hot_add(range, NODE, again)) {
                    AddError::Overlaps { range: r, block } if r == range => block,
                    error => panic!("{error}"),
                }
            };
            assert_eq!(add(dimm.start().get(), dimm.len()), first);
            assert_eq!(add(dimm.start().get() - MIB, 2 * MIB), first);
            assert_eq!(add(dimm.end().get() - MIB, 4 * MIB), BlockId::new(first.get() + 3));
            assert_eq!(add(TINY_WINDOW, 12 * MIB), first);
            assert_eq!(add(dimm.start().get() + MIB, MIB), BlockId::new(first.get() + 1));
        }
        bench.remove(dimm);
    }
}

#[test]
fn a_range_that_is_not_whole_aligned_subsections_is_neither_added_nor_removed() {
    let bench = tiny(4 * MIB);
    bench.plug(range(TINY_WINDOW, 16 * MIB));
    let subsection = 256 * KIB;
    assert_eq!(bench.mm.subsection(), subsection);
    let odd = [
        (TINY_WINDOW, 0),
        (TINY_WINDOW, PAGE),
        (TINY_WINDOW, subsection / 2),
        (TINY_WINDOW, 4 * MIB - 1),
        (TINY_WINDOW, 4 * MIB + 1),
        (TINY_WINDOW, 4 * MIB + PAGE),
        (TINY_WINDOW + 1, 4 * MIB),
        (TINY_WINDOW + PAGE, 4 * MIB),
        (TINY_WINDOW + subsection / 2, 4 * MIB),
    ];
    for (start, len) in odd {
        let range = range(start, len);
        for placement in Placement::ALL {
            let error = refused(&bench, || bench.mm.hot_add(range, NODE, placement));
            assert_eq!(
                error,
                AddError::NotWholeSubsections(NotWholeSubsections { range, subsection })
            );
            assert!(error.to_string().contains(&format!("{len:#x} bytes")), "{error}");
        }
        let error = refused(&bench, || bench.mm.remove(range));
        assert_eq!(
            error,
            RemoveError::NotWholeSubsections(NotWholeSubsections { range, subsection })
        );
    }
}

#[test]
fn a_range_that_is_not_whole_aligned_blocks_is_not_added_where_only_these_are_wanted() {
    let bench = tiny(4 * MIB);
    bench.plug(range(TINY_WINDOW, 16 * MIB));
    bench.mm.set_whole_blocks(true);
    let block = 4 * MIB;
    let odd = [
        (TINY_WINDOW, 0),
        (TINY_WINDOW, PAGE),
        (TINY_WINDOW, block / 2),
        (TINY_WINDOW, block - 1),
        (TINY_WINDOW, block + 1),
        (TINY_WINDOW, block + PAGE),
        (TINY_WINDOW, block + MIB),
        (TINY_WINDOW + 1, block),
        (TINY_WINDOW + PAGE, block),
        (TINY_WINDOW + MIB, block),
        (TINY_WINDOW + block / 2, 2 * block),
        (TINY_WINDOW + MIB, block - MIB),
    ];
    for (start, len) in odd {
        let range = range(start, len);
        for placement in Placement::ALL {
            let error = refused(&bench, || bench.mm.hot_add(range, NODE, placement));
            assert_eq!(error, AddError::NotWholeBlocks { range, block });
            assert!(error.to_string().contains(&format!("{len:#x} bytes")), "{error}");
        }
    }
    // What has come before stays, and goes.
    bench.mm.set_whole_blocks(false);
    let odd = range(TINY_WINDOW + MIB, 5 * MIB);
    bench.add(odd, Placement::PerBlock);
    bench.mm.set_whole_blocks(true);
    bench.online(odd);
    bench.offline(odd);
    bench.remove(odd);
}

#[test]
fn ranges_of_both_kinds_of_memmap_are_not_removed_together() {
    let bench = tiny(MIB);
    let before = bench.snapshot();
    let both = range(TINY_WINDOW, 4 * MIB);
    let (low, high) = (range(TINY_WINDOW, 2 * MIB), range(TINY_WINDOW + 2 * MIB, 2 * MIB));
    bench.plug(both);
    for hosted in [Placement::PerRange, Placement::PerBlock] {
        bench.add(low, Placement::Boot);
        bench.add(high, hosted);
        let added = bench.snapshot();
        let third = bench.blocks(both)[2];
        assert_eq!(bench.mm.remove(both), Err(RemoveError::MixedPlacement(third)));
        assert_same(&added, &bench.snapshot());
        bench.check();
        bench.remove(low);
        bench.remove(high);
    }
    bench.add(low, Placement::PerBlock);
    bench.add(high, Placement::PerRange);
    bench.remove(both);
    assert_same(&before, &bench.snapshot());
    bench.unplug(both);
}

#[test]
fn memory_past_the_limit_is_not_added_not_even_one_block_of_it() {
    let bench = tiny(4 * MIB);
    let limit = 2 * GIB;
    let beyond = [
        (limit, 4 * MIB),
        (limit - 4 * MIB, 8 * MIB),
        (4 * GIB, 4 * MIB),
        (1 << 46, 4 * MIB),
        (1 << 63, 4 * MIB),
        (1 << 63, 1 << 63),
        (4 * MIB, u64::MAX - 8 * MIB + 1),
        ((4 * MIB).wrapping_neg(), 4 * MIB),
    ];
    for (start, len) in beyond {
        let range = range(start, len);
        for placement in Placement::ALL {
            let error = refused(&bench, || bench.mm.hot_add(range, NODE, placement));
            let limit = PhysAddr::new(limit);
            assert_eq!(error, AddError::BeyondLimit { range, limit });
        }
        refused(&bench, || bench.mm.remove(range));
    }
}

#[test]
fn memory_past_64_tib_is_not_added() {
    let bench = real(256 * MIB, 128 * MIB, 64 * GIB);
    let limit = PhysAddr::new(1 << 46);
    for (start, len) in [(1 << 46, 128 * MIB), ((1 << 46) - 128 * MIB, 256 * MIB)] {
        let range = range(start, len);
        let error = bench.mm.hot_add(range, NODE, Placement::PerBlock);
        assert_eq!(error, Err(AddError::BeyondLimit { range, limit }));
    }
    bench.check();
}

#[test]
fn no_range_wraps_around_the_end_of_the_address_space() {
    let top = u64::MAX - MIB + 1;
    assert_eq!(PhysRange::new(PhysAddr::new(top), 2 * MIB), None);
    assert_eq!(PhysRange::new(PhysAddr::new(MIB), u64::MAX), None);
}

#[test]
fn boot_memory_is_not_taken_offline_not_removed_and_not_added_over() {
    let bench = tiny(4 * MIB);
    for id in bench.blocks(range(0, 16 * MIB)) {
        let block = bench.mm.block(id).unwrap();
        assert!(block.boot && block.state == BlockState::Online(ZoneKind::System));
        let pfns = block_range(&bench, id);
        assert_eq!(refused(&bench, || bench.mm.offline(id)), OfflineError::SystemMemory(id));
        assert_eq!(refused(&bench, || bench.mm.remove(pfns)), RemoveError::BootMemory(id));
        let online = refused(&bench, || bench.mm.online(id, ZoneKind::Movable));
        assert_eq!(online, OnlineError::AlreadyOnline(id));
        for placement in Placement::ALL {
            let error = refused(&bench, || bench.mm.hot_add(pfns, NODE, placement));
            assert_eq!(error, AddError::Overlaps { range: pfns, block: id });
        }
    }
    // Nor together with added memory that is next to it.
    let next = range(16 * MIB, 4 * MIB);
    bench.plug(next);
    bench.add(next, Placement::PerBlock);
    let boot = bench.blocks(range(12 * MIB, MIB))[0];
    let error = refused(&bench, || bench.mm.remove(range(12 * MIB, 8 * MIB)));
    assert_eq!(error, RemoveError::BootMemory(boot));
    bench.remove(next);
    bench.unplug(next);
}

#[test]
fn a_block_is_online_or_offline_once_at_a_time() {
    let bench = tiny(MIB);
    let before = bench.snapshot();
    let dimm = range(TINY_WINDOW, 2 * MIB);
    bench.plug(dimm);
    let id = bench.mm.block_at(dimm.start());
    let absent = OnlineError::NoSuchBlock(id);
    assert_eq!(refused(&bench, || bench.mm.online(id, ZoneKind::Normal)), absent);
    assert_eq!(refused(&bench, || bench.mm.offline(id)), OfflineError::NoSuchBlock(id));
    assert_eq!(refused(&bench, || bench.mm.remove(dimm)), RemoveError::NoSuchBlock(id));

    for placement in Placement::ALL {
        bench.add(dimm, placement);
        assert_eq!(refused(&bench, || bench.mm.offline(id)), OfflineError::AlreadyOffline(id));
        bench.online(dimm);
        for kind in ZoneKind::ALL {
            let again = refused(&bench, || bench.mm.online(id, kind));
            assert_eq!(again, OnlineError::AlreadyOnline(id));
        }
        bench.offline(dimm);
        bench.remove(dimm);
    }
    assert_same(&before, &bench.snapshot());
    bench.unplug(dimm);
}

#[test]
fn added_memory_is_never_system_memory() {
    let bench = tiny(MIB);
    let dimm = range(TINY_WINDOW, MIB);
    bench.plug(dimm);
    for placement in Placement::ALL {
        bench.add(dimm, placement);
        let id = bench.blocks(dimm)[0];
        let error = refused(&bench, || bench.mm.online(id, ZoneKind::System));
        assert_eq!(error, OnlineError::NotSystemMemory(id));
        bench.remove(dimm);
    }
}

#[test]
fn a_block_number_past_every_address_is_refused() {
    let bench = tiny(4 * MIB);
    for raw in [512, 1 << 20, 1 << 44, u64::MAX >> 1, u64::MAX] {
        let id = BlockId::new(raw);
        assert_eq!(bench.mm.block(id), None);
        let online = refused(&bench, || bench.mm.online(id, ZoneKind::Movable));
        assert_eq!(online, OnlineError::NoSuchBlock(id));
        assert_eq!(refused(&bench, || bench.mm.offline(id)), OfflineError::NoSuchBlock(id));
    }
}

#[test]
fn a_range_with_one_block_online_is_not_removed() {
    let bench = tiny(MIB);
    let dimm = range(TINY_WINDOW, 3 * MIB);
    bench.plug(dimm);
    for placement in Placement::ALL {
        bench.add(dimm, placement);
        for id in bench.blocks(dimm) {
            bench.online(block_range(&bench, id));
            let error = refused(&bench, || bench.mm.remove(dimm));
            // The first obstacle in ascending order, since the group of a block is removed as a whole.
            assert_eq!(error, RemoveError::NotOffline(id));
            bench.offline(block_range(&bench, id));
        }
        bench.remove(dimm);
    }
}

#[test]
fn a_block_with_used_pages_stays_online_and_the_error_names_their_count_and_owner() {
    for placement in Placement::ALL {
        let bench = tiny(MIB);
        let before = bench.snapshot();
        let dimm = range(TINY_WINDOW, MIB);
        bench.plug(dimm);
        bench.add(dimm, placement);
        bench.online(dimm);
        let block = bench.blocks(dimm)[0];
        let large = bench.alloc_movable_zone(Order::new(4).unwrap()).unwrap();
        let small = bench.alloc_movable(Order::ZERO).unwrap();
        let first = Some((large.min(small), Owner::Movable(bench.stubborn.id())));
        let error = refused(&bench, || bench.mm.offline(block));
        assert_eq!(error, OfflineError::InUse { block, pages: 17, first, by: "stubborn" });
        assert!(error.to_string().ends_with("held by stubborn, cannot be migrated"), "{error}");
        for pfn in [small, large, large.add(15)] {
            assert_eq!(bench.mm.page_info(pfn).and_then(|page| page.held_by), Some("stubborn"));
        }
        let predicted = bench.mm.explain_offline(block).to_string();
        assert!(predicted.contains("is held by stubborn since"), "{predicted}");
        let refused_too = refused(&bench, || bench.mm.poison(small).map(drop)).to_string();
        assert!(refused_too.ends_with("held by stubborn"), "{refused_too}");
        bench.mm.free_pages(large.min(small)).unwrap();
        refused(&bench, || bench.mm.offline(block));
        bench.mm.free_pages(large.max(small)).unwrap();
        bench.offline(dimm);
        bench.remove(dimm);
        assert_same(&before, &bench.snapshot());
    }
}

#[test]
fn a_boot_memmap_that_does_not_fit_is_refused_and_nothing_changes() {
    let bench = tiny(MIB);
    let dimm = range(TINY_WINDOW, 512 * MIB);
    bench.plug(dimm);
    while bench.mm.take_pages(Order::new(3).unwrap()).is_ok() {}
    let error = refused(&bench, || bench.mm.hot_add(dimm, NODE, Placement::Boot));
    assert!(matches!(error, AddError::NoRoomForMemmap { .. }), "{error}");
    bench.unplug(dimm);
}
