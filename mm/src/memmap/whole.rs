//! The memmap together with the page tables that translate it: for operations and looks, which exclude each other.

// UNSAFETY: uses the machine's page tables.
#![expect(unsafe_code)]

use crate::addr::{PhysAddr, PhysRange, VirtRange};
use crate::machine::Machine;
use crate::memmap::Memmap;
use crate::memmap::seen::Seen;
use crate::paging::{Attr, Gather, Mapper, TableFrames, Translation, UnmapError};
use core::fmt;
use core::ops::Deref;

/// The memmap and the page tables, seen by an operation or by a look.
pub(crate) struct Whole<'g, M: Machine>(Seen<'g, M>);

impl<M: Machine> Clone for Whole<'_, M> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<M: Machine> Copy for Whole<'_, M> {}

impl<M: Machine> fmt::Debug for Whole<'_, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Whole(..)")
    }
}

impl<'g, M: Machine> Deref for Whole<'g, M> {
    type Target = Seen<'g, M>;

    fn deref(&self) -> &Seen<'g, M> {
        &self.0
    }
}

impl<'g, M: Machine> Whole<'g, M> {
    /// The memmap and the page tables under a guard.
    ///
    /// # Safety
    ///
    /// An operation or a look of the manager of `memmap` is under way for as long as `'g`, and only an operation
    /// changes the tables.
    pub(crate) const unsafe fn vouched(memmap: &'g Memmap<M>) -> Self {
        // SAFETY: an operation and a look keep sections from being unmapped.
        Self(unsafe { Seen::vouched(memmap) })
    }

    /// The page tables.
    pub(crate) fn mapper(self) -> &'g M::Mapper {
        // SAFETY: by the contract of `vouched` this is a use by the manager, whose operations exclude each other by
        // the turn, and looks by the gate.
        unsafe { self.memmap().machine.mapper() }
    }

    /// The first address of `range`, in pages, that the linear map does not map to itself.
    pub(crate) fn find_unmapped(self, range: PhysRange) -> Option<PhysAddr> {
        let mut at = range.start();
        while range.contains(at) {
            let virt = self.machine().linear_base().add(at.get());
            let leaf = self.mapper().translate(virt);
            let leaf =
                leaf.filter(|leaf| leaf.attr.contains(Attr::WRITE) && leaf.target(virt) == at);
            let Some(leaf) = leaf else { return Some(at) };
            at = leaf.phys.checked_add(leaf.len)?;
        }
        None
    }

    /// Unmaps a range that was mapped in one piece or in whole leaves.
    ///
    /// # Errors
    ///
    /// The mapper's error; nothing was unmapped then, so every CPU can still reach the memory.
    pub(crate) fn unmap<S: TableFrames>(
        self,
        range: VirtRange,
        gather: &mut Gather<'_, <M::Mapper as Mapper>::Tlb, S>,
    ) -> Result<(), UnmapError> {
        self.mapper().unmap(range, gather)
    }

    /// The leaf that an end of `range` cuts, if there is one: such a range cannot be unmapped.
    pub(crate) fn cut_leaf(self, range: VirtRange) -> Option<Translation> {
        let last = range.end().add(1_u64.wrapping_neg());
        let leaves = [range.start(), last].into_iter();
        let mut leaves = leaves.filter_map(|at| self.mapper().translate(at));
        leaves.find(|leaf| !range.covers(leaf.range()))
    }
}

#[cfg(test)]
impl<M: Machine> Memmap<M> {
    /// The memmap and the page tables without a guard, for a test that is the only user of the machine.
    pub(crate) const fn alone(&self) -> Whole<'_, M> {
        // SAFETY: nothing else changes them.
        unsafe { Whole::vouched(self) }
    }
}
