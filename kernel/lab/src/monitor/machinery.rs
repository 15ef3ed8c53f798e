//! What the monitor asks of the machine it runs on.

use core::fmt;
use hotmem::VirtAddr;

/// What the monitor asks of the machine it runs on.
pub trait Machinery {
    /// How many instructions were executed so far; `None` where the machine cannot tell.
    fn instructions(&self) -> Option<u64>;

    /// Milliseconds since the memory manager was given this stamp.
    fn age(&self, stamp: u64) -> u64;

    /// How the CPU is used, as its registers say.
    fn mode(&self) -> impl fmt::Display;

    /// The eight bytes at `at`; `None` if they cannot be read.
    fn peek(&self, at: VirtAddr) -> Option<u64>;

    /// Bytes of the kernel heap that are in use, and that are free.
    fn heap(&self) -> (u64, u64);

    /// Tries out whether the machine enforces what the page tables say.
    ///
    /// # Errors
    ///
    /// The first [`Breach`].
    fn try_protection(&self) -> Result<(), Breach>;

    /// Makes the CPU raise an exception that nobody expects, and so ends the kernel.
    fn crash(&self, crash: Crash);
}

/// How the kernel is brought to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// A write where nothing is mapped.
    Write,
    /// Calls without end, until the stack is full.
    Stack,
}

/// Something the CPU allows that it must not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Breach {
    /// Text or read-only data can be written here.
    Written(VirtAddr),
    /// Data can be executed here.
    Executed(VirtAddr),
    /// A page that must not be there can be read.
    Read(VirtAddr),
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Written(at) => write!(f, "protected memory can be written at {at}"),
            Self::Executed(at) => write!(f, "the linear map can be executed at {at}"),
            Self::Read(at) => write!(f, "a guard page can be read at {at}"),
        }
    }
}
