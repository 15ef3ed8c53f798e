//! A pause after something failed.

use super::transport::Board;

/// How long nothing is tried after it failed, while the configuration stays the same.
const SECONDS: u64 = 1;

/// A pause, or none.
#[derive(Debug, Default)]
pub(crate) struct Pause(Option<u64>);

impl Pause {
    /// Begins one, of a second.
    pub(crate) fn begin(&mut self, time: &impl Board) {
        self.0 = Some(time.ticks());
    }

    /// Ends it.
    pub(crate) fn end(&mut self) {
        self.0 = None;
    }

    /// Whether one has begun, and was not [ended](Self::end).
    pub(crate) const fn has_begun(&self) -> bool {
        self.0.is_some()
    }

    /// Whether nothing is tried now.
    pub(crate) fn is_on(&self, time: &impl Board) -> bool {
        let most = time.per_second().saturating_mul(SECONDS);
        self.0.is_some_and(|since| time.ticks().wrapping_sub(since) < most)
    }
}
