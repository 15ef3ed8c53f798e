//! Maps and unmaps memmaps: onto frames of their own range, or onto pages of the allocator. In both cases the tables
//! above them come from the frames for tables.

use crate::addr::{Order, Pfn, PfnRange};
use crate::alloc::Allocator;
use crate::alloc::buddy::{owners_word, set_owners_word};
use crate::alloc::strand::strand_memmap;
use crate::alloc::tables::TableSource;
use crate::machine::Machine;
use crate::memmap::altmap::Altmap;
use crate::memmap::page::Owner;
use crate::memmap::whole::Whole;
use crate::paging::{Gather, MapError, Mapper, Mapping, NotFlushed, OutOfFrames, Tlb, UnmapError};

/// The allocator's pages behind a memmap: the last extent, whose owner's word names the previous one.
#[must_use = "pages that are not freed are lost"]
pub(crate) struct Backing(Option<Pfn>);

fn is_memmap(owner: Owner) -> bool {
    owner == Owner::Memmap
}

/// A gather over the machine's own TLB.
pub(crate) type MachineGather<'m, M> =
    Gather<'m, <<M as Machine>::Mapper as Mapper>::Tlb, TableSource<'m, M>>;

impl<M: Machine> Allocator<M> {
    /// Maps in one of the two windows.
    pub(crate) fn map(&self, memmap: Whole<'_, M>, mapping: &Mapping) -> Result<(), MapError> {
        memmap.mapper().map(mapping, &self.table_frames())
    }

    pub(crate) fn gather<'m>(&'m self, memmap: Whole<'m, M>) -> MachineGather<'m, M> {
        Gather::new(memmap.mapper().tlb(), self.table_frames())
    }

    /// As [`gather`](Self::gather), for ranges that will be mapped again: see [`Gather::keeping_tables`].
    pub(crate) fn gather_keeping_tables<'m>(
        &'m self,
        memmap: Whole<'m, M>,
    ) -> MachineGather<'m, M> {
        Gather::keeping_tables(memmap.mapper().tlb(), self.table_frames())
    }
}

/// Maps and unmaps the memmap of memory that is added and removed.
pub(crate) struct Populate<'m, M: Machine> {
    allocator: &'m Allocator<M>,
    memmap: Whole<'m, M>,
}

impl<'m, M: Machine> Populate<'m, M> {
    pub(crate) const fn of(allocator: &'m Allocator<M>, memmap: Whole<'m, M>) -> Self {
        Self { allocator, memmap }
    }

    /// Maps a group's memmap onto the altmap's frames.
    pub(crate) fn map_altmap(&self, altmap: Altmap) -> Result<(), MapError> {
        let mapping = self.memmap.windows().memmap_mapping(altmap.described, altmap.memmap.start);
        self.allocator.map(self.memmap, &mapping)
    }

    /// Maps a part of the memmap that one record covers onto pages of the allocator: as few extents as possible, so that
    /// large leaves fit.
    pub(crate) fn fill(&self, described: PfnRange) -> Result<(), MapError> {
        for (pfn, order) in self.memmap.cut(described) {
            if let Err(error) = self.fill_extent(PfnRange::new(pfn, order.pages())) {
                let done = PfnRange { end: pfn, ..described };
                return Err(self.empty(done).err().map_or(error, MapError::NotFlushed));
            }
        }
        Ok(())
    }

    /// The same for an aligned part: onto one extent if available, otherwise page by page.
    fn fill_extent(&self, described: PfnRange) -> Result<(), MapError> {
        let whole = Order::fitting(M::memmap_pages(described.pages()));
        match self.back_with(described, whole) {
            Err(MapError::OutOfFrames(_)) => {}
            done => return done,
        }

        let mut done = PfnRange::new(described.start, 0);
        while done.end < described.end {
            let next = PfnRange::new(done.end, M::described_pages(1));
            if let Err(error) = self.back_with(next, Order::ZERO) {
                return Err(self.empty(done).err().map_or(error, MapError::NotFlushed));
            }
            done.end = next.end;
        }
        Ok(())
    }

