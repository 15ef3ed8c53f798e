//! The manager's interface. It owns the wings' state and holds no algorithm: each of its methods is one call of a
//! wing, and is documented here.

mod looks;
mod memory;
mod operations;
#[cfg(feature = "x86_64")]
mod x86_64;

use crate::alloc::Allocator;
use crate::machine::Machine;
use crate::memmap::meta::check_meta;
use crate::operations::Operations;

/// The memory manager of one machine. Thread-safe; a kernel keeps it in a static.
///
/// All bytes of a new one are zero except the machine's, so such a static takes no room in the image.
#[derive(Debug)]
pub struct Mm<M: Machine> {
    operations: Operations<M>,
}

impl<M: Machine> Mm<M> {
    /// A manager without memory: see [`Mm::boot`].
    pub const fn new(machine: M) -> Self {
        const { check_meta::<M::Meta>() };
        Self { operations: Operations::new(machine) }
    }

    pub(crate) const fn allocator(&self) -> &Allocator<M> {
        self.operations.allocator()
    }
}
