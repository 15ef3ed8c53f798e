//! Threads that are in the handler of an interrupt.

use super::std::cell::Cell;
use super::std::thread_local;

thread_local! {
    static HANDLES: Cell<bool> = const { Cell::new(false) };
}

/// Runs `handler` as the handler of an interrupt that this thread takes.
pub fn as_handler<R>(handler: impl FnOnce() -> R) -> R {
    /// It may end by a panic.
    struct Ending;

    impl Drop for Ending {
        fn drop(&mut self) {
            HANDLES.set(false);
        }
    }

    HANDLES.set(true);
    let _ending = Ending;
    handler()
}

/// Whether this thread is in a handler.
pub(super) fn is_handler() -> bool {
    HANDLES.get()
}
