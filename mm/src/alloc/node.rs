//! NUMA nodes: each has a zone of every kind, and exists while it has a memory block.

use crate::alloc::owners::ManagerId;
use crate::alloc::watches::{Watch, WatchError, Watches};
use crate::alloc::zone::{Zone, ZoneKind};
use crate::lock::{Mutex, MutexGuard, RawLock, SpinLock};
use core::fmt;
use core::ops::{Deref, DerefMut};
use core::sync::atomic::{AtomicU64, Ordering};

pub use crate::memmap::home::{MAX_NODES, NodeId};

/// A zone that is locked. Its free pages are published when it is unlocked, and watches notified afterwards.
#[derive(Debug)]
pub(crate) struct ZoneGuard<'n, L: RawLock> {
    /// Dropped first: watches are notified without the lock.
    zone: MutexGuard<'n, L, Zone>,
    after: Unlocked<'n>,
}

/// Notifies watches when it is dropped, if free pages were published.
#[derive(Debug)]
struct Unlocked<'n> {
    watches: &'n Watches,
    node: NodeId,
    /// The free pages of the node.
    free: &'n AtomicU64,
    published: bool,
}

impl<L: RawLock> Deref for ZoneGuard<'_, L> {
    type Target = Zone;

    #[inline]
    fn deref(&self) -> &Zone {
        &self.zone
    }
}

impl<L: RawLock> DerefMut for ZoneGuard<'_, L> {
    #[inline]
    fn deref_mut(&mut self) -> &mut Zone {
        &mut self.zone
    }
}

impl<L: RawLock> Drop for ZoneGuard<'_, L> {
    #[inline]
    fn drop(&mut self) {
        let Self { zone, after } = self;
        if after.watches.any()
            && let Some(pages) = zone.unpublished()
        {
            after.watches.publish(after.free, pages);
            after.published = true;
        }
    }
}

impl Drop for Unlocked<'_> {
    #[inline]
    fn drop(&mut self) {
        if self.published {
            self.watches.follow(self.node, self.free);
        }
    }
}

/// Bits for all nodes, in words.
const WORDS: usize = MAX_NODES / u64::BITS as usize;

/// The zones of one node, and the number of its blocks, online or not.
#[derive(Debug)]
pub struct Node<L: RawLock> {
    zones: [Mutex<L, Zone>; ZoneKind::ALL.len()],
    /// Changed by operations only.
    blocks: AtomicU64,
    /// Free pages, as far as its zones have published them.
    free: AtomicU64,
}

/// Storage for the nodes of a machine: [`NodeTable`] with their number. A kernel names it as
/// [`Machine::Nodes`](crate::Machine::Nodes).
pub trait NodeStorage: fmt::Debug + Sync {
    /// The locks of its zones.
    type Lock: RawLock;

    /// Nodes without memory. All bytes are zero, so that a static of it takes no room in an image.
    const EMPTY: Self;

    /// The nodes, from number 0 on.
    fn nodes(&self) -> &[Node<Self::Lock>];
}

/// Storage for the nodes below `N`, at most [`MAX_NODES`]: about 1.5 KiB each.
#[derive(Debug)]
pub struct NodeTable<const N: usize, L: RawLock = SpinLock>([Node<L>; N]);

impl<const N: usize, L: RawLock> NodeStorage for NodeTable<N, L> {
    type Lock = L;

    const EMPTY: Self = {
        assert!(0 < N && N <= MAX_NODES);
        Self([const { Node::empty() }; N])
    };

    fn nodes(&self) -> &[Node<L>] {
        &self.0
    }
}

impl<L: RawLock> Node<L> {
    const fn empty() -> Self {
        Self {
            zones: [const { Mutex::new(Zone::new()) }; ZoneKind::ALL.len()],
            blocks: AtomicU64::new(0),
            free: AtomicU64::new(0),
        }
    }
}

/// The zones of every node.
#[derive(Debug)]
pub(crate) struct Nodes<S> {
    storage: S,
    /// A bit for each zone that holds a block, so that allocation skips the others.
    used: [[AtomicU64; WORDS]; ZoneKind::ALL.len()],
    watches: Watches,
}

impl<S: NodeStorage> Nodes<S> {
    pub(crate) const fn new() -> Self {
        let used = [const { [const { AtomicU64::new(0) }; WORDS] }; ZoneKind::ALL.len()];
        Self { storage: S::EMPTY, used, watches: Watches::new() }
    }

    /// Whether there is room for `node`.
    pub(crate) fn has(&self, node: NodeId) -> bool {
        node.index() < self.storage.nodes().len()
    }

    /// The nodes that there is room for, ascending.
    pub(crate) fn ids(&self) -> impl Iterator<Item = NodeId> + use<S> {
        NodeId::all().take(self.storage.nodes().len())
    }

    fn node(&self, node: NodeId) -> &Node<S::Lock> {
        &self.storage.nodes()[node.index()]
    }

    /// The number of present blocks of `node`.
    pub(crate) fn blocks(&self, node: NodeId) -> u64 {
        self.node(node).blocks.load(Ordering::Relaxed)
    }

    pub(crate) fn add_blocks(&self, node: NodeId, count: u64) {
        self.node(node).blocks.fetch_add(count, Ordering::Relaxed);
    }

    pub(crate) fn remove_blocks(&self, node: NodeId, count: u64) {
        self.node(node).blocks.fetch_sub(count, Ordering::Relaxed);
    }

