//! A device was removed by surprise: the firmware took it away without an eject, or it broke. Its memory is
//! gone, whatever the kernel kept in it.
//!
//! ```text
//!   log --> for each range: [ step, ... block offline ] for each block --> removed --> reply
//!                                 \--- a block stays: its free pages are taken out of use
//! ```
//!
//! Nothing of it comes back online. A block that other devices share stays online for them: only what is gone of it goes
//! offline. One that is offline with some of it stays so until the last of it has been removed; then the memory of other
//! devices comes back online in its own zone. What stays goes offline once its users are gone: the driver retries when
//! the firmware announces the device again, and takes pages out of use that were freed in the meantime. The contents of
//! the pages are lost: the machine reads arbitrary bytes at the addresses of memory that is gone, and a move copies them.

use core::fmt;

use hotmem::{
    BlockId, Machine, NodeId, OfflineError, OfflineOp, Pfn, PfnRange, PhysRange, PoisonError,
    RemoveError, Removed, Share, Stepped, ZoneKind,
};

use super::clock::Clock;
use super::driver::{Done, Hotplug};
use super::event::{DeviceId, HotplugSource, MAX_RANGES, Outcome, Ranges};
use super::insert::{blocks_step, remove_step};
use super::listen::OnStep;
use super::lost::{addresses, is_made_of_pieces};
use super::owners::Plugged;
use super::step::{Operation, Replied};
use super::underway::{Context, Draining, Draught, Now, Plug};

/// The memory of a device that is gone, for the verdict.
struct Lost(PhysRange);

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is gone and was not ejected", self.0)
    }
}

impl<'m, S: HotplugSource, M: Machine, C: Clock> Hotplug<'m, S, M, C> {
    /// Begins to give up the memory of a device that is gone; `next` is in its slot now.
    pub(super) fn lose(&mut self, context: Context, next: Option<(Ranges, NodeId)>) {
        let device = context.device;
        for n in 0..MAX_RANGES {
            let Some(Plugged { range, claim, .. }) = self.owners.of(device).nth(n) else { break };
            let label = self.source.label(device);
            if claim.has_memory() {
                log::error!("{label}: {range} is gone and was not ejected: what it held is lost");
            } else if let Some(part) = self.operators_part(range) {
                log::error!("{label}: {range} is gone, and the operator has added {part} of it");
                self.owners.take_part(device, range, part);
            } else {
                continue;
            }
            self.verdict.failed(Lost(range));
        }
        self.owners.lose(device);
        self.draining = Some(Draining::new(context, next));
    }

    /// The part of a refused device's memory that the operator has added, up to the end of the last piece: without memory
    /// of other devices, there or gone, and without what the machine was started with.
    fn operators_part(&self, range: PhysRange) -> Option<PhysRange> {
        let is_operators = |share: &Share| {
            let id = self.mm.block_at(M::address(share.pfns.start));
            let boot = self.mm.peek_block(id).is_some_and(|block| block.boot);
            !boot && !self.is_lost(id, share)
        };
        let mut shares = self.lost_in(range).filter(is_operators);
        let first = shares.next()?;
        let end = shares.fold(first.pfns.end, |_, share| share.pfns.end);
        let start = M::address(first.pfns.start);
        PhysRange::new(start, M::address(end).offset_from(start))
    }

    /// Whether a device that is announced with `ranges` has taken the place of another one, whose memory
    /// is still in use: nothing of that is described any more.
    pub(super) fn is_replaced(&self, context: Context, ranges: &Ranges) -> bool {
        let known = self.owners.added(context.device);
        let old = |range: &PhysRange| known.as_slice().iter().any(|old| old.overlaps(*range));
        match known.as_slice() {
            [] => self.owners.left(context.device).next().is_some(),
            _ => !ranges.as_slice().iter().any(old),
        }
    }

    /// Continues to give up the memory of a device that is gone. Returns `false` if there is no such device.
    pub(super) fn step_gone(&mut self, out: &mut dyn OnStep) -> bool {
        let Some(mut draining) = self.draining.take() else { return false };
        match (draining.now.take(), draining.range) {
            (Some(Now::Offlining(going, zone)), _) => self.step_going(&mut draining, going, zone),
            (Some(Now::Sealing { id, pages, in_use }), _) => {
                self.seal(&mut draining, id, pages, in_use);
            }
            (None, Some(range)) => self.next_block(&mut draining, range, out),
            (None, None) => {
                if !self.next_range(&mut draining) {
                    self.end_gone(draining, out);
                    return true;
                }
            }
        }
        self.draining = Some(draining);
        true
    }

