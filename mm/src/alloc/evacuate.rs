//! Empties a range: isolates free pages and migrates used ones, in steps.
//!
//! ```text
//!   isolate --> survey --> move the largest extents, then the next smaller, ... --> empty
//! ```
//!
//! Extents of owners that divide them ([`splits`](crate::MovableOps::splits)) move after all others, again the
//! largest first; one that fits nowhere is divided by its owner, and its parts move with those of their size. So they
//! fit if as many pages are free as they have.
//!
//! The survey finds unmovable pages before any page is migrated. The largest extents go first, so that whether they
//! fit elsewhere does not depend on the order: see [`crate::observe::explain`].
//!
//! A step examines one extent; several are examined while the zone is locked once, and extents are migrated in batches
//! ([`moves`](super::moves)). No page of the range is allocated once it is isolated, so a range of `P` pages takes at
//! most `P` steps to isolate, `P` to survey, and `P` for each pass over the extents of one order; an owner that does
//! not release an extent is asked again, in [`PASSES`] passes in total. A range that is isolated completely at once
//! is empty, and needs no survey.
//!
//! An extent of 2 MiB or more is a batch of its own, and may be moved in parts, with a step for each.
//!
//! A step costs its caller's [`Budget`] one page, or as many as the extent has that is migrated.

use crate::addr::{Order, Pfn};
use crate::alloc::Allocator;
use crate::alloc::Waits;
use crate::alloc::buddy::owners_word;
use crate::alloc::budget::Budget;
use crate::alloc::isolate::Area;
use crate::alloc::migrate::{Extent, MOST_AHEAD};
use crate::alloc::node::ZoneGuard;
use crate::machine::Machine;
use crate::memmap::extent::Heads;
use crate::memmap::page::{MoverId, Owner, PageState};
use crate::memmap::seen::Seen;
use crate::memmap::state::StateWord;

mod moving;
pub(crate) mod parts;

/// Passes over extents of one order before an owner's refusal is final.
pub(crate) const PASSES: u64 = 8;

/// Extents that are looked at while the zone is locked once: other CPUs wait for the lock.
const LOOKS_PER_LOCK: usize = 64;

/// The reason why a range cannot be emptied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stuck {
    /// The extent is unmovable, or its owner does not release it.
    Held(Pfn, Owner),
    /// There is no free extent of the order elsewhere.
    NoRoom(Order),
}

/// The phase of the work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Isolate,
    Survey,
    /// Extents of owners that do not divide them.
    Move(Order),
    /// The others.
    MoveDivisible(Order),
    Empty,
}

/// The work of emptying an area, which is isolated from the start until the work is finished or undone.
#[derive(Debug)]
#[must_use = "the area stays isolated until it is claimed, retired or given back"]
pub(crate) struct Evacuation {
    pub(crate) area: Area,
    /// The area is emptied because its memory is bad.
    bad: bool,
    pub(crate) phase: Phase,
    /// Everything below is done, in this phase.
    at: Pfn,
    /// Pages that were free when they were isolated.
    isolated: u64,
    /// A bit for each order of the extents that the survey found, of owners that do not divide them.
    orders: u32,
    /// The same for the others, and orders of the parts.
    divisible: u32,
    /// The first extent of this pass that its owner did not release.
    held: Option<(Pfn, Owner)>,
    passes: u8,
    /// An extent is moved in parts: see [`InParts`](crate::alloc::in_parts::InParts).
    in_parts: bool,
    /// Pages by which the costliest call exceeded its budget.
    pub(crate) beyond: u32,
    /// Pages the survey found in use.
    pub(crate) found: u64,
    /// Pages migrated.
    pub(crate) moved: u64,
}

impl Evacuation {
    /// Steps that emptying an area of `pages` takes at most, with any contents: a pass takes one for each extent,
    /// and one to find its end. An extent that is moved in parts takes a step for each part, which has a page at least.
    pub(crate) const fn bound(pages: u64) -> u64 {
        let parts = (2 * MOST_AHEAD + 2) * PASSES;
        (pages + 1) * (2 + 2 * Order::COUNT as u64 * PASSES + parts)
    }

