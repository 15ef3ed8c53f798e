//! The tree of named objects.
//!
//! Nodes lie in one vector. Those of the tables come first and keep their index for good; names
//! that methods create are pushed behind them and popped in reverse when the method ends, so
//! removing a name is always removing the youngest one. A hash table over (parent, name) makes
//! a look-up independent of how many siblings there are: 256 slots are one scope.

use alloc::vec::Vec;

use crate::code::DEEPEST;
use crate::error::{ErrorKind, Pool};
use crate::name::{NameSeg, NodeId};
use crate::object::Obj;
use crate::pool::make_room;

/// No node.
const NONE: u32 = u32::MAX;

/// Chains of the hash table; a power of two.
const BUCKETS: usize = 2048;

/// Most names in one chain. Tables that are not made to collide have twenty.
const CHAIN: usize = 256;

/// One named object.
#[derive(Debug, Clone, Copy)]
struct Node {
    name: NameSeg,
    parent: u32,
    first: u32,
    last: u32,
    next: u32,
    /// Next in the same chain of the hash table.
    chain: u32,
    obj: Obj,
}

/// The tree.
#[derive(Debug)]
pub(crate) struct Namespace {
    nodes: Vec<Node>,
    buckets: Vec<u32>,
    /// Most nodes there may be.
    limit: usize,
    /// Nodes of the tables; `None` while loading.
    fixed: Option<usize>,
    peak: usize,
}

impl Namespace {
    /// A tree of nothing but the root, for at most `limit` nodes.
    pub(crate) fn new(limit: u32) -> Result<Self, ErrorKind> {
        let mut buckets = Vec::new();
        buckets.try_reserve_exact(BUCKETS).map_err(|_| ErrorKind::OutOfHeap)?;
        buckets.resize(BUCKETS, NONE);
        let mut tree =
            Self { nodes: Vec::new(), buckets, limit: limit as usize, fixed: None, peak: 0 };
        tree.push(Node {
            name: NameSeg::ROOT,
            parent: NONE,
            first: NONE,
            last: NONE,
            next: NONE,
            chain: NONE,
            obj: Obj::Scope,
        })?;
        Ok(tree)
    }

    /// Bytes of heap that are held.
    pub(crate) const fn heap(&self) -> usize {
        self.nodes.capacity() * size_of::<Node>() + self.buckets.capacity() * size_of::<u32>()
    }

    /// Ends loading: takes the heap for `names` more nodes, and never more.
    pub(crate) fn seal(&mut self, names: u32) -> Result<(), ErrorKind> {
        self.nodes.try_reserve_exact(names as usize).map_err(|_| ErrorKind::OutOfHeap)?;
        self.fixed = Some(self.nodes.len());
        self.limit = self.nodes.len() + names as usize;
        Ok(())
    }

    /// Adds a name below `parent`: for good, or for [`Self::truncate`] to take out again.
    pub(crate) fn add(
        &mut self,
        parent: NodeId,
        name: NameSeg,
        obj: Obj,
        temporary: bool,
    ) -> Result<NodeId, ErrorKind> {
        if self.child(parent, name).is_some() {
            return Err(ErrorKind::Exists(name));
        }
        if self.level(parent) >= DEEPEST {
            return Err(ErrorKind::TooDeep);
        }
        let bucket = bucket(parent, name);
        let chain = self.buckets.get(bucket).copied().unwrap_or(NONE);
        let next = |&at: &u32| self.nodes.get(at as usize).map(|node| node.chain);
        if core::iter::successors(Some(chain), next).nth(CHAIN).is_some() {
            return Err(ErrorKind::Full(Pool::Nodes));
        }
        let first = self.node(parent).ok_or(ErrorKind::NotFound(name))?.first;
        // A name of a method goes in front, so that taking it out needs no search.
        let next = if temporary { first } else { NONE };
        let index =
            self.push(Node { name, parent: parent.0, first: NONE, last: NONE, next, chain, obj })?;
        if let Some(head) = self.buckets.get_mut(bucket) {
            *head = index;
        }
        if temporary {
            self.with(parent, |node| node.first = index);
        } else {
            self.append(parent, index);
        }
        Ok(NodeId(index))
    }

