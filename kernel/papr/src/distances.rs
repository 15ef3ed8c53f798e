//! The distances of nodes, by the domains that they share (LoPAR: `ibm,associativity`, its reference points, form 1).
//!
//! ```text
//!   reference points  4, 3, 2, 1      the node, and the larger and larger domains that it is in
//!   node 0            0  7  7  0      the node differs: 20; and the next domain: 40; and the next: 80
//!   node 1            1  7  7  0      shares the first domain with node 0: 20
//! ```

use alloc::vec::Vec;
use hotmem::{LOCAL_DISTANCE, NodeId};

/// Reference points that count: more of them would pass the highest distance.
const LEVELS: usize = 4;

/// The domains that a node is in, from the node itself up; `None` for one that firmware leaves out.
type Domains = [Option<u32>; LEVELS];

/// The domains of each node that firmware describes.
#[derive(Clone, Debug)]
pub struct Distances {
    points: Vec<u32>,
    nodes: Vec<(NodeId, Domains)>,
    /// Whether a second description of a node was logged: there may be any number.
    warned: bool,
}

impl Distances {
    /// Those of no node yet; `points` are the places of domains in an associativity list.
    pub(super) fn new(points: &[u32]) -> Self {
        let points = points.iter().copied().take(LEVELS).collect();
        Self { points, nodes: Vec::new(), warned: false }
    }

    /// Notes the domains of a node; `domain` reads a place of its list. The first description of a node counts.
    pub(super) fn note(&mut self, node: NodeId, domain: impl Fn(usize) -> Option<u32>) {
        let mut domains = Domains::default();
        for (found, &point) in domains.iter_mut().zip(&self.points) {
            *found = domain(point as usize);
        }
        match self.domains(node) {
            None => self.nodes.push((node, domains)),
            Some(known) if *known != domains && !self.warned => {
                let node = node.get();
                log::warn!(
                    "papr: node {node} has domains {known:?} and {domains:?}: the first count"
                );
                self.warned = true;
            }
            Some(_) => {}
        }
    }

    fn domains(&self, node: NodeId) -> Option<&Domains> {
        self.nodes.iter().find(|&&(known, _)| known == node).map(|(_, domains)| domains)
    }

    /// The nodes that are described.
    pub fn nodes(&self) -> impl Iterator<Item = NodeId> {
        self.nodes.iter().map(|&(node, _)| node)
    }

    /// The distance between two nodes: it doubles with each domain that they do not share. `None` if one of them is
    /// not described, or there are no reference points.
    pub fn between(&self, from: NodeId, to: NodeId) -> Option<u8> {
        let (from, to) = (self.domains(from)?, self.domains(to)?);
        let levels = from.iter().zip(to).take(self.points.len());
        let apart = levels.take_while(|(from, to)| from != to).count();
        (!self.points.is_empty()).then_some(LOCAL_DISTANCE << apart)
    }
}
