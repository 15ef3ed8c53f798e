//! A device was plugged, or announced once more.
//!
//! ```text
//! add every range --> remember whose it is --> online --> reply --> lines for the console
//!       |                                         |
//!       +-- remove what was added                 +-- all of it offline again, but added
//! ```

use core::fmt;

use hotmem::{
    AddError, Added, BlockId, Machine, NodeId, OfflineError, OnlineError, PhysRange, Placement,
    RemoveError, Removed,
};

use super::blocks::parts;
use super::clock::Clock;
use super::driver::{Done, Hotplug};
use super::event::{HotplugSource, MAX_RANGES, Outcome, Ranges};
use super::listen::OnStep;
use super::owners::{Claim, Plugged};
use super::report::Reason;
use super::shown::shown;
use super::step::{Failure, Operation, Replied, Step};
use super::touched::MAX_BLOCKS;
use super::underway::Plug;

hotmem::errors! {
    /// Why a device was not taken.
    #[derive(Clone, Copy, Debug)]
    enum InsertError {
        /// The memory manager refused a range.
        Add(error: AddError) => "{error}",
        /// The range stayed offline.
        Online(error: OnlineError) => "{error}",
        /// The table of owners is full.
        TableFull => "no room in the table of plugged memory",
        /// The device has more blocks than can be kept track of.
        TooManyBlocks(count: u64) => "{count} memory blocks in one device, more than {MAX_BLOCKS}",
        /// The device is in use with other memory than it has now: the first of its ranges that is not the same.
        Changed { was: Option<PhysRange>, is: Option<PhysRange> } =>
            ("the device is in use, and now has {} instead of {}", or_nothing(*is), or_nothing(*was)),
    }
}

/// What a message says of a range that may be missing.
fn or_nothing(range: Option<PhysRange>) -> impl fmt::Display {
    shown(move |f| match range {
        Some(range) => write!(f, "{range}"),
        None => f.write_str("nothing"),
    })
}

/// The operations of one insert, range by range; `None` where an operation was not run.
#[derive(Default)]
struct Trail {
    /// Where memmaps go.
    placement: Placement,
    adds: [Option<Done<Added, AddError>>; MAX_RANGES],
    removes: [Option<Done<Removed, RemoveError>>; MAX_RANGES],
    onlines: [Option<Done<(), OnlineError>>; MAX_RANGES],
    offlines: [Option<Done<(), OfflineError>>; MAX_RANGES],
}

