//! The four operations over every size, placement, order of removal and history.
#![expect(clippy::panic, reason = "a suite fails by a panic")]

use hotmem::geometry::Geometry;
use hotmem::testing::{Bench, FakeMachine, Lmb, Setup, Shape, range};
use hotmem::{BlockState, Order, PhysRange, Placement, ZoneKind};
use hotmem_tests::memory::{
    GIB, KIB, MIB, REAL_WINDOW, Sequence, TINY_WINDOW, assert_same, block_range, real, tiny,
    tiny_without_reserve,
};

/// The history of a range between its add and its remove.
#[derive(Clone, Copy, Debug)]
enum History {
    NeverOnline,
    Onlined,
    Reonlined,
}

impl History {
    const ALL: [Self; 3] = [Self::NeverOnline, Self::Onlined, Self::Reonlined];

    const fn rounds(self) -> usize {
        match self {
            Self::NeverOnline => 0,
            Self::Onlined => 1,
            Self::Reonlined => 2,
        }
    }
}

/// Adds `pieces` of one DIMM, runs `history` on them, and removes them in `sequence`.
fn live<S: Shape>(
    bench: &Bench<S>,
    pieces: &[PhysRange],
    placement: Placement,
    sequence: Sequence,
    history: History,
) {
    let before = bench.snapshot();
    let mut system = 0;
    for &piece in pieces {
        system += bench.add(piece, placement).system_bytes;
    }
    let added = bench.snapshot();
    for _ in 0..history.rounds() {
        for &piece in &sequence.arrange(pieces.to_vec()) {
            bench.online(piece);
            for id in bench.blocks(piece) {
                let block = bench.mm.block(id).unwrap_or_else(|| panic!("{id} is not there"));
                assert_eq!(block.state, BlockState::Online(ZoneKind::Movable));
                assert_eq!(block.counts.present, block.pfns.pages());
                assert_eq!(block.counts.free, block.counts.managed);
            }
        }
        use_some(bench);
        pieces.iter().for_each(|&piece| bench.offline(piece));
        assert_same(&added, &bench.snapshot());
    }
    // A block can be removed alone unless one memmap describes the whole piece.
    let unit = |&piece: &PhysRange| match placement {
        Placement::PerRange => vec![piece],
        _ => bench.blocks(piece).iter().map(|&id| block_range(bench, id)).collect(),
    };
    for part in sequence.arrange(pieces.iter().flat_map(unit).collect()) {
        let given = bench.remove(part).system_bytes;
        assert!(given <= system, "{part} freed {given} bytes of {system} in use");
        system -= given;
    }
    assert_eq!(system, 0, "bytes not freed");
    assert_same(&before, &bench.snapshot());
}

/// Allocates extents of several orders in the added memory, writes to them, and frees them.
fn use_some<S: Shape>(bench: &Bench<S>) {
    let orders = [0, 3, 1, 5, 0].map(|raw| Order::new(raw).unwrap_or_default());
    let held: Vec<_> = orders.iter().filter_map(|&o| bench.alloc_movable_zone(o)).collect();
    assert!(!held.is_empty(), "nothing to use");
    for &pfn in &held {
        let virt = S::LINEAR_BASE.add(FakeMachine::<S>::address(pfn).get());
        bench.mm.machine().mmu().store(virt, pfn.get());
        assert_eq!(bench.mm.machine().mmu().load(virt), pfn.get());
    }
    bench.check();
    for pfn in held {
        bench.mm.free_pages(pfn).unwrap_or_else(|error| panic!("{error}"));
    }
    bench.check();
}

fn each_case(mut run: impl FnMut(Placement, Sequence, History)) {
    for placement in Placement::ALL {
        for sequence in Sequence::ALL {
            for history in History::ALL {
                run(placement, sequence, history);
            }
        }
    }
}

/// The whole matrix on small machines, for DIMMs of eight blocks added in pieces of two.
fn small_matrix(block: u64) {
    for bench in [tiny(block), tiny_without_reserve(block)] {
        let dimm = range(TINY_WINDOW, 8 * block);
        let pieces: Vec<_> =
            (0..4).map(|i| range(TINY_WINDOW + i * 2 * block, 2 * block)).collect();
        each_case(|placement, sequence, history| {
            bench.plug(dimm);
            live(&bench, &pieces, placement, sequence, history);
            bench.unplug(dimm);
        });
    }
}

#[test]
fn blocks_of_one_section_live_and_go_in_every_order() {
    small_matrix(MIB);
}

#[test]
fn blocks_of_two_sections_live_and_go_in_every_order() {
    small_matrix(2 * MIB);
}

#[test]
fn blocks_of_four_sections_live_and_go_in_every_order() {
    small_matrix(4 * MIB);
}

#[test]
fn blocks_of_sixteen_sections_live_and_go_in_every_order() {
    small_matrix(16 * MIB);
}

