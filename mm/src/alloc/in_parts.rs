//! The move of an extent that is under way in parts: see [`evacuate::parts`](super::evacuate).

use crate::alloc::migrate::Move;

/// What is done next. Neither is 0: that means no move, so that a static manager is all zeros, and takes no room in an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// It is copied while its owner uses it.
    Ahead = 1,
    /// It has moved, and is cleared.
    Behind,
}

/// The move of an extent in parts.
#[derive(Debug)]
pub(crate) struct InParts {
    pub(super) one: Move,
    pub(super) stage: Stage,
    /// Pages copied ahead so far. A part counts as one at least.
    pub(super) copied: u64,
    /// The same of those cleared.
    pub(super) cleared: u64,
}

impl InParts {
    pub(super) const fn new(one: Move) -> Self {
        Self { one, stage: Stage::Ahead, copied: 0, cleared: 0 }
    }
}