    pub(crate) fn begin<M: Machine>(allocator: &Allocator<M>, area: Area) -> Self {
        area.begin_isolation(allocator);
        Self {
            area,
            bad: false,
            phase: Phase::Isolate,
            at: area.pfns.start,
            isolated: 0,
            orders: 0,
            divisible: 0,
            held: None,
            passes: 0,
            in_parts: false,
            beyond: 0,
            found: 0,
            moved: 0,
        }
    }

    /// The same, of an area whose memory is bad.
    pub(crate) fn begin_bad<M: Machine>(allocator: &Allocator<M>, area: Area) -> Self {
        Self { bad: true, ..Self::begin(allocator, area) }
    }

    /// Handles an extent, or a few as far as the budget goes, and enters the next phase after the last. Returns the
    /// number of steps.
    #[inline(always)]
    pub(crate) fn step<M: Machine>(
        &mut self,
        allocator: &Allocator<M>,
        memmap: Seen<'_, M>,
        budget: &mut Budget,
    ) -> Result<u64, Stuck> {
        let mut steps = 1;
        if self.in_parts {
            self.go_on(allocator, memmap, budget);
        } else if self.at < self.area.pfns.end {
            match self.phase {
                Phase::Isolate => steps = self.isolate(allocator, memmap, budget.left()),
                Phase::Survey => steps = self.survey(allocator, memmap, budget.left())?,
                Phase::Move(order) | Phase::MoveDivisible(order) => {
                    steps = self.move_some(allocator, memmap, order, budget)?;
                }
                Phase::Empty => {}
            }
        }
        if !matches!(self.phase, Phase::Move(_) | Phase::MoveDivisible(_)) {
            budget.spend(steps);
        }
        if self.at >= self.area.pfns.end && !self.in_parts {
            if self.phase == Phase::Isolate && self.isolated == u64::from(self.area.pages) {
                // No page is in use, and none will be.
                self.phase = Phase::Empty;
            } else {
                self.next_phase()?;
            }
        }
        Ok(steps)
    }

    /// Runs all steps at once.
    pub(crate) fn run<M: Machine>(
        mut self,
        allocator: &Allocator<M>,
        memmap: Seen<'_, M>,
    ) -> Result<Area, Stuck> {
        let mut all = Budget::new(u64::MAX);
        while self.phase != Phase::Empty {
            if let Err(stuck) = self.step(allocator, memmap, &mut all) {
                self.area.end_isolation(allocator, memmap);
                return Err(stuck);
            }
        }
        Ok(self.area)
    }

    /// Notes by how much a call exceeded its budget.
    pub(crate) fn note(&mut self, budget: &Budget) {
        self.beyond = self.beyond.max(budget.beyond().try_into().unwrap_or(u32::MAX));
    }

    #[inline(never)]
    fn next_phase(&mut self) -> Result<(), Stuck> {
        let held = self.held.take();
        match (self.phase, held) {
            (Phase::Isolate, _) => self.phase = Phase::Survey,
            (_, Some((pfn, owner))) if u64::from(self.passes) >= PASSES => {
                return Err(Stuck::Held(pfn, owner));
            }
            // What was held is asked for again.
            (_, Some(_)) => {}
            _ => {
                self.phase = self.next_order();
                self.passes = 0;
            }
        }
        self.passes += 1;
        self.at = self.area.pfns.start;
        Ok(())
    }

    /// The phase for the largest extents that were found and have not had their turn.
    fn next_order(&mut self) -> Phase {
        let divides = self.orders == 0;
        let orders = if divides { &mut self.divisible } else { &mut self.orders };
        let largest = (u32::BITS - 1).saturating_sub(orders.leading_zeros());
        match Order::new(largest as u8).filter(|_| *orders != 0) {
            Some(order) => {
                *orders &= !(1 << largest);
                if divides { Phase::MoveDivisible(order) } else { Phase::Move(order) }
            }
            None => Phase::Empty,
        }
    }

