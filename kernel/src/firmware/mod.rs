//! What firmware tells the kernel, whichever kind of firmware it is.
//!
//! ```text
//!   plan     before the memory manager: which memory is where, and where more may come
//!   events   after it: interrupts, the console's line, the source of hotplug events
//! ```

mod acpi;

use crate::acpi::Line;
use crate::events::EventSource;
use crate::memory::{KernelMachine, KernelTables};
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
) -> Result<MemoryPlan, impl fmt::Display + use<>> {
    match firmware {
        Firmware::Acpi(rsdp) => acpi::plan(rsdp, tables, ram),
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
    }
}
