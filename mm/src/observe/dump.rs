//! What a crash dump takes: memory whose content means something and may be looked at.
//!
//! Descriptors are part of it wherever they lie, those of offline blocks too: without them nothing else
//! can be made sense of. Left out are pages of offline blocks, which have no content; those that were
//! taken, which nobody may touch; and bad ones, which cannot be read.

use crate::Mm;
use crate::addr::{Pfn, PfnRange};
use crate::machine::Machine;
use crate::memmap::block::{Block, BlockState};
use crate::memmap::page::{Owner, PageState};

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

/// Joins runs before it hands them on.
struct Joiner<'e> {
    run: Option<DumpRun>,
    each: &'e mut dyn FnMut(DumpRun),
}

impl Joiner<'_> {
    fn add(&mut self, start: Pfn, pages: u64, content: Content) {
        if let Some(run) = &mut self.run
            && (run.pfns.end, run.content) == (start, content)
        {
            run.pfns.end = start.add(pages);
            return;
        }
        let run = DumpRun { pfns: PfnRange::new(start, pages), content };
        self.run.replace(run).into_iter().for_each(&mut *self.each);
    }
}

impl<M: Machine> Mm<M> {
    /// Tells `each` every run of pages that a crash dump takes, ascending.
    ///
    /// Takes the hotplug lock; exact while nobody allocates or frees.
    pub fn dump(&self, each: &mut dyn FnMut(DumpRun)) {
        let _lock = self.hotplug.lock();
        let mut joiner = Joiner { run: None, each };
        self.blocks().for_each(|block| self.dump_block(&block, &mut joiner));
        joiner.run.take().into_iter().for_each(joiner.each);
    }

    fn dump_block(&self, block: &Block, joiner: &mut Joiner<'_>) {
        if let Some(memmap) = self.memmap_of(block) {
            joiner.add(memmap.start, memmap.pages(), Content::Memmap);
        }
        if block.state == BlockState::Offline || block.taken {
            return;
        }
        for (pfn, pages, state) in self.extents(block.pfns) {
            match state {
                PageState::Free { .. } | PageState::Isolated { .. } => {
                    joiner.add(pfn, pages, Content::Free);
                }
                PageState::Used { owner: Owner::Taken | Owner::Poison, .. } => {}
                PageState::Used { owner, .. } => joiner.add(pfn, pages, Content::Used(owner)),
                _ => {}
            }
        }
    }
}
