//! The kernel's own memory: allocation at boot, mappings, and the bridge to mm.

mod boot;
#[cfg(acpi)]
mod claims;
mod devices;
pub mod distances;
pub mod early;
mod firmware;
pub mod layout;
mod machine;
pub(crate) mod module;
pub mod nodes;
#[cfg(acpi)]
pub(crate) mod samples;
pub mod spare;
pub(crate) mod stacks;
#[cfg(feature = "lab")]
pub(crate) mod steps;
pub(crate) mod tlb;
pub mod windows;

pub use boot::{Boot, PrepareError, prepare, take_over};
#[cfg(acpi)]
pub use claims::{RESERVED_TABLES, has_tables, was_read};
pub use devices::Window;
pub use firmware::FirmwareMemory;
pub use machine::{KernelMachine, KernelTables, LinearMemory, manager};
