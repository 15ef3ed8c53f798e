//! The reasons why a command failed.

use super::bench::BenchError;
use super::cpus::CpuError;
use super::machinery::Breach;
use super::memory::LifeError;
use super::movers::MoverError;
use super::pmem::PmemFault;
use super::snapshot::SnapshotError;
use super::together::ChurnError;
use super::usage::UseError;
use super::words::CommandError;
use alloc::string::String;
use core::fmt;
use hotmem::{FreeError, OutOfMemory, Pfn, Violation, VirtAddr};
use hotmem_hotplug::{GrowthRefused, OperatorError};

/// The reason why a command failed.
pub(super) enum Refused<'t> {
    Command(CommandError<'t>),
    Operator(OperatorError),
    Pmem(PmemFault),
    Growth(GrowthRefused),
    Memory(OutOfMemory),
    Free(FreeError),
    NoPage(Pfn),
    NotAllocated(Pfn),
    /// The kernel heap has no room for the list of the operator's allocations.
    Heap,
    NothingGoing,
    NothingChurns,
    Faults(VirtAddr),
    Invariant(Violation),
    Protection(Breach),
    Snapshot(SnapshotError),
    Use(UseError),
    Bench(BenchError),
    NotRecorded,
    Life(LifeError),
    Mover(MoverError),
    Churn(ChurnError),
    Cpu(CpuError),
    /// A command on guests.
    Guest(String),
    /// The console failed: the error cannot be shown.
    Console(fmt::Error),
}

impl fmt::Display for Refused<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Command(error) => error.fmt(f),
            Self::Operator(error) => error.fmt(f),
            Self::Pmem(error) => error.fmt(f),
            Self::Growth(error) => error.fmt(f),
            Self::Memory(error) => error.fmt(f),
            Self::Free(error) => error.fmt(f),
            Self::NoPage(pfn) => write!(f, "no memory at {pfn}"),
            Self::NotAllocated(pfn) => write!(f, "{pfn} was not allocated by alloc"),
            Self::Heap => f.write_str("the kernel heap has no room for the list of pages"),
            Self::NothingChurns => f.write_str("no CPU is running cpus churn or hold"),
            Self::NothingGoing => f.write_str("no eject is under way"),
            Self::Faults(at) => write!(f, "a load from {at} faults"),
            Self::Invariant(violation) => violation.fmt(f),
            Self::Protection(breach) => breach.fmt(f),
            Self::Snapshot(error) => error.fmt(f),
            Self::Use(error) => error.fmt(f),
            Self::Bench(error) => error.fmt(f),
            Self::NotRecorded => f.write_str("the image does not record how long locks are held"),
            Self::Life(error) => error.fmt(f),
            Self::Mover(error) => error.fmt(f),
            Self::Churn(error) => error.fmt(f),
            Self::Cpu(error) => error.fmt(f),
            Self::Guest(why) => f.write_str(why),
            Self::Console(error) => error.fmt(f),
        }
    }
}

macro_rules! refused_from {
    ($($variant:ident: $error:ty),* $(,)?) => {
        $(impl From<$error> for Refused<'_> {
            fn from(error: $error) -> Self {
                Self::$variant(error)
            }
        })*
    };
}

refused_from! {
    Operator: OperatorError,
    Pmem: PmemFault,
    Growth: GrowthRefused,
    Memory: OutOfMemory,
    Free: FreeError,
    Invariant: Violation,
    Protection: Breach,
    Snapshot: SnapshotError,
    Use: UseError,
    Bench: BenchError,
    Life: LifeError,
    Mover: MoverError,
    Churn: ChurnError,
    Cpu: CpuError,
    Console: fmt::Error,
}
