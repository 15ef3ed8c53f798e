//! What the monitor asks of the machine it runs on.

use super::cpus::{CpuError, CpuJob, CpuShown};
use alloc::sync::Arc;
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

    /// The CPUs that there are, or should be.
    fn cpus(&self) -> impl Iterator<Item = CpuShown>;

    /// Has each other CPU that is up begin `job`; what it did is counted when it is done.
    ///
    /// # Errors
    ///
    /// [`CpuError::NotDone`] if one has another job.
    fn begin_on_others(&self, job: &Arc<CpuJob>) -> Result<(), CpuError>;

    /// Does `job` on this CPU, and counts what it did.
    fn do_here(&self, job: &CpuJob);

    /// Waits until the other CPUs have done their jobs.
    ///
    /// # Errors
    ///
    /// [`CpuError::NotDone`]
    fn wait_for_others(&self) -> Result<(), CpuError>;

    /// Has a handler on each CPU that is up [allocate and free](super::allocate_and_free) so many times in a second, or
    /// no more; what it did is counted.
    ///
    /// # Errors
    ///
    /// [`CpuError::NotDone`] if one has a job.
    fn tick(&self, hertz: Option<u64>) -> Result<(), CpuError>;

    /// Starts the CPU that firmware calls `hardware`. Returns its number.
    ///
    /// # Errors
    ///
    /// [`CpuError::NotStarted`]
    fn start_cpu(&self, hardware: u64) -> Result<usize, CpuError>;

    /// Makes a CPU raise an exception that nobody expects, and so ends the kernel.
    ///
    /// # Errors
    ///
    /// [`CpuError`] if there is no such CPU, or the kernel has not ended.
    fn crash(&self, crash: Crash, cpu: usize) -> Result<(), CpuError>;
}

/// How the kernel is brought to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// A write where nothing is mapped.
    Write,
    /// Calls without end, until the stack is full.
    Stack,
    /// Lets no interrupts in any more. That ends the kernel once another CPU needs an answer.
    Deaf,
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
