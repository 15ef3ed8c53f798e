//! The monitor's interface to the machine that it runs on.

use super::cpus::{CpuError, CpuJob, CpuShown};
use super::holds::Hold;
use super::vm::VmCommand;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use hotmem::VirtAddr;

/// The monitor's interface to the machine that it runs on.
pub trait Machinery {
    /// The number of instructions executed so far; `None` if the machine does not count them.
    fn instructions(&self) -> Option<u64>;

    /// For each place in the memory manager that locks, the longest time that it did; `None` if the image does not
    /// record that.
    fn holds(&self) -> Option<Vec<Hold>>;

    /// Milliseconds since the memory manager took this time stamp.
    fn age(&self, stamp: u64) -> u64;

    /// The mode that the CPU runs in, read from its registers.
    fn mode(&self) -> impl fmt::Display;

    /// The eight bytes at `at`; `None` if they cannot be read.
    fn peek(&self, at: VirtAddr) -> Option<u64>;

    /// The same, read by the CPU `number`.
    ///
    /// # Errors
    ///
    /// [`CpuError`] if there is no such CPU, or it has another job.
    fn peek_on(&self, number: usize, at: VirtAddr) -> Result<Option<u64>, CpuError>;

    /// Bytes of the kernel heap that are in use, and that are free.
    fn heap(&self) -> (u64, u64);

    /// Checks that the machine enforces the permissions in the page tables.
    ///
    /// # Errors
    ///
    /// The first [`Breach`].
    fn try_protection(&self) -> Result<(), Breach>;

    /// The CPUs that exist, or that may still come.
    fn cpus(&self) -> impl Iterator<Item = CpuShown>;

    /// Gives `job` to each other CPU that is up; its counters are updated when the job is done.
    ///
    /// # Errors
    ///
    /// [`CpuError::NotDone`] if a CPU has another job; no CPU begins then.
    fn begin_on_others(&self, job: &Arc<CpuJob>) -> Result<(), CpuError>;

    /// Whether the first CPU, which runs the monitor, sleeps until an interrupt: for a job of another.
    fn first_sleeps() -> bool;

    /// Runs `job` on this CPU, and updates its counters.
    fn do_here(&self, job: &CpuJob);

    /// Has the CPU `number` run `job`, waits until it is done, and updates its counters.
    ///
    /// # Errors
    ///
    /// [`CpuError`] if there is no such CPU, or it has another job.
    fn do_on(&self, number: usize, job: &Arc<CpuJob>) -> Result<(), CpuError>;

    /// Waits until the other CPUs have done their jobs.
    ///
    /// # Errors
    ///
    /// [`CpuError::NotDone`]
    fn wait_for_others(&self) -> Result<(), CpuError>;

    /// Has a timer handler on each CPU that is up [allocate and free](super::allocate_and_free) `hertz` times a
    /// second, or stops that; the handler updates the counters.
    ///
    /// # Errors
    ///
    /// [`CpuError::NotDone`] if a CPU has a job.
    fn tick(&self, hertz: Option<u64>) -> Result<(), CpuError>;

    /// Starts the CPU with the firmware id `hardware`. Returns its number.
    ///
    /// # Errors
    ///
    /// [`CpuError::NotStarted`]
    fn start_cpu(&self, hardware: u64) -> Result<usize, CpuError>;

    /// Carries out a command on guests, and writes what it shows.
    ///
    /// # Errors
    ///
    /// The reason why it is refused.
    fn vm(&self, command: VmCommand, out: &mut dyn fmt::Write) -> Result<(), String>;

    /// Checks the invariants of guests.
    ///
    /// # Errors
    ///
    /// The first one that does not hold.
    fn verify_guests(&self) -> Result<(), String>;

    /// Makes a CPU raise an unexpected exception, which ends the kernel.
    ///
    /// # Errors
    ///
    /// [`CpuError`] if there is no such CPU, or the kernel has not ended.
    fn crash(&self, crash: Crash, cpu: usize) -> Result<(), CpuError>;
}

/// The ways to crash the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// A write to an unmapped address.
    Write,
    /// Endless recursion, until the stack overflows.
    Stack,
    /// Disables interrupts for ever. That ends the kernel once another CPU waits for an acknowledgement.
    Deaf,
}

/// An access that the CPU allows and must not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Breach {
    /// Text or read-only data can be written here.
    Written(VirtAddr),
    /// Data can be executed here.
    Executed(VirtAddr),
    /// A guard page can be read here.
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
