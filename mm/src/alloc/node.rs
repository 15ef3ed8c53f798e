//! NUMA nodes: each has a zone of every kind, and exists while it has a memory block.

use crate::alloc::zone::{Zone, ZoneKind};
use core::sync::atomic::{AtomicU64, Ordering};
use spin::{Mutex, MutexGuard};

pub use crate::memmap::home::{MAX_NODES, NodeId};

/// The zones of every node.
#[derive(Debug)]
pub(crate) struct Nodes {
    zones: [[Mutex<Zone>; ZoneKind::ALL.len()]; MAX_NODES],
    /// A bit for each zone that holds a block, so that allocation visits no others.
    used: [AtomicU64; ZoneKind::ALL.len() * MAX_NODES / 64],
    /// Blocks of each node that are there, online or not. Changed by operations.
    blocks: [AtomicU64; MAX_NODES],
}

impl Nodes {
    pub(crate) const fn new() -> Self {
        Self {
            zones: [const { [const { Mutex::new(Zone::new()) }; ZoneKind::ALL.len()] }; MAX_NODES],
            used: [const { AtomicU64::new(0) }; ZoneKind::ALL.len() * MAX_NODES / 64],
            blocks: [const { AtomicU64::new(0) }; MAX_NODES],
        }
    }

    /// Blocks of `node` that are there.
    pub(crate) fn blocks(&self, node: NodeId) -> u64 {
        self.blocks[node.index()].load(Ordering::Relaxed)
    }

    pub(crate) fn add_blocks(&self, node: NodeId, count: u64) {
        self.blocks[node.index()].fetch_add(count, Ordering::Relaxed);
    }

    pub(crate) fn remove_blocks(&self, node: NodeId, count: u64) {
        self.blocks[node.index()].fetch_sub(count, Ordering::Relaxed);
    }

    /// Locks a zone. Never two at a time.
    #[inline]
    pub(crate) fn lock(&self, node: NodeId, kind: ZoneKind) -> MutexGuard<'_, Zone> {
        self.zones[node.index()][kind as usize].lock()
    }

    /// Notes that a zone has, or no longer has, memory. Called with the zone locked.
    pub(crate) fn set_populated(&self, node: NodeId, kind: ZoneKind, populated: bool) {
        let bit = kind as usize * MAX_NODES + node.index();
        if populated {
            self.used[bit / 64].fetch_or(1 << (bit % 64), Ordering::Relaxed);
        } else {
            self.used[bit / 64].fetch_and(!(1 << (bit % 64)), Ordering::Relaxed);
        }
    }

    /// The nodes whose zone `kind` has memory, ascending.
    pub(crate) fn populated(&self, kind: ZoneKind) -> impl Iterator<Item = NodeId> + '_ {
        let words = MAX_NODES / 64;
        let first = kind as usize * words;
        (0..words).flat_map(move |word| {
            let mut bits = self.used[first + word].load(Ordering::Relaxed);
            core::iter::from_fn(move || {
                let bit = bits.trailing_zeros();
                bits &= bits.checked_sub(1)?;
                Some(NodeId((word * 64) as u8 + bit as u8))
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn populated_nodes_are_listed_in_order_and_per_zone() {
        let nodes = Nodes::new();
        let node = |raw| NodeId::new(raw).unwrap();
        for raw in [127, 0, 64] {
            nodes.set_populated(node(raw), ZoneKind::Movable, true);
        }
        nodes.set_populated(node(3), ZoneKind::Normal, true);
        nodes.set_populated(node(64), ZoneKind::Movable, false);
        assert!(nodes.populated(ZoneKind::Movable).eq([node(0), node(127)]));
        assert!(nodes.populated(ZoneKind::Normal).eq([node(3)]));
    }
}