    /// Turns to the next range. Drops a range that belongs to another owner by now.
    fn next_range(&mut self, draining: &mut Draining<'m, M>) -> bool {
        let device = draining.context.device;
        loop {
            let Some(range) = self.owners.nth_gone(device, draining.kept) else { return false };
            if self.lost_in(range).next().is_some() {
                let block = self.numbers(range).start;
                draining.range = Some(Draught { range, block, stays: 0, error: None });
                return true;
            }
            self.return_neighbours(device, range);
        }
    }

    /// Begins with the next block of a range; behind the last one the range is removed.
    fn next_block(
        &mut self,
        draining: &mut Draining<'m, M>,
        mut range: Draught,
        out: &mut dyn OnStep,
    ) {
        let id = BlockId::new(range.block);
        if range.block >= self.numbers(range.range).end {
            self.end_range(draining, range, out);
            return;
        }
        let is_lost = self.lost_shares(id, range.range).next().is_some();
        draining.range = Some(range);
        let nothing = Err(OfflineError::AlreadyOffline(id));
        let zone = self.zone_of(id).filter(|_| is_lost).unwrap_or_default();
        match if is_lost { self.begin(id, range) } else { nothing } {
            // It may have another part that goes.
            Ok(going) => draining.now = Some(Now::Offlining(going, zone)),
            Err(OfflineError::AlreadyOffline(_)) => {
                range.block += 1;
                draining.range = Some(range);
            }
            Err(error) => self.does_not_go(draining, id, error),
        }
    }

