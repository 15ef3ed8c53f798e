//! The operations: add, online, offline, remove, and what is made of them. One runs at a time; another
//! gets `Busy`. Looks never make an operation fail: see [`looks`](crate::turn::looks).
//!
//! ```text
//!   boot, takeover, windows, pin   what a manager boots with, and the memory taken over from it
//!   add, probe, remove, convert    ranges come and go, and change where their memmap is
//!   online, offline                blocks given to the allocator, and taken from it
//!   take                           boot memory taken out of the linear map
//!   later, poison                  bad pages noted, and taken out of use
//!   notify, tell                   the list of listeners, and how they are told
//!   knobs, policy                  settings, and what becomes of added memory by them
//!   own                            page tables as the kernel looks at them and changes them itself
//! ```

mod add;
pub(crate) mod boot;
mod convert;
pub(crate) mod knobs;
pub(crate) mod later;
pub(crate) mod notify;
mod offline;
mod online;
pub(crate) mod own;
mod pin;
pub(crate) mod poison;
pub(crate) mod policy;
mod probe;
pub(crate) mod remove;
pub(crate) mod take;
mod takeover;
mod tell;
#[cfg(test)]
mod tests;
mod windows;

pub use add::{AddError, Added};
pub use convert::ConvertError;
pub use offline::{OfflineError, OfflineOp, Progress, Stepped};
pub use online::OnlineError;
pub use own::{OwnMapError, Walk};
pub use remove::{RemoveError, Removed};

use crate::alloc::Allocator;
use crate::machine::Machine;
use crate::operations::knobs::Knobs;
use crate::operations::later::Later;
use crate::operations::notify::Listeners;

/// What changes memory as a whole: the operations over an allocator, and those who are told of them.
#[derive(Debug)]
pub(crate) struct Operations<M: Machine> {
    allocator: Allocator<M>,
    knobs: Knobs,
    later: Later,
    listeners: Listeners,
}

impl<M: Machine> Operations<M> {
    /// The operations of a machine without memory.
    pub(crate) const fn new(machine: M) -> Self {
        let allocator = Allocator::new(machine);
        Self { allocator, knobs: Knobs::new(), later: Later::new(), listeners: Listeners::new() }
    }

    /// The allocator that they change.
    pub(crate) const fn allocator(&self) -> &Allocator<M> {
        &self.allocator
    }
}
