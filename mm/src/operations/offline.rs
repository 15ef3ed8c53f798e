//! Offline: takes a block's pages back from the allocator, migrating pages in use.
//!
//! ```text
//!   isolate --> notify listeners --> survey --> migrate --> out of the zone
//!      \--------- a veto, an unmovable extent, no room, cancel ---------> free the isolated pages
//! ```
//!
//! A part of a block goes offline in the same way ([`part`](super::part)); the block stays online.
//!
//! An offline is a stepped operation, so that a kernel can do other work between steps; there its block is still
//! online, and other operations return `Busy`. Memmap pages never prevent it.

use crate::addr::{Order, Pfn, PfnRange};
use crate::alloc::Allocator;
use crate::alloc::Waits;
use crate::alloc::batch::Cached;
use crate::alloc::budget::Budget;
use crate::alloc::evacuate::{Evacuation, Phase, Stuck, parts};
use crate::alloc::isolate::Area;
use crate::alloc::zone::{PageCounts, ZoneKind};
use crate::machine::Machine;
use crate::memmap::bad;
use crate::memmap::block::{BlockId, BlockState, BlockWord, NotWholeSubsections};
use crate::memmap::page::Owner;
use crate::memmap::section::{SectionState, section_of};
use crate::memmap::seen::Seen;
use crate::operations::Operations;
use crate::operations::notify::{Change, Event, Veto};
use crate::turn::Operation;
use core::fmt;

hotmem_paging::errors! {
    /// The reason why a block could not go offline. Its state is unchanged, except that extents already migrated are not
    /// moved back.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    #[non_exhaustive]
    pub enum OfflineError {
        /// Another operation is running.
        Busy => ("{}", crate::turn::BUSY),
        /// The block is not present.
        NoSuchBlock(id: BlockId) => "{id} is not there",
        /// The block is offline.
        AlreadyOffline(id: BlockId) => "{id} is offline already",
        /// The block is system memory, which never goes offline.
        SystemMemory(id: BlockId) => "{id} is system memory, it stays online",
        /// A part of a block was named that is not whole, aligned subsections.
        NotWholeSubsections(error: NotWholeSubsections) => "{error}",
        /// A part of a block was named that is all of it: the block goes offline.
        WholeBlock(id: BlockId) => "that is all of {id}, which goes offline as a whole",
        /// A part of a block was named that is not what was added at once. If it is less, it holds the memmap of what stays, or
        /// has its own there.
        NotOneShare {
            /// The block.
            block: BlockId,
            /// What the range has of it.
            part: PfnRange,
            /// The first memory there that was added at once.
            share: PfnRange,
        } => "{part} of {block} is not what was added at once: {share} was, under one memmap",
        /// The part of the block that was named lacks memory.
        NothingThere(id: BlockId) => "that part of {id} is not there",
        /// A part was named of a block with memory that the machine was started with, which is never removed.
        BootMemory(id: BlockId) => "{id} is memory the machine was started with, its parts stay",
        /// The block is not going offline, or its offline was cancelled.
        NotGoing(id: BlockId) => "{id} is not going offline",
        /// A listener objects.
        Vetoed(id: BlockId, veto: Veto) => "{id} stays online: {veto}",
        /// An extent of the block is unmovable, or its owner does not release it.
        InUse {
            /// The block.
            block: BlockId,
            /// The number of its pages in use.
            pages: u64,
            /// The first unmovable one, and its owner; `None` if it was freed in the meantime.
            first: Option<(Pfn, Owner)>,
            /// The name of that owner: a movable owner's or a user's own, or the kind of owner.
            by: &'static str,
        } => { f => match first {
            Some((pfn, _)) => write!(
                f,
                "{block}: {pages} pages are in use, and {pfn}, held by {by}, cannot be migrated"
            ),
            None => write!(f, "{block}: {pages} pages were in use"),
        } },
        /// An extent of the block needs a free one elsewhere, and memory lacks it.
        NoRoom {
            /// The block.
            block: BlockId,
            /// The size of the extent.
            order: Order,
        } => ("{block}: no other online memory has {} free pages in one piece", order.pages()),
    }
}

