//! What becomes of an access that a board does not carry out.

/// The reason why an access has no result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The guest gets a general-protection exception.
    Protection,
    /// The guest is stopped: why, and more about it.
    Stop(&'static str, u64),
}
