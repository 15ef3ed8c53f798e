//! Memmaps mapped and unmapped: onto frames of their own range, or onto pages of the allocator's. Either
//! way the tables above them take frames.

use crate::Mm;
use crate::addr::{Order, Pfn, PfnRange, VirtRange};
use crate::alloc::frames::TableSource;
use crate::machine::Machine;
use crate::memmap::altmap::Altmap;
use crate::memmap::page::Owner;
use crate::paging::{Gather, MapError, Mapper, Mapping, OutOfFrames, Tlb};

/// Leaves that are unmapped together before their frames go back.
const BATCH: usize = 32;

/// A gather over the machine's own TLB.
pub(crate) type MachineGather<'m, M> =
    Gather<'m, <<M as Machine>::Mapper as Mapper>::Tlb, TableSource<'m, M>>;

impl<M: Machine> Mm<M> {
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
}