    /// Locks a zone of a node that there is room for. A CPU locks one zone at a time.
    #[inline]
    #[track_caller]
    pub(crate) fn lock(&self, node: NodeId, kind: ZoneKind) -> ZoneGuard<'_, S::Lock> {
        let Node { zones, free, .. } = self.node(node);
        let after = Unlocked { watches: &self.watches, node, free, published: false };
        ZoneGuard { zone: zones[kind as usize].lock(), after }
    }

    /// Whether a CPU has locked a zone.
    pub(crate) fn is_locked(&self, node: NodeId, kind: ZoneKind) -> bool {
        self.node(node).zones[kind as usize].is_locked()
    }

    /// Registers a watch unless it is, and sets its marks, in pages.
    pub(crate) fn watch(
        &self,
        watch: &'static Watch,
        manager: ManagerId,
        marks: (u64, u64),
    ) -> Result<(), WatchError> {
        let node = watch.node().unwrap_or_default();
        if !self.has(node) {
            return Err(WatchError::NoNode(node));
        }
        self.watches.register(watch, manager)?;
        self.publish_all();
        self.watches.set(watch, &self.node(node).free, marks);
        Ok(())
    }

    /// Has every zone publish its free pages. A CPU that unlocks one later knows that there is a watch.
    fn publish_all(&self) {
        for node in self.ids() {
            ZoneKind::ALL.into_iter().for_each(|kind| drop(self.lock(node, kind)));
        }
    }

    /// The free pages that a watch compares with its marks.
    pub(crate) fn pages_of(&self, watch: &Watch) -> u64 {
        let node = watch.node().filter(|&node| self.has(node)).unwrap_or_default();
        self.watches.pages_of(watch, &self.node(node).free)
    }

    /// Records whether a zone has memory. Called with the zone locked.
    pub(crate) fn set_populated(&self, node: NodeId, kind: ZoneKind, populated: bool) {
        let (word, bit) = (node.index() / 64, 1 << (node.index() % 64));
        let word = &self.used[kind as usize][word];
        if populated {
            word.fetch_or(bit, Ordering::Relaxed);
        } else {
            word.fetch_and(!bit, Ordering::Relaxed);
        }
    }

    /// Whether any node's zone `kind` has memory.
    #[inline]
    pub(crate) fn any(&self, kind: ZoneKind) -> bool {
        self.used[kind as usize].iter().any(|bits| bits.load(Ordering::Relaxed) != 0)
    }

    /// Whether any zone of a node has memory.
    pub(crate) fn has_memory(&self, node: NodeId) -> bool {
        ZoneKind::ALL.into_iter().any(|kind| self.is_populated(node, kind))
    }

    /// Whether the zone `kind` of a node has memory.
    pub(crate) fn is_populated(&self, node: NodeId, kind: ZoneKind) -> bool {
        let (word, bit) = (node.index() / 64, node.index() % 64);
        self.used[kind as usize][word].load(Ordering::Relaxed) >> bit & 1 != 0
    }

    /// The nodes whose zone `kind` has memory, the nearest first, and equally near ones by number.
    pub(crate) fn nearest_first(
        &self,
        kind: ZoneKind,
        distance: impl Fn(NodeId) -> u8,
    ) -> impl Iterator<Item = NodeId> {
        let mut last = None;
        core::iter::from_fn(move || {
            let nodes = self.populated(kind).map(|node| (distance(node), node));
            last = Some(nodes.filter(|&node| last.is_none_or(|last| node > last)).min()?);
            last.map(|(_, node)| node)
        })
    }

    /// The nodes whose zone `kind` has memory, ascending.
    pub(crate) fn populated(&self, kind: ZoneKind) -> impl Iterator<Item = NodeId> + '_ {
        self.used[kind as usize].iter().enumerate().flat_map(|(word, bits)| {
            let mut bits = bits.load(Ordering::Relaxed);
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
    extern crate std;

    use super::*;

    #[test]
    fn there_is_room_for_as_many_nodes_as_the_machine_says() {
        let nodes = Nodes::<NodeTable<3>>::new();
        let node = |raw| NodeId::new(raw).unwrap();
        assert_eq!(nodes.ids().collect::<std::vec::Vec<_>>(), [node(0), node(1), node(2)]);
        assert!(nodes.has(node(2)) && !nodes.has(node(3)));
    }

    #[test]
    fn populated_nodes_are_listed_in_order_and_per_zone() {
        let nodes = Nodes::<NodeTable<MAX_NODES>>::new();
        let node = |raw| NodeId::new(raw).unwrap();
        for raw in [127, 0, 64] {
            nodes.set_populated(node(raw), ZoneKind::Movable, true);
        }
        nodes.set_populated(node(3), ZoneKind::Normal, true);
        nodes.set_populated(node(64), ZoneKind::Movable, false);
        assert!(nodes.populated(ZoneKind::Movable).eq([node(0), node(127)]));
        assert!(nodes.populated(ZoneKind::Normal).eq([node(3)]));
        assert!(nodes.is_populated(node(127), ZoneKind::Movable));
        assert!(!nodes.is_populated(node(64), ZoneKind::Movable));
        assert!(nodes.any(ZoneKind::Normal) && !nodes.any(ZoneKind::System));
    }

    #[test]
    fn the_nearest_node_comes_first_and_each_comes_once() {
        let nodes = Nodes::<NodeTable<MAX_NODES>>::new();
        let node = |raw| NodeId::new(raw).unwrap();
        for raw in [1, 2, 5, 9, 100] {
            nodes.set_populated(node(raw), ZoneKind::Normal, true);
        }
        let distance = |to: NodeId| {
            if to == node(9) {
                10
            } else if to == node(1) {
                31
            } else {
                20
            }
        };
        let order = [9, 2, 5, 100, 1].map(node);
        assert!(nodes.nearest_first(ZoneKind::Normal, distance).eq(order));
        assert!(nodes.nearest_first(ZoneKind::Movable, distance).eq([]));
    }
}
