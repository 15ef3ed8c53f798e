//! Which leaves were written: the marks of the MMU ([`PteFormat::WRITTEN`]), taken back or taken out with their leaves.
//!
//! ```text
//!   unmark --> flush --> copy the pages that were marked --> unmark --> ...
//!                a store from here on marks its leaf again, since no CPU has cached a marked one
//!   unmap_marked --> flush --> copy the pages that were marked: nothing is stored to them any more
//! ```
//!
//! A mark that is set between two looks is in the second one: each look exchanges the word at once.

use super::tables::{Stop, Tables};
use super::{Entry, Gather, PhysMem, PteFormat, TableFrames, Tlb, UnmapError};
use crate::addr::{Address, AddressRange, Space};

use core::sync::atomic::{AtomicU64, Ordering};

impl<F: PteFormat, P: PhysMem, T: Tlb<I>, I: Space> Tables<F, P, T, I> {
    /// Takes the marks of all leaves in `range` back, and calls `each` with what those translate that had one. A store
    /// that is made after the gather's flush marks its leaf again.
    ///
    /// # Errors
    ///
    /// Those of [`Mapper::unmap`](super::Mapper::unmap), with nothing changed.
    pub fn unmark<S: TableFrames>(
        &self,
        range: AddressRange<I>,
        gather: &mut Gather<'_, T, S, I>,
        each: &mut dyn FnMut(AddressRange<I>),
    ) -> Result<(), UnmapError<I>> {
        let unmark = |slot: &AtomicU64| {
            let word = slot.load(Ordering::Relaxed);
            let marked = word & F::WRITTEN != 0;
            if marked { slot.fetch_and(!F::WRITTEN, Ordering::AcqRel) } else { word }
        };
        self.exchange(range, gather, &unmark, each)
    }

    /// As [`Mapper::unmap`](super::Mapper::unmap), but all tables stay; calls `each` with what those leaves translated
    /// that had a mark.
    ///
    /// # Errors
    ///
    /// Those of [`Mapper::unmap`](super::Mapper::unmap), with nothing changed.
    pub fn unmap_marked<S: TableFrames>(
        &self,
        range: AddressRange<I>,
        gather: &mut Gather<'_, T, S, I>,
        each: &mut dyn FnMut(AddressRange<I>),
    ) -> Result<(), UnmapError<I>> {
        self.exchange(range, gather, &|slot| slot.swap(0, Ordering::AcqRel), each)
    }

    /// Changes each leaf in `range` by `change`, which returns what it was.
    fn exchange<S: TableFrames>(
        &self,
        range: AddressRange<I>,
        gather: &mut Gather<'_, T, S, I>,
        change: &impl Fn(&AtomicU64) -> u64,
        each: &mut dyn FnMut(AddressRange<I>),
    ) -> Result<(), UnmapError<I>> {
        if range.is_empty() {
            return Ok(());
        }
        if !Self::reaches(range) {
            return Err(UnmapError::BeyondFormat { range });
        }
        self.check_ends(range, &self.walk(range.end().add(u64::MAX)))?;
        let mut done = 0;
        while done < range.len() {
            let at = range.start().add(done);
            let bytes = self.exchange_run(&self.walk(at), at, range.len() - done, change, each);
            done = done.saturating_add(bytes);
        }
        gather.cleared(range);
        Ok(())
    }

    /// Changes the leaves from `at` on that lie in one table, at most `left` bytes of them, or skips an empty slot.
    /// Returns the bytes that are done.
    fn exchange_run(
        &self,
        stop: &Stop,
        at: Address<I>,
        left: u64,
        change: &impl Fn(&AtomicU64) -> u64,
        each: &mut dyn FnMut(AddressRange<I>),
    ) -> u64 {
        let here = F::LEVELS[stop.level];
        let Entry::Leaf(..) = stop.entry else {
            return here.span() - (at.get() & (here.span() - 1));
        };
        let test = F::leaf_test(stop.level);
        let slots = &self.slots(stop.path[stop.level], stop.level)[here.index(at.get())..];
        let mut bytes = 0;
        for slot in slots {
            if bytes >= left || test.miss(slot.load(Ordering::Relaxed)) != 0 {
                break;
            }
            let leaf = AddressRange::new(at.add(bytes), here.span());
            if change(slot) & F::WRITTEN != 0
                && let Some(leaf) = leaf
            {
                each(leaf);
            }
            bytes += here.span();
        }
        // The first slot is a leaf, so that some were done.
        bytes.max(here.span())
    }
}
