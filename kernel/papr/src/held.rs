//! Blocks that are configured and not used, because the hypervisor did not take them back.
//!
//! A block that is configured can neither be configured again nor left alone: when it is announced it is
//! used as it is, and when it is asked for it is given up.

use super::pieces::Piece;
use alloc::vec::Vec;
use hotmem::NodeId;

/// Runs of blocks at the most.
const RUNS: usize = 128;

/// The blocks, by their connectors. The table never grows.
#[derive(Debug)]
pub(super) struct Held(Vec<(Piece, NodeId)>);

impl Held {
    pub(super) fn new() -> Self {
        Self(Vec::with_capacity(RUNS))
    }

    /// The node of the block behind `connector`, if that is one of these.
    pub(super) fn node(&self, connector: u32) -> Option<NodeId> {
        let mut runs = self.0.iter();
        runs.find(|(run, _)| run.contains(connector)).map(|&(_, node)| node)
    }

    /// Takes a block in. Returns whether there was room.
    pub(super) fn insert(&mut self, connector: u32, node: NodeId) -> bool {
        if self.node(connector).is_some() {
            return true;
        }
        let mut runs = self.0.iter_mut();
        let before = runs.find(|(run, on)| {
            *on == node && run.connector.checked_add(run.count) == Some(connector)
        });
        if let Some((run, _)) = before {
            run.count += 1;
            return true;
        }
        let has_room = self.0.len() < RUNS;
        if has_room {
            self.0.push((Piece { connector, count: 1 }, node));
        }
        has_room
    }

    /// The block behind `connector` is given up, or used.
    pub(super) fn remove(&mut self, connector: u32) {
        let Some(at) = self.0.iter().position(|(run, _)| run.contains(connector)) else { return };
        let (run, node) = self.0.swap_remove(at);
        let before = connector - run.connector;
        let after = run.count - before - 1;
        let sides = [(run.connector, before), (connector.saturating_add(1), after)];
        for (connector, count) in sides.into_iter().filter(|&(_, count)| count != 0) {
            // A run in the middle of which a block is taken becomes two.
            if self.0.len() < RUNS {
                self.0.push((Piece { connector, count }, node));
            } else {
                log::error!("{count} blocks from {connector:#x} on are lost: too many pieces");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_held_one_by_one_and_released_in_any_order() {
        let [node, other] = [NodeId::default(), NodeId::new(1).unwrap()];
        let mut held = Held::new();
        for connector in 4..9 {
            assert!(held.insert(connector, node) && held.insert(connector, node));
        }
        assert!(held.insert(9, other) && held.0.len() == 2);
        held.remove(6);
        let nodes: Vec<_> = (3..11).map(|connector| held.node(connector)).collect();
        let [some, more] = [Some(node), Some(other)];
        assert_eq!(nodes, [None, some, some, None, some, some, more, None]);
        for connector in [9, 4, 8, 7, 5, 6, 5] {
            held.remove(connector);
        }
        assert!(held.0.is_empty());
    }

    #[test]
    fn a_full_table_takes_no_more_and_does_not_grow() {
        let mut held = Held::new();
        for run in 0..RUNS as u32 {
            assert!(held.insert(2 * run, NodeId::default()));
        }
        assert!(!held.insert(1000, NodeId::default()));
        assert!(held.insert(1, NodeId::default()), "a run that is there grows");
        assert_eq!(held.0.capacity(), RUNS);
    }
}