impl<S: HotplugSource, M: Machine, C: Clock> Hotplug<'_, S, M, C> {
    /// Takes a device's memory into use, and reports the outcome.
    pub(super) fn insert(&mut self, plug: Plug<'_>, out: &mut dyn OnStep) {
        let known = self.owners.added(plug.context.device);
        if known == *plug.ranges {
            self.insert_again(plug, out);
            return;
        }
        if self.is_replaced(plug.context, plug.ranges) {
            self.lose(plug.context, Some((*plug.ranges, plug.node)));
            return;
        }
        self.insert_new(plug, out);
    }

    /// Takes a device whose memory is not known yet, and reports the outcome.
    pub(super) fn insert_new(&mut self, plug: Plug<'_>, out: &mut dyn OnStep) {
        if self.is_boot_memory(plug.ranges) {
            self.know_boot_memory(plug);
            return;
        }

        let mut trail = Trail { placement: self.policy.placement, ..Trail::default() };
        let was = self.owners.added(plug.context.device);
        let result = match was.as_slice() {
            [] => self.take(plug, &mut trail),
            was => Err(changed(was, plug.ranges.as_slice())),
        };
        let outcome = outcome_of(&result);
        let replied = self.reply(plug.context, outcome);
        self.log_inserted(plug, &result);
        self.write_insert(plug, &trail, result.err().as_ref(), replied, out);
        // The undo of an add may have taken a block offline.
        self.lose_waiting(None);
    }

    /// Takes memory on the operator's request, not on the firmware's. It is forgotten unless it is added.
    pub(super) fn insert_requested(
        &mut self,
        plug: Plug<'_>,
        placement: Placement,
        out: &mut dyn OnStep,
    ) -> Result<(), Reason> {
        let mut trail = Trail { placement, ..Trail::default() };
        let result = self.take(plug, &mut trail);
        if !self.owners.of(plug.context.device).any(|entry| entry.claim.has_memory()) {
            self.owners.forget(plug.context.device);
        }
        let replied = self.reply(plug.context, outcome_of(&result));
        let error = result.err();
        self.write_insert(plug, &trail, error.as_ref(), replied, out);
        self.lose_waiting(None);
        error.map_or(Ok(()), |error| Err(Reason::new(error)))
    }

    /// Takes note of a device that is known: firmware may announce one again, as QEMU does after a boot
    /// scan. If its memory did not come online then, it may now.
    fn insert_again(&mut self, plug: Plug<'_>, out: &mut dyn OnStep) {
        let stranded = |entry: Plugged| entry.claim == Claim::Stranded;
        if !self.owners.of(plug.context.device).any(stranded) {
            self.reply(plug.context, Outcome::Inserted);
            return;
        }
        let mut trail = Trail::default();
        let result = self.online_all(plug, &mut trail).map_err(InsertError::Online);
        if result.is_ok() {
            self.owners.set(plug.context.device, plug.ranges, plug.node, Claim::Added);
        }
        self.reply(plug.context, outcome_of(&result));
        self.log_inserted(plug, &result);
        self.write_onlines(plug.ranges, &trail, out);
    }

    /// Whether the machine was started with all of the memory: some firmware describes that too.
    fn is_boot_memory(&self, ranges: &Ranges) -> bool {
        // A block may be boot memory in part only: both ends have to be memory, too.
        let last = |range: &PhysRange| range.start().add(range.len().saturating_sub(1));
        let ends = |range: &PhysRange| [range.start(), last(range)];
        let mut numbers = ranges.as_slice().iter().flat_map(|&range| self.numbers(range));
        numbers.all(|raw| self.mm.peek_block(BlockId::new(raw)).is_some_and(|block| block.boot))
            && ranges.as_slice().iter().flat_map(ends).all(|end| self.mm.is_ram(M::pfn(end)))
    }

    /// Remembers a device whose memory is in use since the start, so that it is never ejected.
    fn know_boot_memory(&mut self, plug: Plug<'_>) {
        let Plug { context, ranges, node } = plug;
        if self.owners.has_room(context.device, ranges) {
            self.owners.set(context.device, ranges, node, Claim::Refused);
        }
        self.reply(context, Outcome::Inserted);
        let label = self.source.label(context.device);
        log::info!("{label}: {ranges} is memory the machine was started with");
    }

    /// Adds all ranges or none, and brings them online.
    fn take(&mut self, plug: Plug<'_>, trail: &mut Trail) -> Result<(), InsertError> {
        if !self.owners.has_room(plug.context.device, plug.ranges) {
            return Err(InsertError::TableFull);
        }
        let result = match self.count_blocks(plug.ranges) {
            count if count > MAX_BLOCKS => Err(InsertError::TooManyBlocks(count)),
            _ => self.add_all(plug, trail).map_err(InsertError::Add),
        };
        let claim = if result.is_ok() { Claim::Added } else { Claim::Refused };
        self.owners.set(plug.context.device, plug.ranges, plug.node, claim);
        self.keep_what_stays(plug, trail);
        result?;
        self.online_all(plug, trail).map_err(|error| {
            self.owners.set(plug.context.device, plug.ranges, plug.node, Claim::Stranded);
            InsertError::Online(error)
        })
    }

    /// Notes ranges of a refused device that could not be removed again: they go when the device does.
    fn keep_what_stays(&mut self, plug: Plug<'_>, trail: &Trail) {
        for (&range, removed) in plug.ranges.as_slice().iter().zip(&trail.removes) {
            if let Some(Done { result: Err(error), .. }) = removed {
                log::error!("{range}: cannot be removed again: {error}");
                self.verdict.failed(error);
                self.owners.turn(plug.context.device, range, Claim::Stranded);
            }
        }
    }

    /// Adds every range; after a failure, none.
    fn add_all(&mut self, plug: Plug<'_>, trail: &mut Trail) -> Result<(), AddError> {
        for (&range, slot) in plug.ranges.as_slice().iter().zip(&mut trail.adds) {
            let done = self.add(range, plug.node, trail.placement);
            *slot = Some(done);
            let Err(error) = done.result else { continue };

            let added =
                trail.adds.iter().map(|add| matches!(add, Some(Done { result: Ok(_), .. })));
            let undo = plug.ranges.as_slice().iter().zip(added).zip(&mut trail.removes);
            for ((&range, _), slot) in undo.filter(|((_, added), _)| *added) {
                *slot = Some(self.remove_new(range));
            }
            return Err(error);
        }
        Ok(())
    }

    /// Removes memory that was added just now. What came to a block that was online is online, too.
    fn remove_new(&mut self, range: PhysRange) -> Done<Removed, RemoveError> {
        self.without_parts(range, |this| this.remove(range)).unwrap_or_else(|(id, error)| {
            log::error!("{range}: {error}");
            let error = match error {
                OfflineError::Busy => RemoveError::Busy,
                _ => RemoveError::NotOffline(id),
            };
            Done { result: Err(error), instructions: None }
        })
    }

    /// Brings every range online, if the policy wants it; after a failure, none.
    fn online_all(&mut self, plug: Plug<'_>, trail: &mut Trail) -> Result<(), OnlineError> {
        let ranges = plug.ranges;
        // A device is plugged and unplugged as a whole, so one zone is chosen for all its ranges.
        let Some(zone) = self.mm.auto_zone(ranges.as_slice(), plug.node) else {
            return Ok(());
        };
        self.brought.clear();
        for (part, slot) in parts(ranges).zip(&mut trail.onlines) {
            let done = self.bring_online(part, zone);
            *slot = Some(done);
            let Err(error) = done.result else { continue };

            for (part, slot) in parts(ranges).zip(&mut trail.offlines).take(part.index + 1) {
                let done = self.back_offline(part);
                if let Err(error) = done.result {
                    log::error!("{ranges}: some of it stays online: {error}");
                }
                *slot = Some(done);
            }
            return Err(error);
        }
        ranges.as_slice().iter().for_each(|&range| self.wait_online(range, zone));
        Ok(())
    }

    /// Logs the outcome.
    fn log_inserted(&mut self, plug: Plug<'_>, result: &Result<(), InsertError>) {
        let ranges = plug.ranges;
        let label = self.source.label(plug.context.device);
        match result {
            Ok(()) => {
                log::info!("{label}: took {ranges}");
                self.log_other_nodes(plug);
            }
            Err(error @ InsertError::Online(_)) => {
                log::error!("{label}: {ranges} stays offline: {error}");
                self.verdict.failed(error);
            }
            Err(error) => {
                log::warn!("{label}: refused: {error}");
                self.verdict.refused(error);
            }
        }
    }

    /// Logs which memory of a device on `node` is on another one.
    fn log_other_nodes(&self, Plug { ranges, node, .. }: Plug<'_>) {
        // Only these can have memory that came before.
        for id in ranges.as_slice().iter().flat_map(|&range| self.ends(range)) {
            if let Some(block) = self.mm.peek_block(id).filter(|block| block.node != node) {
                let other = block.node;
                log::warn!("{id} is on {other}, and so is all memory of it, not on {node}");
            }
        }
    }

    /// Writes the line of each operation: adds, and their undo; onlines, and theirs.
    fn write_insert(
        &mut self,
        plug: Plug<'_>,
        trail: &Trail,
        error: Option<&InsertError>,
        replied: Replied,
        out: &mut dyn OnStep,
    ) {
        let Trail { adds, removes, .. } = trail;
        for (n, (&range, add)) in plug.ranges.as_slice().iter().zip(adds).enumerate() {
            // A device that was refused before the first operation still has one line that says so.
            if add.is_some() || n == 0 {
                // An add that succeeded is not a failure, even if the device was refused because of another range.
                let worked = add.as_ref().is_some_and(|add| add.result.is_ok());
                let error = error.filter(|_| !worked).map(|error| Failure(error));
                let step = self.add_step(range, plug.node, trail.placement, add.as_ref(), replied);
                self.write(out, &Step { error, ..step });
            }
        }
        for (&range, done) in plug.ranges.as_slice().iter().zip(removes) {
            if done.is_some() {
                self.write(out, &remove_step(range, done.as_ref(), Replied::default()));
            }
        }
        self.write_onlines(plug.ranges, trail, out);
    }

    /// The line of an add, which was not run if there is no `done`.
    pub(super) fn add_step<'a>(
        &self,
        range: PhysRange,
        node: NodeId,
        placement: Placement,
        done: Option<&'a Done<Added, AddError>>,
        replied: Replied,
    ) -> Step<'a> {
        let added = done.and_then(|done| done.result.ok());
        let node = added.map_or(node, |_| self.node_in(range, node));
        let placement = added.map_or(placement, |added| added.placement);
        let system_bytes = added.map_or(0, |added| signed(added.system_bytes));
        Step {
            range: Some(range),
            operation: Operation::Add { node: Some(node), placement, system_bytes, replied },
            instructions: done.and_then(|done| done.instructions),
            error: done.and_then(Done::failure),
        }
    }

    /// Writes the line of each online, and of each undo of one.
    fn write_onlines(&mut self, ranges: &Ranges, trail: &Trail, out: &mut dyn OnStep) {
        let Trail { onlines, offlines, .. } = trail;
        for (&range, done) in ranges.as_slice().iter().zip(onlines) {
            if let Some(done) = done {
                self.write(out, &blocks_step(range, Operation::Online, done));
            }
        }
        for (&range, done) in ranges.as_slice().iter().zip(offlines) {
            if let Some(done) = done {
                self.write(out, &blocks_step(range, Operation::Offline, done));
            }
        }
    }
}

