//! Predicts whether memory can be removed, without changing it.
//!
//! The prediction is the outcome of a remove of the range now, after its online blocks go offline; of a block with other
//! memory only what the range has of it ([`part`](crate::operations::part)). It holds as long as no page is allocated or
//! freed. Listeners are not called, since a call may have side effects; an owner that is
//! busy at the moment counts as willing to migrate.
//!
//! Whether there is room is decided by counting: see `balance`.

use crate::addr::{Order, Pfn, PfnRange, PhysRange};
use crate::alloc::batch::Cached;
use crate::alloc::buddy::since;
use crate::alloc::evacuate::extent;
use crate::alloc::migrate::Extent;
use crate::alloc::zone::ZoneKind;
use crate::machine::Machine;
use crate::memmap::block::{BlockId, BlockState};
use crate::memmap::page::{MoverId, Owner, PageState};
use crate::memmap::seen::Seen;
use crate::observe::View;
use crate::observe::balance::{Balance, Counts};
use crate::operations::RemoveError;
use crate::operations::remove::check_removable;
use core::fmt;

/// Whether memory can be removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removability {
    /// At once: no page is in use.
    Now,
    /// After these migrations.
    AfterMoving {
        /// Extents to migrate; one that must be divided counts once.
        extents: u64,
        /// Their pages.
        pages: u64,
    },
    /// Not in the present state.
    Blocked(Obstacle),
}

hotmem_paging::errors! {
    /// The reason why memory cannot be removed.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    #[non_exhaustive]
    pub enum Obstacle {
        /// The range cannot be removed in this way, whatever its contents.
        Range(error: RemoveError) => "{error}",
        /// A block is system memory.
        SystemMemory(id: BlockId) => "{id} is system memory",
        /// A page is unmovable, or its owner declares it pinned.
        InUse {
            /// The first page of the extent.
            pfn: Pfn,
            /// Its block.
            block: BlockId,
            /// Its owner.
            owner: Owner,
            /// The owner's name: a movable owner's or a user's own, or the kind of owner.
            by: &'static str,
            /// The value of [`Machine::stamp`] when it was allocated.
            since: u64,
        } => "{pfn} of {block} is held by {by} since {since}",
        /// The rest of memory lacks room for the extents to migrate: the size of which it has too few free extents.
        NoRoom(order: Order) => ("too few free extents of {} pages elsewhere", order.pages()),
    }
}

impl fmt::Display for Removability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Now => f.write_str("removable now"),
            Self::AfterMoving { extents, pages } => {
                write!(f, "removable after {extents} migrations of {pages} pages")
            }
            Self::Blocked(obstacle) => write!(f, "blocked: {obstacle}"),
        }
    }
}

/// How far a prediction got that is made in steps: see [`Mm::estimate_remove`](crate::Mm::estimate_remove).
#[derive(Debug, Default)]
pub struct Estimate {
    balance: Balance,
    /// The range that is counted now, by its place among all.
    index: usize,
    /// The pages of it that are not counted yet; unknown before the first of them is.
    rest: Option<PfnRange>,
}

/// The memory that is to go.
#[derive(Clone, Copy)]
enum Going<'a> {
    /// A block.
    Block,
    /// What the range `ranges[index]` has of its blocks. Those before it are counted.
    Range { ranges: &'a [PhysRange], index: usize },
}

/// Extents that may be examined.
struct Left(u64);

impl Left {
    /// Whether another one may be.
    fn take(&mut self) -> bool {
        let some = self.0 > 0;
        self.0 = self.0.saturating_sub(1);
        some
    }
}

/// What an examination of memory came to.
enum Weighed {
    /// The end of the range.
    End,
    /// The end of what was allowed.
    Paused,
    /// An extent that migrates, unless it is pinned: then it is an obstacle.
    Movable(Extent, MoverId, Obstacle),
}