/// The progress of an offline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The block.
    pub block: BlockId,
    /// Its phase: `isolating`, `surveying` or `moving`.
    pub phase: &'static str,
    /// Steps done, of [`OfflineOp::bound`] at most.
    pub steps: u64,
    /// Pages that were found in use, and must be migrated.
    pub found: u64,
    /// Pages of them that were migrated.
    pub moved: u64,
    /// Pages by which the costliest call of [`OfflineOp::step`] exceeded its budget: an extent is migrated whole.
    pub beyond: u64,
}

/// The result of a step.
#[derive(Debug)]
pub enum Stepped<'m, M: Machine> {
    /// There is more to do.
    Going(OfflineOp<'m, M>),
    /// The block, or the part of it, is offline.
    Done,
}

/// A block that is going offline. If this is dropped before the end, the block stays online. One that was leaked,
/// for example by `mem::forget`, is found by [`Mm::offlining`](crate::Mm::offlining) and cancelled by
/// [`Mm::cancel_offline`](crate::Mm::cancel_offline).
#[must_use = "an offline goes on only while it is stepped"]
pub struct OfflineOp<'m, M: Machine> {
    operations: &'m Operations<M>,
    id: BlockId,
    /// `None` once the block is offline: there is nothing to undo.
    emptying: Option<Evacuation>,
    /// Whether only a part of the block goes: then the block stays online.
    part: bool,
    /// The number of this offline.
    number: u64,
    steps: u64,
}

impl<M: Machine> Operations<M> {
    /// See [`Mm::offline`](crate::Mm::offline).
    pub(crate) fn offline(&self, id: BlockId) -> Result<(), OfflineError> {
        self.start_offline(id)?.run()
    }

    /// See [`Mm::start_offline`](crate::Mm::start_offline).
    pub(crate) fn start_offline(&self, id: BlockId) -> Result<OfflineOp<'_, M>, OfflineError> {
        // Looks may run: they see the zone's range, as when other CPUs allocate and free at the same time.
        let turn = self.allocator.take_turn().ok_or(OfflineError::Busy)?;
        let memmap = turn.seen();
        let block = memmap.describe_block(id).ok_or(OfflineError::NoSuchBlock(id))?;
        match block.state {
            BlockState::Offline => return Err(OfflineError::AlreadyOffline(id)),
            BlockState::Online(ZoneKind::System) => return Err(OfflineError::SystemMemory(id)),
            BlockState::Online(_) => {}
        }
        let area = Area::of(memmap, &block).ok_or(OfflineError::NoSuchBlock(id))?;
        Ok(OfflineOp::begin(self, id, area, false))
    }

    /// See [`Mm::cancel_offline`](crate::Mm::cancel_offline).
    pub(crate) fn cancel_offline(&self, id: BlockId) -> Result<(), OfflineError> {
        let operation = self.allocator.moment().ok_or(OfflineError::Busy)?;
        let memmap = operation.seen();
        let block = memmap.describe_block(id).filter(|_| self.offlining() == Some(id));
        let area = block.and_then(|block| Area::of(*memmap, &block));
        let mut area = area.ok_or(OfflineError::NotGoing(id))?;
        // It may be a part of the block.
        area.pfns = self.allocator.nodes.lock(area.node, area.kind).isolating();
        self.stay(id, &area, &operation);
        Ok(())
    }

    /// Ends an offline with the block online as before.
    fn stay(&self, id: BlockId, area: &Area, operation: &Operation<'_, M>) {
        parts::give_up(&self.allocator);
        area.end_isolation(&self.allocator, *operation.seen());
        operation.settle();
        if self.allocator.turn.offlining.is_notified() {
            self.notify_reverse(Event::CancelOffline, &change(id, area));
        }
        self.allocator.turn.offlining.end();
    }

    /// See [`OfflineOp::bound`].
    pub(crate) fn offline_bound(&self) -> u64 {
        Evacuation::bound(self.allocator.memmap.block_size().pages::<M>())
    }

    /// See [`Mm::offlining`](crate::Mm::offlining).
    pub(crate) fn offlining(&self) -> Option<BlockId> {
        self.allocator.turn.offlining.get()
    }
}