/// The first range in which two descriptions of a device differ.
fn changed(was: &[PhysRange], is: &[PhysRange]) -> InsertError {
    let same = was.iter().zip(is).take_while(|(was, is)| was == is).count();
    InsertError::Changed { was: was.get(same).copied(), is: is.get(same).copied() }
}

/// The outcome of an insert that is reported to the firmware.
const fn outcome_of(result: &Result<(), InsertError>) -> Outcome {
    match result {
        Ok(()) => Outcome::Inserted,
        Err(InsertError::Online(_)) => Outcome::InsertedOffline,
        Err(_) => Outcome::InsertFailed,
    }
}

/// The line of a remove, which was not run if there is no `done`.
pub(super) fn remove_step(
    range: PhysRange,
    done: Option<&Done<Removed, RemoveError>>,
    replied: Replied,
) -> Step<'_> {
    let removed = done.and_then(|done| done.result.ok());
    let system_bytes = removed.map_or(0, |removed| -signed(removed.system_bytes));
    Step {
        range: Some(range),
        operation: Operation::Remove { system_bytes, replied },
        instructions: done.and_then(|done| done.instructions),
        error: done.and_then(Done::failure),
    }
}

/// The line of blocks that changed.
pub(super) fn blocks_step<E: fmt::Display>(
    range: PhysRange,
    operation: Operation,
    done: &Done<(), E>,
) -> Step<'_> {
    Step { range: Some(range), operation, instructions: done.instructions, error: done.failure() }
}

/// A number of bytes that can also be given back.
fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}
