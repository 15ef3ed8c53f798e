//! The firmware requests the eject of a device. Once there is room elsewhere for all that is in use, its blocks go
//! offline one after the other, in steps, so that the kernel can serve its console between them.
//!
//! ```text
//!   reply "in progress" ---> [ step, ... room ] ---> [ insert?, step, ... block offline ] for each block
//!                                       |                                 |
//!     as it was, refused <-- no room, a block stays, or cancel            v
//!             ^-------- a range stays <------------ remove <--- [ step, ... cleared ] for each range
//!                                                                         v
//!     added again, offline; <--------------- the device stays <---- firmware ejects --> reply
//!     online if the firmware withdrew its request
//! ```
//!
//! Of a block that has memory of other devices, only what the device has of it goes offline: the rest stays online, with
//! its pages where they are. One in which other memory arrives after it went offline comes back online at each of these
//! ends, with all that is in it then: also with memory that was added again.

use hotmem::{
    BlockId, BlockState, Machine, NodeId, Obstacle, OfflineError, Order, PhysRange, Progress,
    Removability, RemoveError, Removed, ScrubError, Stepped, ZoneKind,
};

use super::blocks::{parts, plus};
use super::clock::Clock;
use super::driver::{Done, Hotplug};
use super::event::{DeviceId, HotplugSource, MAX_RANGES, Outcome, Ranges, Refusal};
use super::insert::{blocks_step, remove_step};
use super::listen::OnStep;
use super::owners::Claim;
use super::report::Reason;
use super::step::{Failure, Operation, Replied, Step};
use super::underway::{Context, Ejecting, Turn};

hotmem::errors! {
    /// Why a device is not given up.
    #[derive(Clone, Copy, Debug)]
    enum EjectError {
        /// A block does not go offline.
        Offline(error: OfflineError) => "{error}",
        /// A block is not cleared.
        Scrub(error: ScrubError) => "{error}",
        /// The memory manager keeps a range.
        Remove(error: RemoveError) => "{error}",
        /// The device's memory is in use, but not as the device's: the operator has added it, or the
        /// machine was started with it.
        Elsewhere(id: BlockId) => "{id} is in use, and was not added for the device",
        /// Nothing is known of the device's memory.
        Unknown => "nothing is known of its memory",
        /// The firmware has no way to take the device away.
        NoWayOut => "the firmware has no way to take it away",
        /// The rest of memory lacks room for the extents of this order.
        NoRoom(order: Order) => ("{}", Obstacle::NoRoom(*order)),
        /// The operator would not have it.
        Cancelled => "the operator cancelled it",
    }
}

impl EjectError {
    /// The reason that is reported to the firmware.
    fn refusal(&self) -> Refusal {
        match self {
            Self::Offline(OfflineError::Busy | OfflineError::NoRoom { .. })
            | Self::Remove(RemoveError::Busy | RemoveError::ReadersStay(_))
            | Self::Scrub(ScrubError::Busy)
            | Self::NoRoom(_)
            | Self::Cancelled => Refusal::Busy,
            Self::Offline(OfflineError::Vetoed(..)) => Refusal::Dependency,
            Self::Unknown | Self::NoWayOut => Refusal::Unknown,
            _ => Refusal::InUse,
        }
    }
}

/// The removes of one eject, range by range.
type Removes = [Option<Done<Removed, RemoveError>>; MAX_RANGES];

/// What an eject under way is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EjectProgress {
    /// The device.
    pub device: DeviceId,
    /// The block that is going offline, and how far that got.
    pub block: Option<Progress>,
}

impl<'m, S: HotplugSource, M: Machine, C: Clock> Hotplug<'m, S, M, C> {
    /// Begins to give up a device's memory: the steps that follow let the firmware eject it, or leave
    /// everything as it was.
    pub(super) fn eject(&mut self, context: Context, out: &mut dyn OnStep) {
        if let Err(error) = self.source.can_eject(context.device) {
            log::error!("{}: {error}", self.source.label(context.device));
            self.refuse(context, EjectError::NoWayOut, out);
            return;
        }
        self.reply(context, Outcome::Ejecting);
        self.look_again(context.device);
        match self.check_eject(context.device) {
            Ok(()) => {
                self.taken.clear();
                let ranges = self.owners.added(context.device);
                log::info!("{}: is being given up", self.source.label(context.device));
                self.ejecting = Some(Ejecting::new(context, ranges));
            }
            Err(error) => self.refuse(context, error, out),
        }
    }

    /// Asks the source once more for the memory of a device of which none is known. It is not added, so that the device
    /// may go unless the memory is in use for another reason.
    fn look_again(&mut self, device: DeviceId) {
        if self.owners.of(device).next().is_none()
            && let Some((ranges, node)) = self.source.described(device)
            && self.owners.has_room(device, &ranges)
        {
            self.owners.set(device, &ranges, node, Claim::Refused);
        }
    }

