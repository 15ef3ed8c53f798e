//! Which memory belongs to a device of the firmware.
//!
//! ```text
//!            add works                    eject
//! announced ----------> Added (or Stranded: not online) --> forgotten
//!      \                  ^  refused again stays Refused      ^
//!       \   add refused   |                                   |
//!        +------------> Refused ------------------------------+
//! ```
//!
//! Memory that is `Added` can be removed by the firmware's request, not by the operator. Memory that is
//! `Refused` is plugged, but not in use: the operator may add parts of it, and then the firmware cannot
//! eject it until the operator has removed them. If the device goes all the same, these parts are `Gone`. Memory
//! that is `Gone` stays in the table, whatever is plugged into its slot next, until the memory manager has removed it.
//!
//! A block that is offline because memory of it is gone may have memory of other devices. It comes back online when the
//! last memory that is gone has been removed: until then the table keeps its zone with the range that is gone.

use alloc::vec::Vec;

use hotmem::{NodeId, PhysAddr, PhysRange, ZoneKind};

use super::event::{DeviceId, Ranges};

/// What became of a plugged range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// The memory manager has it, for the firmware's device.
    Added,
    /// The memory manager has it, but it did not come online: when the device is announced again, that
    /// is tried once more.
    Stranded,
    /// The memory manager would not have it.
    Refused,
    /// The memory manager has it, but the device is gone: it is given up as soon as it has no users.
    Gone,
}

impl Claim {
    /// Whether the memory manager has the range, for the firmware's device.
    pub const fn has_memory(self) -> bool {
        matches!(self, Self::Added | Self::Stranded)
    }
}

/// A plugged range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plugged {
    /// The device it belongs to.
    pub device: DeviceId,
    /// The memory.
    pub range: PhysRange,
    /// The node that firmware named. A block that had other memory before is on the node of that.
    pub node: NodeId,
    /// What became of it.
    pub claim: Claim,
    /// Of memory that is gone: the zones in which its first and its last block come back online, if other memory of them
    /// stays.
    pub(super) zones: [Option<ZoneKind>; 2],
}

/// No heap is left for the driver's tables. Only while it is set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutOfHeap;

/// The table. All its memory is taken when it is made, and each source has its own share of it: one that announces
/// more than fits keeps nothing of another out.
#[derive(Debug)]
pub(super) struct Owners {
    table: Vec<Plugged>,
    /// The ranges that each source may have.
    most: Vec<usize>,
}

impl Owners {
    /// A table with room for so many ranges of each source.
    pub(super) fn new(
        most: impl ExactSizeIterator<Item = usize> + Clone,
    ) -> Result<Self, OutOfHeap> {
        let all = most.clone().fold(0, usize::saturating_add);
        let (mut table, mut limits) = (Vec::new(), Vec::new());
        table.try_reserve_exact(all).map_err(|_| OutOfHeap)?;
        limits.try_reserve_exact(most.len()).map_err(|_| OutOfHeap)?;
        limits.extend(most);
        Ok(Self { table, most: limits })
    }

    /// Every plugged range.
    pub(super) fn all(&self) -> &[Plugged] {
        &self.table
    }