impl<'m, M: Machine> OfflineOp<'m, M> {
    /// Begins to take `area` offline, all of block `id` or a `part`. The caller has the turn.
    pub(super) fn begin(
        operations: &'m Operations<M>,
        id: BlockId,
        area: Area,
        part: bool,
    ) -> Self {
        let number = operations.allocator.turn.offlining.begin(id);
        let emptying = Some(Evacuation::begin(&operations.allocator, area));
        Self { operations, id, emptying, part, number, steps: 0 }
    }

    /// The progress.
    pub fn progress(&self) -> Progress {
        let (phase, found, moved, beyond) = match &self.emptying {
            Some(emptying) => {
                let phase = match emptying.phase {
                    Phase::Isolate => "isolating",
                    Phase::Survey => "surveying",
                    Phase::Move(_) | Phase::MoveDivisible(_) | Phase::Empty => "moving",
                };
                (phase, emptying.found, emptying.moved, emptying.beyond.into())
            }
            None => ("done", 0, 0, 0),
        };
        let Self { id: block, steps, .. } = *self;
        Progress { block, phase, steps, found, moved, beyond }
    }

    /// Examines extents, and migrates those in use, until that is as much work as `budget` pages: an extent counts
    /// as one page, or as its pages if they are migrated. One that exceeds the budget alone has a call to itself, and
    /// [`Progress::beyond`] says by how much.
    ///
    /// # Errors
    ///
    /// [`OfflineError`]; the block is then online, as before.
    pub fn step(mut self, budget: u64) -> Result<Stepped<'m, M>, OfflineError> {
        let operations = self.operations;
        let operation = Waits::of(&operations.allocator).resume();
        if !operations.allocator.turn.offlining.goes_on(self.number) {
            self.emptying = None;
            return Err(OfflineError::NotGoing(self.id));
        }
        let memmap = operation.seen();
        let mut budget = Budget::new(budget);
        while !budget.is_over() {
            let Some(emptying) = &mut self.emptying else { break };
            if emptying.phase == Phase::Empty {
                self.finish(&operation);
                return Ok(Stepped::Done);
            }
            match emptying.step(&operations.allocator, *memmap, &mut budget) {
                Ok(steps) => self.steps += steps,
                Err(stuck) => {
                    let error = self.stuck(*memmap, stuck);
                    drop(operation);
                    return Err(error);
                }
            }
            let isolated = emptying.phase != Phase::Isolate;
            if isolated && !operations.allocator.turn.offlining.is_notified() {
                let change = change(self.id, &emptying.area);
                let asked =
                    operations.notify_or_veto(Event::GoingOffline, Event::CancelOffline, &change);
                asked.map_err(|veto| OfflineError::Vetoed(self.id, veto))?;
                operations.allocator.turn.offlining.set_notified();
            }
        }
        drop(operation);
        if let Some(emptying) = &mut self.emptying {
            emptying.note(&budget);
        }
        Ok(Stepped::Going(self))
    }

    /// Takes all steps.
    pub(super) fn run(self) -> Result<(), OfflineError> {
        let mut op = self;
        loop {
            match op.step(u64::MAX)? {
                Stepped::Going(more) => op = more,
                Stepped::Done => return Ok(()),
            }
        }
    }

    /// Cancels: the block stays online, and the isolated pages are free again. Takes no more steps than the block
    /// has extents.
    pub fn cancel(self) {
        drop(self);
    }

    fn finish(mut self, operation: &Operation<'_, M>) {
        let operations = self.operations;
        if let Some(emptying) = &self.emptying {
            let memmap = operation.seen();
            match self.part {
                true => emptying.area.put_offline(&operations.allocator, *memmap),
                false => retire(&operations.allocator, *memmap, self.id, &emptying.area),
            }
            operation.settle();
            operations.notify(Event::Offline, &change(self.id, &emptying.area));
        }
        self.emptying = None;
        operations.allocator.turn.offlining.end();
    }

    fn stuck(&self, memmap: Seen<'_, M>, stuck: Stuck) -> OfflineError {
        let block = self.id;
        match stuck {
            Stuck::NoRoom(order) => OfflineError::NoRoom { block, order },
            Stuck::Held(pfn, owner) => {
                let held = memmap.describe_block(block);
                let pages = held.map_or(0, |held| held.counts.managed - held.counts.free);
                let by = self.operations.allocator.owners.name(owner);
                OfflineError::InUse { block, pages, first: Some((pfn, owner)), by }
            }
        }
    }
}

