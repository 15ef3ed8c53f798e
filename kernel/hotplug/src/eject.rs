//! The firmware wants a device back.
//!
//! ```text
//! answer "in progress" --> offline every block --> remove --> firmware ejects --> answer
//!                               |                    |              |
//!                               +--- as it was <-----+              +-- added again, offline;
//!                                                                   online if it is not wanted any more
//! ```

use core::fmt;

use hotmem::{BlockId, Machine, NodeId, OfflineError, PhysRange, RemoveError, Removed};

use super::blocks::{Part, parts};
use super::clock::Clock;
use super::driver::{Answered, Done, Hotplug};
use super::event::{DeviceId, HotplugSource, MAX_RANGES, Outcome, Ranges, Refusal};
use super::insert::{add_step, blocks_step, remove_step};
use super::owners::Claim;
use super::step::{Failure, RemoveStep, Step};
use super::underway::{Context, Ejecting};

/// Why a device is not given up.
#[derive(Clone, Copy, Debug)]
pub(super) enum EjectError {
    /// A block does not go offline.
    Offline(OfflineError),
    /// The memory manager keeps a range.
    Remove(RemoveError),
    /// The device's memory is in use, but not as the device's: the operator has added it, or the
    /// machine was started with it.
    Elsewhere(BlockId),
    /// Nothing is known of the device's memory.
    Unknown,
    /// The firmware has no way to take the device away.
    NoWayOut,
    /// The operator would not have it.
    Cancelled,
}

impl fmt::Display for EjectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Offline(error) => error.fmt(f),
            Self::Remove(error) => error.fmt(f),
            Self::Elsewhere(id) => write!(f, "{id} is in use, and was not added for the device"),
            Self::Unknown => f.write_str("nothing is known of its memory"),
            Self::NoWayOut => f.write_str("the firmware has no way to take it away"),
            Self::Cancelled => f.write_str("the operator cancelled it"),
        }
    }
}

impl EjectError {
    /// What the firmware is told.
    fn refusal(&self) -> Refusal {
        match self {
            Self::Offline(OfflineError::Busy | OfflineError::NoRoom { .. })
            | Self::Remove(RemoveError::Busy | RemoveError::ReadersStay(_))
            | Self::Cancelled => Refusal::Busy,
            Self::Offline(OfflineError::Vetoed(..)) => Refusal::Dependency,
            Self::Unknown | Self::NoWayOut => Refusal::Unknown,
            _ => Refusal::InUse,
        }
    }
}

/// The removes of one eject, range by range.
type Removes = [Option<Done<Removed, RemoveError>>; MAX_RANGES];

