//! What a thread of its own receives, for others to wait for.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Something that changes as more comes in, until the other side closes.
#[derive(Default)]
pub(super) struct Inbox<T> {
    inside: Mutex<Inside<T>>,
    changed: Condvar,
}

#[derive(Default)]
struct Inside<T> {
    value: T,
    closed: bool,
}

/// Why what was waited for does not come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// The other side has closed.
    Closed,
    /// It did not come in time.
    TimedOut,
}

impl<T> Inbox<T> {
    fn lock(&self) -> MutexGuard<'_, Inside<T>> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at what has come in, or changes it, and wakes the threads that wait.
    pub(super) fn with<R>(&self, body: impl FnOnce(&mut T) -> R) -> R {
        let result = body(&mut self.lock().value);
        self.changed.notify_all();
        result
    }

    /// Says that nothing more will come.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    /// Waits until `look` finds something; it looks at once and after each change.
    ///
    /// # Errors
    /// When the other side has closed, or `deadline` has passed, and there is nothing to be found.
    pub(super) fn wait<R>(
        &self,
        deadline: Instant,
        mut look: impl FnMut(&mut T) -> Option<R>,
    ) -> Result<R, End> {
        let mut inside = self.lock();
        loop {
            if let Some(found) = look(&mut inside.value) {
                return Ok(found);
            }
            if inside.closed {
                return Err(End::Closed);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(End::TimedOut);
            }
            let woken = self.changed.wait_timeout(inside, left);
            inside = woken.map_or_else(|poisoned| poisoned.into_inner().0, |(guard, _)| guard);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::thread;
    use std::time::Duration;

    use super::*;

    #[test]
    fn items_wake_the_waiter_and_the_end_is_reported_by_its_kind() {
        let inbox = Arc::new(Inbox::<Vec<u8>>::default());
        assert_eq!(inbox.wait(Instant::now(), |all| all.pop()), Err(End::TimedOut));
        let theirs = Arc::clone(&inbox);
        let sender = thread::spawn(move || {
            theirs.with(|all| all.push(7));
            theirs.close();
        });
        let deadline = Instant::now() + Duration::from_secs(5);
        assert_eq!(inbox.wait(deadline, |all| all.pop()), Ok(7));
        assert_eq!(inbox.wait(deadline, |all| all.pop()), Err(End::Closed));
        sender.join().unwrap();
    }
}
