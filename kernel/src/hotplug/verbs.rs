//! The seam to the memory manager: its four verbs, and what can be read back of their effect.

use core::ops::Range;

use hotmem::{
    AddError, Added, Block, BlockId, Group, Machine, Mm, NodeId, OfflineError, OnlineError, Pfn,
    PhysAddr, PhysRange, Placement, RemoveError, Removed, ZoneKind,
};

/// Reads back what the memory manager made of a range.
pub trait View {
    /// Bytes of a page.
    fn page_bytes(&self) -> u64;

    /// Whether there is memory of the manager's at `address`.
    fn is_ram(&self, address: PhysAddr) -> bool;

    /// The numbers of the blocks that `range` touches, there or not.
    fn block_numbers(&self, range: PhysRange) -> Range<u64>;

    /// The bytes of a block; `None` for a number past the end of the address space.
    fn block_range(&self, id: BlockId) -> Option<PhysRange>;

    /// What is known of a block; `None` if it is not there.
    fn block(&self, id: BlockId) -> Option<Block>;

    /// The memmap whose first page is `head`; `None` if none is.
    fn group(&self, head: Pfn) -> Option<Group>;

    /// The zone that memory just added on `node` shall come online in; `None` to leave it offline.
    fn auto_zone(&self, range: PhysRange, node: NodeId) -> Option<ZoneKind>;
}

/// The verbs of the memory manager.
///
/// An error means that nothing was changed.
pub trait Verbs: View {
    /// Adds memory; its blocks are then offline.
    ///
    /// # Errors
    ///
    /// As [`Mm::add`].
    fn add(
        &mut self,
        range: PhysRange,
        node: NodeId,
        placement: Placement,
    ) -> Result<Added, AddError>;

    /// Gives a block to the allocator.
    ///
    /// # Errors
    ///
    /// As [`Mm::online`].
    fn online(&mut self, id: BlockId, zone: ZoneKind) -> Result<Block, OnlineError>;

    /// Takes a block from the allocator.
    ///
    /// # Errors
    ///
    /// As [`Mm::offline`].
    fn offline(&mut self, id: BlockId) -> Result<Block, OfflineError>;

    /// Removes memory whose blocks are offline.
    ///
    /// # Errors
    ///
    /// As [`Mm::remove`].
    fn remove(&mut self, range: PhysRange) -> Result<Removed, RemoveError>;
}

impl<M: Machine> View for &Mm<M> {
    fn page_bytes(&self) -> u64 {
        M::PAGE_BYTES
    }

    fn is_ram(&self, address: PhysAddr) -> bool {
        Mm::is_ram(self, M::pfn(address))
    }

    fn block_numbers(&self, range: PhysRange) -> Range<u64> {
        let first = self.block_at(range.start()).get();
        match range.len().checked_sub(1) {
            Some(last) => first..self.block_at(range.start().add(last)).get() + 1,
            None => first..first,
        }
    }

    fn block_range(&self, id: BlockId) -> Option<PhysRange> {
        Mm::block_range(self, id)
    }

    fn block(&self, id: BlockId) -> Option<Block> {
        Mm::block(self, id)
    }

    fn group(&self, head: Pfn) -> Option<Group> {
        Mm::group(self, head)
    }

    fn auto_zone(&self, range: PhysRange, node: NodeId) -> Option<ZoneKind> {
        Mm::auto_zone(self, range, node)
    }
}

impl<M: Machine> Verbs for &Mm<M> {
    fn add(
        &mut self,
        range: PhysRange,
        node: NodeId,
        placement: Placement,
    ) -> Result<Added, AddError> {
        Mm::add(self, range, node, placement)
    }

    fn online(&mut self, id: BlockId, zone: ZoneKind) -> Result<Block, OnlineError> {
        Mm::online(self, id, zone)
    }

    fn offline(&mut self, id: BlockId) -> Result<Block, OfflineError> {
        Mm::offline(self, id)
    }

    fn remove(&mut self, range: PhysRange) -> Result<Removed, RemoveError> {
        Mm::remove(self, range)
    }
}

/// A counter of executed instructions.
pub trait Clock {
    /// How many instructions were executed so far; `None` where the machine cannot tell.
    fn instructions(&self) -> Option<u64>;
}