impl<S: HotplugSource, M: Machine, C: Clock> Hotplug<'_, S, M, C> {
    /// Begins to give a device's memory up: the steps that follow let the firmware have it, or leave
    /// everything as it was.
    pub(super) fn eject(&mut self, context: Context, out: &mut dyn fmt::Write) {
        if let Err(error) = self.source.can_eject(context.device) {
            log::error!("{}: {error}", self.source.label(context.device));
            self.refuse(context, EjectError::NoWayOut, out);
            return;
        }
        self.answer(context, Outcome::Ejecting);
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

    /// Removes a device's memory, which is offline, and lets the firmware have it.
    pub(super) fn finish_eject(
        &mut self,
        context: Context,
        ranges: &Ranges,
        out: &mut dyn fmt::Write,
    ) {
        let mut removes = Removes::default();
        match self.give_up(ranges, &mut removes) {
            Ok(()) => self.let_go(context, ranges, &removes, out),
            Err(error) if !self.source.is_there(context.device) => {
                self.vanish(context, EjectError::Remove(error));
            }
            Err(error) => {
                let removed = ranges.as_slice().iter().zip(&removes);
                let removed = removed.filter(|(_, done)| done.is_some()).map(|(range, _)| range);
                self.add_back(context.device, removed, out);
                self.restore(ranges, MAX_RANGES, out);
                self.refuse(context, EjectError::Remove(error), out);
            }
        }
    }

    /// A device that was to be given up, and could not be, is not there any more.
    pub(super) fn vanish(&mut self, context: Context, error: EjectError) {
        log::error!("{}: {error}", self.source.label(context.device));
        self.lose(context, None);
    }

    /// Refuses a device whose memory is not known, and one that was refused but whose memory is in
    /// use all the same.
    fn check_eject(&self, device: DeviceId) -> Result<(), EjectError> {
        if self.owners.of(device).next().is_none() {
            return Err(EjectError::Unknown);
        }
        let refused = self.owners.of(device).filter(|entry| entry.claim == Claim::Refused);
        let mut used = refused.filter_map(|entry| self.block_in(entry.range));
        used.next().map_or(Ok(()), |id| Err(EjectError::Elsewhere(id)))
    }

    /// Removes one range after the other, up to one that stays. The others are noted in `removes`.
    fn give_up(&mut self, ranges: &Ranges, removes: &mut Removes) -> Result<(), RemoveError> {
        for (&range, slot) in ranges.as_slice().iter().zip(removes) {
            let done = self.remove(range);
            done.result?;
            *slot = Some(done);
        }
        Ok(())
    }

    /// Brings the blocks of the parts up to `last` back online.
    pub(super) fn restore(&mut self, ranges: &Ranges, last: usize, out: &mut dyn fmt::Write) {
        for (part, &range) in parts(ranges).zip(ranges.as_slice()) {
            let Part { index, .. } = part;
            if index > last || self.taken.is_empty() {
                return;
            }
            let done = self.back_online(part);
            if let Err(error) = done.result {
                log::error!("{range}: cannot be brought back online: {error}");
                self.verdict.failed(error);
            }
            self.write(out, &Step::Online(blocks_step(range, &done)));
        }
    }

    /// Adds removed ranges again; their blocks are then offline.
    fn add_back<'a>(
        &mut self,
        device: DeviceId,
        ranges: impl Iterator<Item = &'a PhysRange>,
        out: &mut dyn fmt::Write,
    ) {
        let node = self.owners.of(device).next().map_or(NodeId::default(), |entry| entry.node);
        for &range in ranges {
            let done = self.add(range, node, self.policy.placement);
            if let Err(error) = done.result {
                log::error!("{range}: cannot be added back: {error}");
                self.verdict.failed(error);
                self.owners.turn(device, range, Claim::Refused);
            }
            self.write(out, &Step::Add(add_step(range, node, self.policy.placement, Some(&done))));
        }
    }

    /// Has the firmware take the device away, and answers.
    fn let_go(
        &mut self,
        context: Context,
        ranges: &Ranges,
        removes: &Removes,
        out: &mut dyn fmt::Write,
    ) {
        let device = context.device;
        let ejected = self.source.eject(device);
        let withdrawn = ejected.as_ref().is_err_and(|error| self.source.is_withdrawn(error));
        let answered = match &ejected {
            Ok(()) => {
                self.owners.forget(device);
                self.answer(context, Outcome::Ejected)
            }
            Err(_) => self.answer(context, Outcome::EjectFailed),
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
        self.write_removes(ranges, removes, error, answered, out);
        if ejected.is_err() {
            self.add_back(device, ranges.as_slice().iter(), out);
        }
        if withdrawn {
            // The request is void, so all is as it was before.
            self.restore(ranges, MAX_RANGES, out);
        }
    }

    /// Answers that the device stays, with why.
    pub(super) fn refuse(&mut self, context: Context, error: EjectError, out: &mut dyn fmt::Write) {
        let answered = self.answer(context, Outcome::EjectRefused(error.refusal()));
        log::warn!("{}: stays: {error}", self.source.label(context.device));

        // The line a harness looks for: no verb removed anything, and this is why.
        let mut stays = Ranges::default();
        for entry in self.owners.of(context.device) {
            // They came out of one `Ranges`, so they fit into one.
            let _ = stays.push(entry.range);
        }
        let failure = Some(Failure(&error));
        self.write_removes(&stays, &Removes::default(), failure, answered, out);
    }

    /// Writes a line for each range that was removed, or was to be.
    fn write_removes(
        &mut self,
        ranges: &Ranges,
        removes: &Removes,
        error: Option<Failure<'_>>,
        answered: Answered,
        out: &mut dyn fmt::Write,
    ) {
        for (&range, done) in ranges.as_slice().iter().zip(removes) {
            let nothing = RemoveStep {
                range,
                system_bytes: 0,
                instructions: None,
                event_instructions: None,
                ost: None,
                error: None,
            };
            let step = RemoveStep {
                event_instructions: answered.instructions,
                ost: answered.ost,
                error,
                ..done.as_ref().map_or(nothing, |done| remove_step(range, done))
            };
            self.write(out, &Step::Remove(step));
        }
    }
}
