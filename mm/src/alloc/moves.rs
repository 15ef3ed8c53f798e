//! A batch of extents that are migrated together: see [`migrate`](super::migrate).
//!
//! ```text
//!   gather: an extent, and a target for it    [from -> to][from -> to][from -> to] ...
//!   carry out: for each owner                  isolate all, carry words over, migrate all, free one of each pair
//! ```

use crate::addr::{Order, Pfn};
use crate::alloc::Allocator;
use crate::alloc::metas::Metas;
use crate::alloc::migrate::{Extent, MovableOps, Move};
use crate::alloc::node::NodeId;
use crate::alloc::request::Request;
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
    pages: u64,
    /// The extents have bad memory.
    bad: bool,
}

impl Batch {
    pub(super) const fn new(bad: bool) -> Self {
        Self { moves: [const { Move::none() }; MOST], len: 0, pages: 0, bad }
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
        let one = first.filter(|_| self.len == 1)?;
        (self.len, self.pages) = (0, 0);
        Some(mem::replace(one, Move::none()))
    }

    /// The extents, each with its target.
    pub(super) fn moves(&self) -> &[Move] {
        self.moves.get(..self.len).unwrap_or_default()
    }

    /// Adds an extent and a target for it, allocated as near to `node` as possible. Returns `false`, with nothing
    /// changed, if there is no room for one, in memory or in the batch.
    pub(super) fn add<M: Machine>(
        &mut self,
        allocator: &Allocator<M>,
        memmap: Seen<'_, M>,
        node: NodeId,
        extent: Extent,
        mover: MoverId,
    ) -> bool {
        let Some(slot) = self.moves.get_mut(self.len) else { return false };
        let of_each = Metas::of(memmap).covers_all(extent.pfn, extent.order);
        let request = Request::for_move(extent.order, of_each).with_private(extent.private);
        let allowed = allocator.machine().allows_allocation();
        let target = || allocator.alloc_best(node, request, Owner::Movable(mover)).ok();
        let Some(to) = allowed.then(target).flatten() else { return false };
        *slot = Move::new(extent, to, mover, self.bad);
        self.len += 1;
        self.pages += extent.order.pages();
        true
    }

    /// Frees all targets; nothing is migrated.
    pub(super) fn give_up<M: Machine>(self, allocator: &Allocator<M>) {
        self.moves().iter().for_each(|one| give_back(allocator, one, one.to()));
    }

    /// Migrates the extents, those of one owner after the other, and frees what is not used afterwards: an extent,
    /// or the target of one that its owner refuses.
    pub(super) fn carry_out<M: Machine>(&mut self, allocator: &Allocator<M>, memmap: Seen<'_, M>) {
        let moves = self.moves.get_mut(..self.len).unwrap_or_default();
        moves.sort_unstable_by_key(|one| (one.mover(), one.from().pfn));
        for moves in moves.chunk_by_mut(|a, b| a.mover() == b.mover()) {
            match moves.first().and_then(|one| allocator.owners.mover(one.mover())) {
                Some(ops) => migrate(allocator, memmap, ops, moves),
                None => moves.iter().for_each(Move::refuse),
            }
            for one in moves.iter() {
                let unused = if one.is_refused() { one.to() } else { one.from().pfn };
                give_back(allocator, one, unused);
            }
        }
    }
}

/// Migrates the extents of an owner, but those that it refuses.
pub(super) fn migrate<M: Machine>(
    allocator: &Allocator<M>,
    memmap: Seen<'_, M>,
    ops: &dyn MovableOps,
    moves: &mut [Move],
) {
    // Before the owner stops using its extents: what that delays, an owner may have to wait for.
    for one in moves.iter() {
        allocator.inherit(memmap, one.from().pfn, one.to(), Owner::Movable(one.mover()));
    }
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
