//! Helpers of the suites: firmware tables and second opinions on them, machines with memory.

pub mod acpi;
pub mod layout;
pub mod memory;
pub mod script;
