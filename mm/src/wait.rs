//! How the manager waits: every wait of the crate goes through here, but those for a lock, which are the
//! [lock's](crate::lock).
//!
//! Each turn is the machine's ([`Machine::relax`](crate::Machine::relax)), so that a CPU with interrupts off serves the
//! flush that another waits for. Where a wait has a bound, it fails at that; where it has none, the comment at the call
//! says what ends it.

#[cfg(all(test, not(loom)))]
mod tests;

/// Waits until `find` finds something, each turn by `relax`. Returns that.
pub(crate) fn until_found<T>(relax: &impl Fn(), mut find: impl FnMut() -> Option<T>) -> T {
    loop {
        if let Some(found) = find() {
            return found;
        }
        relax();
    }
}

/// Waits until `holds`, each turn by `relax`.
pub(crate) fn until(relax: &impl Fn(), holds: impl Fn() -> bool) {
    until_found(relax, || holds().then_some(()));
}

/// As [`until`], for so many turns at the most. Returns whether it `holds`.
pub(crate) fn within(turns: u64, relax: &impl Fn(), mut holds: impl FnMut() -> bool) -> bool {
    (0..turns).any(|_| {
        holds() || {
            relax();
            false
        }
    }) || holds()
}