    fn back_with(&self, described: PfnRange, order: Order) -> Result<(), MapError> {
        let out = OutOfFrames { bytes: order.pages() * M::PAGE_BYTES };
        if !self.allocator.machine().allows_allocation() {
            return Err(out.into());
        }
        let backing = self.allocator.alloc_as(order, Owner::Memmap).map_err(|_| out)?;
        self.allocator.frames.count_system(order.pages());
        let mapping = self.memmap.windows().memmap_mapping(described, backing);
        self.allocator.map(self.memmap, &mapping).inspect_err(|error| match error {
            MapError::NotFlushed(_) => strand_memmap(self.allocator, backing),
            _ => self.free_memmap(backing),
        })
    }

    /// Unmaps the memmap of `described`, and frees the allocator's pages behind it: for the undo of an add.
    pub(crate) fn empty(&self, described: PfnRange) -> Result<(), NotFlushed> {
        if described.pages() == 0 {
            return Ok(());
        }
        let backing = self.link_backing(described);
        let mut gather = self.allocator.gather(self.memmap);
        let unmapped = self.memmap.unmap(self.memmap.windows().memmap_virt(described), &mut gather);
        match gather.conclude(unmapped) {
            Ok(()) => self.free_backing(backing),
            Err(UnmapError::NotFlushed(cpu)) => {
                self.each_of(backing, |pfn| strand_memmap(self.allocator, pfn));
                return Err(cpu);
            }
            // The pages stay in use, since they are still mapped.
            Err(error) => log::error!("cannot unmap the memmap of {described}: {error}"),
        }
        Ok(())
    }

    /// Links the allocator's pages behind a memmap through their owner's words, which have no other use, so that
    /// they are known when the memmap is unmapped all at once, without memory for a list. Changes nothing else: if
    /// the memmap stays, [`unlink_backing`](Self::unlink_backing) removes the links.
    pub(crate) fn link_backing(&self, described: PfnRange) -> Backing {
        let mut last = None;
        self.memmap.mapper().visit(self.memmap.windows().memmap_virt(described), &mut |leaf| {
            let pfn = M::pfn(leaf.phys);
            // A leaf inside an extent follows the extent's head, whose leaf is below it.
            if self.allocator.order_of(pfn, is_memmap).is_ok() {
                set_owners_word(*self.memmap, pfn, last.map_or(0, |last: Pfn| last.get() + 1));
                last = Some(pfn);
            }
        });
        Backing(last)
    }

    /// Frees pages behind a memmap that no CPU translates to any more.
    pub(crate) fn free_backing(&self, backing: Backing) {
        self.each_of(backing, |pfn| {
            if let Ok(order) = self.allocator.order_of(pfn, is_memmap) {
                self.memmap.mapper().tlb().retire(M::address(pfn), order.pages() * M::PAGE_BYTES);
            }
            self.free_memmap(pfn);
        });
    }

    /// Maps the memmap of `described` again onto the pages that were behind it.
    pub(crate) fn map_backing(
        &self,
        described: PfnRange,
        backing: Backing,
    ) -> Result<(), MapError> {
        let (mut left, mut mapped) = (described, Ok(()));
        self.each_of(backing, |pfn| {
            let order = self.allocator.order_of(pfn, is_memmap).unwrap_or(Order::ZERO);
            let pages = M::described_pages(order.pages()).min(left.pages());
            let piece = PfnRange { start: Pfn::new(left.end.get() - pages), ..left };
            left.end = piece.start;
            let mapping = self.memmap.windows().memmap_mapping(piece, pfn);
            mapped = mapped.and_then(|()| self.allocator.map(self.memmap, &mapping));
            self.unlink(pfn);
        });
        mapped
    }

    /// Removes the links from pages that stay.
    pub(crate) fn unlink_backing(&self, backing: Backing) {
        self.each_of(backing, |pfn| self.unlink(pfn));
    }

    /// At a record, the owner's word holds the present subsections: the caller restores them.
    fn unlink(&self, pfn: Pfn) {
        set_owners_word(*self.memmap, pfn, u64::MAX);
    }

    /// Calls `each` with the extents behind a memmap, the last one first. `each` may free its argument.
    fn each_of(&self, Backing(mut last): Backing, mut each: impl FnMut(Pfn)) {
        while let Some(pfn) = last {
            last = owners_word(*self.memmap, pfn).checked_sub(1).map(Pfn::new);
            each(pfn);
        }
    }

    /// Frees the memmap extent that begins at `pfn`.
    fn free_memmap(&self, pfn: Pfn) {
        if let Ok(order) = self.allocator.free_of(pfn, is_memmap) {
            self.allocator.frames.uncount_system(order.pages());
        }
    }
}

#[cfg(test)]
mod tests;
