//! Runs of pages with the same kind of content, one at a time.
//!
//! The closure that gets the runs may look or operate, so no look is under way while it runs: each run is searched
//! from the end of the previous one. A run is consistent; between two runs memory may change.

use crate::addr::{Pfn, PfnRange};
use crate::alloc::Waits;
use crate::machine::Machine;
use crate::memmap::block::{Block, BlockState};
use crate::memmap::extent::Place;
use crate::memmap::page::PageState;
use crate::memmap::seen::Seen;
use crate::memmap::whole::Whole;
use crate::observe::View;

/// The kind of a piece of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// Descriptors.
    Memmap,
    /// An extent, of an online block.
    Extent(PageState),
}

impl<M: Machine> View<'_, M> {
    /// Looks: no operation changes anything during the call. `what` must not call code outside the manager (see
    /// [`looks`](crate::turn::looks)).
    pub(super) fn look<R>(&self, what: impl FnOnce(Whole<'_, M>) -> R) -> R {
        what(Waits::of(self.allocator).look().seen())
    }
}

/// The first maximal run at or above `from` of adjacent pieces for which `kind` returns the same value; pieces for
/// which it returns `None` are in no run.
///
/// The caller holds a look or a read guard.
pub(super) fn next_run<M: Machine, K: PartialEq + Copy>(
    memmap: Seen<'_, M>,
    from: Pfn,
    kind: impl Fn(&Block, Piece) -> Option<K>,
) -> Option<(PfnRange, K)> {
    let mut run: Option<(PfnRange, K)> = None;
    for block in memmap.blocks_from(memmap.block_at(M::address(from))) {
        for (pfn, pages, piece) in pieces_of(memmap, &block, from) {
            match (kind(&block, piece), &mut run) {
                (None, None) => {}
                (Some(kind), None) => run = Some((PfnRange::new(pfn, pages), kind)),
                (Some(kind), Some((pfns, same))) if kind == *same && pfns.end == pfn => {
                    pfns.end = pfn.add(pages);
                }
                (_, Some(_)) => return run,
            }
        }
    }
    run
}

/// The pieces of a block at or above `from`, ascending: its memmap and its extents.
fn pieces_of<'g, M: Machine>(
    memmap: Seen<'g, M>,
    block: &Block,
    from: Pfn,
) -> impl Iterator<Item = (Pfn, u64, Piece)> + use<'g, M> {
    let rest = PfnRange { start: block.pfns.start.max(from), end: block.pfns.end };
    let offline = block.state == BlockState::Offline;
    let own = memmap.shares(block.id).filter_map(move |share| share.memmap().intersection(rest));
    let own = own.take_while(move |_| offline).map(|own| (own.start, own.pages(), Piece::Memmap));
    let online = if offline { PfnRange::new(rest.start, 0) } else { rest };
    let places = memmap.places(online).filter_map(|(pfn, place)| match place {
        Place::Memmap(end) => Some((pfn, end.offset_from(pfn), Piece::Memmap)),
        Place::Extent(pages, state) => Some((pfn, pages, Piece::Extent(state))),
        Place::Absent(_) => None,
    });
    own.chain(places)
}
