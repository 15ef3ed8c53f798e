//! Scrub: clears the memory of offline blocks before it leaves, so that its content cannot be read afterwards.
//!
//! ```text
//!   block        [ memmap | . . . . | # # # # | . . . . | ...]    granules in which memory was allocated are cleared,
//!   descriptors  [H R # # | . . . . | # # # # | # . . . | ...]    and the descriptors that were written, but
//!                                                                 heads (H) and records (R) of memmaps
//! ```
//!
//! A call clears whole granules, 1/32 of a block each, so that nothing is kept between two calls: a granule is
//! marked until all of it is clear, and again when it is allocated. Where a part of a block is cleared, since it leaves
//! and the rest stays, nothing else is written: the rest may be memory of a device that is gone. A granule at an end of
//! the part, which has other memory, too, stays marked; such ends are cleared last, in one call.
//!
//! The descriptor of a memmap's head and those with the records of its sections stay as they are, since the block is
//! still described: 64 bytes each, with numbers of frames and bitmaps of the manager's own. No user's data is there.

// UNSAFETY: clears memory that is not in use.
#![expect(unsafe_code)]

use crate::addr::{Pfn, PfnRange, PhysRange};
use crate::alloc::zeroed::clear_page;
use crate::machine::Machine;
use crate::memmap::altmap::Altmap;
use crate::memmap::bad;
use crate::memmap::block::{Block, BlockId, BlockState, BlockWord, NotWholeSubsections};
use crate::memmap::granules::GRANULES;
use crate::memmap::section::section_of;
use crate::memmap::seen::Seen;
use crate::memmap::share::Share;
use crate::operations::Operations;

hotmem_paging::errors! {
    /// The reason why a block was not scrubbed. Nothing was changed.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    #[non_exhaustive]
    pub enum ScrubError {
        /// Another operation is running.
        Busy => ("{}", crate::turn::BUSY),
        /// The block is not present.
        NoSuchBlock(id: BlockId) => "{id} is not there",
        /// The block is online, or what is to be cleared of it.
        NotOffline(id: BlockId) => "{id} is online",
        /// The block holds memory that the machine was started with, which never leaves.
        BootMemory(id: BlockId) => "{id} is memory the machine was started with, it stays",
        /// A part of the block's memory, of what is to be cleared, is bad and must not be written.
        Poisoned(id: BlockId) => "{id} has bad memory, it is not written",
        /// The range is not whole, aligned subsections.
        NotWholeSubsections(error: NotWholeSubsections) => "{error}",
    }
}

/// The result of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scrubbed {
    /// Pages that were cleared.
    pub pages: u64,
    /// Whether there is more to clear.
    pub more: bool,
}

impl<M: Machine> Operations<M> {
    /// See [`Mm::scrub`](crate::Mm::scrub).
    pub(crate) fn scrub(&self, id: BlockId, budget: u64) -> Result<Scrubbed, ScrubError> {
        let operation = self.allocator.operation().ok_or(ScrubError::Busy)?;
        let memmap = operation.seen();
        let block = memmap.describe_block(id).ok_or(ScrubError::NoSuchBlock(id))?;
        scrub_pages(*memmap, block, block.pfns, budget)
    }
}

/// Clears what `within` has of a block that is offline.
fn scrub_pages<M: Machine>(
    memmap: Seen<'_, M>,
    block: Block,
    within: PfnRange,
    budget: u64,
) -> Result<Scrubbed, ScrubError> {
    let id = block.id;
    match block {
        Block { state: BlockState::Online(_), .. } => Err(ScrubError::NotOffline(id)),
        Block { boot: true, .. } => Err(ScrubError::BootMemory(id)),
        Block { poisoned: true, .. } if bad::is_in(memmap, id, within) => {
            Err(ScrubError::Poisoned(id))
        }
        _ => Ok(Scrub { memmap, block, within }.up_to(budget)),
    }
}

/// Scrubs a block, or a part of it, for the operation under way.
struct Scrub<'m, M: Machine> {
    memmap: Seen<'m, M>,
    block: Block,
    /// Nothing else is written.
    within: PfnRange,
}

