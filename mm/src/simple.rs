//! A machine in the usual form, for kernels that have no wishes of their own.

// UNSAFETY: vouches for pointers into the two windows, on the word of its creator.
#![expect(unsafe_code)]

use crate::addr::{PhysAddr, VirtAddr};
use crate::alloc::cache::CpuCaches;
use crate::alloc::node::NodeTable;
use crate::geometry::Sizes;
use crate::lock::{RawLock, SpinLock};
use crate::machine::{Machine, PhysMem};
use crate::paging::Mapper;

use core::fmt;
use core::marker::PhantomData;

/// A [`Machine`] with pages of 4 KiB, sections of 128 MiB, memory on `NODES` nodes, and bases that are known when the
/// kernel runs.
///
/// All CPUs share one cache of pages; pages have no metadata of the kernel's. A kernel that wants it otherwise
/// implements [`Machine`] itself.
///
/// ```
/// # #![allow(unsafe_code)]
/// use hotmem::{Mm, PhysAddr, SimpleMachine, VirtAddr, paging::Mapper};
///
/// const TIB: u64 = 1 << 40;
///
/// /// The manager of a kernel whose loader mapped RAM from `offset` on. The memmap's window follows the linear map.
/// ///
/// /// # Safety
/// ///
/// /// As for [`SimpleMachine::new`].
/// unsafe fn manager<T: Mapper>(tables: T, offset: VirtAddr) -> Mm<SimpleMachine<T>> {
///     let (vmemmap, limit) = (offset.add(TIB), PhysAddr::new(TIB));
///     // SAFETY: the caller's promise.
///     Mm::new(unsafe { SimpleMachine::new(tables, offset, vmemmap, limit) })
/// }
/// ```
pub struct SimpleMachine<T, const NODES: usize = 1, L = SpinLock> {
    mapper: T,
    linear: VirtAddr,
    vmemmap: VirtAddr,
    limit: PhysAddr,
    complete: bool,
    lock: PhantomData<fn() -> L>,
}

impl<T: Mapper, const NODES: usize, L: RawLock> SimpleMachine<T, NODES, L> {
    /// The machine whose RAM is mapped from `linear` on, by `mapper`. Its memmap will be from `vmemmap` on. Both
    /// windows are for memory below `limit`: that many bytes, and 1/64 of it.
    ///
    /// Nothing is mapped from `vmemmap` on yet. A loader's map may pass `limit`, by one leaf.
    ///
    /// # Safety
    ///
    /// `mapper` are the tables of the CPUs that run the kernel. They map all RAM that the kernel boots with to
    /// `linear` + its physical address, and no other code uses `limit` bytes from `linear` on, or a 64th of that from
    /// `vmemmap` on, except to access memory of its own there.
    pub const unsafe fn new(
        mapper: T,
        linear: VirtAddr,
        vmemmap: VirtAddr,
        limit: PhysAddr,
    ) -> Self {
        Self { mapper, linear, vmemmap, limit, complete: false, lock: PhantomData }
    }

    /// The same machine with a loader's linear map that covers all memory that may be added, and never changes: see
    /// [`Machine::linear_map_is_complete`].
    ///
    /// A loader that maps up to the last range of firmware's list, as the crate `bootloader` does, covers some
    /// windows and not others. Where it does not, adding memory fails
    /// ([`AddError::NotInLinearMap`](crate::AddError::NotInLinearMap)): make a linear map of RAM, as the example of
    /// [`EarlyTables`](crate::EarlyTables) does.
    #[must_use]
    pub const fn with_complete_linear_map(mut self) -> Self {
        self.complete = true;
        self
    }
}

impl<T, const NODES: usize, L> Sizes for SimpleMachine<T, NODES, L> {
    const PAGE_SHIFT: u32 = 12;
    const SECTION_SHIFT: u32 = 27;
}

// SAFETY: by the contract of `new`, RAM is mapped there.
unsafe impl<T, const NODES: usize, L> PhysMem for SimpleMachine<T, NODES, L> {
    fn linear_base(&self) -> VirtAddr {
        self.linear
    }
}

// SAFETY: by the contract of `new`, the mapper's tables translate both windows, and only the manager maps there.
unsafe impl<T: Mapper, const NODES: usize, L: RawLock> Machine for SimpleMachine<T, NODES, L> {
    type Mapper = T;
    type Nodes = NodeTable<NODES, L>;
    type Caches = CpuCaches<1, L>;
    type Lock = L;
    type Meta = ();

    fn vmemmap_base(&self) -> VirtAddr {
        self.vmemmap
    }

    fn phys_limit(&self) -> PhysAddr {
        self.limit
    }

    unsafe fn mapper(&self) -> &T {
        &self.mapper
    }

    fn linear_map_is_complete(&self) -> bool {
        self.complete
    }
}

impl<T, const NODES: usize, L> fmt::Debug for SimpleMachine<T, NODES, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimpleMachine")
            .field("linear", &self.linear)
            .field("vmemmap", &self.vmemmap)
            .field("limit", &self.limit)
            .finish_non_exhaustive()
    }
}
