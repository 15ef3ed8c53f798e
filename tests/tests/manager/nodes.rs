//! Nodes and zones appear with their first memory and disappear with their last; spans and counts are exact, for any
//! interleaving of nodes and any order of removal.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::collections::BTreeMap;

use hotmem::testing::{Bench, Random, Setup, Tiny, range};
use hotmem::{
    BlockId, BlockState, MAX_NODES, NodeId, NodeInfo, PageCounts, Pfn, PfnRange, Placement,
    ZoneKind,
};
use hotmem_tests::memory::{MIB, TINY_WINDOW, assert_same, block_range, shuffle, tiny};

/// Pages of a block, and of its memmap if the block holds it.
const BLOCK: u64 = 256;
const MEMMAP: u64 = 4;
/// The first block of the window.
const FIRST: u64 = TINY_WINDOW / MIB;

fn node(raw: u32) -> NodeId {
    NodeId::new(raw).unwrap()
}

/// Adds block `nth` of the window to a node.
fn add(bench: &Bench<Tiny>, nth: u64, raw: u32, placement: Placement) -> BlockId {
    let id = BlockId::new(FIRST + nth);
    bench.mm.hot_add(block_range(bench, id), node(raw), placement).unwrap();
    id
}

fn pfns(id: BlockId) -> PfnRange {
    PfnRange::new(Pfn::new(id.get() * BLOCK), BLOCK)
}

fn info(bench: &Bench<Tiny>, raw: u32) -> Option<NodeInfo> {
    bench.mm.nodes().find(|info| info.node == node(raw))
}

/// The expected state of the added memory: the zone of each block.
#[derive(Default)]
struct Model(BTreeMap<u64, (u32, Placement, Option<ZoneKind>)>);

impl Model {
    /// Compares nodes 1 and up, which have no boot memory, with the sums of their blocks.
    #[track_caller]
    fn compare(&self, bench: &Bench<Tiny>) {
        let mut zones: BTreeMap<(u32, ZoneKind), (PfnRange, PageCounts)> = BTreeMap::new();
        let mut nodes: BTreeMap<u32, u64> = BTreeMap::new();
        for (&raw, &(node, placement, kind)) in &self.0 {
            *nodes.entry(node).or_default() += 1;
            let Some(kind) = kind else { continue };
            let memmap = if placement.self_hosted() { MEMMAP } else { 0 };
            let managed = BLOCK - memmap;
            let counts = PageCounts { present: BLOCK, managed, memmap, free: managed };
            let zone = zones.entry((node, kind)).or_default();
            *zone = (zone.0.hull(pfns(BlockId::new(raw))), zone.1.plus(counts));
        }
        let found: BTreeMap<_, _> = bench
            .mm
            .zones()
            .filter(|zone| zone.node != NodeId::ZERO)
            .map(|zone| ((zone.node.get(), zone.kind), (zone.span, zone.counts)))
            .collect();
        assert_eq!(found, zones);
        let found = bench.mm.nodes().filter(|info| info.node != NodeId::ZERO);
        let found = found.map(|info| (info.node, info.blocks, info.span, info.counts));
        let expected = nodes.iter().map(|(&raw, &blocks)| {
            let mine = zones.iter().filter(|((node, _), _)| *node == raw).map(|(_, zone)| *zone);
            let (span, counts) = mine
                .fold((PfnRange::EMPTY, PageCounts::default()), |(span, counts), zone| {
                    (span.hull(zone.0), counts.plus(zone.1))
                });
            (node(raw), blocks, span, counts)
        });
        assert!(found.eq(expected));
        bench.check();
    }
}

