//! How a guest ended, as its architecture's kernel means it.

use std::fmt;

use super::process::End;
use crate::arch::About;

/// How a guest ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// By the monitor's `exit N`.
    Left(u32),
    /// The kernel gave up. Where the machine knows success and failure only, also `exit` with a failure.
    Panicked,
    /// QEMU ended with a code that no kernel of ours leaves with.
    Code(i32),
    /// Something killed QEMU.
    Signal(i32),
}

impl Exit {
    /// What QEMU's `end` means on this architecture.
    pub(crate) fn of(end: End, about: &About) -> Self {
        match end {
            End::Code(code) => (about.read_exit)(code),
            End::Signal(signal) => Self::Signal(signal),
        }
    }

    /// How the monitor's `exit N` ends on this architecture.
    pub(crate) fn left(code: u32, about: &About) -> Self {
        (about.read_exit)((about.exit_code)(code))
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::Arch;

    #[test]
    fn an_end_is_read_as_its_architecture_means_it() {
        let x86 = Arch::X86_64.about();
        assert_eq!(Exit::of(End::Code(47), x86), Exit::Left(7));
        assert_eq!(Exit::left(7, x86), Exit::Left(7));
        let ppc = Arch::Ppc64.about();
        assert_eq!(Exit::of(End::Code(0), ppc), Exit::Left(0));
        assert_eq!(Exit::left(7, ppc), Exit::Panicked);
        assert_eq!(Exit::of(End::Signal(9), ppc), Exit::Signal(9));
    }
}
