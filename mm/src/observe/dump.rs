//! The pages that a crash dump saves: memory with contents that may be read.
//!
//! Descriptors are saved wherever they lie, also those of offline blocks: without them the rest of the dump cannot
//! be decoded. The dump omits pages of offline blocks, and of offline parts of blocks, which have no contents; taken pages, which must not be read;
//! and bad pages, which cannot be read.

use crate::addr::{Pfn, PfnRange};
use crate::machine::Machine;
use crate::memmap::block::Block;
use crate::memmap::page::{Owner, PageState};
use crate::memmap::seen::Seen;
use crate::observe::View;
use crate::observe::runs::{Piece, next_run};

/// The contents of the pages of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// The descriptors of the memory that they lie in.
    Memmap,
    /// Data of this owner.
    Used(Owner),
    /// No data: a dump may omit them.
    Free,
}

/// A maximal run of pages with the same kind of contents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DumpRun {
    /// The pages.
    pub pfns: PfnRange,
    /// Their contents.
    pub content: Content,
}

hotmem_paging::errors! {
    /// Descriptors are being moved: none of them can be read.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct DescriptorsMove => "descriptors are being moved and cannot be read";
}

impl<M: Machine> View<'_, M> {
    /// See [`Mm::dump`](crate::Mm::dump).
    pub(crate) fn dump(&self, each: &mut dyn FnMut(DumpRun)) {
        let mut from = Pfn::new(0);
        while let Some(run) = self.look(|memmap| dump_run(*memmap, from)) {
            from = run.pfns.end;
            each(run);
        }
    }

    /// See [`Mm::try_dump`](crate::Mm::try_dump).
    pub(crate) fn try_dump(&self, each: &mut dyn FnMut(DumpRun)) -> Result<(), DescriptorsMove> {
        let mut from = Pfn::new(0);
        loop {
            // A read guard is enough to read the section map and descriptors: operations publish a
            // section when its memmap is mapped, make it invisible and drain the readers before they
            // unmap that, and let none like this one in while they move a block's. None of what a dump reads is behind a
            // lock, so that it does not matter which ones the caller's CPU holds.
            let look_up = self.allocator.memmap.try_read_all().ok_or(DescriptorsMove)?;
            let Some(run) = dump_run(look_up.seen(), from) else { return Ok(()) };
            drop(look_up);
            from = run.pfns.end;
            each(run);
        }
    }
}

/// The first run at or above `from`.
fn dump_run<M: Machine>(memmap: Seen<'_, M>, from: Pfn) -> Option<DumpRun> {
    next_run(memmap, from, content).map(|(pfns, content)| DumpRun { pfns, content })
}

/// The contents of a piece of a block; `None` if the dump omits it.
fn content(block: &Block, piece: Piece) -> Option<Content> {
    match piece {
        Piece::Memmap => Some(Content::Memmap),
        Piece::Extent(_) if block.taken => None,
        Piece::Extent(
            PageState::Free { .. } | PageState::Isolated { .. } | PageState::Cached { .. },
        ) => Some(Content::Free),
        Piece::Extent(PageState::Used {
            owner: Owner::Taken | Owner::Poison | Owner::Offline,
            ..
        }) => None,
        Piece::Extent(PageState::Used { owner, .. }) => Some(Content::Used(owner)),
        Piece::Extent(_) => None,
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use crate::alloc::node::NodeId;
    use crate::alloc::zone::ZoneKind;
    use crate::testing::{Bench, Setup, Tiny, range};
    use crate::{Order, Placement};
    use std::vec::Vec;

    const MIB: u64 = 1 << 20;
    const DIMM: u64 = 64 * MIB;

    #[test]
    fn a_dump_that_does_not_wait_needs_no_lock_and_stops_where_descriptors_move() {
        let ram = [(0, 16 * MIB, 0)].into_iter().collect();
        let setup = Setup { ram, block: MIB, window: (DIMM, 64 * MIB), kernelcore: None };
        let bench = Bench::<Tiny>::new(&setup);
        let mm = &bench.mm;
        bench.plug(range(DIMM, 4 * MIB));
        bench.add(range(DIMM, 4 * MIB), Placement::PerBlock);
        bench.online(range(DIMM, 2 * MIB));
        bench.alloc_movable(Order::ZERO).unwrap();
        let (mut waited, mut tried) = (Vec::new(), Vec::new());
        mm.dump(&mut |run| waited.push(run));

        // As after a panic in an operation, and in the allocator.
        let operation = mm.allocator().operation().unwrap();
        let zone = |kind| mm.allocator().nodes.lock(NodeId::ZERO, kind);
        let zones = ZoneKind::ALL.map(zone);
        assert_eq!(mm.try_dump(&mut |run| tried.push(run)), Ok(()));
        assert_eq!(tried, waited);

        zones.into_iter().rev().for_each(drop);
        let gate =
            mm.allocator().memmap.hold_off_readers(mm.block_at(range(DIMM, 1).start())).unwrap();
        assert_eq!(
            mm.try_dump(&mut |_| panic!("called while descriptors move")),
            Err(DescriptorsMove)
        );
        drop((gate, operation));
        bench.check();
    }
}
