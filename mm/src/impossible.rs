//! States that the manager's own rules exclude, and the reaction to them.

#[cfg(not(any(test, feature = "testing")))]
use core::sync::atomic::{AtomicBool, Ordering};

/// Reports an impossible state: the first one in the log, and by a panic in tests.
///
/// The caller continues in the least harmful way. One such state causes others, so only the first is logged;
/// [`Mm::verify`](crate::Mm::verify) finds the broken invariant.
#[cold]
#[track_caller]
#[cfg_attr(any(test, feature = "testing"), expect(clippy::panic, reason = "tests shall fail"))]
pub(crate) fn impossible(what: &str, value: u64) {
    #[cfg(any(test, feature = "testing"))]
    panic!("impossible: {what}: {value:#x}");
    #[cfg(not(any(test, feature = "testing")))]
    {
        static REPORTED: AtomicBool = AtomicBool::new(false);
        if !REPORTED.swap(true, Ordering::Relaxed) {
            let place = core::panic::Location::caller();
            log::error!("impossible: {what}: {value:#x}, at {place}");
        }
    }
}
