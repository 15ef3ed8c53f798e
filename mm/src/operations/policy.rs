//! The policy: the state that added memory gets automatically, and whether it may hold its own memmap.
//!
//! Both can be changed at any time, and apply to memory that is added later.

use crate::addr::{PhysAddr, PhysRange};
use crate::alloc::node::{NodeId, Nodes};
use crate::alloc::zone::ZoneKind;
use crate::machine::Machine;
use crate::memmap::Memmap;
use crate::memmap::block::{BlockId, BlockState};
use crate::operations::Operations;
use crate::operations::knobs::{AutoOnline, Knobs, OnlineAs};

impl<M: Machine> Operations<M> {
    /// The settings.
    pub(crate) const fn knobs(&self) -> &Knobs {
        &self.knobs
    }

    /// See [`Mm::auto_zone`](crate::Mm::auto_zone).
    pub(crate) fn auto_zone(&self, ranges: &[PhysRange], node: NodeId) -> Option<ZoneKind> {
        let way = match self.knobs.auto_online() {
            AutoOnline::Offline => return None,
            AutoOnline::Online(way) => way,
            AutoOnline::AutoMovable { ratio } => {
                let pages = ranges.iter().map(|&range| M::pfns(range).pages());
                let pages = pages.fold(0, u64::saturating_add);
                // Past the ratio the kernel's zone, even if the neighbour's zone is another: that one may be
                // movable.
                match movable_share_allows::<M>(&self.allocator.nodes, pages, ratio) {
                    true => OnlineAs::Movable,
                    false => OnlineAs::Kernel,
                }
            }
        };
        Some(self.zone_of(ranges.first().copied().unwrap_or_default(), node, way))
    }

    /// See [`Mm::zone_of`](crate::Mm::zone_of).
    pub(crate) fn zone_of(&self, range: PhysRange, node: NodeId, way: OnlineAs) -> ZoneKind {
        match way {
            OnlineAs::Kernel => ZoneKind::Normal,
            OnlineAs::Movable => ZoneKind::Movable,
            OnlineAs::Default => {
                let memmap = &self.allocator.memmap;
                let [start, end] = [range.start(), range.end()];
                let [first, behind] = [start, end].map(|at| memmap.block_at(at).get());
                // A block in which the range begins or ends is a neighbour, too, if it has other memory.
                let inside = |at: PhysAddr| !at.get().is_multiple_of(memmap.block_size().bytes());
                let below = [inside(start).then_some(first), first.checked_sub(1)];
                let above = [Some(behind), behind.checked_add(1).filter(|_| inside(end))];
                let mut nearest = below.into_iter().chain(above).flatten();
                nearest.find_map(|raw| neighbour(memmap, raw, node)).unwrap_or(ZoneKind::Normal)
            }
        }
    }
}

/// The zone of an online block on `node`. That of system memory is not used for added memory.
fn neighbour<M: Machine>(memmap: &Memmap<M>, raw: u64, node: NodeId) -> Option<ZoneKind> {
    let block = memmap.block(BlockId::new(raw)).filter(|block| block.node == node)?;
    match block.state {
        BlockState::Online(ZoneKind::System) | BlockState::Offline => None,
        BlockState::Online(kind) => Some(kind),
    }
}

