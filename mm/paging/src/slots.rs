//! Looking at many slots of a table at once.
//!
//! Most of what a hot-add or hot-remove costs is one table after the other of equal leaves. A batch
//! of slots is judged by one branch, which keeps the look at a leaf under three instructions.

use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering};

/// Slots looked at together: a cache line.
const BATCH: usize = 8;

/// How many slots from the first on are as wanted; `miss` is zero for a word that is.
#[inline]
pub(super) fn run(slots: &[AtomicU64], miss: impl Fn(u64) -> u64) -> usize {
    let (batches, _) = slots.as_chunks::<BATCH>();
    let whole = batches.iter().take_while(|batch| misses(batch, &miss) == 0).count() * BATCH;
    let rest = slots[whole..].iter().take_while(|slot| miss(slot.load(Ordering::Relaxed)) == 0);
    whole + rest.count()
}

/// How many slots from the last one back are as wanted.
#[inline]
pub(super) fn run_back(slots: &[AtomicU64], miss: impl Fn(u64) -> u64) -> usize {
    let (_, batches) = slots.as_rchunks::<BATCH>();
    let whole = batches.iter().rev().take_while(|batch| misses(batch, &miss) == 0).count() * BATCH;
    let rest = slots[..slots.len() - whole].iter().rev();
    whole + rest.take_while(|slot| miss(slot.load(Ordering::Relaxed)) == 0).count()
}

/// Whether all slots outside `but` are empty. Those below are looked at first, the nearest first:
/// what is unmapped is mostly what was added last, with its elder neighbours below it.
#[inline]
pub(super) fn is_empty_but(slots: &[AtomicU64], but: Range<usize>) -> bool {
    let (below, above) = (&slots[..but.start], &slots[but.end..]);
    run_back(below, any) == below.len() && run(above, any) == above.len()
}

/// The miss of a slot that should be empty.
#[inline]
pub(super) fn any(word: u64) -> u64 {
    word
}

/// The misses of all slots of a batch together.
#[inline]
fn misses(batch: &[AtomicU64; BATCH], miss: &impl Fn(u64) -> u64) -> u64 {
    batch.iter().fold(0, |bits, slot| bits | miss(slot.load(Ordering::Relaxed)))
}