impl<M: Machine> View<'_, M> {
    /// See [`Mm::check_remove`](crate::Mm::check_remove).
    pub(crate) fn check_remove(&self, range: PhysRange) -> Result<(), RemoveError> {
        self.look(|memmap| check_removable(memmap, range)).map(drop)
    }

    /// See [`Mm::explain_remove`](crate::Mm::explain_remove).
    pub(crate) fn explain_remove(&self, range: PhysRange) -> Removability {
        let mut estimate = Estimate::default();
        loop {
            if let Some(removability) = self.estimate_remove(&mut estimate, &[range], u64::MAX) {
                return removability;
            }
        }
    }

    /// See [`Mm::explain_part`](crate::Mm::explain_part).
    pub(crate) fn explain_part(&self, range: PhysRange) -> Removability {
        let id = self.allocator.memmap.block_at(range.start());
        if self.allocator.memmap.block(id).is_none() {
            return Removability::Blocked(Obstacle::Range(RemoveError::NoSuchBlock(id)));
        }
        Cached::of(self.allocator).drain_caches();
        let (mut balance, mut rest) = (Balance::default(), self.allocator.memmap.block_pfns(id));
        let going = Going::Range { ranges: &[range], index: 0 };
        match self.examine(&mut rest, going, &mut balance, &mut Left(u64::MAX)) {
            Err(obstacle) => Removability::Blocked(obstacle),
            Ok(_) => self.weigh(&balance),
        }
    }

    /// See [`Mm::explain_offline`](crate::Mm::explain_offline).
    pub(crate) fn explain_offline(&self, id: BlockId) -> Removability {
        if self.allocator.memmap.block(id).is_none() {
            return Removability::Blocked(Obstacle::Range(RemoveError::NoSuchBlock(id)));
        }
        // Cached pages are free, and merge.
        Cached::of(self.allocator).drain_caches();
        let (mut balance, mut rest) = (Balance::default(), self.allocator.memmap.block_pfns(id));
        match self.examine(&mut rest, Going::Block, &mut balance, &mut Left(u64::MAX)) {
            Err(obstacle) => Removability::Blocked(obstacle),
            Ok(_) => self.weigh(&balance),
        }
    }

    /// See [`Mm::estimate_remove`](crate::Mm::estimate_remove).
    pub(crate) fn estimate_remove(
        &self,
        estimate: &mut Estimate,
        ranges: &[PhysRange],
        extents: u64,
    ) -> Option<Removability> {
        let mut left = Left(extents.max(1));
        while let Some(range) = ranges.get(estimate.index) {
            let going = Going::Range { ranges, index: estimate.index };
            match self.count(estimate, *range, going, &mut left) {
                Err(obstacle) => return Some(Removability::Blocked(obstacle)),
                Ok(false) => return None,
                Ok(true) => estimate.index += 1,
            }
        }
        Some(self.weigh(&estimate.balance))
    }

    /// Counts what is `left` to be examined of `range`, the one that is `going`. Returns whether that was all of it.
    fn count(
        &self,
        estimate: &mut Estimate,
        range: PhysRange,
        going: Going<'_>,
        left: &mut Left,
    ) -> Result<bool, Obstacle> {
        let mut rest = match estimate.rest.take() {
            Some(rest) => rest,
            None => self.begin(range).map_err(Obstacle::Range)?,
        };
        let whole = self.examine(&mut rest, going, &mut estimate.balance, left)?;
        estimate.rest = (!whole).then_some(rest);
        Ok(whole)
    }

    /// The blocks of `range`.
    fn begin(&self, range: PhysRange) -> Result<PfnRange, RemoveError> {
        self.check_remove(range)?;
        // Cached pages are free, and merge.
        Cached::of(self.allocator).drain_caches();
        let ids = self.allocator.memmap.blocks_in(range);
        Ok(ids.fold(PfnRange::EMPTY, |all, id| all.hull(self.allocator.memmap.block_pfns(id))))
    }

    /// Weighs what has to migrate against what is free elsewhere now.
    fn weigh(&self, balance: &Balance) -> Removability {
        Cached::of(self.allocator).drain_caches();
        let mut free = Counts::default();
        for zone in self.zones() {
            free.iter_mut().zip(zone.extents).for_each(|(sum, count)| *sum += count);
        }
        match balance.weigh(&free) {
            Ok((0, _)) => Removability::Now,
            Ok((extents, pages)) => Removability::AfterMoving { extents, pages },
            Err(order) => Removability::Blocked(Obstacle::NoRoom(order)),
        }
    }

    /// Counts the extents of what is `going` of the blocks of `rest` that are online, as many as are `left`. `rest` is then
    /// the remainder. Returns whether nothing remains.
    fn examine(
        &self,
        rest: &mut PfnRange,
        going: Going<'_>,
        balance: &mut Balance,
        left: &mut Left,
    ) -> Result<bool, Obstacle> {
        while rest.start < rest.end {
            let id = self.allocator.memmap.block_at(M::address(rest.start));
            let part = self.going_of(id, going);
            let mut here = self.look(|memmap| with_first(*memmap, part));
            here.start = here.start.max(rest.start);
            let whole = self.examine_part(id, part, &mut here, balance, left)?;
            rest.start = if whole { self.allocator.memmap.block_pfns(id).end } else { here.start };
            if !whole {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// What is `going` of a block: all of it, unless other memory stays in it or it was counted.
    fn going_of(&self, id: BlockId, going: Going<'_>) -> PfnRange {
        let block = self.allocator.memmap.block_pfns(id);
        let Going::Range { ranges, index } = going else { return block };
        if self.look(|memmap| has_others(*memmap, id, ranges)) {
            let part = ranges.get(index).and_then(|range| block.intersection(M::pfns(*range)));
            return part.unwrap_or(block);
        }
        let counted = ranges[..index].iter().any(|&range| self.touches(range, id));
        if counted { PfnRange::new(block.end, 0) } else { block }
    }

    /// Whether `range` has memory in a block.
    fn touches(&self, range: PhysRange, id: BlockId) -> bool {
        let mut ids = self.allocator.memmap.blocks_in(range);
        let first = ids.next();
        first.is_some_and(|first| (first..=ids.next_back().unwrap_or(first)).contains(&id))
    }

    /// Counts the extents of `rest`, of a part of one block, as [`examine`](Self::examine) does.
    fn examine_part(
        &self,
        id: BlockId,
        part: PfnRange,
        rest: &mut PfnRange,
        balance: &mut Balance,
        left: &mut Left,
    ) -> Result<bool, Obstacle> {
        loop {
            // The owner is called after the look, since it may look, too.
            match self.look(|memmap| self.next_movable(*memmap, (id, part), rest, balance, left))? {
                Weighed::End => return Ok(true),
                Weighed::Paused => return Ok(false),
                Weighed::Movable(extent, mover, obstacle) => {
                    if self.allocator.is_pinned(&extent, mover) {
                        return Err(obstacle);
                    }
                    balance.add(extent.order, self.allocator.owners.splits(mover));
                }
            }
        }
    }

    /// Counts the free extents of `rest` up to the first movable extent, which is returned with the obstacle to
    /// report if it is pinned. `rest` is then the remainder.
    fn next_movable(
        &self,
        memmap: Seen<'_, M>,
        (id, part): (BlockId, PfnRange),
        rest: &mut PfnRange,
        balance: &mut Balance,
        left: &mut Left,
    ) -> Result<Weighed, Obstacle> {
        let state = memmap.describe_block(id).map(|block| block.state);
        if state == Some(BlockState::Online(ZoneKind::System)) {
            return Err(Obstacle::SystemMemory(id));
        }
        if state.is_none_or(|state| state == BlockState::Offline) {
            return Ok(Weighed::End);
        }
        for (pfn, pages, state) in memmap.extents(*rest) {
            if !left.take() {
                return Ok(Weighed::Paused);
            }
            rest.start = pfn.add(pages);
            match state {
                PageState::Free { order } => {
                    balance.add_free(order);
                    // What of it is outside of the part that goes is free afterwards, too.
                    let before = PfnRange { start: pfn, end: part.start };
                    let behind = PfnRange { start: part.end, end: rest.start };
                    for outside in [before, behind] {
                        memmap.cut(outside).for_each(|(_, order)| balance.add_left(order));
                    }
                }
                PageState::Used { owner: Owner::Poison | Owner::Offline, .. } => {}
                PageState::Used { order, owner } => {
                    let (by, since) = (self.allocator.owners.name(owner), since(memmap.page(pfn)));
                    let obstacle = Obstacle::InUse { pfn, block: id, owner, by, since };
                    let Owner::Movable(mover) = owner else { return Err(obstacle) };
                    return Ok(Weighed::Movable(extent(memmap, pfn, order), mover, obstacle));
                }
                _ => {}
            }
        }
        Ok(Weighed::End)
    }
}

/// Whether a block has memory outside of `ranges`.
fn has_others<M: Machine>(memmap: Seen<'_, M>, id: BlockId, ranges: &[PhysRange]) -> bool {
    let goes = |pfns| ranges.iter().any(|&range| M::pfns(range).covers(pfns));
    if goes(memmap.block_pfns(id)) {
        return false;
    }
    memmap.shares(id).any(|share| !goes(share.pfns))
}

/// `part` of a block, with all of an extent that it begins in.
fn with_first<M: Machine>(memmap: Seen<'_, M>, part: PfnRange) -> PfnRange {
    if part.start == memmap.block_pfns(memmap.block_at(M::address(part.start))).start {
        return part;
    }
    let first = memmap.extent_of(part.start);
    PfnRange { start: first.map_or(part.start, |(head, _)| head), ..part }
}
