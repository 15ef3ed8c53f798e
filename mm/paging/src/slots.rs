//! Tests of many slots of a table at once.
//!
//! Most of the cost of a hot-add or hot-remove is one table after the other of equal leaves. A batch of slots is
//! tested by one branch, which costs less than three instructions for each leaf.

use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering};

/// Slots tested together: a cache line.
const BATCH: usize = 8;

/// The number of matching slots from the first on; `miss` is zero for a word that matches.
#[inline]
pub(super) fn run(slots: &[AtomicU64], miss: impl Fn(u64) -> u64) -> usize {
    let (batches, _) = slots.as_chunks::<BATCH>();
    let whole = batches.iter().take_while(|batch| misses(batch, &miss) == 0).count() * BATCH;
    let rest = slots[whole..].iter().take_while(|slot| miss(slot.load(Ordering::Relaxed)) == 0);
    whole + rest.count()
}

/// The number of matching slots from the last one back.
#[inline]
pub(super) fn run_back(slots: &[AtomicU64], miss: impl Fn(u64) -> u64) -> usize {
    let (_, batches) = slots.as_rchunks::<BATCH>();
    let whole = batches.iter().rev().take_while(|batch| misses(batch, &miss) == 0).count() * BATCH;
    let rest = slots[..slots.len() - whole].iter().rev();
    whole + rest.take_while(|slot| miss(slot.load(Ordering::Relaxed)) == 0).count()
}

/// Whether all slots outside `but` are empty. Those below are tested first, the nearest first: unmapped memory is
/// usually what was added last, with its older neighbours below it.
#[inline]
pub(super) fn is_empty_but(slots: &[AtomicU64], but: Range<usize>) -> bool {
    let (below, above) = (&slots[..but.start], &slots[but.end..]);
    run_back(below, any) == below.len() && run(above, any) == above.len()
}

/// Zero for an empty slot.
#[inline]
pub(super) fn any(word: u64) -> u64 {
    word
}

/// The misses of all slots of a batch, or-ed.
#[inline]
fn misses(batch: &[AtomicU64; BATCH], miss: &impl Fn(u64) -> u64) -> u64 {
    batch.iter().fold(0, |bits, slot| bits | miss(slot.load(Ordering::Relaxed)))
}
