//! How a guest ended, as its architecture's kernel means it.

use std::fmt;

/// How a guest ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// By the monitor's `exit N`.
    Left(u32),
    /// The kernel gave up.
    Panicked,
    /// QEMU ended with a code that no kernel of ours leaves with.
    Code(i32),
    /// Something killed QEMU.
    Signal(i32),
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Left(code) => write!(f, "the guest exited with {code}"),
            Self::Panicked => f.write_str("the kernel panicked"),
            Self::Code(code) => write!(f, "QEMU ended by itself with code {code}"),
            Self::Signal(signal) => write!(f, "QEMU was killed by signal {signal}"),
        }
    }
}