    /// Makes a node of the tables the last child of its parent.
    fn append(&mut self, parent: NodeId, index: u32) {
        let last = self.node(parent).map_or(NONE, |node| node.last);
        self.with(NodeId(last), |node| node.next = index);
        self.with(parent, |node| {
            if node.first == NONE {
                node.first = index;
            }
            node.last = index;
        });
    }

    /// Stores a node at the end of the vector.
    fn push(&mut self, node: Node) -> Result<u32, ErrorKind> {
        if self.nodes.len() >= self.limit {
            return Err(ErrorKind::Full(Pool::Nodes));
        }
        let index = u32::try_from(self.nodes.len()).map_err(|_| ErrorKind::Full(Pool::Nodes))?;
        make_room(&mut self.nodes, 1)?;
        self.nodes.push(node);
        self.peak = self.peak.max(self.nodes.len());
        Ok(index)
    }

    /// The number of nodes, to come back to with [`Self::truncate`].
    pub(crate) const fn mark(&self) -> usize {
        self.nodes.len()
    }

    /// Takes out every name from `mark` on that a method created, youngest first.
    pub(crate) fn truncate(&mut self, mark: usize) {
        let mark = mark.max(self.fixed.unwrap_or(1));
        while self.nodes.len() > mark {
            let Some(node) = self.nodes.pop() else { return };
            if let Some(head) = self.buckets.get_mut(bucket(NodeId(node.parent), node.name)) {
                *head = node.chain;
            }
            self.with(NodeId(node.parent), |parent| parent.first = node.next);
        }
    }

    /// Whether loading has ended.
    pub(crate) const fn is_sealed(&self) -> bool {
        self.fixed.is_some()
    }

    /// Nodes of the tables.
    pub(crate) fn fixed(&self) -> usize {
        self.fixed.unwrap_or(self.nodes.len())
    }

    /// The most names of methods there ever were.
    pub(crate) fn peak_names(&self) -> u32 {
        self.peak.saturating_sub(self.fixed()) as u32
    }

    /// Whether a method created the node.
    pub(crate) fn is_temporary(&self, node: NodeId) -> bool {
        self.fixed.is_some_and(|fixed| node.0 as usize >= fixed)
    }

    /// The child of that name, aliases not followed.
    pub(crate) fn child(&self, parent: NodeId, name: NameSeg) -> Option<NodeId> {
        let mut at = *self.buckets.get(bucket(parent, name))?;
        loop {
            let node = self.nodes.get(at as usize)?;
            if node.parent == parent.0 && node.name == name {
                return Some(NodeId(at));
            }
            at = node.chain;
        }
    }

    /// The nearest object of that name in `scope` or above it (ACPI 6.5, 5.3).
    pub(crate) fn search(&self, scope: NodeId, name: NameSeg) -> Option<NodeId> {
        let mut at = Some(scope);
        while let Some(here) = at {
            if let Some(found) = self.child(here, name) {
                return Some(found);
            }
            at = self.parent(here);
        }
        None
    }

    /// The node that `node` stands for: the target of an alias, else itself.
    pub(crate) fn follow(&self, node: NodeId) -> NodeId {
        match self.obj(node) {
            Some(Obj::Alias(target)) => target,
            _ => node,
        }
    }

    /// What a node holds.
    pub(crate) fn obj(&self, node: NodeId) -> Option<Obj> {
        self.node(node).map(|node| node.obj)
    }

    /// Gives a node something else to hold.
    pub(crate) fn set_obj(&mut self, node: NodeId, obj: Obj) {
        self.with(node, |node| node.obj = obj);
    }

