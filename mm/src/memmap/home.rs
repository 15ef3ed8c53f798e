//! The node and the zone that memory belongs to, and page counts: the values in a block's word.

use crate::memmap::page::Owner;
use core::fmt;

/// Nodes that the manager can distinguish.
pub const MAX_NODES: usize = 128;

/// The number of a NUMA node, below [`MAX_NODES`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub(crate) u8);

impl NodeId {
    /// Node 0, which every machine has.
    pub const ZERO: Self = Self(0);

    /// Node `raw`, or `None` from [`MAX_NODES`] on.
    pub const fn new(raw: u32) -> Option<Self> {
        if (raw as usize) < MAX_NODES { Some(Self(raw as u8)) } else { None }
    }

    /// Every number.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..MAX_NODES as u8).map(Self)
    }

    /// The raw number.
    pub const fn get(self) -> u32 {
        self.0 as u32
    }

    pub(crate) const fn index(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "node {}", self.0)
    }
}

/// The allowed uses of a zone's memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum ZoneKind {
    /// Any use. Boot memory, which is never removed: page tables, section nodes and boot-placed memmaps are only in
    /// this zone, so that removing a block never removes such data of another block.
    System = 0,
    /// Any other use. Added memory: its blocks can go offline while the kernel has no data there.
    Normal = 1,
    /// Only movable pages: its blocks can always go offline.
    #[default]
    Movable = 2,
}

impl ZoneKind {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::System, Self::Normal, Self::Movable];

    /// The kinds of zones that `owner` may use, first choice first.
    pub const fn for_owner(owner: Owner) -> &'static [Self] {
        match owner {
            Owner::Movable(_) => &[Self::Movable, Self::Normal, Self::System],
            // The kernel can be elsewhere, so it leaves system memory to tables and memmaps, which cannot.
            Owner::Kernel | Owner::Named(_) => &[Self::Normal, Self::System],
            Owner::Boot
            | Owner::Table
            | Owner::Memmap
            | Owner::Poison
            | Owner::Taken
            | Owner::Stranded
            | Owner::Offline => &[Self::System],
        }
    }

    /// The zone's name, for messages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::Normal => "normal",
            Self::Movable => "movable",
        }
    }
}

impl fmt::Display for ZoneKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Pages of a zone (or a block): `present == managed + memmap`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PageCounts {
    /// Pages of RAM in online blocks.
    pub present: u64,
    /// Pages that the allocator manages.
    pub managed: u64,
    /// Pages that hold their own range's descriptors.
    pub memmap: u64,
    /// Managed pages that are not in use.
    pub free: u64,
}

impl PageCounts {
    /// Of `present` pages, the `managed` ones of which are all free.
    pub(crate) const fn given(present: u64, managed: u64) -> Self {
        Self { present, managed, memmap: present - managed, free: managed }
    }

    /// The sum of both counts.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self {
            present: self.present + other.present,
            managed: self.managed + other.managed,
            memmap: self.memmap + other.memmap,
            free: self.free + other.free,
        }
    }

    /// The counts minus `other`, which is part of them.
    #[must_use]
    pub const fn minus(self, other: Self) -> Self {
        Self {
            present: self.present - other.present,
            managed: self.managed - other.managed,
            memmap: self.memmap - other.memmap,
            free: self.free - other.free,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_number_past_the_last_is_refused() {
        assert_eq!(NodeId::new(127).map(NodeId::get), Some(127));
        assert_eq!(NodeId::new(128), None);
    }
}
