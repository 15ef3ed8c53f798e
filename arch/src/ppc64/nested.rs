//! The state of a guest's CPU as a hypervisor with nested HV exchanges it by H_ENTER_NESTED, and the exits that the
//! call returns with.

mod exit;
mod state;
#[cfg(test)]
mod tests;

pub use exit::decode;
pub use state::{HypervisorState, NestedState, Registers};