impl<M: Machine> fmt::Debug for OfflineOp<'_, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OfflineOp").field("progress", &self.progress()).finish_non_exhaustive()
    }
}

impl<M: Machine> Drop for OfflineOp<'_, M> {
    fn drop(&mut self) {
        let Some(emptying) = self.emptying.take() else { return };
        let operation = Waits::of(&self.operations.allocator).resume();
        if self.operations.allocator.turn.offlining.goes_on(self.number) {
            self.operations.stay(self.id, &emptying.area, &operation);
        }
    }
}

/// Removes an empty area from its zone, and takes its block offline.
fn retire<M: Machine>(allocator: &Allocator<M>, memmap: Seen<'_, M>, id: BlockId, area: &Area) {
    let span = allocator.span_without(memmap, id, area);
    let record = memmap.known_block_record(section_of::<M>(memmap.block_pfns(id).start));
    let managed = area.pages.into();
    let memmap_pages = record.map_or(0, |record| memmap.memmap_pages(id, record, managed));
    let present = managed + memmap_pages;
    let all = PageCounts { present, managed, memmap: memmap_pages, free: 0 };
    let mut zone = allocator.nodes.lock(area.node, area.kind);
    zone.retire(all, span);
    Cached::of(allocator).open_caches();
    allocator.nodes.set_populated(area.node, area.kind, zone.counts().present != 0);
    let Some(record) = record else { return };
    record.managed().set(0);
    record.free().set(0);
    record.change_block(|word| BlockWord { state: BlockState::Offline, ..word });
    // The rest without the lock, which other CPUs wait for: there may be many sections.
    drop(zone);
    if record.is_poisoned() {
        bad::locate(memmap, id);
    }
    let dirty = forget_extents(memmap, id);
    record.change_block(|word| BlockWord { dirty: word.dirty | dirty, ..word });
}

/// Marks the sections of a block that is offline now as such, and none of their descriptors as valid. Returns the parts
/// that may hold data.
fn forget_extents<M: Machine>(memmap: Seen<'_, M>, id: BlockId) -> u32 {
    let (mut dirty, mut last) = (0, None);
    let records = memmap.block_size().pages::<M>() / M::RECORD_PAGES;
    memmap.set_state_of_block(id, SectionState::Present, |index, section| {
        let index = index / M::RECORD_SECTIONS;
        if last.replace(index) != Some(index) {
            let record = section.record();
            dirty |= memmap.soiled_parts(record, index, records);
            record.initialised().clear();
            record.heads().clear();
        }
    });
    dirty
}

pub(super) fn change(block: BlockId, area: &Area) -> Change {
    Change { block, pfns: area.pfns, node: area.node, kind: area.kind }
}
