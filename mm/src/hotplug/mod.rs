//! The four verbs: add, online, offline, remove. One runs at a time; another gets `Busy`.

mod add;
mod offline;
mod online;
mod remove;
#[cfg(test)]
mod tests;

pub use add::{AddError, Added};
pub use offline::OfflineError;
pub use online::OnlineError;
pub use remove::{RemoveError, Removed};
