//! What the manager's own rules exclude, and what is done about it.

#[cfg(not(any(test, feature = "testing")))]
use core::sync::atomic::{AtomicBool, Ordering};

/// Reports a state that cannot be: the first one in the log, and by a panic in tests.
///
/// The caller goes on with whatever does the least harm. One such state has others follow, so only the first is worth
/// a line; [`Mm::verify`](crate::Mm::verify) finds the invariant that broke.
#[cold]
#[track_caller]
#[cfg_attr(any(test, feature = "testing"), expect(clippy::panic, reason = "tests shall fail"))]
pub(crate) fn impossible(what: &str, value: u64) {
    #[cfg(any(test, feature = "testing"))]
    panic!("impossible: {what}: {value:#x}");
    #[cfg(not(any(test, feature = "testing")))]
    {
        static TOLD: AtomicBool = AtomicBool::new(false);
        if !TOLD.swap(true, Ordering::Relaxed) {
            let place = core::panic::Location::caller();
            log::error!("impossible: {what}: {value:#x}, at {place}");
        }
    }
}
