//! The node of each piece of boot RAM, and the ranges where memory may be plugged.

use alloc::vec::Vec;
use hotmem::NodeId;
use hotmem::addr::{PhysAddr, PhysRange};
use hotmem_boot::RangeList;

/// A range that firmware assigns to a node, and whether memory may be plugged into it.
pub type Affinity = (PhysRange, NodeId, bool);

/// The pieces of `ram` with their nodes, and the ranges where memory may be plugged.
///
/// A hot-pluggable range may hold memory from the start, so its node counts like any other; if two ranges overlap,
/// the one that is not hot-pluggable counts.
pub fn plan(
    ram: &RangeList,
    affinities: &[Affinity],
) -> (Vec<(PhysRange, NodeId)>, Vec<PhysRange>) {
    let hot = |wanted: bool| affinities.iter().filter(move |&&(_, _, hot)| hot == wanted);
    let all = hot(false).chain(hot(true)).map(|&(range, node, _)| (range, node));
    let all: Vec<_> = all.collect();
    let window = hot(true).flat_map(|&(range, ..)| without(range, ram)).collect();
    (assign(ram, &all), window)
}

/// Cuts `ram` where `affinities` change, and names the node of each piece.
///
/// RAM that no affinity covers is on node 0, as is all RAM of a machine without such a table. If affinities overlap,
/// the first one counts.
pub fn assign(ram: &RangeList, affinities: &[(PhysRange, NodeId)]) -> Vec<(PhysRange, NodeId)> {
    let ends = affinities.iter().flat_map(|(range, _)| [range.start(), range.end()]);
    let mut cuts: Vec<PhysAddr> = ends.collect();
    cuts.sort_unstable();

    let mut pieces: Vec<(PhysRange, NodeId)> = Vec::new();
    for range in ram.iter() {
        let mut start = range.start();
        while start < range.end() {
            let next = cuts.iter().copied().find(|&cut| cut > start).unwrap_or(range.end());
            let end = next.min(range.end());
            let owner = affinities.iter().find(|(range, _)| range.contains(start));
            let node = owner.map_or(NodeId::default(), |&(_, node)| node);
            push(&mut pieces, start, end, node);
            start = end;
        }
    }
    pieces
}

/// The parts of `range` without `ram`: memory may still be plugged there.
pub fn without(range: PhysRange, ram: &RangeList) -> Vec<PhysRange> {
    let mut left = Vec::new();
    let mut start = range.start();
    for taken in ram.iter().filter(|taken| taken.overlaps(range)) {
        if taken.start() > start {
            left.extend(PhysRange::new(start, taken.start().offset_from(start)));
        }
        start = start.max(taken.end());
    }
    // The range may end at the end of the address space.
    let rest = range.len().saturating_sub(start.offset_from(range.start()));
    if rest != 0 {
        left.extend(PhysRange::new(start, rest));
    }
    left
}

/// Adds a piece, or extends the last one if the piece continues it.
fn push(pieces: &mut Vec<(PhysRange, NodeId)>, start: PhysAddr, end: PhysAddr, node: NodeId) {
    let first = match pieces.last() {
        Some((last, on)) if last.end() == start && *on == node => last.start(),
        _ => start,
    };
    if first != start {
        pieces.pop();
    }
    let piece = PhysRange::new(first, end.offset_from(first));
    pieces.extend(piece.map(|piece| (piece, node)));
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    fn range(start: u64, end: u64) -> PhysRange {
        PhysRange::new(PhysAddr::new(start), end - start).unwrap()
    }

    fn node(raw: u32) -> NodeId {
        NodeId::new(raw).unwrap()
    }

    #[test]
    fn ram_is_cut_where_the_node_changes() {
        let mut ram = RangeList::new();
        ram.insert(range(0x1000, 0xa_0000));
        ram.insert(range(0x10_0000, 0x800_0000));
        let affinities = [
            (range(0, 0xa_0000), node(0)),
            (range(0x10_0000, 0x400_0000), node(0)),
            (range(0x400_0000, 0x700_0000), node(1)),
        ];
        let wanted = [
            (range(0x1000, 0xa_0000), node(0)),
            (range(0x10_0000, 0x400_0000), node(0)),
            (range(0x400_0000, 0x700_0000), node(1)),
            (range(0x700_0000, 0x800_0000), node(0)),
        ];
        assert_eq!(assign(&ram, &affinities), wanted);
    }

    #[test]
    fn a_window_excludes_the_memory_of_boot() {
        let mut ram = RangeList::new();
        for piece in [range(0x1000, 0x3000), range(0x5000, 0x6000), range(0x9000, 0xb000)] {
            ram.insert(piece);
        }
        let left = without(range(0x2000, 0xa000), &ram);
        assert_eq!(left, [range(0x3000, 0x5000), range(0x6000, 0x9000)]);
        assert_eq!(without(range(0xb000, 0xc000), &ram), [range(0xb000, 0xc000)]);
        assert_eq!(without(range(0x1000, 0x2000), &ram), []);
        assert_eq!(without(range(0x1000, 0x8000), &RangeList::new()), [range(0x1000, 0x8000)]);
        let all = PhysRange::new(PhysAddr::new(0x8000), 0x8000u64.wrapping_neg()).unwrap();
        let rest = PhysRange::new(PhysAddr::new(0xb000), 0xb000u64.wrapping_neg()).unwrap();
        assert_eq!(without(all, &ram), [range(0x8000, 0x9000), rest]);
    }

    #[test]
    fn ram_of_boot_has_its_node_even_if_firmware_marks_it_hot_pluggable() {
        let mut ram = RangeList::new();
        ram.insert(range(0, 0x8000_0000));
        let (low, high) = (range(0, 0x4000_0000), range(0x4000_0000, 0x10_0000_0000_0000));
        let pieces = vec![(low, node(0)), (range(0x4000_0000, 0x8000_0000), node(1))];
        for hot in [false, true] {
            // Hyper-V marks all memory as hot-pluggable.
            let (found, window) = plan(&ram, &[(low, node(0), hot), (high, node(1), hot)]);
            assert_eq!(found, pieces);
            let left = range(0x8000_0000, 0x10_0000_0000_0000);
            assert_eq!(window, if hot { vec![left] } else { vec![] });
        }
        // Of overlapping ranges, the one that is not hot-pluggable counts, and then the first.
        let both =
            [(high, node(2), true), (range(0, 1 << 40), node(1), true), (low, node(0), false)];
        assert_eq!(plan(&ram, &both).0, [pieces[0], (pieces[1].0, node(2))]);
    }

    #[test]
    fn neighbours_on_one_node_stay_together() {
        let mut ram = RangeList::new();
        ram.insert(range(0, 0x4000));
        let affinities = [(range(0, 0x2000), node(3)), (range(0x2000, 0x9000), node(3))];
        assert_eq!(assign(&ram, &affinities), [(range(0, 0x4000), node(3))]);
        assert_eq!(assign(&ram, &[]), [(range(0, 0x4000), node(0))]);
    }
}