    /// The parent; `None` for the root.
    pub(crate) fn parent(&self, node: NodeId) -> Option<NodeId> {
        let parent = self.node(node)?.parent;
        (parent != NONE).then_some(NodeId(parent))
    }

    /// A node's name.
    pub(crate) fn name(&self, node: NodeId) -> Option<NameSeg> {
        self.node(node).map(|node| node.name)
    }

    /// How many parents a node has above it.
    fn level(&self, node: NodeId) -> u32 {
        core::iter::successors(self.parent(node), |&at| self.parent(at)).count() as u32
    }

    /// The first child.
    pub(crate) fn first_child(&self, node: NodeId) -> Option<NodeId> {
        let first = self.node(node)?.first;
        (first != NONE).then_some(NodeId(first))
    }

    /// The next child of the same parent.
    pub(crate) fn next_sibling(&self, node: NodeId) -> Option<NodeId> {
        let next = self.node(node)?.next;
        (next != NONE).then_some(NodeId(next))
    }

    /// The node after `node` in a walk that visits parents before children; with `inside`
    /// false, the first one that is not below it.
    pub(crate) fn next_in_walk(&self, node: NodeId, inside: bool) -> Option<NodeId> {
        if inside && let Some(child) = self.first_child(node) {
            return Some(child);
        }
        let mut at = node;
        loop {
            if let Some(next) = self.next_sibling(at) {
                return Some(next);
            }
            at = self.parent(at)?;
        }
    }

    fn node(&self, node: NodeId) -> Option<&Node> {
        self.nodes.get(node.0 as usize)
    }

    /// Changes a node if there is one.
    fn with(&mut self, node: NodeId, change: impl FnOnce(&mut Node)) {
        if let Some(node) = self.nodes.get_mut(node.0 as usize) {
            change(node);
        }
    }
}

/// The chain that a name below a parent is in (Fibonacci hashing).
fn bucket(parent: NodeId, name: NameSeg) -> usize {
    let key = u64::from(parent.0) << 32 | u64::from(u32::from_le_bytes(name.bytes()));
    (key.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 53) as usize % BUCKETS
}

#[cfg(test)]
mod tests {
    use super::Namespace;
    use crate::name::{NameSeg, NodeId};
    use crate::object::Obj;

    fn seg(text: &str) -> NameSeg {
        NameSeg::from_text(text).expect("a name")
    }

    #[test]
    fn names_of_methods_disappear_without_a_trace() {
        let mut tree = Namespace::new(100).expect("room");
        let device = tree.add(NodeId::ROOT, seg("DEV"), Obj::Device, false).expect("added");
        tree.add(device, seg("A"), Obj::Int(1), false).expect("added");
        tree.seal(2).expect("sealed");
        let mark = tree.mark();
        tree.add(device, seg("B"), Obj::Int(2), true).expect("added");
        tree.add(device, seg("C"), Obj::Int(3), true).expect("added");
        assert!(tree.add(device, seg("D"), Obj::Int(4), true).is_err(), "over the limit");
        tree.truncate(mark);
        assert_eq!(tree.child(device, seg("B")), None);
        assert_eq!(tree.first_child(device).and_then(|node| tree.name(node)), Some(seg("A")));
        assert_eq!(tree.peak_names(), 2);
    }

    #[test]
    fn a_search_goes_up_to_the_root() {
        let mut tree = Namespace::new(100).expect("room");
        let outer = tree.add(NodeId::ROOT, seg("OUT"), Obj::Device, false).expect("added");
        let inner = tree.add(outer, seg("IN"), Obj::Device, false).expect("added");
        let name = tree.add(NodeId::ROOT, seg("X"), Obj::Int(1), false).expect("added");
        assert_eq!(tree.search(inner, seg("X")), Some(name));
        assert_eq!(tree.search(inner, seg("Y")), None);
    }
}