#[test]
fn a_node_appears_with_its_first_memory_and_disappears_with_its_last() {
    let bench = tiny(MIB);
    bench.plug(range(TINY_WINDOW, 2 * MIB));
    let before = bench.snapshot();
    assert_eq!(bench.mm.nodes().map(|info| info.node).collect::<Vec<_>>(), [NodeId::ZERO]);

    let blocks = [0, 1].map(|nth| add(&bench, nth, 5, Placement::PerBlock));
    let added = info(&bench, 5).unwrap();
    assert_eq!(
        (added.blocks, added.span, added.counts),
        (2, PfnRange::EMPTY, PageCounts::default())
    );
    bench.mm.online(blocks[1], ZoneKind::Movable).unwrap();
    assert_eq!(info(&bench, 5).unwrap().span, pfns(blocks[1]));
    bench.mm.offline(blocks[1]).unwrap();
    assert_eq!(info(&bench, 5), Some(added));

    bench.remove(block_range(&bench, blocks[0]));
    assert_eq!(info(&bench, 5).map(|info| info.blocks), Some(1));
    bench.remove(block_range(&bench, blocks[1]));
    assert_eq!(info(&bench, 5), None);
    assert_same(&before, &bench.snapshot());
}

#[test]
fn memory_of_a_failed_add_makes_no_node() {
    let bench = tiny(MIB);
    let dimm = range(TINY_WINDOW, MIB);
    bench.plug(dimm);
    bench.mm.machine().plan().arm(1);
    assert!(bench.mm.hot_add(dimm, node(9), Placement::Boot).is_err());
    bench.mm.machine().plan().disarm();
    assert_eq!(info(&bench, 9), None);
    bench.check();
}

#[test]
fn memmap_pages_are_present_and_not_managed_in_the_zone_of_their_block() {
    let bench = tiny(MIB);
    bench.plug(range(TINY_WINDOW, 4 * MIB));
    // One memmap of 16 pages, all of it in the first block; the blocks are in two zones.
    bench.mm.hot_add(range(TINY_WINDOW, 4 * MIB), node(1), Placement::PerRange).unwrap();
    let kinds = [ZoneKind::Normal, ZoneKind::Normal, ZoneKind::Movable, ZoneKind::Movable];
    for (raw, kind) in (FIRST..).zip(kinds) {
        bench.mm.online(BlockId::new(raw), kind).unwrap();
    }
    let zones: Vec<_> = bench.mm.zones().filter(|zone| zone.node == node(1)).collect();
    assert_eq!(zones.iter().map(|zone| zone.counts.memmap).collect::<Vec<_>>(), [16, 0]);
    let managed: Vec<_> = zones.iter().map(|zone| zone.counts.managed).collect();
    assert_eq!(managed, [2 * BLOCK - 16, 2 * BLOCK]);
    assert!(zones.iter().all(|zone| zone.counts.present == 2 * BLOCK));
    bench.check();
}

/// All orders of three things.
const ORDERS: [[usize; 3]; 6] = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];

#[test]
fn e22_interleaved_nodes_keep_their_spans_and_counts_in_every_order_of_add_and_remove() {
    for placement in Placement::ALL {
        let bench = tiny(MIB);
        bench.plug(range(TINY_WINDOW, 3 * MIB));
        let before = bench.snapshot();
        for coming in ORDERS {
            for going in ORDERS {
                let mut model = Model::default();
                for (nth, raw) in [(0, 1), (1, 2), (2, 1)] {
                    let id = add(&bench, nth, raw, placement);
                    model.0.insert(id.get(), (raw, placement, None));
                }
                let id = |nth: usize| BlockId::new(FIRST + nth as u64);
                for nth in coming {
                    bench.mm.online(id(nth), ZoneKind::Movable).unwrap();
                    model.0.entry(id(nth).get()).and_modify(|b| b.2 = Some(ZoneKind::Movable));
                    model.compare(&bench);
                }
                for nth in going {
                    bench.mm.offline(id(nth)).unwrap();
                    model.0.entry(id(nth).get()).and_modify(|b| b.2 = None);
                    model.compare(&bench);
                    bench.remove(block_range(&bench, id(nth)));
                    model.0.remove(&id(nth).get());
                    model.compare(&bench);
                }
                assert_same(&before, &bench.snapshot());
            }
        }
    }
}

