//! The waits of the manager: all go through here, except those for a lock, which are the [lock's](crate::lock).
//!
//! Each turn is the machine's ([`Machine::relax`](crate::Machine::relax)), so that a CPU with interrupts off serves the
//! flush that another waits for. A wait with a bound ends there, and its operation returns an error; for a wait without
//! one, the comment at the call says what ends it.

#[cfg(all(test, not(loom)))]
mod tests;

/// Waits until `find` finds something, each turn by `relax`. Returns that.
#[inline]
pub(crate) fn until_found<T>(relax: &impl Fn(), mut find: impl FnMut() -> Option<T>) -> T {
    find().unwrap_or_else(|| turns_until_found(relax, find))
}

/// Out of line: most callers find at once what they need.
#[cold]
#[inline(never)]
fn turns_until_found<T>(relax: &impl Fn(), mut find: impl FnMut() -> Option<T>) -> T {
    loop {
        relax();
        if let Some(found) = find() {
            return found;
        }
    }
}

/// Waits until `holds`, each turn by `relax`.
#[inline]
pub(crate) fn until(relax: &impl Fn(), holds: impl Fn() -> bool) {
    until_found(relax, || holds().then_some(()));
}

/// As [`until`], for so many turns at the most. Returns whether it `holds`.
#[inline]
pub(crate) fn within(turns: u64, relax: &impl Fn(), mut holds: impl FnMut() -> bool) -> bool {
    holds() || turns_within(turns, relax, holds)
}

/// Out of line: most callers find at once what they need.
#[cold]
#[inline(never)]
fn turns_within(turns: u64, relax: &impl Fn(), mut holds: impl FnMut() -> bool) -> bool {
    (0..turns).any(|_| {
        relax();
        holds()
    })
}
