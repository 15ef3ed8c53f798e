//! Ranges of a guest that are moved together.

use hotmem::paging::GuestRange;

/// The most ranges that are moved at once: a batch of the manager has as many extents.
pub(crate) const MOST_MOVING: usize = 64;

/// The union of a run and a range behind or before it.
pub(crate) fn joined(run: GuestRange, next: GuestRange) -> Option<GuestRange> {
    if run.is_empty() {
        return Some(next);
    }
    let touch = run.end() == next.start() || next.end() == run.start();
    touch.then(|| GuestRange::new(run.start().min(next.start()), run.len() + next.len()))?
}

/// Adds a range to those that are moving.
pub(crate) fn note(moving: &mut [GuestRange; MOST_MOVING], runs: &mut usize, range: GuestRange) {
    if let Some(slot) = moving.get_mut(*runs).filter(|_| !range.is_empty()) {
        *slot = range;
        *runs += 1;
    }
}
