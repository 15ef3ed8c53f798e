//! A gauge: whether a count has fallen below its low mark, and has not risen above its high mark since.
//!
//! Each CPU that changes the count looks at it afterwards. `tests/loom/gauge.rs` runs this under every interleaving.

use crate::sync::{AtomicU64, Ordering, constant, fence};

/// The marks, and on which side of them the count was last.
#[derive(Debug)]
pub(crate) struct Gauge {
    /// Counts below are low.
    low: AtomicU64,
    /// Counts above are not. What lies between both marks changes nothing.
    high: AtomicU64,
    /// 1 if the count is low, 0 if it is not.
    state: AtomicU64,
}

impl Gauge {
    constant! {
        /// A gauge whose count is never low.
        pub(crate) fn new() -> Self {
            let (low, high, state) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
            Self { low, high, state }
        }
    }

    /// Sets the marks. The caller then [follows](Self::follow) the count.
    pub(crate) fn set(&self, low: u64, high: u64) {
        self.low.store(low, Ordering::Relaxed);
        self.high.store(high, Ordering::Relaxed);
    }

    /// Whether the count is low.
    pub(crate) fn is_low(&self) -> bool {
        // Acquire: partner of the swap in `follow`.
        self.state.load(Ordering::Acquire) != 0
    }

    /// Follows the count, after it or the marks have changed. Calls `crossed` each time that this CPU was the one that
    /// moved the gauge.
    ///
    /// What a CPU changed, it changed before the fence: the count, the marks, or the state in the last iteration. Of two
    /// CPUs at least one sees the change of the other behind its fence, so the last one that looks leaves the state that
    /// the count has.
    pub(crate) fn follow(&self, count: impl Fn() -> u64, mut crossed: impl FnMut()) {
        loop {
            fence(Ordering::SeqCst);
            let count = count();
            let state = if count < self.low.load(Ordering::Relaxed) {
                1
            } else if count > self.high.load(Ordering::Relaxed) {
                0
            } else {
                return;
            };
            // The load spares the others an exclusive access: mostly the gauge stays.
            let stays = self.state.load(Ordering::Relaxed) == state;
            if stays || self.state.swap(state, Ordering::AcqRel) == state {
                return;
            }
            crossed();
        }
    }
}
