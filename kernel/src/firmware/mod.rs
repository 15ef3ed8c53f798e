//! What firmware tells the kernel, whichever kind of firmware it is.
//!
//! ```text
//!   plan     before the memory manager: which memory is where, and where more may come
//!   events   after it: interrupts, the console's line, the source of hotplug events
//! ```

mod acpi;
pub(crate) mod papr;

use crate::acpi::{Line, TableError};
use crate::events::EventSource;
use crate::memory::{KernelMachine, KernelTables};
use crate::papr::TreeError;
use alloc::vec::Vec;
use core::fmt;
use hotmem::{Mm, NodeId, PhysRange};
use hotmem_boot::{Firmware, RangeList};

/// What firmware says about memory.
pub(crate) struct MemoryPlan {
    /// The RAM of boot, with the node of each range.
    pub(crate) ram: Vec<(PhysRange, NodeId)>,
    /// Where memory may be plugged in.
    pub(crate) window: Vec<PhysRange>,
}

/// What is wrong with firmware's description.
#[derive(Clone, Copy, Debug)]
pub(crate) enum PlanError {
    Acpi(TableError),
    Papr(TreeError),
}

impl fmt::Display for PlanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Acpi(error) => error.fmt(f),
            Self::Papr(error) => error.fmt(f),
        }
    }
}

/// Where events come from, and the line by which the console interrupts, if it does.
pub(crate) struct Events {
    pub(crate) source: EventSource,
    pub(crate) console_line: Option<Line>,
}

/// Reads what says where memory is and may come.
///
/// # Errors
///
/// What is wrong with firmware's description.
pub(crate) fn plan(
    firmware: Firmware,
    tables: &KernelTables,
    ram: &RangeList,
) -> Result<MemoryPlan, PlanError> {
    match firmware {
        Firmware::Acpi(rsdp) => acpi::plan(rsdp, tables, ram).map_err(PlanError::Acpi),
        Firmware::Papr(tree) => papr::plan(tree, tables, ram).map_err(PlanError::Papr),
    }
}

/// Takes over the interrupts and starts the source of hotplug events. A machine where that fails can
/// still be looked at.
pub(crate) fn events(
    firmware: Firmware,
    mm: &'static Mm<KernelMachine>,
    ram: &RangeList,
) -> Events {
    match firmware {
        Firmware::Acpi(rsdp) => acpi::events(rsdp, mm, ram),
        Firmware::Papr(tree) => papr::events(tree, mm, ram),
    }
}
