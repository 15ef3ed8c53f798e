//! Looks: functions that read memory's state without changing it. An operation waits for looks only before it
//! starts.
//!
//! ```text
//!   verify     the invariants;   snapshot   what must be equal before and after
//!   explain    whether memory can be removed, by balance;   stats   counts;   shares   what is in use
//!   dump       pages to save
//! ```

mod balance;
pub(crate) mod dump;
pub(crate) mod explain;
mod runs;
pub(crate) mod shares;
pub(crate) mod snapshot;
pub(crate) mod stats;
pub(crate) mod verify;

use crate::alloc::Allocator;
use crate::machine::Machine;

/// The data that looks read: all memory and all pages, without changing them.
#[derive(Debug)]
pub(crate) struct View<'m, M: Machine> {
    allocator: &'m Allocator<M>,
}

impl<M: Machine> Clone for View<'_, M> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<M: Machine> Copy for View<'_, M> {}

impl<'m, M: Machine> View<'m, M> {
    pub(crate) const fn new(allocator: &'m Allocator<M>) -> Self {
        Self { allocator }
    }
}
