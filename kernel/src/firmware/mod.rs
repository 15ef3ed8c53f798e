//! The kernel's interface to firmware. An image links the firmware interface of its architecture only: the build
//! script chooses the module.
//!
//! ```text
//!   plan     before the memory manager: the RAM, its nodes, and the hotplug windows
//!   events   after it: interrupts, the console's line, the source of hotplug events
//!   arm      connects the source's interrupts
//! ```

#[cfg(acpi)]
mod acpi;
#[cfg(acpi)]
mod buses;
#[cfg(acpi)]
mod hardware;
#[cfg(papr)]
mod papr;
#[cfg(acpi)]
mod pci;
#[cfg(acpi)]
mod virtio;

#[cfg(acpi)]
pub(crate) use acpi::{Source, arm, events, plan};
#[cfg(papr)]
pub(crate) use papr::{Source, arm, events, plan};

use crate::clock::InstructionClock;
use crate::cpus::describe::Described;
use crate::memory::KernelMachine;
use crate::memory::distances::Distances;
use alloc::vec::Vec;
use hotmem::{NodeId, PhysRange};
use hotmem_hotplug::{Hotplug, Line};

/// Hotplug on this machine.
pub(crate) type KernelHotplug = Hotplug<'static, Source, KernelMachine, InstructionClock>;

/// Firmware's description of memory.
pub(crate) struct MemoryPlan {
    /// The RAM at boot, with the node of each range.
    pub(crate) ram: Vec<(PhysRange, NodeId)>,
    /// The ranges where memory may be plugged.
    pub(crate) window: Vec<PhysRange>,
    /// The distances between nodes.
    pub(crate) distances: Distances,
}

/// The source of events, and the console's interrupt line, if it has one.
pub(crate) struct Events {
    pub(crate) source: Source,
    pub(crate) console_line: Option<Line>,
    /// The CPUs that firmware describes.
    pub(crate) cpus: Vec<Described>,
}

/// Whether a call of firmware may succeed: one fails where that was asked for.
#[inline]
fn is_allowed() -> bool {
    #[cfg(feature = "lab")]
    return crate::memory::steps::FIRMWARE.allows(hotmem_lab::fault::Point::Firmware);
    #[cfg(not(feature = "lab"))]
    true
}

/// Warns that no hotplug event can arrive, and why: otherwise a machine without memory hotplug looks like one where
/// nothing was plugged yet.
fn warn_of_no_events(why: &str) {
    log::warn!("no hotplug events: {why}");
}
