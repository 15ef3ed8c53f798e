//! A batch of extents that are migrated together: see [`migrate`](super::migrate).
//!
//! ```text
//!   gather: extents, then targets for them    [from -> to][from -> to][from -> to] ...
//!   carry out: for each owner                  isolate all, carry words over, migrate all, free one of each pair
//! ```

use crate::addr::{Order, Pfn};
use crate::alloc::Allocator;
use crate::alloc::isolate::Area;
use crate::alloc::migrate::{Extent, MovableOps, Move};
use crate::alloc::node::NodeId;
use crate::machine::Machine;
use crate::memmap::page::{MoverId, Owner};
use crate::memmap::seen::Seen;
use core::mem;

/// Extents of a batch at most. They are on the stack.
pub(super) const MOST: usize = 64;

/// Bytes of a batch at most, unless it is one extent.
const MOST_BYTES: u64 = 2 << 20;

/// Extents to migrate, each with its target.
pub(super) struct Batch {
    moves: [Move; MOST],
    len: usize,
    /// The first ones, which have targets.
    aimed: usize,
    pages: u64,
    /// The extents have bad memory.
    bad: bool,
}

impl Batch {
    pub(super) const fn new(bad: bool) -> Self {
        Self { moves: [const { Move::none() }; MOST], len: 0, aimed: 0, pages: 0, bad }
    }

    /// Whether an extent of the order fits.
    pub(super) const fn fits<M: Machine>(&self, order: Order) -> bool {
        let bytes = (self.pages + order.pages()) * M::PAGE_BYTES;
        self.len == 0 || (self.len < MOST && bytes <= MOST_BYTES)
    }

    /// Whether an extent of the order is always a batch of its own.
    pub(super) const fn is_large<M: Machine>(order: Order) -> bool {
        order.pages() * M::PAGE_BYTES >= MOST_BYTES
    }

    /// Takes the only extent out, if it is large.
    pub(super) fn take_large<M: Machine>(&mut self) -> Option<Move> {
        let first = self.moves.first_mut().filter(|one| Self::is_large::<M>(one.from().order));
        let one = first.filter(|_| self.aimed == 1)?;
        (self.len, self.aimed, self.pages) = (0, 0, 0);
        Some(mem::replace(one, Move::none()))
    }

    /// The extents that have targets.
    pub(super) fn moves(&self) -> &[Move] {
        self.moves.get(..self.aimed).unwrap_or_default()
    }

    /// Adds an extent, if it fits.
    pub(super) fn add(&mut self, extent: Extent, mover: MoverId) {
        if let Some(slot) = self.moves.get_mut(self.len) {
            *slot = Move::new(extent, mover, self.bad);
            self.len += 1;
            self.pages += extent.order.pages();
        }
    }

    /// Allocates targets for the extents that have none, as near to `node` as possible. Returns the first that finds no
    /// room: it and those after it leave the batch.
    pub(super) fn aim<M: Machine>(
        &mut self,
        allocator: &Allocator<M>,
        memmap: Seen<'_, M>,
        node: NodeId,
    ) -> Option<(Extent, MoverId)> {
        let rest = self.moves.get_mut(self.aimed..self.len).unwrap_or_default();
        let aimed = allocator.aim(memmap, node, rest);
        let first = rest.get(aimed).map(|one| (*one.from(), one.mover()));
        let gone = rest.iter().skip(aimed).map(|one| one.from().order.pages());
        self.pages -= gone.sum::<u64>();
        self.aimed += aimed;
        self.len = self.aimed;
        first
    }

    /// Frees all targets; nothing is migrated.
    pub(super) fn give_up<M: Machine>(self, allocator: &Allocator<M>) {
        self.moves().iter().for_each(|one| give_back(allocator, one, one.to()));
    }

    /// Migrates the extents of an area, those of one owner after the other, and frees what is not used afterwards: an
    /// extent, or the target of one that its owner refuses.
    pub(super) fn carry_out<M: Machine>(
        &mut self,
        allocator: &Allocator<M>,
        memmap: Seen<'_, M>,
        area: &Area,
    ) {
        let moves = self.moves.get_mut(..self.aimed).unwrap_or_default();
        // They ascend.
        if !moves.is_sorted_by_key(Move::mover) {
            moves.sort_unstable_by_key(|one| (one.mover(), one.from().pfn));
        }
        for moves in moves.chunk_by_mut(|a, b| a.mover() == b.mover()) {
            match moves.first().and_then(|one| allocator.owners.mover(one.mover())) {
                Some(ops) => migrate(allocator, memmap, ops, moves),
                None => moves.iter().for_each(Move::refuse),
            }
            free_unused(allocator, memmap, area, moves);
        }
    }
}

/// Frees the extents of an area that have moved, and the targets of the others.
fn free_unused<M: Machine>(
    allocator: &Allocator<M>,
    memmap: Seen<'_, M>,
    area: &Area,
    moves: &[Move],
) {
    let mut rest = moves;
    while let [first, others @ ..] = rest {
        rest = match area.free_some(allocator, memmap, rest) {
            0 => {
                let unused = if first.is_refused() { first.to() } else { first.from().pfn };
                give_back(allocator, first, unused);
                others
            }
            freed => rest.get(freed..).unwrap_or_default(),
        };
    }
}

/// Migrates the extents of an owner, but those that it refuses.
pub(super) fn migrate<M: Machine>(
    allocator: &Allocator<M>,
    memmap: Seen<'_, M>,
    ops: &dyn MovableOps,
    moves: &mut [Move],
) {
    ops.isolate(moves);
    if moves.iter().any(Move::is_refused) {
        moves.sort_unstable_by_key(|one| (one.is_refused(), one.from().pfn));
    }
    let willing = moves.partition_point(|one| !one.is_refused());
    let moves = moves.get(..willing).unwrap_or_default();
    for one in moves {
        let owner = Owner::Movable(one.mover());
        allocator.inherit_changes(memmap, one.from().pfn, one.to(), owner);
        allocator.move_meta(memmap, one.from(), one.to(), owner);
    }
    if !moves.is_empty() {
        ops.migrate(moves);
    }
}

/// Frees the extent or the target of a move.
pub(super) fn give_back<M: Machine>(allocator: &Allocator<M>, one: &Move, unused: Pfn) {
    let owner = Owner::Movable(one.mover());
    if let Err(error) = allocator.free_of(unused, |holder| holder == owner) {
        log::error!(
            "{}: an extent was freed while it moved: {error}",
            allocator.owners.name(owner)
        );
    }
}

#[cfg(test)]
mod tests;
