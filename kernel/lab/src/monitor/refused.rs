//! The reasons why a command failed.

use super::cpus::CpuError;
use super::machinery::Breach;
use super::together::ChurnError;
use super::usage::UseError;
use super::words::CommandError;
use crate::movers::{CacheError, PoolError};
use alloc::collections::TryReserveError;
use alloc::string::String;
use core::fmt;
use hotmem::{
    CompactError, ContigError, ConvertError, FreeError, ListInUse, OutOfMemory, Pfn, PoisonError,
    QueueFull, ReleaseError, TakeError, Violation, VirtAddr,
};
use hotmem_hotplug::{GrowthRefused, OperatorError, PmemError};

/// Lists the errors that the calls of a command have, which show themselves, each as a reason.
macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident($error:ty),)*) => {
        /// The reason why a command failed.
        #[derive(Debug)]
        pub(super) enum Refused<'t> {
            /// The line cannot be read as a command.
            Command(CommandError<'t>),
            $($(#[$doc])* $variant($error),)*
            NoPage(Pfn),
            NotAllocated(Pfn),
            Faults(VirtAddr),
            NoWatcher(u32),
            /// The pool could grow by this many extents only.
            Grow(u64, PoolError),
            /// Too little memory is free for this case of `bench`.
            NoMemory(&'static str),
            /// The kernel heap has no room for what a case of `bench` allocates.
            Heap(TryReserveError),
            /// The kernel heap has no room for this many facts.
            NoRoom(usize),
            /// The number of the first fact that differs from the snapshot.
            Differs(usize),
        }

        impl fmt::Display for Refused<'_> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    Self::Command(error) => error.fmt(f),
                    $(Self::$variant(error) => error.fmt(f),)*
                    Self::NoPage(pfn) => write!(f, "no memory at {pfn}"),
                    Self::NotAllocated(pfn) => write!(f, "{pfn} was not allocated by alloc"),
                    Self::Faults(at) => write!(f, "a load from {at} faults"),
                    Self::NoWatcher(number) => write!(f, "no watcher {number}"),
                    Self::Grow(taken, error) => write!(f, "{error}, after {taken} extents"),
                    Self::NoMemory(case) => write!(f, "{case}: too little memory is free"),
                    Self::Heap(error) => write!(f, "the kernel heap: {error}"),
                    Self::NoRoom(count) => {
                        write!(f, "the kernel heap has no room for {count} facts")
                    }
                    Self::Differs(number) => {
                        write!(f, "memory has changed: fact {number} differs")
                    }
                }
            }
        }

        $(impl From<$error> for Refused<'_> {
            fn from(error: $error) -> Self {
                Self::$variant(error)
            }
        })*
    };
}

reasons! {
    /// In words, of the monitor itself.
    Because(&'static str),
    /// In words, of a command on guests.
    Guest(String),
    /// The console failed: the error cannot be shown.
    Console(fmt::Error),
    Operator(OperatorError),
    Pmem(PmemError),
    Growth(GrowthRefused),
    Memory(OutOfMemory),
    Free(FreeError),
    Invariant(Violation),
    Protection(Breach),
    Use(UseError),
    Churn(ChurnError),
    Cpu(CpuError),
    Pool(PoolError),
    Cache(CacheError),
    Take(TakeError),
    Contig(ContigError),
    Release(ReleaseError),
    Poison(PoisonError),
    Queue(QueueFull),
    Compact(CompactError),
    Convert(ConvertError),
    List(ListInUse),
}
