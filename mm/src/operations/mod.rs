//! The operations: add, online, offline, remove, and those built on them. One runs at a time; another one returns
//! `Busy`. Looks never make an operation fail: see [`looks`](crate::turn::looks).
//!
//! ```text
//!   boot, takeover, windows, pin   the inputs of a manager's boot, and the takeover of boot memory
//!   add, probe, joins              ranges are added; what comes to a block with other memory
//!   ranges                         the sections, records and nodes of a range
//!   remove, leaving, convert       ranges are removed beside others; the placement of their memmap changes
//!   online, offline, part          blocks are given to the allocator, and taken from it; parts of blocks
//!   scrub                          memory is cleared before it is removed
//!   take                           boot memory is taken out of the linear map
//!   later, poison                  bad pages are queued, and taken out of use
//!   notify, notifier               the list of listeners, and their notification
//!   knobs, policy                  settings, and their effect on added memory
//!   own                            page tables, read and changed by the kernel itself
//! ```

mod add;
mod add_error;
pub(crate) mod boot;
mod convert;
pub(crate) mod early;
mod joins;
pub(crate) mod knobs;
pub(crate) mod later;
mod leaving;
mod notifier;
pub(crate) mod notify;
mod offline;
mod online;
pub(crate) mod own;
pub(crate) mod part;
mod pin;
pub(crate) mod poison;
pub(crate) mod policy;
mod probe;
mod ranges;
pub(crate) mod remove;
mod scrub;
pub(crate) mod take;
mod takeover;
#[cfg(test)]
mod tests;
mod windows;

pub use add::Added;
pub use add_error::AddError;
pub use convert::ConvertError;
pub use offline::{OfflineError, OfflineOp, Progress, Stepped};
pub use online::OnlineError;
pub use own::{OwnMapError, Walk};
pub use remove::{RemoveError, Removed};
pub use scrub::{ScrubError, Scrubbed};

use crate::alloc::Allocator;
use crate::machine::Machine;
use crate::operations::knobs::Knobs;
use crate::operations::later::Later;
use crate::operations::notify::Listeners;

/// The operations, which change memory as a whole: they work on an allocator, and notify listeners.
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
