//! What the driver counts instructions with.

/// A counter of executed instructions.
pub trait Clock {
    /// How many instructions were executed so far; `None` where the machine does not count them.
    fn instructions(&self) -> Option<u64>;
}

/// No counter.
impl Clock for () {
    fn instructions(&self) -> Option<u64> {
        None
    }
}
