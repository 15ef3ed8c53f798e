//! To which node and zone memory belongs, and how much of it there is: what a block's word names.

use crate::memmap::page::Owner;
use core::fmt;

/// Nodes the manager can keep apart.
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

/// What a zone's memory may be used for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum ZoneKind {
    /// Anything. Boot memory, which never goes: page tables, section nodes and the memmap of a boot
    /// placement come from here alone, so that no block that goes takes another's with it.
    System = 0,
    /// Anything but those. Added memory: its blocks go offline while the kernel has no data there.
    Normal = 1,
    /// Only what can be moved away: its blocks can always be taken offline.
    #[default]
    Movable = 2,
}

impl ZoneKind {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::System, Self::Normal, Self::Movable];

    /// The kinds of zones that `owner` may have memory of, first choice first.
    pub const fn for_owner(owner: Owner) -> &'static [Self] {
        match owner {
            Owner::Movable(_) => &[Self::Movable, Self::Normal, Self::System],
            // What the kernel can have elsewhere it leaves to tables and memmaps, which cannot.
            Owner::Kernel | Owner::Named(_) => &[Self::Normal, Self::System],
            Owner::Boot
            | Owner::Table
            | Owner::Memmap
            | Owner::Poison
            | Owner::Taken
            | Owner::Stranded => &[Self::System],
        }
    }

    /// The zone's name, for people.
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
    /// Pages that the allocator was given.
    pub managed: u64,
    /// Pages that hold their own range's descriptors.
    pub memmap: u64,
    /// Managed pages that nobody uses.
    pub free: u64,
}

impl PageCounts {
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

    /// What is left of the counts without `other`, which is part of them.
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
