//! What firmware tells the kernel. An image links the firmware of its architecture, and no other: the
//! build script chooses the module.
//!
//! ```text
//!   plan     before the memory manager: which memory is where, and where more may come
//!   events   after it: interrupts, the console's line, the source of hotplug events
//!   arm      connects the source's interrupts
//! ```

#[cfg(acpi)]
mod acpi;
#[cfg(acpi)]
mod hardware;
#[cfg(papr)]
mod papr;

#[cfg(acpi)]
pub(crate) use acpi::{Source, arm, events, plan};
#[cfg(papr)]
pub(crate) use papr::{Source, arm, events, plan};

use crate::cpus::describe::Described;
use alloc::vec::Vec;
use hotmem::{NodeId, PhysRange};
use hotmem_hotplug::Line;

/// What firmware says about memory.
pub(crate) struct MemoryPlan {
    /// The RAM of boot, with the node of each range.
    pub(crate) ram: Vec<(PhysRange, NodeId)>,
    /// Where memory may be plugged in.
    pub(crate) window: Vec<PhysRange>,
}

/// Where events come from, and the line by which the console interrupts, if it does.
pub(crate) struct Events {
    pub(crate) source: Source,
    pub(crate) console_line: Option<Line>,
    /// The CPUs that firmware describes.
    pub(crate) cpus: Vec<Described>,
}

/// Says that no hotplug event can come, and why: a machine without memory hotplug looks like one where
/// nothing was plugged yet.
fn tell_silence(why: &str) {
    log::warn!("no hotplug event can come: {why}");
}
