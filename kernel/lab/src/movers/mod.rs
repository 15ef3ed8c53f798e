//! Owners of movable pages: they keep data in memory that may be removed.
//!
//! ```text
//!              handle, or object and page                    movable memory
//!   user ------------------------------> table (kernel memory) ------> page
//!                                          ^                            |
//!                                          |   isolate, migrate: copied |
//!   memory manager ------------------------+----------------------------+
//! ```
//!
//! No code keeps the number of a movable page: users go through a table, under a lock that `migrate` takes as well.
//! So a page moves only between two uses, and its content is checked word by word afterwards. The tables are
//! unmovable kernel memory.

mod array;
mod cache;
mod frame;
mod pool;
mod record;
#[cfg(test)]
mod tests;

pub use array::Full;
pub use cache::{Cache, CacheError, CacheStatus};
pub use pool::{Pool, PoolError, PoolStatus, Slot};
pub use record::OBJECTS;

use hotmem::Machine;

/// A machine whose memory manager can be shared with an owner of pages, for ever.
pub trait Shared: Machine + Send + Sync + 'static {}

impl<M: Machine + Send + Sync + 'static> Shared for M {}