    /// What an eject under way is doing, if one is.
    pub fn ejecting(&self) -> Option<EjectProgress> {
        let ejecting = self.ejecting.as_ref()?;
        let block = ejecting.going.as_ref().map(|(going, _)| going.progress());
        Some(EjectProgress { device: ejecting.context.device, block })
    }

    /// Cancels the eject under way: everything is restored, and the firmware gets the reply that the device is
    /// busy. Returns `false` if no eject is under way.
    pub fn cancel_eject(&mut self, out: &mut dyn OnStep) -> bool {
        // Memory of a device that is gone is drained between two blocks; that has to end first, for the
        // memory manager does one operation at a time.
        while self.ejecting.is_some() && self.step_gone(out) {}
        let Some(mut ejecting) = self.ejecting.take() else { return false };
        // Dropped, it leaves its block online.
        drop(ejecting.going.take());
        self.fail(&ejecting, &Removes::default(), EjectError::Cancelled, out);
        true
    }

    /// Serves an insert between two blocks of an eject, so that it waits for one block at the most. There is
    /// a step of the eject between two inserts: it ends however many devices are plugged.
    pub(super) fn insert_meanwhile(&mut self, out: &mut dyn OnStep) -> bool {
        let Some(ejecting) = self.ejecting.as_mut().filter(|ejecting| ejecting.going.is_none())
        else {
            return false;
        };
        let device = ejecting.context.device;
        if core::mem::replace(&mut ejecting.looked, true) {
            // The insert may have found that another device is gone.
            return self.step_gone(out);
        }
        let Some(event) = self.source.next_insert(Some(device)) else { return false };
        // What the eject wrote before is not a part of the insert.
        let written = core::mem::take(&mut self.written);
        self.serve(event, out);
        self.written = self.written.saturating_add(written);
        true
    }

    /// Continues the eject under way. Returns `false` if no eject is under way.
    pub(super) fn step_eject(&mut self, out: &mut dyn OnStep) -> bool {
        let Some(mut ejecting) = self.ejecting.take() else { return false };
        ejecting.looked = false;
        match self.step_room(&mut ejecting) {
            Ok(false) => {}
            Ok(true) => {
                self.ejecting = Some(ejecting);
                return true;
            }
            Err(order) => {
                let error = EjectError::NoRoom(order);
                self.fail(&ejecting, &Removes::default(), error, out);
                return true;
            }
        }
        let Some(&range) = ejecting.ranges.as_slice().get(ejecting.part) else {
            match self.step_scrub(&mut ejecting, out) {
                Ok(true) => self.ejecting = Some(ejecting),
                Ok(false) => self.finish_eject(&ejecting, out),
                Err(error) => {
                    self.fail(&ejecting, &Removes::default(), EjectError::Scrub(error), out);
                }
            }
            return true;
        };
        match self.step_range(&mut ejecting, range) {
            Ok(false) => {}
            Ok(true) => {
                self.write_range(&ejecting, range, Ok(()), out);
                ejecting.part += 1;
                (ejecting.next, ejecting.turn) = (0, Turn::Empty);
                ejecting.instructions = None;
            }
            Err(error) => {
                self.write_range(&ejecting, range, Err(error), out);
                self.fail(&ejecting, &Removes::default(), EjectError::Offline(error), out);
                return true;
            }
        }
        self.ejecting = Some(ejecting);
        true
    }

    /// Continues with the block of `range` that is going offline, or begins with the next one that has its [`Turn`].
    /// Returns `true` if all blocks of the range are done.
    fn step_range(
        &mut self,
        ejecting: &mut Ejecting<'m, M>,
        range: PhysRange,
    ) -> Result<bool, OfflineError> {
        ejecting.instructions = ejecting.instructions.or(self.clock.instructions().map(|_| 0));
        if let Some((going, zone)) = ejecting.going.take() {
            let stepped = self.counted(|_| going.step(self.budget));
            ejecting.instructions = plus(ejecting.instructions, stepped.instructions);
            match stepped.result? {
                Stepped::Going(going) => ejecting.going = Some((going, zone)),
                Stepped::Done => self.pass_block(ejecting, Some(zone)),
            }
            return Ok(false);
        }
        let numbers = self.numbers(range);
        ejecting.next = ejecting.next.max(numbers.start);
        if ejecting.next >= numbers.end {
            let later = core::mem::take(&mut ejecting.later).then(|| ejecting.turn.next());
            let Some(turn) = later.flatten() else { return Ok(true) };
            ejecting.turn = turn;
            ejecting.next = numbers.start;
            ejecting.index -= numbers.end - numbers.start;
        }
        let id = BlockId::new(ejecting.next);
        let block = self.mm.block(id).ok_or(OfflineError::NoSuchBlock(id))?;
        let BlockState::Online(zone) = block.state else {
            self.pass_block(ejecting, None);
            return Ok(false);
        };
        if !ejecting.turn.takes(block.counts) {
            ejecting.later = true;
            self.pass_block(ejecting, None);
            return Ok(false);
        }
        let shared = self.has_others(&block, &ejecting.ranges);
        let started = self.in_turn(|mm| match shared {
            true => mm.start_offline_part(id, range),
            false => mm.start_offline(id),
        });
        ejecting.instructions = plus(ejecting.instructions, started.instructions);
        match started.result {
            // It did not come back when an eject before this one ended.
            Err(OfflineError::AlreadyOffline(_)) => self.pass_block(ejecting, None),
            started => ejecting.going = Some((started?, zone)),
        }
        Ok(false)
    }

