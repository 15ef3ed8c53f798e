//! The four verbs: add, online, offline, remove. One runs at a time; another gets `Busy`.

mod add;
pub(crate) mod boot;
mod convert;
pub(crate) mod notify;
mod offline;
mod online;
pub(crate) mod placement;
pub(crate) mod policy;
mod probe;
mod remove;
pub(crate) mod take;
#[cfg(test)]
mod tests;

pub use add::{AddError, Added};
pub use convert::ConvertError;
pub use offline::{OfflineError, OfflineOp, Progress, Stepped};
pub use online::OnlineError;
pub use remove::{RemoveError, Removed};

use crate::Mm;
use crate::machine::Machine;
use crate::memmap::block::BlockId;
use spin::MutexGuard;

/// What goes on between calls: an offline is stepped, the other verbs run in one go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    None,
    Offlining(BlockId),
}

impl<M: Machine> Mm<M> {
    /// The hotplug lock, unless a verb is running.
    pub(crate) fn verb(&self) -> Option<MutexGuard<'_, Verb>> {
        self.hotplug.try_lock().filter(|verb| **verb == Verb::None)
    }
}
