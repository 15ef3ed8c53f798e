//! The seam to the memory manager: its four verbs, and what can be read back of their effect.

// UNSAFETY: adds memory on the word of the caller.
#![expect(unsafe_code)]

use core::fmt;
use core::ops::Range;

use hotmem::{
    AddError, Added, Block, BlockId, Group, Machine, Mm, NodeId, OfflineError, OfflineOp,
    OnlineError, Pfn, PhysAddr, PhysRange, Placement, PoisonError, Progress, RemoveError, Removed,
    Stepped, ZoneKind,
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

    /// A block that is there and that `range` touches. Takes no longer for a range that is larger than all memory.
    fn block_in(&self, range: PhysRange) -> Option<BlockId>;

    /// The memmap whose first page is `head`; `None` if none is.
    fn group(&self, head: Pfn) -> Option<Group>;

    /// The zone that the ranges of a device, just added on `node`, shall come online in; `None` to
    /// leave them offline.
    fn auto_zone(&self, ranges: &[PhysRange], node: NodeId) -> Option<ZoneKind>;
}

/// The verbs of the memory manager.
///
/// An error means that nothing was changed.
pub trait Verbs: View {
    /// A block that is going offline.
    type Offline: Offlining;

    /// Adds memory; its blocks are then offline.
    ///
    /// # Safety
    ///
    /// As [`Mm::add`].
    ///
    /// # Errors
    ///
    /// As [`Mm::add`].
    unsafe fn add(
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
    fn offline(&mut self, id: BlockId) -> Result<(), OfflineError>;

    /// Begins to take a block from the allocator.
    ///
    /// # Errors
    ///
    /// As [`Mm::start_offline`].
    fn start_offline(&mut self, id: BlockId) -> Result<Self::Offline, OfflineError>;

    /// Removes memory whose blocks are offline.
    ///
    /// # Errors
    ///
    /// As [`Mm::remove`].
    fn remove(&mut self, range: PhysRange) -> Result<Removed, RemoveError>;

    /// Takes a page out of use for good.
    ///
    /// # Errors
    ///
    /// As [`Mm::poison`].
    fn poison(&mut self, pfn: Pfn) -> Result<(), PoisonError>;
}

/// A block that is going offline. Dropped before it is done, the block stays online.
pub trait Offlining: fmt::Debug + Sized {
    /// Looks at up to `budget` extents.
    ///
    /// # Errors
    ///
    /// As [`OfflineOp::step`]; the block is then online, as it was.
    fn step(self, budget: u64) -> Result<Stage<Self>, OfflineError>;

    /// How far it got.
    fn progress(&self) -> Progress;
}

/// What steps led to.
#[derive(Debug)]
pub enum Stage<O> {
    /// There is more to do.
    Going(O),
    /// The block is offline.
    Done,
}

impl<M: Machine> Offlining for OfflineOp<'_, M> {
    fn step(self, budget: u64) -> Result<Stage<Self>, OfflineError> {
        OfflineOp::step(self, budget).map(|stepped| match stepped {
            Stepped::Going(op) => Stage::Going(op),
            Stepped::Done => Stage::Done,
        })
    }

    fn progress(&self) -> Progress {
        OfflineOp::progress(self)
    }
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

    fn block_in(&self, range: PhysRange) -> Option<BlockId> {
        let numbers = self.block_numbers(range);
        self.blocks().map(|block| block.id).find(|id| numbers.contains(&id.get()))
    }

    fn group(&self, head: Pfn) -> Option<Group> {
        Mm::group(self, head)
    }

    fn auto_zone(&self, ranges: &[PhysRange], node: NodeId) -> Option<ZoneKind> {
        Mm::auto_zone(self, ranges, node)
    }
}

impl<'m, M: Machine> Verbs for &'m Mm<M> {
    type Offline = OfflineOp<'m, M>;

    unsafe fn add(
        &mut self,
        range: PhysRange,
        node: NodeId,
        placement: Placement,
    ) -> Result<Added, AddError> {
        // SAFETY: the caller's promise.
        unsafe { Mm::add(self, range, node, placement) }
    }

    fn online(&mut self, id: BlockId, zone: ZoneKind) -> Result<Block, OnlineError> {
        Mm::online(self, id, zone)
    }

    fn offline(&mut self, id: BlockId) -> Result<(), OfflineError> {
        Mm::offline(self, id)
    }

    fn start_offline(&mut self, id: BlockId) -> Result<OfflineOp<'m, M>, OfflineError> {
        Mm::start_offline(self, id)
    }

    fn remove(&mut self, range: PhysRange) -> Result<Removed, RemoveError> {
        Mm::remove(self, range)
    }

    fn poison(&mut self, pfn: Pfn) -> Result<(), PoisonError> {
        Mm::poison(self, pfn).map(drop)
    }
}

/// A counter of executed instructions.
pub trait Clock {
    /// How many instructions were executed so far; `None` where the machine cannot tell.
    fn instructions(&self) -> Option<u64>;
}
