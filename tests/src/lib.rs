//! Helpers of the suites: firmware tables and second opinions on them.

pub mod acpi;
