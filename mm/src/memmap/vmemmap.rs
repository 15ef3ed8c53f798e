//! The virtual memmap: the descriptor of pfn `n` is at its base + 64 n, wherever its frame is.
//!
//! Only virtual contiguity is needed, so the frames behind it may come from the memory it describes
//! or, page by page if need be, from anywhere else. A leaf never spans the memmap of two blocks.

// UNSAFETY: uses the machine's page tables.
#![expect(unsafe_code)]

use crate::Mm;
use crate::addr::{Order, Pfn, PfnRange, PhysAddr, PhysRange, VirtRange};
use crate::alloc::frames::TableSource;
use crate::geometry::DESCRIPTOR_BYTES;
use crate::machine::Machine;
use crate::memmap::altmap::Altmap;
use crate::memmap::page::Owner;
use crate::paging::{
    Attr, Gather, MapError, Mapper, Mapping, OutOfFrames, TableFrames, Tlb, Translation, UnmapError,
};

/// Leaves that are unmapped together before their frames go back.
const BATCH: usize = 32;

/// A gather over the machine's own TLB.
pub(crate) type MachineGather<'m, M> =
    Gather<'m, <<M as Machine>::Mapper as Mapper>::Tlb, TableSource<'m, M>>;

impl<M: Machine> Mm<M> {
    /// The page tables, for an operation or a look that is under way.
    pub(crate) fn mapper(&self) -> &M::Mapper {
        // SAFETY: operations and looks exclude each other by the gate, and operations each other by the
        // turn; `walk`, `map_own` and `unmap_own` are such.
        unsafe { self.machine.mapper() }
    }

    /// Maps in one of the two windows, for the operation under way.
    pub(crate) fn map(&self, mapping: &Mapping) -> Result<(), MapError> {
        self.mapper().map(mapping, &self.table_frames())
    }

