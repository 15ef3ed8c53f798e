//! Unmapping: clear run by run, detach what became empty, owe the rest to a [`Gather`].
//!
//! ```text
//!   a table of leaves, all in the range   -> looked at once, unlinked whole: one store
//!   part of a table                       -> leaves cleared; its other slots looked at, nearest
//!                                            first, until one is in use
//! ```

use super::slots;
use super::tables::{Stop, Tables};
use super::{Entry, Gather, PteFormat, TableFrames, Tlb, UnmapError};
use crate::addr::{VirtAddr, VirtRange};
use crate::machine::PhysMem;

use core::sync::atomic::Ordering;

impl<F: PteFormat, P: PhysMem, T: Tlb> Tables<F, P, T> {
    pub(super) fn unmap_range<S: TableFrames>(
        &self,
        range: VirtRange,
        gather: &mut Gather<'_, T, S>,
    ) -> Result<(), UnmapError> {
        if range.is_empty() {
            return Ok(());
        }
        if !Self::reaches(range) {
            return Err(UnmapError::BeyondFormat { range });
        }
        self.clear(range, gather)
    }

    /// Clears a range that is not empty and that the MMU can translate.
    pub(super) fn clear<S: TableFrames>(
        &self,
        range: VirtRange,
        gather: &mut Gather<'_, T, S>,
    ) -> Result<(), UnmapError> {
        let mut done = 0;
        while done < range.len() {
            let at = range.start().add(done);
            let stop = self.walk(at);
            if done == 0 {
                self.check_ends(range, &stop)?;
            }
            done += self.clear_run(&stop, at, range.len() - done, gather);
        }
        Ok(())
    }

    /// Refuses a range that cuts a leaf, which only the first and the last leaf can be; `first` is
    /// where the walk towards its start stopped.
    fn check_ends(&self, range: VirtRange, first: &Stop) -> Result<(), UnmapError> {
        let here = F::LEVELS[first.level];
        let last = range.end().add(u64::MAX);
        let cut = |at| Self::leaf(at, &self.walk(at)).filter(|leaf| !range.covers(leaf.range()));

        // No leaf of this table, or below it, reaches past a boundary of its entries.
        let starts_well = range.start().is_aligned(here.span());
        let same_table = (range.start().get() ^ last.get()) >> here.shift >> here.bits == 0;
        let ends_well = same_table && range.end().is_aligned(here.span());
        let start = if starts_well { None } else { cut(range.start()) };
        let end = if ends_well { None } else { cut(last) };
        match start.or(end) {
            Some(leaf) => Err(UnmapError::CutsLeaf { at: leaf.virt, len: leaf.len }),
            None => Ok(()),
        }
    }

    /// Clears the leaves from `at` on that lie in one table, or passes over an empty slot, which is
    /// where the walk stopped; answers how far it got, in bytes (past `left` if the slot is larger).
    fn clear_run<S: TableFrames>(
        &self,
        stop: &Stop,
        at: VirtAddr,
        left: u64,
        gather: &mut Gather<'_, T, S>,
    ) -> u64 {
        let here = F::LEVELS[stop.level];
        let Entry::Leaf(..) = stop.entry else {
            return here.span() - (at.get() & (here.span() - 1));
        };

        let slots = self.slots(stop.path[stop.level], stop.level);
        let first = here.index(at.get());
        let wanted = ((left >> here.shift) as usize).min(slots.len() - first);
        let test = F::leaf_test(stop.level);
        let leaves = slots::run(&slots[first..first + wanted], |word| test.miss(word)).max(1);
        let bytes = (leaves as u64) << here.shift;
        let Some(cleared) = VirtRange::new(at, bytes) else {
            return left;
        };

        if leaves == slots.len() && stop.level > 0 {
            // No table below, no leaf outside the range: unlinking it clears all of them.
            self.detach(stop, cleared, gather);
            return bytes;
        }
        for slot in &slots[first..first + leaves] {
            slot.store(0, Ordering::Release);
        }
        gather.cleared(cleared);
        if stop.level > 0 && slots::is_empty_but(slots, first..first + leaves) {
            self.detach(stop, cleared, gather);
        }
        bytes
    }

    /// Unlinks the last table of `stop`'s path, and each one above that thereby becomes empty.
    fn detach<S: TableFrames>(&self, stop: &Stop, near: VirtRange, gather: &mut Gather<'_, T, S>) {
        for level in (1..=stop.level).rev() {
            let parents = self.slots(stop.path[level - 1], level - 1);
            let index = F::LEVELS[level - 1].index(near.start().get());
            parents[index].store(0, Ordering::Release);
            let last = level == 1 || !slots::is_empty_but(parents, index..index + 1);
            gather.detached(stop.path[level], F::LEVELS[level].table_bytes(), near);
            if last {
                return;
            }
        }
    }

    /// Detaches the tables on the way to `at` that hold nothing, as a failed mapping leaves them.
    pub(super) fn prune<S: TableFrames>(&self, at: VirtAddr, gather: &mut Gather<'_, T, S>) {
        let stop = self.walk(at);
        let page = F::LEVELS[F::LEVELS.len() - 1].span();
        if stop.level > 0
            && slots::is_empty_but(self.slots(stop.path[stop.level], stop.level), 0..0)
            && let Some(near) = VirtRange::new(at, page)
        {
            self.detach(&stop, near, gather);
        }
    }
}