/// Whether `pages` more movable ones are within the ratio.
fn movable_share_allows<M: Machine>(nodes: &Nodes<M::Nodes>, pages: u64, ratio: u32) -> bool {
    let present = |kind| {
        let zones = nodes.populated(kind).map(|node| nodes.lock(node, kind).counts().present);
        zones.map(u128::from).sum::<u128>()
    };
    let movable = u128::from(pages) + present(ZoneKind::Movable);
    let other = present(ZoneKind::System) + present(ZoneKind::Normal);
    movable * 100 <= other * u128::from(ratio)
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use crate::memmap::placement::Placement;
    use crate::operations::knobs::UnknownPolicy;
    use crate::testing::{Bench, Setup, Tiny, range};
    use std::string::ToString;
    use std::vec;

    const MIB: u64 = 1 << 20;

    fn bench() -> Bench<Tiny> {
        let ram = vec![(0, 16 * MIB, 0)];
        Bench::new(&Setup { ram, block: MIB, window: (64 * MIB, 64 * MIB), kernelcore: None })
    }

    #[test]
    fn every_policy_is_kept_as_it_was_set_and_read_back_as_it_was_written() {
        let bench = bench();
        assert_eq!(bench.mm.auto_online(), AutoOnline::default());
        for name in ["offline", "online", "online_kernel", "online_movable", "auto_movable"] {
            let policy: AutoOnline = name.parse().unwrap();
            bench.mm.set_auto_online(policy);
            assert_eq!(bench.mm.auto_online(), policy);
            assert!(policy.to_string().starts_with(name));
        }
        let policy = AutoOnline::AutoMovable { ratio: 77 };
        bench.mm.set_auto_online(policy);
        assert_eq!(bench.mm.auto_online(), policy);
        assert_eq!("movable".parse::<AutoOnline>(), Err(UnknownPolicy));
    }

    #[test]
    fn memory_comes_online_in_the_zone_of_its_neighbour() {
        let bench = bench();
        let dimm = range(64 * MIB, 4 * MIB);
        bench.plug(dimm);
        bench.add(dimm, crate::Placement::PerBlock);
        let zone = |at, len| bench.mm.zone_of(range(at, len), NodeId::ZERO, OnlineAs::Default);
        assert_eq!(zone(64 * MIB, 4 * MIB), ZoneKind::Normal);
        bench.mm.online(BlockId::new(65), ZoneKind::Movable).unwrap();
        assert_eq!(zone(66 * MIB, MIB), ZoneKind::Movable);
        assert_eq!(zone(64 * MIB, MIB), ZoneKind::Movable);
        assert_eq!(zone(67 * MIB, MIB), ZoneKind::Normal);
        let elsewhere = NodeId::new(1).unwrap();
        let other = bench.mm.zone_of(range(66 * MIB, MIB), elsewhere, OnlineAs::Default);
        assert_eq!(other, ZoneKind::Normal);
    }

    #[test]
    fn a_range_that_begins_or_ends_inside_a_block_has_the_neighbours_of_whole_blocks() {
        let bench = bench();
        let quarter = MIB / 4;
        bench.plug(range(64 * MIB, 8 * MIB));
        let zone = |at, len| bench.mm.zone_of(range(at, len), NodeId::ZERO, OnlineAs::Default);
        // The only memory that is online is block 68.
        bench.add(range(68 * MIB, MIB), Placement::PerBlock);
        bench.mm.online(BlockId::new(68), ZoneKind::Movable).unwrap();
        for len in [MIB, MIB - quarter, quarter] {
            assert_eq!(zone(67 * MIB, len), ZoneKind::Movable, "below, {len:#x} bytes");
            assert_eq!(zone(70 * MIB - len, len), ZoneKind::Movable, "above, {len:#x} bytes");
            assert_eq!(zone(66 * MIB, len), ZoneKind::Normal, "farther below, {len:#x} bytes");
            assert_eq!(
                zone(71 * MIB - len, len),
                ZoneKind::Normal,
                "farther above, {len:#x} bytes"
            );
        }
        assert_eq!(zone(66 * MIB + quarter, MIB), ZoneKind::Movable);
        assert_eq!(zone(69 * MIB + quarter, MIB), ZoneKind::Movable);
    }

    #[test]
    fn a_range_that_shares_a_block_has_the_zone_of_that() {
        let bench = bench();
        let half = MIB / 2;
        bench.plug(range(64 * MIB, 8 * MIB));
        let online = |memory, kind| {
            bench.add(memory, Placement::PerBlock);
            bench.mm.online(bench.blocks(memory)[0], kind).unwrap();
        };
        online(range(64 * MIB, MIB), ZoneKind::Normal);
        online(range(65 * MIB, half), ZoneKind::Movable);
        online(range(69 * MIB + half, half), ZoneKind::Movable);
        let zone = |at, len| bench.mm.zone_of(range(at, len), NodeId::ZERO, OnlineAs::Default);
        // It begins in block 65: that is nearer than block 64, which is below.
        assert_eq!(zone(65 * MIB + half, MIB), ZoneKind::Movable);
        // It ends in block 69.
        assert_eq!(zone(68 * MIB, MIB + half), ZoneKind::Movable);
        // What is below comes first, even if a range ends in block 65.
        assert_eq!(zone(65 * MIB, half), ZoneKind::Normal);
    }

    #[test]
    fn auto_movable_stops_at_its_ratio() {
        let bench = bench();
        bench.mm.set_auto_online(AutoOnline::AutoMovable { ratio: 50 });
        let zone = |len| bench.mm.auto_zone(&[range(64 * MIB, len)], NodeId::ZERO);
        assert_eq!(zone(8 * MIB), Some(ZoneKind::Movable));
        assert_eq!(zone(9 * MIB), Some(ZoneKind::Normal));
        bench.mm.set_auto_online(AutoOnline::Offline);
        assert_eq!(zone(MIB), None);
    }

    #[test]
    fn auto_movable_stops_at_its_ratio_beside_movable_memory() {
        let bench = bench();
        bench.mm.set_auto_online(AutoOnline::AutoMovable { ratio: 50 });
        let zones = (0..6).map(|n| {
            let dimm = range((64 + 8 * n) * MIB, 8 * MIB);
            bench.plug(dimm);
            bench.add(dimm, Placement::PerBlock);
            let zone = bench.mm.auto_zone(&[dimm], NodeId::ZERO).unwrap();
            for id in bench.mm.blocks_in(dimm) {
                bench.mm.online(id, zone).unwrap();
            }
            zone
        });
        // 16 MiB of RAM allow one DIMM; each two DIMMs that follow for the kernel allow one more.
        use ZoneKind::{Movable, Normal};
        let zones: vec::Vec<_> = zones.collect();
        assert_eq!(zones, [Movable, Normal, Normal, Movable, Normal, Normal]);
    }

    #[test]
    fn one_zone_is_chosen_for_the_ranges_of_a_device() {
        let bench = bench();
        bench.mm.set_auto_online(AutoOnline::AutoMovable { ratio: 50 });
        let ranges = [range(64 * MIB, 4 * MIB), range(80 * MIB, 4 * MIB), range(96 * MIB, MIB)];
        let zone = |count| bench.mm.auto_zone(&ranges[..count], NodeId::ZERO);
        assert_eq!(zone(2), Some(ZoneKind::Movable));
        assert_eq!(zone(3), Some(ZoneKind::Normal));
        // Sizes that firmware invented do not wrap around.
        let huge = [range(0, u64::MAX), range(0, u64::MAX)];
        assert_eq!(bench.mm.auto_zone(&huge, NodeId::ZERO), Some(ZoneKind::Normal));
    }
}