    pub(crate) fn gather(&self) -> MachineGather<'_, M> {
        Gather::new(self.mapper().tlb(), self.table_frames())
    }

    /// As [`gather`](Self::gather), for what will be mapped again: see [`Gather::keeping_tables`].
    pub(crate) fn gather_keeping_tables(&self) -> MachineGather<'_, M> {
        Gather::keeping_tables(self.mapper().tlb(), self.table_frames())
    }

    /// Where the descriptors of `pfns` are.
    pub fn memmap_virt(&self, pfns: PfnRange) -> VirtRange {
        let start =
            self.machine.vmemmap_base().add(pfns.start.get().wrapping_mul(DESCRIPTOR_BYTES));
        VirtRange::new(start, pfns.pages().wrapping_mul(DESCRIPTOR_BYTES)).unwrap_or_default()
    }

    /// Where `range` is in the linear map.
    pub fn linear_virt(&self, range: PhysRange) -> VirtRange {
        VirtRange::new(self.machine.linear_base().add(range.start().get()), range.len())
            .unwrap_or_default()
    }

    /// How `backing` is mapped as the memmap of `described`.
    pub(crate) fn memmap_mapping(&self, described: PfnRange, backing: Pfn) -> Mapping {
        let virt = self.memmap_virt(described);
        Mapping {
            virt: virt.start(),
            phys: M::address(backing),
            len: virt.len(),
            attr: Attr::WRITE,
            max_leaf: self.block_size().pages::<M>() * DESCRIPTOR_BYTES,
        }
    }

    /// How `range` is mapped in the linear map: with leaves that its blocks can be unmapped by.
    pub(crate) fn linear_mapping(&self, range: PhysRange) -> Mapping {
        Mapping {
            virt: self.linear_virt(range).start(),
            phys: range.start(),
            len: range.len(),
            attr: Attr::WRITE,
            max_leaf: self.block_size().bytes(),
        }
    }

    /// The first address of `range`, in pages, that the linear map does not show where it is.
    pub(crate) fn find_unmapped(&self, range: PhysRange) -> Option<PhysAddr> {
        let mut at = range.start();
        while range.contains(at) {
            let virt = self.machine.linear_base().add(at.get());
            let leaf = self.mapper().translate(virt);
            let leaf =
                leaf.filter(|leaf| leaf.attr.contains(Attr::WRITE) && leaf.target(virt) == at);
            let Some(leaf) = leaf else { return Some(at) };
            at = leaf.phys.checked_add(leaf.len)?;
        }
        None
    }

    /// Maps a group's memmap onto the altmap's frames.
    pub(crate) fn populate_altmap(&self, altmap: Altmap) -> Result<(), MapError> {
        let mapping = self.memmap_mapping(altmap.described, altmap.memmap.start);
        self.map(&mapping)
    }

    /// Maps the memmap of what one record keeps onto pages of the allocator's: one extent if there is
    /// one, so that large leaves fit, else page by page.
    pub(crate) fn populate_from_system(&self, described: PfnRange) -> Result<(), MapError> {
        let whole = Order::fitting(M::memmap_pages(described.pages()));
        if self.back_with(described, whole).is_ok() {
            return Ok(());
        }

        let mut done = PfnRange::new(described.start, 0);
        while done.end < described.end {
            let next = PfnRange::new(done.end, M::described_pages(1));
            if let Err(error) = self.back_with(next, Order::ZERO) {
                self.depopulate_to_system(done);
                return Err(error);
            }
            done.end = next.end;
        }
        Ok(())
    }

    fn back_with(&self, described: PfnRange, order: Order) -> Result<(), MapError> {
        let out = OutOfFrames { bytes: order.pages() * M::PAGE_BYTES };
        if !self.machine.allows_allocation() {
            return Err(out.into());
        }
        let backing = self.alloc_as(order, Owner::Memmap).map_err(|_| out)?;
        self.frames.count_system(order.pages());
        let mapping = self.memmap_mapping(described, backing);
        self.map(&mapping).inspect_err(|_| self.free_memmap(backing))
    }

    /// Unmaps the memmap of `described`, backwards, and frees the allocator's pages behind it.
    pub(crate) fn depopulate_to_system(&self, described: PfnRange) {
        let virt = self.memmap_virt(described);
        let mut end = virt.end();
        while end > virt.start() {
            let mut frames = [(Pfn::default(), 0); BATCH];
            let mut count = 0;
            let mut start = end;
            while start > virt.start() && count < BATCH {
                let last = start.add(1_u64.wrapping_neg());
                let Some(leaf) = self.mapper().translate(last) else {
                    return;
                };
                frames[count] = (M::pfn(leaf.phys), leaf.len);
                start = leaf.virt;
                count += 1;
            }
            let leaves = VirtRange::new(start, end.offset_from(start)).unwrap_or_default();
            let mut gather = self.gather();
            let unmapped = self.unmap(leaves, &mut gather);
            gather.flush();
            if let Err(error) = unmapped {
                // They are whole leaves, so the mapper broke its word. The pages behind them stay in
                // use, for descriptors still go there.
                log::error!("cannot unmap {leaves}: {error}");
                return;
            }
            for &(frame, bytes) in &frames[..count] {
                self.mapper().tlb().retire(M::address(frame), bytes);
                self.free_memmap(frame);
            }
            end = start;
        }
    }

    /// Frees the memmap extent that begins at `pfn`. A page inside one goes with its head, which lies
    /// below it and is unmapped after it.
    fn free_memmap(&self, pfn: Pfn) {
        if let Ok(order) = self.free_of(pfn, |owner| owner == Owner::Memmap) {
            self.frames.uncount_system(order.pages());
        }
    }

    /// Unmaps a range that was mapped in one piece or in whole leaves.
    ///
    /// # Errors
    ///
    /// What the mapper reports; nothing was unmapped then, so the memory is still in reach of every CPU.
    pub(crate) fn unmap<S: TableFrames>(
        &self,
        range: VirtRange,
        gather: &mut Gather<'_, <M::Mapper as Mapper>::Tlb, S>,
    ) -> Result<(), UnmapError> {
        self.mapper().unmap(range, gather)
    }

    /// The leaf that an end of `range` cuts, if one does: such a range cannot be unmapped.
    pub(crate) fn cut_leaf(&self, range: VirtRange) -> Option<Translation> {
        let last = range.end().add(1_u64.wrapping_neg());
        let leaves = [range.start(), last].into_iter();
        let mut leaves = leaves.filter_map(|at| self.mapper().translate(at));
        leaves.find(|leaf| !range.covers(leaf.range()))
    }
}
