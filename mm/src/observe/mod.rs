//! Looking at memory without changing it. An operation waits for looks before it starts, and then only.
//!
//! ```text
//!   verify     the invariants;   snapshot   what must be equal before and after
//!   explain    whether memory could go;   stats   counts;   dump   what a crash dump takes
//! ```

pub(crate) mod dump;
pub(crate) mod explain;
mod runs;
pub(crate) mod snapshot;
pub(crate) mod stats;
pub(crate) mod verify;

use crate::alloc::Allocator;
use crate::machine::Machine;

/// Who looks: all memory and all pages, and nothing that changes them.
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
