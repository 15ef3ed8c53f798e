//! Unmapping: clear run by run, detach what became empty, owe the rest to a [`Gather`].
//!
//! ```text
//!   a table of leaves, all in the range   -> looked at once, unlinked whole: one store
//!   part of a table                       -> leaves cleared; its other slots looked at, nearest
//!                                            first, until one is in use
//! ```

use super::tables::{Stop, Tables};
use super::{Entry, Gather, PteFormat, TableFrames, Tlb, Translation, UnmapError};
use crate::addr::{VirtAddr, VirtRange};
use crate::machine::PhysMem;

use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering};

/// Slots looked at together.
const BATCH: usize = 8;

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
        // Only the leaves at the two ends can be cut. Nothing has changed yet.
        for at in [range.start(), range.end().add(u64::MAX)] {
            if let Some(Translation { virt, len, .. }) = self.leaf_at(at)
                && !VirtRange::new(virt, len).is_some_and(|leaf| range.covers(leaf))
            {
                return Err(UnmapError::CutsLeaf { at: virt, len });
            }
        }
        self.clear(range, gather);
        Ok(())
    }

    /// Clears a range that cuts no leaf.
    pub(super) fn clear<S: TableFrames>(&self, range: VirtRange, gather: &mut Gather<'_, T, S>) {
        let mut done = 0;
        while done < range.len() {
            done += self.clear_run(range.start().add(done), range.len() - done, gather);
        }
    }

    /// Clears the leaves from `at` on that lie in one table, or passes over an empty slot; answers
    /// how far it got, in bytes (past `left` if the slot is larger).
    fn clear_run<S: TableFrames>(
        &self,
        at: VirtAddr,
        left: u64,
        gather: &mut Gather<'_, T, S>,
    ) -> u64 {
        let stop = self.walk(at);
        let here = F::LEVELS[stop.level];
        let Entry::Leaf(..) = stop.entry else {
            return here.span() - (at.get() & (here.span() - 1));
        };

        let slots = self.slots(stop.path[stop.level], stop.level);
        let first = here.index(at.get());
        let wanted = ((left >> here.shift) as usize).min(slots.len() - first);
        let test = F::leaf_test(stop.level);
        let leaves = leaf_run(&slots[first..first + wanted], |word| test.miss(word)).max(1);
        let bytes = (leaves as u64) << here.shift;
        let Some(cleared) = VirtRange::new(at, bytes) else {
            return left;
        };

        if leaves == slots.len() && stop.level > 0 {
            // No table below, no leaf outside the range: unlinking it clears all of them.
            self.detach(&stop, cleared, gather);
            return bytes;
        }
        for slot in &slots[first..first + leaves] {
            slot.store(0, Ordering::Release);
        }
        gather.cleared(cleared);
        if stop.level > 0 && is_empty_but(slots, first..first + leaves) {
            self.detach(&stop, cleared, gather);
        }
        bytes
    }

    /// Unlinks the last table of `stop`'s path, and each one above that thereby becomes empty.
    fn detach<S: TableFrames>(&self, stop: &Stop, near: VirtRange, gather: &mut Gather<'_, T, S>) {
        for level in (1..=stop.level).rev() {
            let parents = self.slots(stop.path[level - 1], level - 1);
            let index = F::LEVELS[level - 1].index(near.start().get());
            parents[index].store(0, Ordering::Release);
            let last = level == 1 || !is_empty_but(parents, index..index + 1);
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
            && is_empty_but(self.slots(stop.path[stop.level], stop.level), 0..0)
            && let Some(near) = VirtRange::new(at, page)
        {
            self.detach(&stop, near, gather);
        }
    }
}

/// How many slots from the first on hold a leaf; `miss` is zero for one.
///
/// A batch is judged by one branch, which keeps a gigabyte of 2 MiB leaves under four instructions
/// a leaf.
#[inline]
fn leaf_run(slots: &[AtomicU64], miss: impl Fn(u64) -> u64) -> usize {
    let (batches, _) = slots.as_chunks::<BATCH>();
    let whole = batches.iter().take_while(|batch| gathered(batch, &miss) == 0).count() * BATCH;
    let rest = slots[whole..].iter().take_while(|slot| miss(slot.load(Ordering::Relaxed)) == 0);
    whole + rest.count()
}

/// Whether all slots outside `but` are empty, the nearest looked at first.
#[inline]
fn is_empty_but(slots: &[AtomicU64], but: Range<usize>) -> bool {
    let (below, above) = (&slots[..but.start], &slots[but.end..]);
    let (head, batches) = below.as_rchunks::<BATCH>();
    let (more, tail) = above.as_chunks::<BATCH>();
    let empty = |batch: &[AtomicU64; BATCH]| gathered(batch, &|word| word) == 0;
    let unused = |slot: &AtomicU64| slot.load(Ordering::Relaxed) == 0;
    batches.iter().rev().all(empty)
        && more.iter().all(empty)
        && head.iter().all(unused)
        && tail.iter().all(unused)
}

/// The bits that `judge` finds in any slot of the batch.
#[inline]
fn gathered(batch: &[AtomicU64; BATCH], judge: &impl Fn(u64) -> u64) -> u64 {
    batch.iter().fold(0, |bits, slot| bits | judge(slot.load(Ordering::Relaxed)))
}