#[test]
fn e22_spans_and_counts_of_many_blocks_on_four_nodes_follow_each_change() {
    for seed in 0..4 {
        let bench = tiny(MIB);
        bench.plug(range(TINY_WINDOW, 24 * MIB));
        let mut random = Random::new(seed);
        let mut model = Model::default();
        for nth in 0..24 {
            let (raw, placement) = (1 + random.below(4) as u32, *random.pick(&Placement::ALL));
            let id = add(&bench, nth, raw, placement);
            model.0.insert(id.get(), (raw, placement, None));
        }
        for _ in 0..200 {
            let id = BlockId::new(FIRST + random.below(24));
            let kind = *random.pick(&[ZoneKind::Normal, ZoneKind::Movable]);
            match model.0.get(&id.get()) {
                Some(&(raw, placement, None)) if random.one_in(4) => {
                    bench.remove(block_range(&bench, id));
                    model.0.remove(&id.get());
                    model.compare(&bench);
                    add(&bench, id.get() - FIRST, raw, placement);
                    model.0.insert(id.get(), (raw, placement, None));
                }
                Some((.., None)) => {
                    bench.mm.online(id, kind).unwrap();
                    model.0.entry(id.get()).and_modify(|block| block.2 = Some(kind));
                }
                _ => {
                    bench.mm.offline(id).unwrap();
                    model.0.entry(id.get()).and_modify(|block| block.2 = None);
                }
            }
            model.compare(&bench);
        }
    }
}

#[test]
fn boot_memory_of_several_nodes_has_spans_of_whole_blocks() {
    let ram =
        vec![(0, 0x9_f000, 0), (MIB, 7 * MIB, 0), (8 * MIB, 4 * MIB, 3), (12 * MIB, 3 * MIB, 0)];
    let window = (TINY_WINDOW, 64 * MIB);
    let bench: Bench<Tiny> = Bench::new(&Setup { ram, block: MIB, window, kernelcore: None });
    let spans: Vec<_> =
        bench.mm.nodes().map(|info| (info.node.get(), info.blocks, info.span)).collect();
    let span = |first: u64, end: u64| PfnRange::new(Pfn::new(first * BLOCK), (end - first) * BLOCK);
    assert_eq!(spans, [(0, 11, span(0, 15)), (3, 4, span(8, 12))]);
}

#[test]
fn a_machine_can_have_128_nodes_and_no_more() {
    assert_eq!(NodeId::new(MAX_NODES as u32), None);
    let bench = tiny(MIB);
    let dimm = range(TINY_WINDOW, 2 * 128 * MIB);
    bench.plug(dimm);
    let before = bench.snapshot();
    let mut model = Model::default();
    // Two blocks for each node, 128 apart.
    let mut blocks: Vec<_> =
        (0..256).map(|nth| add(&bench, nth, nth as u32 % 128, Placement::PerBlock)).collect();
    for &id in &blocks {
        let raw = (id.get() - FIRST) as u32 % 128;
        let kind = if raw.is_multiple_of(2) { ZoneKind::Normal } else { ZoneKind::Movable };
        bench.mm.online(id, kind).unwrap();
        if raw > 0 {
            model.0.insert(id.get(), (raw, Placement::PerBlock, Some(kind)));
        }
    }
    model.compare(&bench);
    assert_eq!(bench.mm.nodes().count(), 128);
    shuffle(&mut blocks, &mut Random::new(3));
    for (count, id) in blocks.into_iter().enumerate() {
        bench.mm.offline(id).unwrap();
        assert_eq!(bench.mm.block(id).unwrap().state, BlockState::Offline);
        bench.mm.remove(block_range(&bench, id)).unwrap();
        model.0.remove(&id.get());
        if count % 16 == 0 {
            model.compare(&bench);
        }
    }
    assert_same(&before, &bench.snapshot());
}