    /// Turns to the next block. The last one is offline, and went from `zone` if it was online before.
    fn pass_block(&mut self, ejecting: &mut Ejecting<'m, M>, zone: Option<ZoneKind>) {
        if let Some(zone) = zone {
            self.taken.set(ejecting.index, zone);
        }
        ejecting.index += 1;
        ejecting.next += 1;
    }

    /// Puts everything back as it was, and refuses; what was removed is in `removes`.
    fn fail(
        &mut self,
        ejecting: &Ejecting<'m, M>,
        removes: &Removes,
        error: EjectError,
        out: &mut dyn OnStep,
    ) {
        let context = ejecting.context;
        if !self.source.is_there(context.device) {
            log::error!("{}: {error}", self.source.label(context.device));
            self.lose(context, None);
            self.keep_taken(context.device, &ejecting.ranges);
            return;
        }
        self.add_back(ejecting, removes, out);
        self.restore(ejecting, out);
        self.refuse(context, error, out);
        self.lose_waiting(None);
    }

    /// Writes the line of the range whose blocks went, or were to go.
    fn write_range(
        &mut self,
        ejecting: &Ejecting<'m, M>,
        range: PhysRange,
        result: Result<(), OfflineError>,
        out: &mut dyn OnStep,
    ) {
        let done = Done { result, instructions: ejecting.instructions };
        self.write(out, &blocks_step(range, Operation::Offline, &done));
    }

    /// Removes a device's memory, which is offline, and lets the firmware have it.
    fn finish_eject(&mut self, ejecting: &Ejecting<'m, M>, out: &mut dyn OnStep) {
        let mut removes = Removes::default();
        match self.give_up(&ejecting.ranges, &mut removes) {
            Ok(()) => self.eject_device(ejecting, &removes, out),
            Err(error) => self.fail(ejecting, &removes, EjectError::Remove(error), out),
        }
    }

    /// Why a device's memory could not be removed if it were offline, if it could not.
    pub(super) fn why_kept(&self, device: DeviceId) -> Option<Reason> {
        self.check_eject(device).err().map(Reason::new)
    }

    /// Refuses, before anything moves, a device whose memory is not known, one that was refused but whose memory
    /// is in use all the same, and one with a range that could not be removed if it were offline.
    fn check_eject(&self, device: DeviceId) -> Result<(), EjectError> {
        if self.owners.of(device).next().is_none() {
            return Err(EjectError::Unknown);
        }
        let refused = self.owners.of(device).filter(|entry| entry.claim == Claim::Refused);
        let mut used = refused.filter_map(|entry| self.block_in(entry.range));
        used.next().map_or(Ok(()), |id| Err(EjectError::Elsewhere(id)))?;
        let ranges = self.owners.added(device);
        let mut checks = ranges.as_slice().iter().map(|&range| self.mm.check_remove(range));
        checks.try_for_each(|check| check).map_err(EjectError::Remove)
    }

    /// Continues to count whether there is room outside the device for its memory in use: otherwise its first blocks
    /// could go, and their pages would have moved in vain. Returns `false` when that is known.
    ///
    /// # Errors
    ///
    /// The size with too few free extents.
    fn step_room(&mut self, ejecting: &mut Ejecting<'m, M>) -> Result<bool, Order> {
        let Some(estimate) = &mut ejecting.room else { return Ok(false) };
        let ranges = ejecting.ranges.as_slice();
        match self.mm.estimate_remove(estimate, ranges, self.budget) {
            None => return Ok(true),
            Some(Removability::Blocked(Obstacle::NoRoom(order))) => return Err(order),
            // Any other obstacle is found again by the operation that it stops, and named there.
            Some(_) => ejecting.room = None,
        }
        Ok(false)
    }