/// The whole matrix at real sizes, for two DIMMs of two blocks, side by side.
fn real_matrix(block: u64) {
    let bench = real(512 * MIB, block, 64 * GIB);
    let dimms = [range(REAL_WINDOW, 2 * block), range(REAL_WINDOW + 2 * block, 2 * block)];
    each_case(|placement, sequence, history| {
        dimms.iter().for_each(|&dimm| bench.plug(dimm));
        live(&bench, &dimms, placement, sequence, history);
        dimms.iter().for_each(|&dimm| bench.unplug(dimm));
    });
}

#[test]
fn at15_blocks_of_128_mib_live_and_go_in_every_order() {
    real_matrix(128 * MIB);
}

#[test]
fn at15_blocks_of_1_gib_live_and_go_in_every_order() {
    real_matrix(GIB);
}

#[test]
fn at15_blocks_of_2_gib_live_and_go_in_every_order() {
    real_matrix(2 * GIB);
}

#[test]
fn adjacent_ranges_are_removed_in_both_orders() {
    let (low, high) = (range(TINY_WINDOW, 4 * MIB), range(TINY_WINDOW + 4 * MIB, 12 * MIB));
    let bench = tiny(MIB);
    bench.plug(low);
    bench.plug(high);
    for placement in Placement::ALL {
        for other in Placement::ALL {
            let before = bench.snapshot();
            for (first, second) in [(low, high), (high, low)] {
                bench.add(low, placement);
                bench.add(high, other);
                bench.online(low);
                bench.online(high);
                bench.offline(first);
                bench.remove(first);
                bench.offline(second);
                bench.remove(second);
                assert_same(&before, &bench.snapshot());
            }
        }
    }
}

#[test]
fn the_last_block_below_the_limit_lives_like_any_other() {
    let bench = tiny(4 * MIB);
    let last = range(2 * GIB - 4 * MIB, 4 * MIB);
    bench.plug(last);
    each_history(&bench, last);

    let bench = real(256 * MIB, 128 * MIB, 64 * GIB);
    let last = range((1 << 46) - 128 * MIB, 128 * MIB);
    bench.plug(last);
    each_history(&bench, last);
}

fn each_history<S: Shape>(bench: &Bench<S>, dimm: PhysRange) {
    each_case(|placement, _, history| {
        live(bench, &[dimm], placement, Sequence::Ascending, history);
    });
}

/// Pages of 64 KiB and memory blocks of 256 MiB, as on POWER: a memmap is 4 pages for 16 sections, and
/// tables are of three sizes, one of them less than a page.
fn wide() -> Bench<Lmb> {
    let ram = vec![(0, 512 * MIB, 0)];
    Bench::new(&Setup { ram, block: 256 * MIB, window: (REAL_WINDOW, 16 * GIB), kernelcore: None })
}

#[test]
fn blocks_of_64_kib_pages_live_and_go_in_every_order() {
    let bench = wide();
    let dimms = [range(REAL_WINDOW, GIB), range(REAL_WINDOW + GIB, GIB)];
    each_case(|placement, sequence, history| {
        dimms.iter().for_each(|&dimm| bench.plug(dimm));
        live(&bench, &dimms, placement, sequence, history);
        dimms.iter().for_each(|&dimm| bench.unplug(dimm));
    });
}

#[test]
fn a_256_mib_block_of_64_kib_pages_needs_four_pages_of_memmap_and_wastes_none() {
    for (placement, sections, pages) in
        [(Placement::PerBlock, 16, 4), (Placement::PerRange, 64, 16)]
    {
        let bench = wide();
        let before = bench.snapshot();
        let dimm = range(REAL_WINDOW, GIB);
        bench.plug(dimm);
        assert_eq!(bench.add(dimm, placement).system_bytes, 0);
        bench.online(dimm);
        let head = FakeMachine::<Lmb>::pfn(dimm.start());
        let group = bench.mm.group(head);
        assert_eq!(
            group.map(|group| (group.sections, group.pfns.pages())),
            Some((sections, pages))
        );
        let memmap = bench.mm.stats().pages.memmap;
        assert_eq!(memmap, 16);

        // Every page, one by one, including those that share a subsection with the memmap.
        let all: Vec<_> = std::iter::from_fn(|| bench.alloc_movable_zone(Order::ZERO)).collect();
        assert_eq!(all.len() as u64, GIB / (64 * KIB) - memmap);
        assert!(all.contains(&head.add(pages)) && !all.contains(&head.add(pages - 1)));
        bench.check();
        all.into_iter().for_each(|pfn| assert_eq!(bench.mm.free_pages(pfn), Ok(())));
        bench.offline(dimm);
        bench.remove(dimm);
        assert_same(&before, &bench.snapshot());
        bench.unplug(dimm);
    }
}
