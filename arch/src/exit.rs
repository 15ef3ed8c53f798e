//! How a kernel ends.

/// How the kernel leaves the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// With a code the operator chose, 0 to 100.
    Code(u8),
    /// After a panic.
    Panic,
}
