//! The driver: takes one event at a time and sees it through.

// UNSAFETY: adds memory on the word of the source.
#![expect(unsafe_code)]

use core::fmt;

use hotmem::{
    AddError, Added, Machine, Mm, NodeId, PhysAddr, PhysRange, Placement, RemoveError, Removed,
};

use super::clock::Clock;
use super::event::{DeviceId, Event, HotplugSource, Outcome, Request};
use super::growth::{Growth, GrowthRefused};
use super::listen::OnStep;
use super::owners::{OutOfHeap, Owners, Plugged};
use super::report::Verdict;
use super::step::{Failure, Operation, Replied, Step, StepLine};
use super::touched::Touched;
use super::underway::{Context, Draining, Ejecting, Plug};

/// Pages that an eject examines or moves by default before the kernel looks at its console.
pub const BUDGET: u64 = 256;

/// How often an operation is tried by default while another one is under way: for seconds.
pub const PATIENCE: u64 = 1 << 22;

/// What happens to memory that is plugged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Where its memmap goes. Whether it comes online then, and in which zone, is the memory manager's choice:
    /// [`Mm::auto_zone`].
    pub placement: Placement,
}

/// Hotplug of memory: events from `S`, a source or a list of them ([`Sources`](crate::Sources)), memory of an `Mm<M>`,
/// instructions counted by `C`.
#[derive(Debug)]
pub struct Hotplug<'m, S, M: Machine, C> {
    pub(super) source: S,
    pub(super) mm: &'m Mm<M>,
    pub(super) clock: C,
    pub(super) policy: Policy,
    pub(super) owners: Owners,
    /// What the insert under way brought online.
    pub(super) brought: Touched,
    /// What the eject under way took offline. Inserts are served meanwhile.
    pub(super) taken: Touched,
    pub(super) verdict: Verdict,
    pub(super) ejecting: Option<Ejecting<'m, M>>,
    /// The memory of a device that is gone.
    pub(super) draining: Option<Draining<'m, M>>,
    /// Steps that an eject does before the kernel looks at anything else.
    pub(super) budget: u64,
    /// How often an operation of a request is tried while another is under way.
    pub(super) patience: u64,
    /// Whether memory is cleared before its device goes.
    pub(super) scrub: bool,
    /// Instructions that the request under way spent on writing to the console.
    pub(super) written: u64,
}

/// An operation that was run, and what it took.
#[derive(Clone, Copy, Debug)]
pub(super) struct Done<T, E> {
    pub(super) result: Result<T, E>,
    pub(super) instructions: Option<u64>,
}

impl<T, E: fmt::Display> Done<T, E> {
    /// Why it failed, if it did.
    pub(super) fn failure(&self) -> Option<Failure<'_>> {
        self.result.as_ref().err().map(|error| Failure(error))
    }
}

impl<'m, S: HotplugSource, M: Machine, C: Clock> Hotplug<'m, S, M, C> {
    /// A driver that has seen no event yet.
    ///
    /// # Errors
    ///
    /// [`OutOfHeap`]: this is the one time that the driver asks for memory.
    pub fn new(source: S, mm: &'m Mm<M>, clock: C, policy: Policy) -> Result<Self, OutOfHeap> {
        let owners = Owners::new((0..S::SOURCES).map(|number| source.most_ranges(number)))?;
        Ok(Self {
            source,
            mm,
            clock,
            policy,
            owners,
            brought: Touched::new()?,
            taken: Touched::new()?,
            verdict: Verdict::Pass,
            ejecting: None,
            draining: None,
            budget: BUDGET,
            patience: PATIENCE,
            scrub: false,
            written: 0,
        })
    }

    /// Has an eject examine or move `budget` pages at a time, one at least; an extent is moved whole.
    pub fn set_budget(&mut self, budget: u64) {
        self.budget = budget.max(1);
    }

    /// Whether [`run_one`](Self::run_one) has something to do. Safe to ask with interrupts off.
    pub fn has_work(&self) -> bool {
        self.ejecting.is_some() || self.draining.is_some() || self.source.has_work()
    }

    /// When memory is taken that a host offers: see [`HotplugSource::growth`].
    pub fn growth(&self) -> Option<Growth> {
        self.source.growth()
    }

    /// Has memory that a host offers be taken in another way, from the next [`run_one`](Self::run_one) on.
    ///
    /// # Errors
    ///
    /// [`GrowthRefused`]; nothing has changed.
    pub fn set_growth(&mut self, growth: Growth) -> Result<(), GrowthRefused> {
        self.source.set_growth(growth)
    }