    /// Locks the zone to look at extents from the cursor on: at `most` of them, or as many as it may be locked for.
    fn look<'m, M: Machine>(
        &self,
        allocator: &'m Allocator<M>,
        memmap: Seen<'m, M>,
        most: u64,
    ) -> Look<'m, M> {
        Look {
            _zone: allocator.nodes.lock(self.area.node, self.area.kind),
            memmap,
            heads: Heads::of(memmap),
            at: self.at,
            next: self.at,
            last: (PageState::Hole.into(), 1),
            end: self.area.pfns.end,
            left: most.min(LOOKS_PER_LOCK as u64),
            passed: 0,
        }
    }

    /// Ends that, with the cursor behind the extents that were passed. Returns their number.
    fn looked<M: Machine>(&mut self, look: Look<'_, M>) -> u64 {
        self.at = look.at;
        look.passed
    }

    fn isolate<M: Machine>(
        &mut self,
        allocator: &Allocator<M>,
        memmap: Seen<'_, M>,
        budget: u64,
    ) -> u64 {
        let done = self.area.isolate_from(allocator, memmap, self.at, budget);
        self.at = done.next;
        self.isolated += done.pages;
        done.extents
    }

    #[inline(never)]
    fn survey<M: Machine>(
        &mut self,
        allocator: &Allocator<M>,
        memmap: Seen<'_, M>,
        budget: u64,
    ) -> Result<u64, Stuck> {
        let mut movable = [const { (Extent::NONE, MoverId::FIRST) }; LOOKS_PER_LOCK];
        let (mut slots, mut known, mut held) = (movable.iter_mut(), None, None);
        let mut look = self.look(allocator, memmap, budget);
        while let Some((pfn, state)) = look.peek() {
            let used = match known {
                Some((same, order, mover)) if same == state => Some((order, mover)),
                _ => match state.used() {
                    // Out of use, and no obstacle.
                    None | Some((_, Owner::Poison | Owner::Offline)) => None,
                    Some((order, Owner::Movable(mover))) => {
                        known = Some((state, order, mover));
                        let divides = allocator.owners.splits(mover);
                        let orders = if divides { &mut self.divisible } else { &mut self.orders };
                        *orders |= 1 << order.get();
                        Some((order, mover))
                    }
                    Some((_, owner)) => {
                        held = Some(Stuck::Held(pfn, owner));
                        break;
                    }
                },
            };
            if let Some((order, mover)) = used
                && let Some(slot) = slots.next()
            {
                *slot = (extent(memmap, pfn, order), mover);
                self.found += order.pages();
            }
            look.pass();
        }
        let steps = self.looked(look);
        let rest = slots.into_slice().len();
        let movable = movable.split_at(LOOKS_PER_LOCK - rest).0;
        let pinned = |(extent, mover): &&(Extent, MoverId)| allocator.is_pinned(extent, *mover);
        match Waits::of(allocator).call(|| movable.iter().find(pinned)) {
            Some((extent, mover)) => Err(Stuck::Held(extent.pfn, Owner::Movable(*mover))),
            None => held.map_or(Ok(steps), Err),
        }
    }
}

/// A look at some extents, with their zone locked.
struct Look<'m, M: Machine> {
    _zone: ZoneGuard<'m, M::Lock>,
    memmap: Seen<'m, M>,
    heads: Heads<'m, M>,
    /// The cursor, and where it goes.
    at: Pfn,
    next: Pfn,
    /// The last state, and the pages of its extent: most extents have that of the one before.
    last: (StateWord, u64),
    end: Pfn,
    /// Extents that may be looked at, and those that were passed.
    left: u64,
    passed: u64,
}

impl<M: Machine> Look<'_, M> {
    /// The extent at the cursor and its state, or the page there and the state of a hole. `None` at the end.
    #[inline(always)]
    fn peek(&mut self) -> Option<(Pfn, StateWord)> {
        if self.at >= self.end || self.passed >= self.left {
            return None;
        }
        let Some((head, state)) = self.heads.at(self.at) else {
            self.next = self.memmap.skip(self.at);
            return Some((self.at, PageState::Hole.into()));
        };
        if self.last.0 != state {
            self.last = (state, state.extent_pages());
        }
        self.next = head.add(self.last.1);
        Some((head, state))
    }

    /// Passes it.
    #[inline(always)]
    const fn pass(&mut self) {
        self.at = self.next;
        self.passed += 1;
    }
}

impl<M: Machine> Allocator<M> {
    /// Whether the owner of an extent declares it pinned.
    pub(crate) fn is_pinned(&self, extent: &Extent, mover: MoverId) -> bool {
        self.owners.mover(mover).is_none_or(|ops| ops.pinned(extent))
    }
}

/// A used extent, in the form that its owner knows.
pub(crate) fn extent<M: Machine>(memmap: Seen<'_, M>, pfn: Pfn, order: Order) -> Extent {
    Extent { pfn, order, private: owners_word(memmap, pfn) }
}
