//! Unmapping: clears run by run, detaches tables that became empty, and leaves the flush to a [`Gather`].
//!
//! ```text
//!   a table of leaves, all in the range   -> tested once, unlinked whole: one store
//!   part of a table                       -> leaves cleared; its other slots tested, nearest
//!                                            first, until one is in use
//! ```

use super::slots;
use super::tables::{Stop, Tables};
use super::{Entry, Gather, PhysMem, PteFormat, TableFrames, Tlb, UnmapError};
use crate::addr::{Address, AddressRange, Space};

use core::sync::atomic::{AtomicU64, Ordering};

impl<F: PteFormat, P: PhysMem, T: Tlb<I>, I: Space> Tables<F, P, T, I> {
    pub(super) fn unmap_range<S: TableFrames>(
        &self,
        range: AddressRange<I>,
        gather: &mut Gather<'_, T, S, I>,
    ) -> Result<(), UnmapError<I>> {
        if range.is_empty() {
            return Ok(());
        }
        if !Self::reaches(range) {
            return Err(UnmapError::BeyondFormat { range });
        }
        self.clear(range, gather)
    }

    /// Clears a range that is not empty and that the MMU can translate, from its end to its start.
    pub(super) fn clear<S: TableFrames>(
        &self,
        range: AddressRange<I>,
        gather: &mut Gather<'_, T, S, I>,
    ) -> Result<(), UnmapError<I>> {
        let mut left = range.len();
        while left > 0 {
            let last = range.start().add(left - 1);
            let stop = self.walk(last);
            if left == range.len() {
                self.check_ends(range, &stop)?;
            }
            left = left.saturating_sub(self.clear_run(&stop, last, left, gather));
        }
        Ok(())
    }

    /// Refuses a range that cuts a leaf, which only the first and the last leaf can be; `stop` is the end of the
    /// walk towards its last byte.
    pub(super) fn check_ends(
        &self,
        range: AddressRange<I>,
        stop: &Stop,
    ) -> Result<(), UnmapError<I>> {
        let here = F::LEVELS[stop.level];
        let last = range.end().add(u64::MAX);
        let cut = |at| Self::leaf(at, &self.walk(at)).filter(|leaf| !range.covers(leaf.range()));

        // No leaf of this table, or below it, reaches past a boundary of its entries.
        let ends_well = range.end().is_aligned(here.span());
        let same_table = (range.start().get() ^ last.get()) >> here.shift >> here.bits == 0;
        let starts_well = same_table && range.start().is_aligned(here.span());
        let start = if starts_well { None } else { cut(range.start()) };
        let end = if ends_well { None } else { cut(last) };
        match start.or(end) {
            Some(leaf) => Err(UnmapError::CutsLeaf { at: leaf.virt, len: leaf.len }),
            None => Ok(()),
        }
    }

    /// Clears the leaves up to `last` that lie in one table, or skips an empty slot at which the walk stopped;
    /// returns the number of bytes done (more than `left` if the slot is larger).
    fn clear_run<S: TableFrames>(
        &self,
        stop: &Stop,
        last: Address<I>,
        left: u64,
        gather: &mut Gather<'_, T, S, I>,
    ) -> u64 {
        let here = F::LEVELS[stop.level];
        let Entry::Leaf(..) = stop.entry else {
            return (last.get() & (here.span() - 1)) + 1;
        };

        let slots = self.slots(stop.path[stop.level], stop.level);
        let end = here.index(last.get()) + 1;
        let wanted = ((left >> here.shift) as usize).min(end);
        let test = F::leaf_test(stop.level);
        let leaves = slots::run_back(&slots[end - wanted..end], |word| test.miss(word)).max(1);
        let bytes = (leaves as u64) << here.shift;
        let start = last.align_down(here.span()).add(here.span()).add(bytes.wrapping_neg());
        let Some(cleared) = AddressRange::new(start, bytes) else {
            return left;
        };

        let detaches = stop.level > 0 && !gather.keeps_tables();
        if leaves == slots.len() && detaches && !gather.keeps(stop.path[stop.level]) {
            // No table below, no leaf outside the range: unlinking it clears all of them.
            self.detach(stop, cleared, gather);
            return bytes;
        }
        for slot in slots[end - leaves..end].iter().rev() {
            slot.store(0, Ordering::Release);
        }
        gather.cleared(cleared);
        if detaches
            && slots::is_empty_but(slots, end - leaves..end)
            && !gather.keeps(stop.path[stop.level])
        {
            self.detach(stop, cleared, gather);
        }
        bytes
    }

    /// Unlinks the last table of `stop`'s path, and each one above that becomes empty by that and does not stay.
    fn detach<S: TableFrames>(
        &self,
        stop: &Stop,
        near: AddressRange<I>,
        gather: &mut Gather<'_, T, S, I>,
    ) {
        for level in (1..=stop.level).rev() {
            let parents = self.unlink(stop, level, near, gather);
            let index = F::LEVELS[level - 1].index(near.start().get());
            if level == 1
                || !slots::is_empty_but(parents, index..index + 1)
                || gather.keeps(stop.path[level - 1])
            {
                return;
            }
        }
    }

    /// Unlinks the table of `level` on `stop`'s path; returns the entries of the one above.
    fn unlink<S: TableFrames>(
        &self,
        stop: &Stop,
        level: usize,
        near: AddressRange<I>,
        gather: &mut Gather<'_, T, S, I>,
    ) -> &[AtomicU64] {
        let (table, parents) = self.take_out(stop, level, near.start());
        gather.detached(table, near);
        parents
    }

    /// Detaches the tables from level `made` on that lead to `at`: a mapping that failed made them, and put nothing
    /// into the last of them.
    pub(super) fn prune<S: TableFrames>(
        &self,
        at: Address<I>,
        made: usize,
        gather: &mut Gather<'_, T, S, I>,
    ) {
        let stop = self.walk(at);
        let page = F::LEVELS[F::LEVELS.len() - 1].span();
        let Some(near) = AddressRange::new(at.align_down(page), page) else { return };
        for level in (made..=stop.level).rev() {
            self.unlink(&stop, level, near, gather);
        }
    }
}