    /// Continues an eject under way for some steps, or else handles one event, or begins to. Between two
    /// blocks of an eject, a pending insert is handled first. Returns whether there was anything to do. `out` is
    /// notified of each operation: a console, [`Quiet`](crate::Quiet), or [`Each`](crate::Each) with a function.
    pub fn run_one(&mut self, out: &mut dyn OnStep) -> bool {
        if self.insert_meanwhile(out) || self.step_eject(out) || self.step_gone(out) {
            return true;
        }
        let Some(event) = self.source.next_event() else { return false };
        self.written = 0;
        self.serve(event, out);
        true
    }

    /// Sees one event through, or begins to.
    pub(super) fn serve(&mut self, event: Event<S::Error>, out: &mut dyn OnStep) {
        let Event { device, request, since } = event;
        let context = Context { device, since };
        match request {
            Request::Insert { ranges, node } => {
                self.insert(Plug { context, ranges: &ranges, node }, out);
            }
            Request::Unreadable(error) => self.unreadable(context, &error, out),
            Request::Eject => self.eject(context, out),
            Request::Gone => self.lose(context, None),
            Request::Divided { at, second } => self.divide(device, at, second),
        }
    }

    /// Notes that a device is two now.
    fn divide(&mut self, device: DeviceId, at: PhysAddr, second: u16) {
        if self.owners.divide(device, at, device.beside(second)) {
            log::info!("{}: is divided at {at}", self.source.label(device));
        } else {
            log::error!("{}: cannot be divided at {at}", self.source.label(device));
        }
    }

    /// The event source.
    pub const fn source(&self) -> &S {
        &self.source
    }

    /// The sum of all requests so far.
    pub const fn verdict(&self) -> &Verdict {
        &self.verdict
    }

    /// Everything that is plugged, and what became of it.
    pub fn plugged(&self) -> &[Plugged] {
        self.owners.all()
    }

    /// Reports that an insert failed because the announced device has an invalid description.
    fn unreadable(&mut self, context: Context, error: &S::Error, out: &mut dyn OnStep) {
        let replied = self.reply(context, Outcome::InsertFailed);
        log::warn!("{}: {error}", self.source.label(context.device));
        self.verdict.refused(error);
        let placement = self.policy.placement;
        let operation = Operation::Add { node: None, placement, system_bytes: 0, replied };
        let error = Some(Failure(error));
        self.write(out, &Step { range: None, operation, instructions: None, error });
    }

    /// Notifies `out` of an operation. What that takes is not counted as part of the request.
    pub(super) fn write(&mut self, out: &mut dyn OnStep, step: &Step<'_>) {
        let before = self.clock.instructions();
        out.on_step(step, &StepLine { step, mm: self.mm });
        self.written = self.written.saturating_add(self.since(before).unwrap_or(0));
    }

    /// Reports to the firmware how a request ended.
    pub(super) fn reply(&mut self, context: Context, outcome: Outcome) -> Replied {
        let ost = match self.source.reply(context.device, outcome) {
            Ok(ost) => ost,
            Err(error) => {
                let label = self.source.label(context.device);
                log::error!("{label}: cannot report {outcome:?} to firmware: {error}");
                None
            }
        };
        let now = self.clock.instructions();
        let whole = now.zip(context.since).map(|(now, since)| now.wrapping_sub(since));
        let instructions = whole.map(|whole| whole.saturating_sub(self.written));
        Replied { ost, instructions }
    }

    /// Adds a range, and counts what that took.
    pub(super) fn add(
        &self,
        range: PhysRange,
        node: NodeId,
        placement: Placement,
    ) -> Done<Added, AddError> {
        // SAFETY: the source announced the range, as it is or as a part, the device that has it is still
        // plugged, and the memory has no owner.
        self.in_turn(|mm| unsafe { mm.add(range, node, placement) })
    }

    /// Removes a range, and counts what that took.
    pub(super) fn remove(&self, range: PhysRange) -> Done<Removed, RemoveError> {
        self.in_turn(|mm| mm.remove(range))
    }

    /// Runs an operation, and counts what that took.
    pub(super) fn counted<T, E>(
        &self,
        operation: impl FnOnce(&'m Mm<M>) -> Result<T, E>,
    ) -> Done<T, E> {
        let before = self.clock.instructions();
        let result = operation(self.mm);
        Done { result, instructions: self.since(before) }
    }

    /// Instructions since `before`.
    pub(super) fn since(&self, before: Option<u64>) -> Option<u64> {
        before.zip(self.clock.instructions()).map(|(before, now)| now.wrapping_sub(before))
    }
}
