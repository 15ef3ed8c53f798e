//! The pages that a crash dump saves: descriptors always, contents only of pages that may be read.

use hotmem::testing::{Bench, Setup, Tiny, range};
use hotmem::{BlockId, Content, DumpRun, Order, Owner, Pfn, PfnRange, Piece, Placement, TakeList};
use hotmem_tests::memory::{MIB, TINY_WINDOW};

fn bench() -> Bench<Tiny> {
    Bench::new(&Setup {
        ram: vec![(0, 16 * MIB, 0)],
        block: MIB,
        window: (TINY_WINDOW, 64 * MIB),
        kernelcore: Some(8 * MIB),
    })
}

fn dump(bench: &Bench<Tiny>) -> Vec<DumpRun> {
    let mut runs = Vec::new();
    bench.mm.dump(&mut |run| runs.push(run));
    runs
}

fn content_of(runs: &[DumpRun], pfn: Pfn) -> Option<Content> {
    runs.iter().find(|run| run.pfns.contains(pfn)).map(|run| run.content)
}

fn first(block: u64) -> Pfn {
    Pfn::new(block * MIB / 4096)
}

#[test]
fn runs_ascend_and_are_as_long_as_they_can_be() {
    let bench = bench();
    let held: Vec<_> =
        (0..30).map(|i| bench.mm.take_pages(Order::new(i % 3).unwrap()).unwrap()).collect();
    bench.mm.free_pages(held[4]).unwrap();
    let runs = dump(&bench);
    for pair in runs.windows(2) {
        assert!(pair[0].pfns.end <= pair[1].pfns.start);
        let same = pair[0].content == pair[1].content && pair[0].pfns.end == pair[1].pfns.start;
        assert!(!same, "{pair:?} could be one");
    }
    let pages: u64 = runs.iter().map(|run| run.pfns.pages()).sum();
    assert_eq!(pages, 16 * MIB / 4096);
    assert_eq!(content_of(&runs, held[4]), Some(Content::Free));
    assert_eq!(content_of(&runs, held[5]), Some(Content::Used(Owner::Kernel)));
}

#[test]
fn at13_memmap_pages_are_dumped_and_those_marked_offline_are_not() {
    let bench = bench();
    let dimm = range(TINY_WINDOW, 4 * MIB);
    for placement in [Placement::PerRange, Placement::PerBlock] {
        bench.plug(dimm);
        bench.add(dimm, placement);
        let memmaps: Vec<PfnRange> = bench
            .blocks(dimm)
            .iter()
            .filter_map(|&id| bench.mm.group(bench.mm.block(id)?.group?))
            .map(|group| group.pfns)
            .collect();
        for online in [false, true] {
            if online {
                bench.online(dimm);
            }
            let runs = dump(&bench);
            for pfn in hotmem_pages(64..68) {
                let memmap = memmaps.iter().any(|memmap| memmap.contains(pfn));
                let expected = match (memmap, online) {
                    (true, _) => Some(Content::Memmap),
                    (false, true) => Some(Content::Free),
                    (false, false) => None,
                };
                assert_eq!(content_of(&runs, pfn), expected, "{pfn}");
            }
        }
        bench.offline(dimm);
        bench.remove(dimm);
        bench.unplug(dimm);
    }

    bench.mm.offline(BlockId::new(10)).unwrap();
    let pieces: Vec<Piece> = TakeList::parse("0:10").unwrap().pieces().to_vec();
    bench.mm.take(&pieces).unwrap();
    let contig = bench.mm.take_contig(hotmem::NodeId::ZERO, 2 * MIB).unwrap();
    let runs = dump(&bench);
    let taken = bench.blocks(contig);
    for pfn in hotmem_pages(8..16) {
        let block = BlockId::new(pfn.get() * 4096 / MIB);
        let left_out = block == BlockId::new(10) || taken.contains(&block);
        assert_eq!(content_of(&runs, pfn).is_none(), left_out, "{pfn}");
    }
}

#[test]
fn a_bad_page_is_not_read_by_a_dump() {
    let bench = bench();
    let bad = first(12).add(7);
    bench.mm.poison(bad).unwrap();
    let runs = dump(&bench);
    assert_eq!(content_of(&runs, bad), None);
    assert_eq!(content_of(&runs, bad.add(1)), Some(Content::Free));
}

/// Every page of some blocks.
fn hotmem_pages(blocks: core::ops::Range<u64>) -> impl Iterator<Item = Pfn> {
    (first(blocks.start).get()..first(blocks.end).get()).map(Pfn::new)
}
