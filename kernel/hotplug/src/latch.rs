//! The one thing an interrupt handler does for a source of events: it sets a bit.
//!
//! ```text
//! handler:    mask the line if it is level-triggered, raise(index, clock), end of interrupt
//! main loop:  take() --> registers, event methods, Notify --> unmask the line
//! ```
//!
//! A level-triggered line cannot interrupt again before the main loop unmasks it, so a cause that is never
//! cleared costs one interrupt for each round of the main loop and no more.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use core::task::Waker;

use atomic_waker::AtomicWaker;

/// Lines that can be watched.
pub const MAX_LINES: usize = 32;

/// Which lines have interrupted since the main loop last looked, and when.
#[derive(Debug)]
pub struct Latch {
    raised: AtomicU32,
    since: [AtomicU64; MAX_LINES],
    /// The task that waits for an interrupt.
    waiting: AtomicWaker,
}

/// The lines that have interrupted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Raised(u32);

impl Latch {
    /// No line has interrupted.
    pub const fn new() -> Self {
        Self {
            raised: AtomicU32::new(0),
            since: [const { AtomicU64::new(0) }; MAX_LINES],
            waiting: AtomicWaker::new(),
        }
    }

    /// Notes that line `index` of the source has interrupted when the kernel's clock stood at `now`.
    /// For interrupt handlers.
    pub fn raise(&self, index: usize, now: u64) {
        let Some(since) = self.since.get(index) else {
            return;
        };
        // The first interrupt since the last look counts. 0 stands for none.
        let _ = since.compare_exchange(0, now.max(1), Ordering::Relaxed, Ordering::Relaxed);
        // Release: `take` (Acquire) that sees the bit sees the clock too.
        self.raised.fetch_or(1 << index, Ordering::Release);
        self.waiting.wake();
    }

    /// Has the next interrupt wake a task, in the place of any other. Its waker must be callable from a handler.
    pub fn wake_by(&self, waker: &Waker) {
        self.waiting.register(waker);
    }

    /// Whether a line has interrupted since the last look. Safe to ask with interrupts off.
    pub fn is_raised(&self) -> bool {
        self.raised.load(Ordering::Relaxed) != 0
    }

    /// Takes the lines that have interrupted.
    pub fn take(&self) -> Raised {
        // Acquire: pairs with the Release of `raise`.
        Raised(self.raised.swap(0, Ordering::Acquire))
    }

    /// Whether line 0 has interrupted since the last look, and when: for a source with one line.
    pub fn take_first(&self) -> Option<Option<u64>> {
        // Acquire: pairs with the Release of `raise`.
        let raised = self.raised.fetch_and(!1, Ordering::Acquire) & 1 != 0;
        raised.then(|| self.since(0))
    }

    /// Takes the clock of the first interrupt of a line that was taken. An edge-triggered line may
    /// interrupt in between; that interrupt is then without a clock.
    pub fn since(&self, index: usize) -> Option<u64> {
        let since = self.since.get(index)?.swap(0, Ordering::Relaxed);
        (since != 0).then_some(since)
    }
}

impl Default for Latch {
    fn default() -> Self {
        Self::new()
    }
}

impl Raised {
    /// Whether line `index` is among them.
    pub const fn has(self, index: usize) -> bool {
        index < MAX_LINES && self.0 & 1 << index != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thousand_interrupts_are_one_with_the_first_clock() {
        let latch = Latch::new();
        assert!(!latch.is_raised());
        for time in 7..1007 {
            latch.raise(3, time);
        }
        assert!(latch.is_raised());
        let raised = latch.take();
        assert!(raised.has(3) && !raised.has(2));
        assert_eq!(latch.since(3), Some(7));
        assert!(!latch.is_raised());
        assert_eq!(latch.since(3), None);
    }

    #[test]
    fn a_line_that_does_not_exist_is_ignored() {
        let latch = Latch::new();
        latch.raise(MAX_LINES, 1);
        assert!(!latch.is_raised());
    }
}