    /// The ranges of a device, without what is left of one that was in its slot before.
    pub(super) fn of(&self, device: DeviceId) -> impl Iterator<Item = Plugged> + '_ {
        self.entries(device).filter(|entry| entry.claim != Claim::Gone)
    }

    /// What is left of devices that were in a device's slot before.
    pub(super) fn left(&self, device: DeviceId) -> impl Iterator<Item = Plugged> + '_ {
        self.entries(device).filter(|entry| entry.claim == Claim::Gone)
    }

    fn entries(&self, device: DeviceId) -> impl Iterator<Item = Plugged> + '_ {
        self.table.iter().copied().filter(move |entry| entry.device == device)
    }

    /// The ranges of a device that are added.
    pub(super) fn added(&self, device: DeviceId) -> Ranges {
        let mut ranges = Ranges::default();
        for entry in self.of(device).filter(|entry| entry.claim.has_memory()) {
            // What is in the table came out of one `Ranges`, so it fits into one.
            let _ = ranges.push(entry.range);
        }
        ranges
    }

    /// Whether the table has room for `ranges` of a device, whose own entries may be replaced.
    pub(super) fn has_room(&self, device: DeviceId, ranges: &Ranges) -> bool {
        let of_source = self.table.iter().filter(|entry| entry.device.source() == device.source());
        let others = of_source.count() - self.of(device).count();
        let most = self.most.get(usize::from(device.source())).copied().unwrap_or(0);
        others + ranges.as_slice().len() <= most
    }

    /// Replaces what is known of a device. Call [`has_room`](Self::has_room) before.
    pub(super) fn set(&mut self, device: DeviceId, ranges: &Ranges, node: NodeId, claim: Claim) {
        self.forget(device);
        for &range in ranges.as_slice() {
            if self.table.len() < self.table.capacity() {
                self.table.push(Plugged { device, range, node, claim, zones: [None; 2] });
            }
        }
    }

    /// Notes what became of one of a device's ranges.
    pub(super) fn turn(&mut self, device: DeviceId, range: PhysRange, claim: Claim) {
        let is_it = |entry: &&mut Plugged| {
            (entry.device, entry.range) == (device, range) && entry.claim != Claim::Gone
        };
        if let Some(entry) = self.table.iter_mut().find(is_it) {
            entry.claim = claim;
        }
    }

    /// Notes that the memory manager has a part of a refused range, because the operator has added it.
    pub(super) fn take_part(&mut self, device: DeviceId, range: PhysRange, part: PhysRange) {
        let is_it = |entry: &&mut Plugged| {
            (entry.device, entry.range, entry.claim) == (device, range, Claim::Refused)
        };
        if let Some(entry) = self.table.iter_mut().find(is_it) {
            (entry.range, entry.claim) = (part, Claim::Stranded);
        }
    }

    /// Notes that the memory of a device is that of two: of another one from `at` on. Returns whether that is inside of one
    /// of its ranges, and there is room.
    pub(super) fn divide(&mut self, device: DeviceId, at: PhysAddr, second: DeviceId) -> bool {
        let is_it = |entry: &&mut Plugged| {
            let inside = entry.range.contains(at) && entry.range.start() != at;
            entry.device == device && entry.claim != Claim::Gone && inside
        };
        let has_room = self.table.len() < self.table.capacity();
        let Some(entry) = self.table.iter_mut().find(is_it).filter(|_| has_room) else {
            return false;
        };
        let (start, end) = (entry.range.start(), entry.range.end());
        let parts = PhysRange::new(start, at.offset_from(start))
            .zip(PhysRange::new(at, end.offset_from(at)));
        let Some((lower, upper)) = parts else { return false };
        entry.range = lower;
        let entry = Plugged { device: second, range: upper, ..*entry };
        self.table.push(entry);
        true
    }

    /// Forgets a device. What is left of one that was in its slot before stays.
    pub(super) fn forget(&mut self, device: DeviceId) {
        self.table.retain(|entry| entry.device != device || entry.claim == Claim::Gone);
    }

    /// Notes that a device is gone: what the memory manager has of it is to be given up.
    pub(super) fn lose(&mut self, device: DeviceId) {
        self.table.retain(|entry| entry.device != device || entry.claim != Claim::Refused);
        let lost = self.table.iter_mut().filter(|entry| entry.device == device);
        lost.for_each(|entry| entry.claim = Claim::Gone);
    }

    /// Forgets memory that is gone, now that the memory manager does not have it any more. Returns what was known of it.
    pub(super) fn drained(&mut self, device: DeviceId, range: PhysRange) -> Option<Plugged> {
        let is_it = |entry: &Plugged| {
            (entry.device, entry.range, entry.claim) == (device, range, Claim::Gone)
        };
        let at = self.table.iter().position(is_it)?;
        // In this order, since the n-th range that is gone is found by its number.
        Some(self.table.remove(at))
    }

    /// Notes in which zone the first (0) or the last (1) block of a range that is gone comes back online, unless that is
    /// known.
    pub(super) fn keep_zone(
        &mut self,
        device: DeviceId,
        range: PhysRange,
        end: usize,
        zone: ZoneKind,
    ) {
        let is_it = |entry: &&mut Plugged| {
            (entry.device, entry.range, entry.claim) == (device, range, Claim::Gone)
        };
        if let Some(entry) = self.table.iter_mut().find(is_it)
            && let Some(kept) = entry.zones.get_mut(end)
        {
            kept.get_or_insert(zone);
        }
    }

    /// The n-th range of a device that is gone and not given up yet.
    pub(super) fn nth_gone(&self, device: DeviceId, n: usize) -> Option<PhysRange> {
        self.left(device).nth(n).map(|entry| entry.range)
    }

    /// The ranges that are gone and not given up yet.
    pub(super) fn gone(&self) -> impl Iterator<Item = Plugged> + '_ {
        self.table.iter().copied().filter(|entry| entry.claim == Claim::Gone)
    }

    /// The device that has memory of `range` added.
    pub(super) fn owner_of(&self, range: PhysRange) -> Option<Plugged> {
        let added = self.table.iter().filter(|entry| entry.claim.has_memory());
        added.copied().find(|entry| entry.range.overlaps(range))
    }

    /// The refused range that `range` lies in.
    pub(super) fn unclaimed(&self, range: PhysRange) -> Option<Plugged> {
        let refused = self.table.iter().filter(|entry| entry.claim == Claim::Refused);
        refused.copied().find(|entry| entry.range.covers(range))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MAX_PLUGGED;
    use hotmem::PhysAddr;

    fn ranges(start: u64) -> Ranges {
        let mut ranges = Ranges::default();
        ranges.push(PhysRange::new(PhysAddr::new(start), 0x1000).unwrap()).unwrap();
        ranges
    }

    #[test]
    fn a_full_table_has_room_for_what_is_already_in_it() {
        let mut owners = Owners::new([MAX_PLUGGED].into_iter()).unwrap();
        for n in 0..MAX_PLUGGED as u16 {
            let piece = ranges(u64::from(n) << 20);
            assert!(owners.has_room(DeviceId::new(n), &piece));
            owners.set(DeviceId::new(n), &piece, NodeId::default(), Claim::Added);
        }
        assert!(!owners.has_room(DeviceId::new(MAX_PLUGGED as u16), &ranges(1 << 40)));
        assert!(owners.has_room(DeviceId::new(3), &ranges(3 << 20)));
        owners.forget(DeviceId::new(3));
        assert!(owners.has_room(DeviceId::new(MAX_PLUGGED as u16), &ranges(1 << 40)));
        assert_eq!(owners.all().len(), MAX_PLUGGED - 1);
    }

    #[test]
    fn what_is_left_of_a_device_that_is_gone_keeps_its_place_in_the_table() {
        let mut owners = Owners::new([MAX_PLUGGED].into_iter()).unwrap();
        for n in 0..MAX_PLUGGED as u16 {
            owners.set(
                DeviceId::new(n),
                &ranges(u64::from(n) << 20),
                NodeId::default(),
                Claim::Added,
            );
        }
        owners.lose(DeviceId::new(3));
        // The next device in the slot needs a place of its own.
        assert!(!owners.has_room(DeviceId::new(3), &ranges(1 << 40)));
        owners.forget(DeviceId::new(4));
        assert!(owners.has_room(DeviceId::new(3), &ranges(1 << 40)));
    }

    #[test]
    fn a_range_is_somebodys_only_while_it_is_added() {
        let mut owners = Owners::new([MAX_PLUGGED].into_iter()).unwrap();
        let (piece, range) = (ranges(0x10_0000), ranges(0x10_0000).as_slice()[0]);
        owners.set(DeviceId::new(1), &piece, NodeId::default(), Claim::Refused);
        assert_eq!(owners.owner_of(range), None);
        assert_eq!(owners.unclaimed(range).map(|entry| entry.device), Some(DeviceId::new(1)));
        owners.set(DeviceId::new(1), &piece, NodeId::default(), Claim::Added);
        assert_eq!(owners.owner_of(range).map(|entry| entry.device), Some(DeviceId::new(1)));
        assert_eq!(owners.unclaimed(range), None);
    }
}
