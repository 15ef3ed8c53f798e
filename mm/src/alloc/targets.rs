//! Targets of moves, off the free lists of the zone that suits them best: many while it is locked once.

use crate::addr::{Order, Pfn, PfnRange};
use crate::alloc::Allocator;
use crate::alloc::batch::largest_piece;
use crate::alloc::buddy::since;
use crate::alloc::lists::FreeLists;
use crate::alloc::metas::Metas;
use crate::alloc::migrate::Move;
use crate::alloc::node::{NodeId, NodeStorage, Nodes};
use crate::alloc::request::Request;
use crate::alloc::take::Take;
use crate::alloc::zone::ZoneKind;
use crate::machine::Machine;
use crate::memmap::page::Owner;
use crate::memmap::seen::Seen;

/// Free extents that are taken while a zone is locked once: other CPUs wait for the lock, and each may be split from the
/// size of a block.
const EXTENTS_PER_LOCK: usize = 4;

/// A zone, and the size of its smallest free extent that suffices.
#[derive(Clone, Copy)]
struct Best {
    node: NodeId,
    kind: ZoneKind,
    size: Order,
}

impl<S: NodeStorage> Nodes<S> {
    /// The zone for the target of a move. Memory that can be removed comes before system memory, which page tables need; in
    /// each memory of `node` before that of others, and there the smallest free extent that fits.
    ///
    /// With `by_size`, as long as larger extents may have to move in one piece, the smallest of all is taken, and among
    /// equals one on `node`, so that no large extent is split while a small one suffices: `explain` relies on that. See also
    /// [`Request::for_move`].
    fn best(&self, node: NodeId, order: Order, owner: Owner, by_size: bool) -> Option<Best> {
        let mut best: Option<(_, Best)> = None;
        for &kind in ZoneKind::for_owner(owner) {
            for at in self.populated(kind) {
                let Some(size) = self.lock(at, kind).smallest_from(order) else { continue };
                let (system, far) = (kind == ZoneKind::System, at != node);
                let rank = (system && !by_size, far && !by_size, size, system, far);
                if best.is_none_or(|(least, _)| rank < least) {
                    best = Some((rank, Best { node: at, kind, size }));
                }
            }
        }
        best.map(|(_, best)| best)
    }
}

impl<M: Machine> Allocator<M> {
    /// Allocates targets for `moves`, whose extents have one size, as near to `node` as possible. Returns how many of them,
    /// from the first on, have one now: all, or fewer if memory runs out.
    ///
    /// A target has its extent's word and age from the start. Those may change until its owner stops using the extent.
    pub(super) fn aim(&self, memmap: Seen<'_, M>, node: NodeId, moves: &mut [Move]) -> usize {
        let allowed = moves.iter().take_while(|_| self.machine().allows_allocation()).count();
        let mut aimed = 0;
        while let Some(first) = moves.get(aimed).filter(|_| aimed < allowed) {
            let (request, owner) = wanted(memmap, first, first.from().pfn);
            let by_size = self.owners.may_have_larger(request.order);
            let best = self.nodes.best(node, request.order, owner, by_size);
            let rest = moves.get_mut(aimed..allowed).unwrap_or_default();
            let mut some = best.map_or(0, |best| self.aim_at(memmap, best, request.order, rest));
            if some == 0 {
                // Another CPU has taken it in the meantime, or keeps it in its cache: any extent will do.
                let Ok(to) = self.alloc_request(request, owner) else { break };
                rest.iter_mut().take(1).for_each(|first| first.set_to(to));
                some = 1;
            }
            aimed += some;
        }
        aimed
    }

    /// Takes targets off the lists of a zone, as long as it is the best one. Returns how many.
    fn aim_at(
        &self,
        memmap: Seen<'_, M>,
        Best { node, kind, size }: Best,
        order: Order,
        moves: &mut [Move],
    ) -> usize {
        let target = |one: &Move, like: Pfn| {
            let (request, owner) = wanted(memmap, one, like);
            Take { allocator: self, node, kind, request, owner }
        };
        let mut aimed = 0;
        {
            let mut guard = self.nodes.lock(node, kind);
            let (zone, memmap) = self.locked(&mut guard);
            let lists = FreeLists::of(memmap);
            for _ in 0..EXTENTS_PER_LOCK {
                let rest = moves.get_mut(aimed..).unwrap_or_default();
                if rest.is_empty() {
                    break;
                }
                // Once only larger ones are left, another zone may be better.
                let found = lists.pick(zone, order).filter(|&(found, _)| found <= size);
                let Some(found) = found else { break };
                let piece = largest_piece::<M>(order, rest.len() as u64).min(found.0);
                let Some(section) = lists.take_piece(zone, found, piece, order) else { break };
                let parts = PfnRange::new(found.1, piece.pages()).iter();
                for (one, to) in rest.iter_mut().zip(parts.step_by(order.pages() as usize)) {
                    let from = one.from().pfn;
                    target(one, from).begin(memmap, section, to, since(memmap.page(from)));
                    one.set_to(to);
                    aimed += 1;
                }
            }
        }
        // The extents may be free by now, and have other metadata.
        moves.iter().take(aimed).for_each(|one| target(one, one.to()).finish(one.to()));
        aimed
    }
}

/// The target that a move wants, with metadata for as many pages as the extent of its size at `like` has.
fn wanted<M: Machine>(memmap: Seen<'_, M>, one: &Move, like: Pfn) -> (Request, Owner) {
    let from = one.from();
    let of_each = Metas::of(memmap).covers_all(like, from.order);
    let request = Request::for_move(from.order, of_each).with_private(from.private);
    (request, Owner::Movable(one.mover()))
}

#[cfg(test)]
mod tests;