    /// Begins to take offline what is gone of a range and still online in a block: of one with memory of other devices,
    /// only that.
    fn begin(&self, id: BlockId, range: Draught) -> Result<OfflineOp<'m, M>, OfflineError> {
        if !self.has_living(id) {
            return self.in_turn(|mm| mm.start_offline(id)).result;
        }
        let parts = self.lost_shares(id, range.range).map(|share| addresses::<M>(share.pfns));
        let begun = parts.map(|part| self.in_turn(|mm| mm.start_offline_part(id, part)).result);
        let mut begun =
            begun.skip_while(|begun| matches!(begun, Err(OfflineError::AlreadyOffline(_))));
        begun.next().unwrap_or(Err(OfflineError::AlreadyOffline(id)))
    }

    fn step_going(
        &mut self,
        draining: &mut Draining<'m, M>,
        going: OfflineOp<'m, M>,
        zone: ZoneKind,
    ) {
        let id = going.progress().block;
        match going.step(self.budget) {
            Ok(Stepped::Going(going)) => draining.now = Some(Now::Offlining(going, zone)),
            Ok(Stepped::Done) => {
                let range = draining.range.filter(|_| self.zone_of(id).is_none());
                if let Some(Draught { range, .. }) = range {
                    self.keep_zone(draining.device(), range, id, zone);
                }
            }
            Err(error) => self.does_not_go(draining, id, error),
        }
    }

    /// A block, or what is gone of it, does not go offline: takes its pages out of use, those that can be.
    fn does_not_go(&self, draining: &mut Draining<'m, M>, id: BlockId, error: OfflineError) {
        log::error!("{id} stays, though its memory is gone: {error}");
        if let Some(range) = &mut draining.range {
            range.block = range.block.max(id.get() + 1);
            range.stays += 1;
            range.error.get_or_insert(error);
        }
        let pages = self.pages_to_seal(draining, id, Pfn::new(0)).unwrap_or(PfnRange::EMPTY);
        draining.now = Some(Now::Sealing { id, pages, in_use: 0 });
    }

    /// The first pages of a block from `from` on that are gone. Not those of the memmap, which are never allocated: bad
    /// pages of that would also mark the blocks that it describes.
    fn pages_to_seal(
        &self,
        draining: &Draining<'m, M>,
        id: BlockId,
        from: Pfn,
    ) -> Option<PfnRange> {
        let mut shares = self.lost_shares(id, draining.range.as_ref()?.range);
        let share = shares.find(|share| share.pfns.start >= from)?;
        let start = share.memmap().end;
        Some(PfnRange::new(start, share.pfns.end.offset_from(start)))
    }

    /// Takes some pages of a block out of use.
    fn seal(
        &mut self,
        draining: &mut Draining<'m, M>,
        id: BlockId,
        pages: PfnRange,
        mut in_use: u64,
    ) {
        let count = pages.pages().min(self.budget);
        for page in 0..count {
            match self.mm.poison(pages.start.add(page)) {
                Ok(_) | Err(PoisonError::Already(_)) => {}
                Err(_) => in_use += 1,
            }
        }
        let rest = PfnRange::new(pages.start.add(count), pages.pages() - count);
        let more = (rest.pages() == 0).then(|| self.pages_to_seal(draining, id, rest.end));
        let pages = more.flatten().unwrap_or(rest);
        if pages.pages() != 0 {
            draining.now = Some(Now::Sealing { id, pages, in_use });
            return;
        }
        log::error!(
            "{id}: what is gone of it is out of use, but for {in_use} pages that are still in use"
        );
    }

    /// Removes a range, unless a block of it stays.
    fn end_range(&mut self, draining: &mut Draining<'m, M>, range: Draught, out: &mut dyn OnStep) {
        draining.range = None;
        let done = Done { result: range.error.map_or(Ok(()), Err), instructions: None };
        self.write(out, &blocks_step(range.range, Operation::Offline, &done));
        let gone = self.lost_in(range.range).next().is_none();
        let removed = gone || range.stays == 0 && self.remove_gone(range.range, out);
        draining.removed |= removed;
        if removed {
            self.return_neighbours(draining.device(), range.range);
        } else {
            draining.kept += 1;
        }
    }

    /// Forgets a range that was removed, and brings back online what stays in its blocks.
    pub(super) fn return_neighbours(&mut self, device: DeviceId, range: PhysRange) {
        let Some(entry) = self.owners.drained(device, range) else { return };
        for (id, zone) in self.ends(range).into_iter().zip(entry.zones) {
            zone.into_iter().for_each(|zone| self.online_again(id, zone));
        }
    }

    /// Removes what is still there of a range: all at once, or what the operator has added one piece after the other.
    fn remove_gone(&mut self, range: PhysRange, out: &mut dyn OnStep) -> bool {
        if self.owners.owner_of(range).is_none() {
            let done = self.remove(range);
            if !done.result.is_err_and(|error| is_made_of_pieces(&error)) {
                return self.end_remove(range, &done, out);
            }
        }
        loop {
            let left = self.lost_in(range).next();
            let Some(share) = left else { return true };
            let mut piece = addresses::<M>(share.pfns);
            let mut done = self.remove(piece);
            if let Err(RemoveError::SplitsGroup { whole, .. }) = done.result {
                piece = addresses::<M>(whole);
                done = self.remove(piece);
            }
            if !self.end_remove(piece, &done, out) {
                return false;
            }
        }
    }

    /// Writes the line of a removal. Returns whether it worked.
    fn end_remove(
        &mut self,
        range: PhysRange,
        done: &Done<Removed, RemoveError>,
        out: &mut dyn OnStep,
    ) -> bool {
        self.write(out, &remove_step(range, Some(done), Replied::default()));
        if let Err(error) = done.result {
            log::error!("{range} stays offline, though its memory is gone: {error}");
        }
        done.result.is_ok()
    }

    /// Reports the outcome, and takes the device that is in the slot now into use.
    fn end_gone(&mut self, draining: Draining<'m, M>, out: &mut dyn OnStep) {
        let Draining { context, next, kept, removed, quiet, .. } = draining;
        {
            let label = self.source.label(context.device);
            match kept {
                0 => log::info!("{label}: nothing is left of its memory"),
                _ => log::error!("{label}: {kept} ranges of its memory cannot be given up yet"),
            }
        }
        match next {
            Some((ranges, node)) if self.source.is_there(context.device) => {
                self.insert_new(Plug { context, ranges: &ranges, node }, out);
            }
            // It went, too, while the memory before it was drained.
            Some((ranges, _)) => {
                log::warn!(
                    "{}: {ranges} went before it was taken",
                    self.source.label(context.device)
                );
                self.reply(context, Outcome::InsertFailed);
            }
            None if quiet => {}
            None => {
                let outcome = if kept == 0 { Outcome::Ejected } else { Outcome::EjectFailed };
                self.reply(context, outcome);
            }
        }
        if removed {
            self.lose_waiting(Some(context.device));
        }
    }
}
