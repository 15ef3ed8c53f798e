//! The frames of the table reserve: the pieces of RAM that they come from, and the handling of bad frames.

// UNSAFETY: vouches for the frames of a fake early allocator.
#![expect(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::collections::BTreeSet;

use hotmem::paging::Mapper;
use hotmem::testing::{Bench, FakeEarly, FakeMachine, Lmb, Setup, Shape, Tiny, TinyShared, range};
use hotmem::{
    BlockSize, BootMemory, EarlyFrames, Geometry, NodeId, Owner, PageState, Pfn, PhysAddr,
    PhysRange, Placement, PoisonError, Quarantined,
};
use hotmem_tests::memory::{GIB, KIB, MIB, TINY_WINDOW, assert_same, small, tiny_without_reserve};

/// RAM in pieces: at most this many contiguous bytes, except for memmaps.
struct Pieces(FakeEarly, u64);

// SAFETY: every guarantee is the inner allocator's, which this one restricts.
unsafe impl EarlyFrames for Pieces {
    fn take(&mut self, bytes: u64, align: u64) -> Option<PhysAddr> {
        let fits = bytes <= self.1 || align > 4 * KIB;
        fits.then(|| self.0.take(bytes, align)).flatten()
    }

    fn free_ranges(&self, each: &mut dyn FnMut(PhysRange)) {
        self.0.free_ranges(each);
    }
}

/// A tiny machine with a large window, whose RAM has at most `pages` contiguous pages.
fn in_pieces(pages: u64) -> Bench<Tiny> {
    let ram = range(0, 16 * MIB);
    let (machine, early) = FakeMachine::start(&[ram], MIB);
    let bench = Bench::over(machine);
    let memory = BootMemory {
        ram: &[(ram, NodeId::ZERO)],
        block_size: BlockSize::new::<FakeMachine<Tiny>>(MIB).unwrap(),
        window: &[range(GIB / 2, GIB)],
        kernelcore: None,
    };
    bench.mm.start(&memory, &mut Pieces(early, pages * 4 * KIB)).unwrap();
    bench.check();
    bench
}

#[test]
fn the_reserve_is_made_of_as_many_pieces_of_ram_as_it_needs() {
    let wanted = in_pieces(1000).mm.stats().reserve;
    assert!((8..=32).contains(&wanted), "{wanted}");
    for pages in [wanted - 1, wanted / 2, 3, 1] {
        let bench = in_pieces(pages);
        let before = bench.snapshot();
        assert_eq!((bench.mm.stats().reserve, bench.mm.stats().reserve_free), (wanted, wanted));
        // All tables that the window can need are reserved.
        let window = range(GIB / 2, GIB);
        bench.plug(window);
        for _ in 0..2 {
            assert_eq!(bench.add(window, Placement::PerBlock).system_bytes, 0);
            assert!(bench.mm.stats().reserve_free < 2);
            bench.remove(window);
            assert_same(&before, &bench.snapshot());
        }
    }
}

#[test]
fn ram_in_many_pieces_holds_the_same_reserve_as_ram_in_one_piece() {
    // 1152 pages in one piece, and in 128 pieces of 36 KiB with a page between them.
    let window = range(GIB / 2, 512 * MIB);
    let reserves = [(1, 1152), (128, 9)].map(|(pieces, pages)| {
        let ram = (0..pieces).map(|n| (n * (pages + 1) * 4 * KIB, pages * 4 * KIB, 0)).collect();
        let window_of = (window.start().get(), window.len());
        let setup = Setup { ram, block: MIB, window: window_of, kernelcore: None };
        let bench = Bench::<Tiny>::new(&setup);
        let reserve = bench.mm.stats().reserve_free;
        let dimm = range(window.start().get(), 64 * MIB);
        bench.plug(dimm);
        assert_eq!(bench.add(dimm, Placement::PerBlock).system_bytes, 0, "{pieces} pieces");
        reserve
    });
    assert!(reserves[0] > 0 && reserves[0] == reserves[1], "{reserves:?}");
}

/// The pages that hold tables.
fn table_pages<S: Shape>(bench: &Bench<S>) -> BTreeSet<Pfn> {
    let mut pages = BTreeSet::new();
    let mapper = bench.mm.tables();
    mapper.visit_tables(&mut |table| _ = pages.insert(FakeMachine::<S>::pfn(table.frame)));
    pages
}

/// Adds and removes `blocks` blocks at `at` a few times: no table may be in a page of `bad`.
fn come_and_go<S: Shape>(bench: &Bench<S>, at: u64, blocks: u64, bad: &BTreeSet<Pfn>) {
    let dimm = range(at, blocks * bench.mm.block_size().bytes());
    bench.plug(dimm);
    let before = bench.snapshot();
    for placement in Placement::ALL {
        bench.add(dimm, placement);
        assert!(table_pages(bench).is_disjoint(bad));
        bench.online(dimm);
        bench.offline(dimm);
        bench.remove(dimm);
        assert_same(&before, &bench.snapshot());
    }
    bench.unplug(dimm);
}

