//! An eject under way: its blocks go offline one after the other, in steps, so that the kernel goes on
//! serving its console meanwhile.
//!
//! ```text
//!   eject --> [ insert?, step, step, ... block offline ] for each block --> remove, let go
//!                                 |           \--- a block stays, or cancel --> online again, refused
//! ```

use core::fmt;

use hotmem::{BlockId, BlockState, Machine, OfflineError, Progress, Stepped};

use super::blocks::{Part, plus};
use super::clock::Clock;
use super::driver::{Done, Hotplug};
use super::eject::EjectError;
use super::event::{DeviceId, HotplugSource};
use super::insert::blocks_step;
use super::step::Step;
use super::underway::Ejecting;

/// What an eject under way is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EjectProgress {
    /// The device.
    pub device: DeviceId,
    /// The block that is going offline, and how far that got.
    pub block: Option<Progress>,
}

/// What one step led to.
enum After {
    /// There is more to do.
    Going,
    /// The blocks of a range are offline.
    RangeDone,
    /// Every block is.
    AllDone,
}

impl<'m, S: HotplugSource, M: Machine, C: Clock> Hotplug<'m, S, M, C> {
    /// What an eject under way is doing, if one is.
    pub fn ejecting(&self) -> Option<EjectProgress> {
        let ejecting = self.ejecting.as_ref()?;
        let block = ejecting.going.as_ref().map(|(going, _)| going.progress());
        Some(EjectProgress { device: ejecting.context.device, block })
    }

    /// Gives an eject under way up: everything is then as it was, and the firmware is told that the
    /// device is busy. `false` if none is under way.
    pub fn cancel_eject(&mut self, out: &mut dyn fmt::Write) -> bool {
        // Memory of a device that is gone is drained between two blocks; that has to end first, for the
        // memory manager does one operation at a time.
        while self.ejecting.is_some() && self.step_gone(out) {}
        let Some(mut ejecting) = self.ejecting.take() else { return false };
        // Dropped, it leaves its block online.
        drop(ejecting.going.take());
        self.fail(&ejecting, EjectError::Cancelled, out);
        true
    }

    /// Serves an insert between two blocks of an eject, so that it waits for one block at the most. There is
    /// a step of the eject between two inserts: it ends however many devices are plugged.
    pub(super) fn insert_meanwhile(&mut self, out: &mut dyn fmt::Write) -> bool {
        let Some(ejecting) = self.ejecting.as_mut().filter(|ejecting| ejecting.going.is_none())
        else {
            return false;
        };
        let device = ejecting.context.device;
        if core::mem::replace(&mut ejecting.looked, true) {
            // The insert may have found that another device is gone.
            return self.step_gone(out);
        }
        let Some(event) = self.source.next_insert(device) else { return false };
        // What the eject wrote before is not a part of the insert.
        let written = core::mem::take(&mut self.written);
        self.serve(event, out);
        self.written = self.written.saturating_add(written);
        true
    }

    /// Goes on with an eject under way. `false` if there is none.
    pub(super) fn step_eject(&mut self, out: &mut dyn fmt::Write) -> bool {
        let Some(mut ejecting) = self.ejecting.take() else { return false };
        ejecting.looked = false;
        match self.step_blocks(&mut ejecting) {
            Ok(After::Going) => self.ejecting = Some(ejecting),
            Ok(After::RangeDone) => {
                self.write_range(&ejecting, Ok(()), out);
                ejecting.part += 1;
                ejecting.instructions = None;
                self.ejecting = Some(ejecting);
            }
            Ok(After::AllDone) => self.finish_eject(ejecting.context, &ejecting.ranges, out),
            Err(error) => {
                self.write_range(&ejecting, Err(error), out);
                self.fail(&ejecting, EjectError::Offline(error), out);
            }
        }
        true
    }

    fn step_blocks(&mut self, ejecting: &mut Ejecting<'m, M>) -> Result<After, OfflineError> {
        if let Some((going, zone)) = ejecting.going.take() {
            let stepped = self.counted(|_| going.step(self.budget));
            ejecting.instructions = plus(ejecting.instructions, stepped.instructions);
            match stepped.result? {
                Stepped::Going(going) => ejecting.going = Some((going, zone)),
                Stepped::Done => {
                    self.taken.set(ejecting.index, zone);
                    ejecting.index += 1;
                    ejecting.next += 1;
                }
            }
            return Ok(After::Going);
        }
        let Some(&range) = ejecting.ranges.as_slice().get(ejecting.part) else {
            return Ok(After::AllDone);
        };
        let numbers = self.numbers(range);
        ejecting.next = ejecting.next.max(numbers.start);
        ejecting.instructions = ejecting.instructions.or(self.clock.instructions().map(|_| 0));
        if ejecting.next >= numbers.end {
            ejecting.next = 0;
            return Ok(After::RangeDone);
        }
        self.start_block(ejecting).map(|()| After::Going)
    }

    /// Begins with the next block, or passes over it if it is offline.
    fn start_block(&mut self, ejecting: &mut Ejecting<'m, M>) -> Result<(), OfflineError> {
        let id = BlockId::new(ejecting.next);
        let block = self.mm.block(id).ok_or(OfflineError::NoSuchBlock(id))?;
        let BlockState::Online(zone) = block.state else {
            ejecting.index += 1;
            ejecting.next += 1;
            return Ok(());
        };
        let started = self.counted(|mm| mm.start_offline(id));
        ejecting.instructions = plus(ejecting.instructions, started.instructions);
        ejecting.going = Some((started.result?, zone));
        Ok(())
    }

    /// Puts everything back as it was, and refuses.
    fn fail(&mut self, ejecting: &Ejecting<'m, M>, error: EjectError, out: &mut dyn fmt::Write) {
        if !self.source.is_there(ejecting.context.device) {
            self.vanish(ejecting.context, error);
            return;
        }
        self.restore(&ejecting.ranges, ejecting.part, out);
        self.refuse(ejecting.context, error, out);
    }

    /// Writes the line of the range whose blocks went, or were to go.
    fn write_range(
        &mut self,
        ejecting: &Ejecting<'m, M>,
        result: Result<(), OfflineError>,
        out: &mut dyn fmt::Write,
    ) {
        let part = Part { ranges: &ejecting.ranges, index: ejecting.part };
        if let Some(&range) = part.ranges.as_slice().get(part.index) {
            let done = Done { result, instructions: ejecting.instructions };
            self.write(out, &Step::Offline(blocks_step(range, &done)));
        }
    }
}
