//! The loops that the Linux Test Project and the kernel's selftests run over memory blocks: all online,
//! a share of them offline while memory is in use, toggled, node by node.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use hotmem::testing::{Bench, Holder, Random, Tiny, range};
use hotmem::{BlockId, BlockState, NodeId, OfflineOp, Order, Placement, Stepped, ZoneKind};
use hotmem_tests::memory::{MIB, TINY_WINDOW, block_range, shuffle, tiny};

const BLOCKS: u64 = 50;

struct Rig {
    bench: Bench<Tiny>,
    holder: &'static Holder<Tiny>,
    random: Random,
    blocks: Vec<BlockId>,
}

/// Fifty movable blocks, on two nodes in turns, of every placement.
fn rig(seed: u64) -> Rig {
    let bench = tiny(MIB);
    let holder = Holder::register(&bench);
    let dimm = range(TINY_WINDOW, BLOCKS * MIB);
    bench.plug(dimm);
    let mut random = Random::new(seed);
    let blocks = bench.blocks(dimm);
    for (raw, &id) in (0..).zip(&blocks) {
        let node = NodeId::new(raw % 2).unwrap();
        let placement = *random.pick(&Placement::ALL);
        bench.mm.hot_add(block_range(&bench, id), node, placement).unwrap();
        bench.mm.online(id, ZoneKind::Movable).unwrap();
    }
    bench.check();
    Rig { bench, holder, random, blocks }
}

impl Rig {
    /// Allocates and frees some extents; about `pages` are held in the end.
    fn churn(&mut self, rounds: u64, pages: u64) {
        let mut handles = self.holder.handles();
        let size = |rig: &Self, handle| rig.holder.at(handle).unwrap().1.pages();
        let mut held: u64 = handles.iter().map(|&handle| size(self, handle)).sum();
        for _ in 0..rounds {
            if held < pages || handles.is_empty() {
                let order = Order::new(self.random.below(5) as u8).unwrap();
                if let Some(handle) = self.holder.take_in_zone(&self.bench, order) {
                    handles.push(handle);
                    held += order.pages();
                }
            } else {
                let at = self.random.below(handles.len() as u64) as usize;
                let handle = handles.swap_remove(at);
                held -= size(self, handle);
                self.holder.release(&self.bench, handle);
            }
        }
    }

    /// Takes a block offline in small steps, with memory allocated and freed between them.
    fn offline_under_stress(&mut self, id: BlockId, pages: u64) {
        let bound = OfflineOp::bound(&self.bench.mm);
        // A second handle on the manager, so that the rest of the rig can be used during the offline.
        let handles = self.holder.handles();
        let mut spare = handles.into_iter().rev().take(20).collect::<Vec<_>>();
        let mut op = self.bench.mm.start_offline(id).unwrap();
        let mut taken = Vec::new();
        loop {
            assert!(op.progress().steps <= bound);
            match op.step(1 + self.random.below(9)).unwrap() {
                Stepped::Going(more) => op = more,
                Stepped::Done => break,
            }
            if self.random.one_in(2) {
                if let Some(handle) = spare.pop() {
                    self.holder.release(&self.bench, handle);
                }
            } else if taken.len() < 20 {
                taken.extend(self.holder.take_in_zone(&self.bench, Order::ZERO));
            }
        }
        let block = self.bench.mm.block(id).unwrap();
        assert_eq!(block.state, BlockState::Offline);
        self.holder.check(&self.bench);
        self.churn(10, pages);
    }

    fn online_all(&self) {
        for &id in &self.blocks {
            if self.bench.mm.block(id).unwrap().state == BlockState::Offline {
                self.bench.mm.online(id, ZoneKind::Movable).unwrap();
            }
        }
    }
}

#[test]
fn a_share_of_all_blocks_goes_offline_while_memory_is_allocated_and_freed() {
    let mut rig = rig(1);
    for percent in [2, 25, 50, 75] {
        // A tenth of the remaining memory is in use: there is always room elsewhere.
        let pages = BLOCKS * 256 * (100 - percent) / 1000;
        rig.churn(800, pages);
        let mut going = rig.blocks.clone();
        shuffle(&mut going, &mut rig.random);
        going.truncate((BLOCKS * percent / 100) as usize);
        for id in going {
            rig.offline_under_stress(id, pages);
        }
        rig.bench.check();
        let (online, offline) = rig.bench.mm.stats().blocks;
        assert_eq!(
            (online, offline),
            (16 + BLOCKS - BLOCKS * percent / 100, BLOCKS * percent / 100)
        );
        rig.online_all();
        rig.bench.check();
    }
    assert!(rig.holder.moves().0 > 100, "hardly anything moved");
    // All of them, once no page needs a movable zone: the remaining pages are migrated to system memory.
    rig.churn(4000, 1000);
    for handle in rig.holder.handles().into_iter().skip(50) {
        rig.holder.release(&rig.bench, handle);
    }
    for &id in &rig.blocks {
        rig.bench.mm.offline(id).unwrap();
        assert_eq!(rig.bench.mm.block(id).unwrap().state, BlockState::Offline);
    }
    rig.holder.check(&rig.bench);
    rig.bench.check();
    assert_eq!(rig.bench.mm.stats().blocks, (16, BLOCKS));
    assert!(rig.bench.mm.zones().all(|zone| zone.kind == ZoneKind::System));
}

#[test]
fn each_block_is_toggled_many_times_while_memory_is_in_use() {
    let mut rig = rig(2);
    rig.churn(800, 3000);
    for round in 0..4 {
        for nth in 0..rig.blocks.len() {
            let id = rig.blocks[nth];
            rig.bench.mm.offline(id).unwrap();
            let kind = if round % 2 == 0 { ZoneKind::Normal } else { ZoneKind::Movable };
            rig.bench.mm.online(id, kind).unwrap();
            rig.churn(3, 3000);
        }
        rig.holder.check(&rig.bench);
        rig.bench.check();
    }
}

#[test]
fn the_pages_of_a_node_are_migrated_to_the_other_and_back() {
    let mut rig = rig(3);
    rig.churn(800, 2000);
    for raw in [1, 0, 1, 0] {
        let node = NodeId::new(raw).unwrap();
        let mine = |id: &&BlockId| rig.bench.mm.block(**id).unwrap().node == node;
        for &id in rig.blocks.iter().filter(mine) {
            rig.bench.mm.offline(id).unwrap();
        }
        rig.holder.check(&rig.bench);
        rig.bench.check();
        let movable = |zone: &hotmem::ZoneInfo| zone.kind == ZoneKind::Movable;
        let nodes: Vec<_> = rig.bench.mm.zones().filter(movable).map(|zone| zone.node).collect();
        assert_eq!(nodes, [NodeId::new(1 - raw).unwrap()]);
        rig.online_all();
        rig.bench.check();
    }
}
