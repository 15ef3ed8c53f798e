//! What is in persistent memory, as far as the model of a storm knows.

/// What is known of what is in a region.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Region {
    /// What this kernel takes it for.
    pub(crate) data: Contents,
    /// What the next kernel takes it for.
    pub(crate) later: Contents,
}

/// What is in memory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Contents {
    /// Nothing, or what this kernel wrote.
    #[default]
    Nothing,
    /// One or the other.
    Unknown,
    /// Somebody's data.
    Data,
}

impl Region {
    /// When the machine was reset.
    pub(crate) const fn after_reset(self) -> Self {
        Self { data: self.later, later: self.later }
    }
}
