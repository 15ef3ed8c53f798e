//! The kernel's own memory: who gives it out at boot, where it appears, and the bridge to mm.

pub mod early;
pub mod layout;
pub mod nodes;
pub mod spare;
pub mod windows;

#[cfg(bare)]
mod boot;
#[cfg(bare)]
mod devices;
#[cfg(bare)]
mod firmware;
#[cfg(bare)]
mod machine;
#[cfg(bare)]
mod stacks;

#[cfg(bare)]
pub use boot::{Boot, PrepareError, prepare};
#[cfg(bare)]
pub use devices::Window;
#[cfg(bare)]
pub use firmware::FirmwareMemory;
#[cfg(bare)]
pub use machine::{KernelMachine, KernelTables, LinearMemory, manager, take_over};
