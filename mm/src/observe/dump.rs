//! What a crash dump takes: memory whose content means something and may be looked at.
//!
//! Descriptors are part of it wherever they lie, those of offline blocks too: without them nothing else
//! can be made sense of. Left out are pages of offline blocks, which have no content; those that were
//! taken, which nobody may touch; and bad ones, which cannot be read.

use crate::Mm;
use crate::addr::{Pfn, PfnRange};
use crate::machine::Machine;
use crate::memmap::block::Block;
use crate::memmap::page::{Owner, PageState};
use crate::observe::runs::Piece;

/// What the pages of a run hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// The descriptors of the memory that they lie in.
    Memmap,
    /// What this owner put there.
    Used(Owner),
    /// Nothing any more: a dump may leave them out.
    Free,
}

/// A run of pages with the same kind of content, as long as it can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DumpRun {
    /// The pages.
    pub pfns: PfnRange,
    /// What they hold.
    pub content: Content,
}

impl<M: Machine> Mm<M> {
    /// Tells `each` every run of pages that a crash dump takes, ascending.
    ///
    /// `each` may do anything. Exact while nobody allocates, frees or operates; what changes between two
    /// runs is told as it was or as it is. Waits while an operation changes something.
    pub fn dump(&self, each: &mut dyn FnMut(DumpRun)) {
        let mut from = Pfn::new(0);
        while let Some(run) = self.look(|| self.dump_run(from)) {
            from = run.pfns.end;
            each(run);
        }
    }

    /// The first run at or above `from`.
    fn dump_run(&self, from: Pfn) -> Option<DumpRun> {
        self.next_run(from, content).map(|(pfns, content)| DumpRun { pfns, content })
    }
}

/// What a dump says of a piece of a block; `None` if it leaves it out.
fn content(block: &Block, piece: Piece) -> Option<Content> {
    match piece {
        Piece::Memmap => Some(Content::Memmap),
        Piece::Extent(_) if block.taken => None,
        Piece::Extent(PageState::Free { .. } | PageState::Isolated { .. }) => Some(Content::Free),
        Piece::Extent(PageState::Used { owner: Owner::Taken | Owner::Poison, .. }) => None,
        Piece::Extent(PageState::Used { owner, .. }) => Some(Content::Used(owner)),
        Piece::Extent(_) => None,
    }
}