#[test]
fn a_free_page_of_the_reserve_that_is_bad_is_never_used() {
    fn check<S: Shape>(bench: &Bench<S>, ram: u64, at: u64) {
        // Some were used before, and were freed.
        come_and_go(bench, at, 3, &BTreeSet::new());
        let (free, mut bad) = (bench.mm.stats().reserve_free, BTreeSet::new());
        for pfn in FakeMachine::<S>::pfns(range(0, ram)).iter() {
            let info = bench.mm.page_info(pfn).unwrap();
            let head = info.head.and_then(|head| bench.mm.page_info(head)?.state);
            let boot = matches!(head, Some(PageState::Used { owner: Owner::Boot, .. }));
            // Every second one, so that good and bad ones alternate.
            if !boot || pfn.get() % 2 == 0 {
                continue;
            }
            match bench.mm.poison(pfn) {
                Ok(kind) => {
                    assert_eq!((kind, bad.insert(pfn)), (Quarantined::Page, true));
                    assert_eq!(bench.mm.poison(pfn), Err(PoisonError::Already(pfn)));
                }
                Err(error) => assert_eq!(error, PoisonError::InUse(pfn, Owner::Boot, "boot")),
            }
        }
        bench.check();
        assert!(!bad.is_empty());
        assert_eq!(bench.mm.stats().reserve_free, free - bad.len() as u64);
        for blocks in [3, 8] {
            come_and_go(bench, at, blocks, &bad);
        }
        let left = bench.mm.stats().reserve_free;
        assert_eq!(left, free - bad.len() as u64, "all good ones are still there");
    }
    check(&small::<Tiny>(MIB), 16 * MIB, TINY_WINDOW);
    check(&small::<TinyShared>(MIB), 16 * MIB, TINY_WINDOW);
    check(&lmb(64 * GIB), 256 * MIB, GIB);
}

/// A machine whose tables share pages, with `window` bytes of DIMMs from 1 GiB on.
fn lmb(window: u64) -> Bench<Lmb> {
    let ram = vec![(0, 256 * MIB, 0)];
    Bench::new(&Setup { ram, block: 256 * MIB, window: (GIB, window), kernelcore: None })
}

#[test]
fn a_bad_page_with_tables_is_out_of_use_once_the_tables_are_freed() {
    fn check<S: Shape>(bench: &Bench<S>, at: u64) {
        let block = bench.mm.block_size().bytes();
        let (low, high) = (range(at, 3 * block), range(at + 40 * block, 3 * block));
        bench.plug(low);
        bench.plug(high);
        let tables = table_pages(bench);
        bench.add(low, Placement::PerBlock);
        let before = bench.snapshot();
        bench.add(high, Placement::Boot);
        bench.online(low);
        let mut bad = BTreeSet::new();
        for &pfn in table_pages(bench).difference(&tables) {
            assert_eq!(bench.mm.poison(pfn), Ok(Quarantined::Table), "{pfn}");
            assert_eq!(bench.mm.poison(pfn), Err(PoisonError::Already(pfn)));
            bad.insert(pfn);
            bench.check();
        }
        assert!(!bad.is_empty());
        // The tables still work, and new tables are not placed in those pages.
        let held = table_pages(bench);
        let middle = range(at + 16 * block, block);
        bench.plug(middle);
        bench.add(middle, Placement::PerBlock);
        assert!(table_pages(bench).difference(&held).all(|pfn| !bad.contains(pfn)));
        bench.remove(middle);
        bench.remove(high);
        assert_ne!(before, bench.snapshot(), "the pages are lost");
        bench.offline(low);
        bench.remove(low);
        assert_eq!(table_pages(bench), tables);
        come_and_go(bench, at + 8 * block, 3, &bad);
    }
    for reserve in [true, false] {
        let bench = if reserve { small::<Tiny>(MIB) } else { tiny_without_reserve(MIB) };
        check(&bench, TINY_WINDOW);
        check(&lmb(if reserve { 64 * GIB } else { 0 }), GIB);
    }
}

#[test]
fn other_pages_of_the_system_that_are_in_use_are_refused_by_their_owners_name() {
    let bench = small::<Tiny>(MIB);
    let dimm = range(TINY_WINDOW, MIB);
    bench.plug(dimm);
    bench.add(dimm, Placement::Boot);
    bench.check();
    let virt = bench.mm.memmap_virt(FakeMachine::<Tiny>::pfns(dimm));
    let memmap = bench.mm.tables().translate(virt.start()).unwrap();
    let pfn = FakeMachine::<Tiny>::pfn(memmap.phys);
    assert_eq!(bench.mm.poison(pfn), Err(PoisonError::InUse(pfn, Owner::Memmap, "memmap")));
    let root = FakeMachine::<Tiny>::pfn(PhysAddr::new(0));
    assert_eq!(bench.mm.poison(root), Err(PoisonError::InUse(root, Owner::Boot, "boot")));
    bench.check();
}
