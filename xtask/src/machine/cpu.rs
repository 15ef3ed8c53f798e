//! The guest's CPUs, as its monitor shows them.

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::Machine;

/// A CPU, and what it did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Cpu {
    /// The kernel's number of it.
    pub(crate) number: u32,
    /// What firmware calls it.
    #[serde(skip_serializing)]
    pub(crate) hardware: u64,
    /// The node that it is on.
    #[serde(skip_serializing)]
    pub(crate) node: u32,
    /// How far it has come.
    #[serde(skip_serializing)]
    pub(crate) state: String,
    /// Pages that it allocated.
    pub(crate) allocated: u64,
    /// Pages that it freed.
    pub(crate) freed: u64,
    /// Requests of other CPUs to drop translations that it acknowledged.
    pub(crate) flushes: u64,
    /// Interrupts of its timer.
    #[serde(skip_serializing)]
    pub(crate) ticks: u64,
}

impl Machine {
    /// All CPUs that the kernel knows of.
    ///
    /// # Errors
    /// When the reply is missing or cannot be read.
    pub(crate) fn cpus(&mut self) -> Result<Vec<Cpu>> {
        self.read("cpus --json")
    }
}
