//! What the driver counts instructions with.

/// A counter of executed instructions.
pub trait Clock {
    /// How many instructions were executed so far; `None` where the machine cannot tell.
    fn instructions(&self) -> Option<u64>;
}
