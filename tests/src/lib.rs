//! Helpers of the suites: machines with memory, and scripts.

pub mod layout;
pub mod memory;
pub mod script;
