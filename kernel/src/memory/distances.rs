//! The distances between nodes, as firmware describes them.

use alloc::vec::Vec;
use hotmem::{LOCAL_DISTANCE, NodeId, REMOTE_DISTANCE};
use spin::Once;

/// The distances of this machine, once firmware has described them.
static OWN: Once<Distances> = Once::new();

/// The distance of each node from each other one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Distances {
    /// Nodes, which is bytes of a row.
    nodes: usize,
    /// A row for each node from which the distance is measured.
    rows: Vec<u8>,
}

impl Distances {
    /// The distances of the first `nodes` nodes; `described` returns `None` for a pair that firmware does not describe.
    pub fn new(nodes: usize, described: impl Fn(NodeId, NodeId) -> Option<u8>) -> Self {
        let all = || NodeId::all().take(nodes);
        let distance = |from, to| described(from, to).unwrap_or_else(|| usual(from, to));
        let rows = all().flat_map(|from| all().map(move |to| distance(from, to)));
        Self { nodes: all().count(), rows: rows.collect() }
    }

    /// The distance of the memory of `to` from `from`.
    fn between(&self, from: NodeId, to: NodeId) -> u8 {
        let row = self.rows.chunks_exact(self.nodes.max(1)).nth(from.get() as usize);
        let known = row.and_then(|row| row.get(to.get() as usize));
        known.copied().unwrap_or_else(|| usual(from, to))
    }
}

/// The distance between nodes that firmware does not describe.
fn usual(from: NodeId, to: NodeId) -> u8 {
    if from == to { LOCAL_DISTANCE } else { REMOTE_DISTANCE }
}

/// Sets the distances of this machine. Only the first call counts.
pub fn set(distances: Distances) {
    OWN.call_once(|| distances);
}

/// The distance of the memory of `to` from `from` on this machine.
pub fn between(from: NodeId, to: NodeId) -> u8 {
    OWN.get().map_or_else(|| usual(from, to), |own| own.between(from, to))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(raw: u32) -> NodeId {
        NodeId::new(raw).unwrap()
    }

    #[test]
    fn a_distance_is_that_of_its_direction_or_the_usual_one() {
        let described = |from: NodeId, to: NodeId| match (from.get(), to.get()) {
            (0, 1) => Some(15),
            (1, 0) => Some(31),
            _ => None,
        };
        let distances = Distances::new(3, described);
        let between = |from, to| distances.between(node(from), node(to));
        assert_eq!([between(0, 1), between(1, 0)], [15, 31]);
        assert_eq!([between(0, 0), between(0, 2), between(2, 1)], [10, 20, 20]);
        // Nodes past the last one that is described.
        assert_eq!([between(3, 3), between(0, 3), between(127, 0)], [10, 20, 20]);
    }

    #[test]
    fn no_description_has_the_usual_distances_for_any_node() {
        for distances in [Distances::default(), Distances::new(0, |_, _| Some(99))] {
            assert_eq!(distances.between(node(5), node(5)), LOCAL_DISTANCE);
            assert_eq!(distances.between(node(5), node(0)), REMOTE_DISTANCE);
        }
        assert_eq!(Distances::new(4096, |_, _| None).nodes, hotmem::MAX_NODES);
    }
}
