//! The kernel's own memory: allocation at boot, mappings, and the bridge to mm.

mod boot;
mod devices;
pub mod distances;
pub mod early;
mod firmware;
pub mod layout;
mod machine;
pub(crate) mod module;
pub mod nodes;
pub mod spare;
pub(crate) mod stacks;
pub(crate) mod tlb;
pub mod windows;

pub use boot::{Boot, PrepareError, prepare, take_over};
pub use devices::Window;
#[cfg(acpi)]
pub use devices::{RESERVED_TABLES, has_tables};
pub use firmware::FirmwareMemory;
#[cfg(acpi)]
pub use firmware::was_read;
pub use machine::{KernelMachine, KernelTables, LinearMemory, manager};