impl<M: Machine> Scrub<'_, M> {
    fn up_to(&self, budget: u64) -> Scrubbed {
        let Some(record) = self.memmap.known_block_record(section_of::<M>(self.block.pfns.start))
        else {
            return Scrubbed { pages: 0, more: false };
        };
        let word = record.block();
        let (mut pages, mut ends) = (0, 0_u32);
        for granule in (0..GRANULES).filter(|granule| word.dirty >> granule & 1 != 0) {
            let (bit, pfns) = (1 << granule, self.granule(granule));
            if !self.covers(pfns) {
                ends |= bit;
                continue;
            }
            if pages != 0 && pages >= budget {
                return Scrubbed { pages, more: true };
            }
            pages += self.clear_granule(pfns);
            record.change_block(|word| BlockWord { dirty: word.dirty & !bit, ..word });
        }
        let ends = (0..GRANULES).filter(|granule| ends >> granule & 1 != 0);
        let ends = ends.map(|granule| self.granule(granule));
        let mut ends = ends.filter(|pfns| pfns.intersection(self.within).is_some()).peekable();
        if pages != 0 && pages >= budget && ends.peek().is_some() {
            return Scrubbed { pages, more: true };
        }
        pages += ends.map(|pfns| self.clear_granule(pfns)).sum::<u64>();
        if word.described {
            self.clear_heads();
            if self.covers(self.block.pfns) {
                record.change_block(|word| BlockWord { described: false, ..word });
            }
        }
        Scrubbed { pages, more: false }
    }

    fn granule(&self, number: u64) -> PfnRange {
        let pages = self.block.pfns.pages() / GRANULES;
        PfnRange::new(self.block.pfns.start.add(number * pages), pages)
    }

    /// Whether all memory of the block among `pfns` is to be cleared.
    fn covers(&self, pfns: PfnRange) -> bool {
        let mut here =
            self.memmap.shares(self.block.id).filter_map(|share| share.pfns.intersection(pfns));
        self.within.covers(self.block.pfns) || here.all(|pfns| self.within.covers(pfns))
    }

    /// The shares of the block, as far as they are to be cleared, each with the pages of it that are.
    fn shares(&self) -> impl Iterator<Item = (Share, PfnRange)> {
        let shares = self.memmap.shares(self.block.id);
        shares.filter_map(|share| Some((share, share.pfns.intersection(self.within)?)))
    }

    /// Clears the pages of a granule, and their descriptors. Returns the number of pages.
    fn clear_granule(&self, granule: PfnRange) -> u64 {
        let here = |(share, own): (Share, PfnRange)| Some((share, own.intersection(granule)?));
        self.shares().filter_map(here).map(|(share, here)| self.clear_pages(&share, here)).sum()
    }

    /// Clears pages of a share but its memmap. Returns their number.
    fn clear_pages(&self, share: &Share, here: PfnRange) -> u64 {
        let usable = PfnRange { start: share.memmap().end.clamp(here.start, here.end), ..here };
        for pfn in usable.iter() {
            // SAFETY: the page is mapped RAM of an offline block that was added, outside of its memmap, and this is
            // the operation under way: no other code refers to any byte of it.
            unsafe { clear_page(self.memmap.machine(), pfn) };
        }
        let windows = self.memmap.windows();
        if let Some(range) =
            PhysRange::new(M::address(usable.start), usable.pages() * M::PAGE_BYTES)
        {
            self.memmap.machine().clean(windows.linear_virt(range));
        }
        if let Some(group) = share.group {
            let kept = Altmap::of_memmap::<M>(group.pfns).records::<M>();
            here.iter().for_each(|pfn| self.clear_descriptor(pfn, kept));
            self.memmap.machine().clean(windows.memmap_virt(here));
        }
        usable.pages()
    }

    /// Clears the descriptors that may be heads of large extents, and those of the ends of shares, where memory is
    /// probed.
    fn clear_heads(&self) {
        for (share, pfns) in self.shares() {
            let Some(group) = share.group else { continue };
            let kept = Altmap::of_memmap::<M>(group.pfns).records::<M>();
            let heads = (pfns.start.get()..pfns.end.get()).step_by(M::PART_PAGES as usize);
            let ends = [share.memmap().end, Pfn::new(pfns.end.get() - 1)];
            let ends = ends.into_iter().filter(|&pfn| pfns.contains(pfn));
            for pfn in heads.map(Pfn::new).chain(ends) {
                self.clear_descriptor(pfn, kept);
                let descriptor = self.memmap.windows().memmap_virt(PfnRange::new(pfn, 1));
                self.memmap.machine().clean(descriptor);
            }
        }
    }

    /// Clears a descriptor, unless it is among those that stay: the head of its group, and those with records.
    fn clear_descriptor(&self, pfn: Pfn, kept: PfnRange) {
        if !kept.contains(pfn) {
            self.memmap.page(pfn).clear();
        }
    }
}

mod part;
#[cfg(test)]
mod tests;
