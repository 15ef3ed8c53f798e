//! The machine: sizes, pointers, the number of a CPU.

// UNSAFETY: vouches for the pointers into the windows.
#![expect(unsafe_code)]

use crate::map::ProcessMap;
use crate::windows::{LINEAR, PHYS_BYTES, VMEMMAP, Windows};
use hotmem::lock::RawLock;
use hotmem::{CpuCaches, Machine, NodeTable, PhysAddr, PhysMem, Sizes, SpinLock, VirtAddr};
use std::cell::Cell;
use std::io;
use std::marker::PhantomData;

thread_local! {
    static CPU: Cell<usize> = const { Cell::new(0) };
}

/// Gives this thread the number of a CPU. Threads that run at the same time have different numbers, as CPUs do;
/// sharing one is slower.
pub fn on_cpu(number: usize) {
    CPU.set(number);
}

/// A machine with pages of 4 KiB and sections of 128 MiB, as x86_64 has, and locks of the kind `L`.
#[derive(Debug)]
pub struct Hosted<L = SpinLock> {
    map: ProcessMap,
    locks: PhantomData<fn() -> L>,
}

impl<L> Hosted<L> {
    /// A machine with nothing mapped. A process has one at a time, since its windows are at fixed addresses.
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self { map: ProcessMap::new(Windows::new()?), locks: PhantomData })
    }

    /// The mappings.
    pub(crate) fn map(&self) -> &ProcessMap {
        &self.map
    }
}

impl<L: RawLock> Sizes for Hosted<L> {
    const PAGE_SHIFT: u32 = 12;
    const SECTION_SHIFT: u32 = 27;
}

// SAFETY: the linear map of this process is at `LINEAR`, and only the manager and `boot` change its mappings.
unsafe impl<L: RawLock> PhysMem for Hosted<L> {
    #[inline]
    fn linear_base(&self) -> VirtAddr {
        LINEAR
    }
}

// SAFETY: the memmap's window is at `VMEMMAP`, a multiple of 64, and only the manager maps it.
unsafe impl<L: RawLock> Machine for Hosted<L> {
    type Mapper = ProcessMap;
    type Nodes = NodeTable<2, L>;
    type Caches = CpuCaches<4, L>;
    type Lock = L;
    type Meta = ();

    #[inline]
    fn vmemmap_base(&self) -> VirtAddr {
        VMEMMAP
    }

    fn phys_limit(&self) -> PhysAddr {
        PhysAddr::new(PHYS_BYTES)
    }

    unsafe fn mapper(&self) -> &ProcessMap {
        &self.map
    }

    #[inline]
    fn cpu(&self) -> usize {
        CPU.get()
    }
}
