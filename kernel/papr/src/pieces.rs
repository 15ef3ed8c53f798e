//! The pieces of memory that are plugged, by device number.

use alloc::vec::Vec;
use core::fmt;
use hotmem::NodeId;
use hotmem_hotplug::DeviceId;

/// Pieces at the most: QEMU has 32 slots.
pub(super) const DEVICES: usize = 128;

/// Blocks of one piece at the most: each takes several calls of the hypervisor, one after the other, so a count that is
/// wrong must not keep the kernel busy for hours. It is 16 TiB in blocks of 256 MiB.
pub(super) const MOST_BLOCKS: u32 = 1 << 16;

/// Memory that came, and goes, in one piece: a DIMM of QEMU's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// The first connector.
    pub connector: u32,
    /// How many, from that one on; not 0.
    pub count: u32,
}

impl Piece {
    /// Its connectors; numbers that do not exist are left out.
    pub(super) fn connectors(self) -> impl DoubleEndedIterator<Item = u32> {
        self.connector..self.connector.saturating_add(self.count)
    }

    /// Whether all of it is in `other`.
    pub(super) fn is_in(self, other: Self) -> bool {
        let end = |piece: Self| piece.connector.saturating_add(piece.count);
        other.connector <= self.connector && end(self) <= end(other)
    }

    pub(super) fn contains(self, connector: u32) -> bool {
        Self { connector, count: 1 }.is_in(self)
    }

    pub(super) fn overlaps(self, other: Self) -> bool {
        let end = |piece: Self| piece.connector.saturating_add(piece.count);
        self.connector < end(other) && other.connector < end(self)
    }
}

impl fmt::Display for Piece {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} connectors from {:#x} on", self.count, self.connector)
    }
}

/// What is known about a piece that is announced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// It is plugged already, on this node.
    Plugged(DeviceId, NodeId),
    /// Some of its connectors are those of another piece.
    InPart,
    /// Nothing.
    No,
}

/// The table of pieces. It never grows.
#[derive(Debug)]
pub(super) struct Pieces {
    /// By device number; `None` where one is gone.
    table: Vec<Option<(Piece, NodeId)>>,
}

impl Pieces {
    pub(super) fn new() -> Self {
        Self { table: Vec::with_capacity(DEVICES) }
    }

    /// What is known about `piece`.
    pub(super) fn known(&self, piece: Piece) -> Known {
        let plugged = self.table.iter().position(|slot| slot.is_some_and(|(is, _)| is == piece));
        if let Some(index) = plugged {
            let node = self.table.get(index).copied().flatten().map(|(_, node)| node);
            return Known::Plugged(DeviceId::new(index as u16), node.unwrap_or_default());
        }
        let others = self.table.iter().flatten();
        if others.copied().any(|(is, _)| is.overlaps(piece)) { Known::InPart } else { Known::No }
    }

    /// The pieces that are plugged.
    pub(super) fn iter(&self) -> impl Iterator<Item = (DeviceId, Piece)> + '_ {
        let slots = self.table.iter().enumerate();
        slots
            .filter_map(|(index, slot)| slot.map(|(piece, _)| (DeviceId::new(index as u16), piece)))
    }

    /// Takes a piece in that is not known; `None` if there is no room.
    pub(super) fn insert(&mut self, piece: Piece, node: NodeId) -> Option<DeviceId> {
        let index = self.table.iter().position(Option::is_none).unwrap_or(self.table.len());
        if index == self.table.len() {
            if index == DEVICES {
                return None;
            }
            self.table.push(None);
        }
        *self.table.get_mut(index)? = Some((piece, node));
        Some(DeviceId::new(index as u16))
    }

    /// Whether there is room for one more.
    pub(super) fn has_room(&self) -> bool {
        self.table.len() < DEVICES || self.table.contains(&None)
    }

    /// The piece with this number.
    pub(super) fn get(&self, device: DeviceId) -> Option<Piece> {
        self.table.get(usize::from(device.number())).copied().flatten().map(|(piece, _)| piece)
    }

    /// The node of the piece with this number.
    pub(super) fn node(&self, device: DeviceId) -> NodeId {
        let slot = self.table.get(usize::from(device.number())).copied().flatten();
        slot.map_or(NodeId::default(), |(_, node)| node)
    }

    /// The piece with this number is gone.
    pub(super) fn remove(&mut self, device: DeviceId) {
        if let Some(slot) = self.table.get_mut(usize::from(device.number())) {
            *slot = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(connector: u32, count: u32) -> Piece {
        Piece { connector, count }
    }

    #[test]
    fn a_piece_is_known_whole_in_part_or_not_at_all() {
        let mut pieces = Pieces::new();
        let node = NodeId::new(1).unwrap();
        let device = pieces.insert(piece(8, 4), node).unwrap();
        assert_eq!(pieces.known(piece(8, 4)), Known::Plugged(device, node));
        for part in [piece(8, 1), piece(11, 4), piece(0, 9), piece(0, 100)] {
            assert_eq!(pieces.known(part), Known::InPart, "{part:?}");
        }
        for other in [piece(0, 8), piece(12, 1), piece(u32::MAX, u32::MAX)] {
            assert_eq!(pieces.known(other), Known::No, "{other:?}");
        }
        pieces.remove(device);
        assert_eq!(pieces.known(piece(8, 4)), Known::No);
    }

    #[test]
    fn numbers_of_pieces_that_are_gone_are_used_again() {
        let mut pieces = Pieces::new();
        let node = NodeId::default();
        let all: Vec<_> = (0..DEVICES as u32)
            .map(|first| pieces.insert(piece(first, 1), node).unwrap())
            .collect();
        assert!(!pieces.has_room() && pieces.insert(piece(1000, 1), node).is_none());
        pieces.remove(all[7]);
        assert!(pieces.has_room());
        assert_eq!(pieces.insert(piece(1000, 1), node), Some(all[7]));
        assert_eq!(pieces.get(all[7]), Some(piece(1000, 1)));
        assert!(pieces.table.capacity() == DEVICES);
    }
}
