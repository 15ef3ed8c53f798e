//! The operator's operations: the same memory manager, but never over memory the firmware owns.

use core::fmt;

use hotmem::{
    AddError, BlockId, Machine, OfflineError, OnlineError, PhysRange, Placement, RemoveError,
    ScrubError, ZoneKind,
};

use super::clock::Clock;
use super::driver::{Done, Hotplug};
use super::event::{DeviceId, HotplugSource};
use super::insert::{blocks_step, remove_step};
use super::listen::OnStep;
use super::owners::{Claim, Plugged};
use super::step::{Operation, Replied};
use super::underway::Draining;

hotmem::errors! {
    /// Why the operator's command was not done. Nothing was changed.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    #[non_exhaustive]
    pub enum OperatorError {
        /// The firmware has some of the range in use: it alone may take it away.
        Firmwares(entry: Plugged) =>
            ("{} belongs to {}, which the firmware gives and takes", entry.range, entry.device),
        /// An eject is under way: some blocks of the device are offline already.
        Ejecting(device: DeviceId) => "{device} is being given up",
        /// The block's memory is not there any more.
        Gone(entry: Plugged) => ("{} of {} is not there any more", entry.range, entry.device),
        /// No plugged and unused memory is there.
        NotPlugged(range: PhysRange) => "{range} is not in plugged and unused memory",
        /// The memory manager refused.
        Add(error: AddError) => "{error}",
        /// The memory manager refused.
        Remove(error: RemoveError) => "{error}",
        /// The memory manager refused.
        Online(error: OnlineError) => "{error}",
        /// The memory manager refused.
        Offline(error: OfflineError) => "{error}",
    }
}

impl<S: HotplugSource, M: Machine, C: Clock> Hotplug<'_, S, M, C> {
    /// Adds `range`, which lies in memory that is plugged but was refused. Writes its line to `out`.
    ///
    /// # Errors
    ///
    /// [`OperatorError`]; nothing was changed.
    pub fn operator_add(
        &mut self,
        range: PhysRange,
        placement: Placement,
        out: &mut dyn OnStep,
    ) -> Result<(), OperatorError> {
        self.check_idle()?;
        if let Some(entry) = self.owners.owner_of(range) {
            return Err(OperatorError::Firmwares(entry));
        }
        let entry = self.owners.unclaimed(range).ok_or(OperatorError::NotPlugged(range))?;
        let done = self.add(range, entry.node, placement);
        let step = self.add_step(range, entry.node, placement, Some(&done), Replied::default());
        self.write(out, &step);
        done.result.map(drop).map_err(OperatorError::Add)
    }

    /// Removes `range`, which the operator added and took offline. Writes its line to `out`.
    ///
    /// # Errors
    ///
    /// [`OperatorError`]; nothing was changed.
    pub fn operator_remove(
        &mut self,
        range: PhysRange,
        out: &mut dyn OnStep,
    ) -> Result<(), OperatorError> {
        self.check_idle()?;
        if let Some(entry) = self.owners.owner_of(range) {
            return Err(OperatorError::Firmwares(entry));
        }
        let done = match self.scrub_range(range, out) {
            Err(ScrubError::Busy) => Done { result: Err(RemoveError::Busy), instructions: None },
            // Any other error is one of the removal, too, and that names it.
            _ => self.remove(range),
        };
        self.write(out, &remove_step(range, Some(&done), Replied::default()));
        if done.result.is_ok() {
            self.forget_gone(range);
        }
        done.result.map(drop).map_err(OperatorError::Remove)
    }

    /// Forgets ranges that are gone, of which nothing is left now that the operator has removed some.
    fn forget_gone(&mut self, removed: PhysRange) {
        for n in (0..self.owners.all().len()).rev() {
            let entry = self.owners.all().get(n).copied();
            let gone = entry.filter(|entry| entry.claim == Claim::Gone);
            let Some(entry) = gone.filter(|entry| entry.range.overlaps(removed)) else { continue };
            if self.lost_in(entry.range).next().is_none() {
                self.return_neighbours(entry.device, entry.range);
            }
        }
    }

    /// Brings a block online, no matter which owner it has. Writes its line to `out`.
    ///
    /// # Errors
    ///
    /// [`OperatorError`]; nothing was changed.
    pub fn operator_online(
        &mut self,
        id: BlockId,
        zone: ZoneKind,
        out: &mut dyn OnStep,
    ) -> Result<(), OperatorError> {
        self.check_idle()?;
        if let Some(gone) = self.gone_in(id) {
            return Err(OperatorError::Gone(gone));
        }
        let done = self.in_turn(|mm| mm.online(id, zone).map(drop));
        self.write_block(id, Operation::Online, &done, out);
        done.result.map_err(OperatorError::Online)
    }

    /// Takes a block offline, no matter which owner it has. Writes its line to `out`.
    ///
    /// # Errors
    ///
    /// [`OperatorError`]; nothing was changed.
    pub fn operator_offline(
        &mut self,
        id: BlockId,
        out: &mut dyn OnStep,
    ) -> Result<(), OperatorError> {
        self.check_idle()?;
        let done = self.in_turn(|mm| mm.offline(id));
        self.write_block(id, Operation::Offline, &done, out);
        done.result.map_err(OperatorError::Offline)
    }

    /// Refuses while an eject is under way: its blocks are put back if it fails.
    pub(super) fn check_idle(&self) -> Result<(), OperatorError> {
        let leaving = self.ejecting().map(|ejecting| ejecting.device);
        match leaving.or(self.draining.as_ref().map(Draining::device)) {
            Some(device) => Err(OperatorError::Ejecting(device)),
            None => Ok(()),
        }
    }

    /// Writes the line of one block, unless its number is past the end of memory.
    fn write_block<E: fmt::Display>(
        &mut self,
        id: BlockId,
        operation: Operation,
        done: &Done<(), E>,
        out: &mut dyn OnStep,
    ) {
        if let Some(range) = self.mm.block_range(id) {
            self.write(out, &blocks_step(range, operation, done));
        }
    }
}
