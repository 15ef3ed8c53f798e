//! Memory that is gone and not removed yet: which blocks have some, and so cannot come online; and in which zones they
//! do once it is removed.

use hotmem::{
    BlockId, Machine, Obstacle, PfnRange, PhysRange, Removability, RemoveError, Share, ZoneKind,
};

use super::clock::Clock;
use super::driver::Hotplug;
use super::event::{DeviceId, HotplugSource, Ranges};
use super::owners::Plugged;
use super::underway::{Context, Draining};

/// The bytes of some frames.
pub(super) fn addresses<M: Machine>(pfns: PfnRange) -> PhysRange {
    let bytes = pfns.pages().saturating_mul(M::PAGE_BYTES);
    PhysRange::new(M::address(pfns.start), bytes).unwrap_or_default()
}

/// Whether a range was not removed because parts of it were added apart, or not at all.
pub(super) const fn is_made_of_pieces(error: &RemoveError) -> bool {
    matches!(
        error,
        RemoveError::Hole(_)
            | RemoveError::NoSuchBlock(_)
            | RemoveError::AddedApart { .. }
            | RemoveError::MixedPlacement(_)
    )
}

impl<S: HotplugSource, M: Machine, C: Clock> Hotplug<'_, S, M, C> {
    /// Memory in a block that is gone: its device is not there any more.
    pub(super) fn gone_in(&self, id: BlockId) -> Option<Plugged> {
        // Cheap where no device vanished, which is the usual case.
        self.owners.gone().next()?;
        self.owners.gone().find(|entry| {
            self.numbers(entry.range).contains(&id.get())
                && self.lost_shares(id, entry.range).next().is_some()
        })
    }

    /// What a block has of a range that is gone. Memory of another device may have come to the same place, after the
    /// operator had removed the old one.
    pub(super) fn lost_shares(&self, id: BlockId, range: PhysRange) -> impl Iterator<Item = Share> {
        let meets = |range, share: &Share| M::pfns(range).intersection(share.pfns).is_some();
        let is_owned = move |share: &Share| {
            let mut all = self.owners.all().iter();
            all.any(|entry| entry.claim.has_memory() && meets(entry.range, share))
        };
        let shares = self.mm.block_shares(id);
        shares.filter(move |share| meets(range, share) && !is_owned(share))
    }

    /// What is still there of a range that is gone. Takes no longer for a range that is larger than all memory.
    pub(super) fn lost_in(&self, range: PhysRange) -> impl Iterator<Item = Share> {
        let numbers = self.numbers(range);
        let ids = self.mm.blocks().map(|block| block.id);
        let ids = ids.filter(move |id| numbers.contains(&id.get()));
        ids.flat_map(move |id| self.lost_shares(id, range))
    }

    /// Whether memory in a block, which is there as a share, is gone.
    pub(super) fn is_lost(&self, id: BlockId, share: &Share) -> bool {
        let mut gone = self.owners.gone();
        gone.any(|entry| self.lost_shares(id, entry.range).any(|lost| lost == *share))
    }

    /// Whether a block has memory that is not gone.
    pub(super) fn has_living(&self, id: BlockId) -> bool {
        self.mm.block_shares(id).any(|share| !self.is_lost(id, &share))
    }

    fn is_stuck(&self, entry: &Plugged) -> bool {
        let is_blocked = |removability| matches!(removability, Removability::Blocked(_));
        match self.mm.explain_remove(entry.range) {
            // It is removed in pieces: each of its blocks has to go offline.
            Removability::Blocked(Obstacle::Range(error)) if is_made_of_pieces(&error) => {
                let ids = self.lost_in(entry.range).map(|share| {
                    let start = M::address(share.pfns.start);
                    self.mm.block_at(start)
                });
                let mut online = ids.filter(|&id| self.zone_of(id).is_some());
                online.any(|id| is_blocked(self.mm.explain_offline(id)))
            }
            removability => is_blocked(removability),
        }
    }

    /// Begins to give up a device other than `but` that is gone, whose memory keeps that of others offline, and could be
    /// removed now: firmware need not notify of it again.
    pub(super) fn lose_waiting(&mut self, but: Option<DeviceId>) {
        if let Some(device) = self.waited_for(but) {
            let context = Context { device, since: None };
            self.draining = Some(Draining { quiet: true, ..Draining::new(context, None) });
        }
    }

    fn waited_for(&self, but: Option<DeviceId>) -> Option<DeviceId> {
        let keeps = |entry: &Plugged| {
            let mut ends = self.ends(entry.range).into_iter().zip(entry.zones);
            ends.any(|(id, zone)| zone.is_some() && self.has_living(id))
        };
        let mut gone = self.owners.gone().filter(|entry| Some(entry.device) != but && keeps(entry));
        gone.find(|entry| !self.is_stuck(entry)).map(|entry| entry.device)
    }

    /// Whether a block has to stay offline because memory of it is gone. It comes online in `zone` when that is removed.
    pub(super) fn wait_for_gone(&mut self, id: BlockId, zone: ZoneKind) -> bool {
        let Some(gone) = self.gone_in(id) else { return false };
        let (device, range) = (gone.device, gone.range);
        log::warn!("{id} stays offline until {range} of {device}, which is gone, is removed");
        self.keep_zone(device, range, id, zone);
        true
    }

    /// Notes in which zone a block of a range that is gone comes back online, if other memory of it stays.
    pub(super) fn keep_zone(
        &mut self,
        device: DeviceId,
        range: PhysRange,
        id: BlockId,
        zone: ZoneKind,
    ) {
        // A block between the first and the last one has no other memory.
        if let Some(end) = self.ends(range).into_iter().position(|end| end == id) {
            self.owners.keep_zone(device, range, end, zone);
        }
    }

    /// Notes with the ranges of a device, which is gone, the zones of the blocks that its eject took offline.
    pub(super) fn keep_taken(&mut self, device: DeviceId, ranges: &Ranges) {
        let mut first = 0;
        for &range in ranges.as_slice() {
            let numbers = self.numbers(range);
            for id in self.ends(range) {
                let taken = self.taken.get(first + id.get() - numbers.start);
                taken.into_iter().for_each(|zone| self.keep_zone(device, range, id, zone));
            }
            first += numbers.end - numbers.start;
        }
    }
}