    /// Removes one range after the other, up to one that stays. The others are noted in `removes`.
    fn give_up(&mut self, ranges: &Ranges, removes: &mut Removes) -> Result<(), RemoveError> {
        for (&range, slot) in ranges.as_slice().iter().zip(removes) {
            let done = self.remove_with_blocks(range, ranges);
            done.result?;
            *slot = Some(done);
        }
        Ok(())
    }

    /// Brings the blocks that went back online.
    fn restore(&mut self, ejecting: &Ejecting<'m, M>, out: &mut dyn OnStep) {
        let ranges = &ejecting.ranges;
        for (part, &range) in parts(ranges).zip(ranges.as_slice()).take(ejecting.part + 1) {
            if self.taken.is_empty() {
                return;
            }
            let done = self.back_online(part);
            if let Err(error) = done.result {
                log::error!("{range}: cannot be brought back online: {error}");
                self.verdict.failed(error);
            }
            self.write(out, &blocks_step(range, Operation::Online, &done));
        }
    }

    /// Adds the ranges that were removed again; their blocks are then offline, those with other memory, too.
    fn add_back(&mut self, ejecting: &Ejecting<'m, M>, removes: &Removes, out: &mut dyn OnStep) {
        let (device, placement) = (ejecting.context.device, self.policy.placement);
        let node = self.owners.of(device).next().map_or(NodeId::default(), |entry| entry.node);
        for (&range, removed) in ejecting.ranges.as_slice().iter().zip(removes) {
            if removed.is_none() {
                continue;
            }
            let done = self.add(range, node, placement);
            if let Err(error) = done.result {
                log::error!("{range}: cannot be added back: {error}");
                self.verdict.failed(error);
                self.owners.turn(device, range, Claim::Refused);
            }
            let step = self.add_step(range, node, placement, Some(&done), Replied::default());
            self.write(out, &step);
        }
    }

    /// Has the firmware eject the device, and reports the outcome.
    fn eject_device(
        &mut self,
        ejecting: &Ejecting<'m, M>,
        removes: &Removes,
        out: &mut dyn OnStep,
    ) {
        let (context, ranges) = (ejecting.context, &ejecting.ranges);
        let device = context.device;
        let ejected = self.source.eject(device);
        let withdrawn = ejected.as_ref().is_err_and(|error| self.source.is_withdrawn(error));
        let replied = match &ejected {
            Ok(()) => {
                self.owners.forget(device);
                self.reply(context, Outcome::Ejected)
            }
            Err(_) => self.reply(context, Outcome::EjectFailed),
        };

        match &ejected {
            Ok(()) if ranges.as_slice().is_empty() => {
                log::info!("{}: gone, it was not in use", self.source.label(device));
            }
            Ok(()) => log::info!("{}: gave {ranges} up", self.source.label(device)),
            Err(error) if withdrawn => {
                log::info!("{}: stays: {error}", self.source.label(device));
            }
            Err(error) => {
                log::error!("{}: the firmware keeps it: {error}", self.source.label(device));
                self.verdict.failed(error);
            }
        }
        let error = ejected.as_ref().err().map(|error| Failure(error));
        self.write_removes(ranges, removes, error, replied, out);
        if ejected.is_err() {
            self.add_back(ejecting, removes, out);
        }
        if withdrawn {
            // The request is void, so all is as it was before.
            self.restore(ejecting, out);
        } else {
            self.return_others(ranges);
        }
        self.lose_waiting(None);
    }

    /// Brings memory of other devices back online, that was in the same blocks.
    fn return_others(&mut self, ranges: &Ranges) {
        for part in parts(ranges) {
            if let Err(error) = self.return_shared(part).result {
                log::error!("{error}: memory of another device in it stays offline");
                self.verdict.failed(error);
            }
        }
    }

    /// Reports to the firmware that the device stays, with the reason.
    fn refuse(&mut self, context: Context, error: EjectError, out: &mut dyn OnStep) {
        let replied = self.reply(context, Outcome::EjectRefused(error.refusal()));
        log::warn!("{}: stays: {error}", self.source.label(context.device));

        // The line a harness looks for: no operation removed anything, and this is why.
        let mut stays = Ranges::default();
        for entry in self.owners.of(context.device) {
            // They came out of one `Ranges`, so they fit into one.
            let _ = stays.push(entry.range);
        }
        let failure = Some(Failure(&error));
        self.write_removes(&stays, &Removes::default(), failure, replied, out);
    }

    /// Writes a line for each range that was removed, or was to be.
    fn write_removes(
        &mut self,
        ranges: &Ranges,
        removes: &Removes,
        error: Option<Failure<'_>>,
        replied: Replied,
        out: &mut dyn OnStep,
    ) {
        for (&range, done) in ranges.as_slice().iter().zip(removes) {
            self.write(out, &Step { error, ..remove_step(range, done.as_ref(), replied) });
        }
    }
}
