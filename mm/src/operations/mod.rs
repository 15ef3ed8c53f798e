//! The operations: add, online, offline, remove, and what is made of them. One runs at a time; another
//! gets `Busy`. Looks never make an operation fail: see [`looks`](crate::turn::looks).

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
