//! The virtual memmap: the descriptor of pfn `n` is at its base + 64 n, wherever its frame is.
//!
//! Only virtual contiguity is needed, so the frames behind it may come from the memory it describes or, if necessary
//! page by page, from anywhere else. A leaf never spans the memmaps of two blocks. The code that maps it allocates
//! frames for tables, so it is above the allocator: `alloc/populate.rs`.

use crate::addr::{Pfn, PfnRange, PhysRange, VirtAddr, VirtRange};
use crate::geometry::DESCRIPTOR_BYTES;
use crate::machine::Machine;
use crate::memmap::Memmap;
use crate::paging::{Attr, Mapping};

impl<M: Machine> Memmap<M> {
    /// The two windows of virtual addresses.
    pub(crate) const fn windows(&self) -> Windows<'_, M> {
        Windows(self)
    }
}

/// The linear map, and the window of the memmap.
#[derive(Debug)]
pub(crate) struct Windows<'m, M: Machine>(&'m Memmap<M>);

impl<'m, M: Machine> Windows<'m, M> {
    pub(super) const fn machine(&self) -> &'m M {
        &self.0.machine
    }

    /// The address of the descriptor of `pfn`.
    pub(crate) fn descriptor_virt(&self, pfn: Pfn) -> VirtAddr {
        self.0.machine.vmemmap_base().add(pfn.get().wrapping_mul(DESCRIPTOR_BYTES))
    }

    /// The address of the descriptors of `pfns`.
    pub(crate) fn memmap_virt(&self, pfns: PfnRange) -> VirtRange {
        let start = self.descriptor_virt(pfns.start);
        VirtRange::new(start, pfns.pages().wrapping_mul(DESCRIPTOR_BYTES)).unwrap_or_default()
    }

    /// The address of `range` in the linear map.
    pub(crate) fn linear_virt(&self, range: PhysRange) -> VirtRange {
        VirtRange::new(self.0.machine.linear_base().add(range.start().get()), range.len())
            .unwrap_or_default()
    }

    /// The linear map and the memmap's window, unless one runs past the end of the address space.
    pub(crate) fn both(&self) -> [Option<VirtRange>; 2] {
        let limit = self.0.machine.phys_limit().get();
        let descriptors = limit.div_ceil(M::PAGE_BYTES).checked_mul(DESCRIPTOR_BYTES);
        let memmap = descriptors.and_then(|len| VirtRange::new(self.0.machine.vmemmap_base(), len));
        [VirtRange::new(self.0.machine.linear_base(), limit), memmap]
    }

    /// The mapping of `backing` as the memmap of `described`.
    pub(crate) fn memmap_mapping(&self, described: PfnRange, backing: Pfn) -> Mapping {
        let virt = self.memmap_virt(described);
        Mapping {
            virt: virt.start(),
            phys: M::address(backing),
            len: virt.len(),
            attr: Attr::WRITE,
            max_leaf: self.largest_leaf(self.0.block_size().pages::<M>() * DESCRIPTOR_BYTES),
        }
    }

    /// The mapping of `range` in the linear map: with leaves by which its blocks can be unmapped.
    pub(crate) fn linear_mapping(&self, range: PhysRange) -> Mapping {
        Mapping {
            virt: self.linear_virt(range).start(),
            phys: range.start(),
            len: range.len(),
            attr: Attr::WRITE,
            max_leaf: self.largest_leaf(self.0.block_size().bytes()),
        }
    }

    /// `bytes`, or less if such a leaf would occupy an entry of the root that address spaces share.
    fn largest_leaf(&self, bytes: u64) -> u64 {
        self.0.machine.root_entry_bytes().map_or(bytes, |entry| bytes.min(entry / 2))
    }
}
