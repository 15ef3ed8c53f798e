//! Scrubs a part of a block: one that is offline with its block, or one that is offline while its block is online.
//!
//! The extents of the latter are held offline, and each counts in its owner's word how many of its pages are clear:
//! so no page is cleared twice, and nothing else is kept between two calls.

// UNSAFETY: clears memory that is not in use.
#![expect(unsafe_code)]

use super::{ScrubError, Scrubbed, scrub_pages};
use crate::addr::{PfnRange, PhysRange};
use crate::alloc::buddy::{owners_word, set_owners_word};
use crate::alloc::zeroed::clear_page;
use crate::machine::Machine;
use crate::memmap::block::{BlockId, BlockState};
use crate::memmap::page::{Owner, PageState};
use crate::memmap::seen::Seen;
use crate::memmap::share::Share;
use crate::operations::Operations;
use core::sync::atomic::Ordering;

impl<M: Machine> Operations<M> {
    /// See [`Mm::scrub_part`](crate::Mm::scrub_part).
    pub(crate) fn scrub_part(
        &self,
        id: BlockId,
        range: PhysRange,
        budget: u64,
    ) -> Result<Scrubbed, ScrubError> {
        let within = self.allocator.memmap.whole_units(range);
        let within = within.map_err(ScrubError::NotWholeSubsections)?;
        let operation = self.allocator.operation().ok_or(ScrubError::Busy)?;
        let memmap = *operation.seen();
        let block = memmap.describe_block(id).ok_or(ScrubError::NoSuchBlock(id))?;
        match block.state {
            BlockState::Online(_) => scrub_offline(memmap, id, within, budget),
            BlockState::Offline => scrub_pages(memmap, block, within, budget),
        }
    }
}

/// Clears up to `budget` pages, at least one, of what is offline among `within`, of online block `id`.
fn scrub_offline<M: Machine>(
    memmap: Seen<'_, M>,
    id: BlockId,
    within: PfnRange,
    budget: u64,
) -> Result<Scrubbed, ScrubError> {
    check(memmap, id, within)?;
    let mut pages = 0;
    for (share, here) in parts(memmap, id, within) {
        for (head, size, state) in memmap.extents(here) {
            if !matches!(state, PageState::Used { owner: Owner::Offline, .. }) {
                continue;
            }
            let clear = owners_word(memmap, head).min(size);
            let count = (size - clear).min(budget.max(1) - pages);
            clear_pages(memmap, PfnRange::new(head.add(clear), count), share.group.is_some());
            set_owners_word(memmap, head, clear + count);
            pages += count;
            if clear + count < size {
                return Ok(Scrubbed { pages, more: true });
            }
        }
    }
    Ok(Scrubbed { pages, more: false })
}

/// Refuses what is in use or bad.
fn check<M: Machine>(memmap: Seen<'_, M>, id: BlockId, within: PfnRange) -> Result<(), ScrubError> {
    for (share, here) in parts(memmap, id, within) {
        let head = share.group.map(|group| memmap.page(group.pfns.start));
        let mut bad = head.is_some_and(|head| head.has_bad_memmap());
        for (.., state) in memmap.extents(here) {
            match state {
                PageState::Used { owner: Owner::Offline, .. } => {}
                PageState::Used { owner: Owner::Poison, .. } => bad = true,
                _ => return Err(ScrubError::NotOffline(id)),
            }
        }
        if bad {
            return Err(ScrubError::Poisoned(id));
        }
    }
    Ok(())
}

/// The shares of a block that have pages of `within`, each with those that hold no descriptors.
fn parts<M: Machine>(
    memmap: Seen<'_, M>,
    id: BlockId,
    within: PfnRange,
) -> impl Iterator<Item = (Share, PfnRange)> {
    memmap.shares(id).filter_map(move |share| {
        let here = share.pfns.intersection(within)?;
        let start = share.memmap().end.clamp(here.start, here.end);
        Some((share, PfnRange { start, ..here }))
    })
}

/// Clears pages of an extent that is offline, and what their descriptors have, but for the states: if these are `hosted`,
/// they leave, too.
fn clear_pages<M: Machine>(memmap: Seen<'_, M>, pfns: PfnRange, hosted: bool) {
    if pfns.pages() == 0 {
        return;
    }
    for pfn in pfns.iter() {
        // SAFETY: the page is mapped RAM of an extent that is held offline, and only an operation, of which this
        // is the one under way, gives it to anybody.
        unsafe { clear_page(memmap.machine(), pfn) };
    }
    let windows = memmap.windows();
    if let Some(range) = PhysRange::new(M::address(pfns.start), pfns.pages() * M::PAGE_BYTES) {
        memmap.machine().clean(windows.linear_virt(range));
    }
    if hosted {
        let words = pfns.iter().flat_map(|pfn| memmap.page(pfn).payload());
        words.for_each(|word| word.store(0, Ordering::Relaxed));
        memmap.machine().clean(windows.memmap_virt(pfns));
    }
}
