//! The manager's operations.

// UNSAFETY: passes the safety contracts of the functions that it calls on.
#![expect(unsafe_code)]

use crate::addr::VirtAddr;
use crate::machine::Machine;
use crate::paging::Mapping;
use crate::*;

impl<M: Machine> Mm<M> {
    /// Takes over the memory that the machine was started with, once, before anything else.
    ///
    /// Memory that `early` still has free goes to the system zones of its nodes, and to the movable ones past
    /// `kernelcore`; memory that it has allocated stays with [`Owner::Boot`].
    ///
    /// # Safety
    ///
    /// The ranges of `memory.ram` are RAM that the linear map maps, and memory that `early` has not allocated is not
    /// in use: neither by remains of a loader, nor by a device.
    ///
    /// # Errors
    ///
    /// [`BootError`]. The manager cannot be used then.
    pub unsafe fn boot(
        &self,
        memory: &BootMemory<'_>,
        early: &mut dyn EarlyFrames,
    ) -> Result<(), BootError> {
        // SAFETY: by the contract of this function.
        unsafe { self.operations.boot(memory, early) }
    }

    /// Adds `range`, whole [subsections](Self::subsection), on `node`. The contents of the range are lost.
    ///
    /// Its blocks are then offline. One that has other memory already keeps its state, its zone and its node, and all
    /// its memory has them: if it is online, listeners are asked, and the new memory goes online with it.
    ///
    /// # Safety
    ///
    /// Where the machine has memory or devices in `range`, it is RAM of no other use: no device registers, and no
    /// memory of firmware, another kernel or a device. (Without memory there, the add fails.)
    ///
    /// # Errors
    ///
    /// [`AddError`]; nothing is changed then.
    pub unsafe fn add(
        &self,
        range: PhysRange,
        node: NodeId,
        placement: Placement,
    ) -> Result<Added, AddError> {
        // SAFETY: by the contract of this function.
        unsafe { self.operations.add(range, node, placement) }
    }

    /// [`add`](Self::add) for callers that use the flags of the patch series.
    ///
    /// The flags are a hint: if they are invalid, one warning is logged and the memmap comes from system memory.
    ///
    /// # Safety
    ///
    /// Those of [`add`](Self::add).
    ///
    /// # Errors
    ///
    /// [`AddError`]; nothing is changed then.
    pub unsafe fn add_memory(
        &self,
        node: NodeId,
        range: PhysRange,
        flags: MhpFlags,
    ) -> Result<Added, AddError> {
        // SAFETY: by the contract of this function.
        unsafe { self.operations.add_memory(node, range, flags) }
    }

    /// Removes a range whose blocks are all offline, whole placement groups at a time. Other memory of these blocks
    /// stays, offline. At an end of the range a block may be online, if what the range has of it is
    /// [offline](Self::offline_part): other memory of that block stays online.
    ///
    /// When this returns, no CPU translates to the range any more.
    ///
    /// # Errors
    ///
    /// [`RemoveError`]; nothing is changed then.
    pub fn remove(&self, range: PhysRange) -> Result<Removed, RemoveError> {
        self.operations.remove(range)
    }

    /// Gives what each block has of `range`, which was added with one memmap for all of it, its own memmap, so that
    /// each can be removed alone. Returns the number of blocks. The range may begin and end inside a block; other memory
    /// of that block stays as it is.
    ///
    /// While the descriptors of a block are moved, look-ups and frees of other CPUs in that block wait, and interrupts
    /// are off on this CPU if [`Machine::Lock`] masks them. Free pages of the block are not allocated during that time:
    /// an allocation that only they could satisfy fails.
    ///
    /// # Errors
    ///
    /// [`ConvertError`].
    pub fn convert(&self, range: PhysRange) -> Result<u64, ConvertError> {
        self.operations.convert(range)
    }

    /// Splits what was added at once to a block, a [share](Self::block_shares) of it: what is behind `at` becomes a share
    /// with a memmap of its own, at its head, and either can go while the other stays online
    /// ([`offline_part`](Self::offline_part)). `at` is the address of a subsection. Pages move away from the new head, and
    /// from nowhere else; what waits meanwhile is as for [`convert`](Self::convert).
    ///
    /// It may take a page table from system memory, where one leaf maps the descriptors of both.
    ///
    /// # Errors
    ///
    /// [`ConvertError`]; [`ConvertError::NotOnePiece`] for memory that has its memmap together with that of other blocks.
    /// `Unmap` with `CutsLeaf` if a leaf of the linear map has memory of both.
    pub fn split_at(&self, at: PhysAddr) -> Result<(), ConvertError> {
        self.operations.split_at(at)
    }

    /// Brings an offline block online in zone `kind` of its node. Returns the block as it came online, before anybody
    /// allocates from it.
    ///
    /// A block that is entirely memmap comes online, too, and gives the allocator no pages. The number of steps is
    /// small for any contents: only the heads of the block's extents are written.
    ///
    /// # Errors
    ///
    /// [`OnlineError`].
    pub fn online(&self, id: BlockId, kind: ZoneKind) -> Result<Block, OnlineError> {
        self.operations.online(id, kind)
    }

    /// Takes a block offline, migrating pages in use.
    ///
    /// # Errors
    ///
    /// [`OfflineError`]; the block is then online, as before.
    pub fn offline(&self, id: BlockId) -> Result<(), OfflineError> {
        self.operations.offline(id)
    }

    /// Begins to take a block offline; no page of it is allocated once it is isolated.
    ///
    /// # Errors
    ///
    /// [`OfflineError`]; nothing is changed then.
    pub fn start_offline(&self, id: BlockId) -> Result<OfflineOp<'_, M>, OfflineError> {
        self.operations.start_offline(id)
    }

    /// Takes what `range` has of an online block offline, while the rest of the block stays online; pages of it that are in
    /// use are migrated, pages of others are not touched. It must be what was added at once, or what of that is in the
    /// block: [`block_shares`](Self::block_shares) has it. Then it can be [cleared](Self::scrub_part) and
    /// [removed](Self::remove), or [come back](Self::online_part); meanwhile its pages have [`Owner::Offline`], and count as
    /// in use. What holds only memmap, that of the other blocks of its range, is offline as it is.
    ///
    /// # Errors
    ///
    /// [`OfflineError`]; the part is then online, as before.
    pub fn offline_part(&self, id: BlockId, range: PhysRange) -> Result<(), OfflineError> {
        self.operations.offline_part(id, range)
    }

    /// Begins to take what `range` has of an online block [offline](Self::offline_part). Ends and is cancelled as
    /// the offline of a block.
    ///
    /// # Errors
    ///
    /// [`OfflineError`]; nothing is changed then.
    pub fn start_offline_part(
        &self,
        id: BlockId,
        range: PhysRange,
    ) -> Result<OfflineOp<'_, M>, OfflineError> {
        self.operations.start_offline_part(id, range)
    }

    /// Brings what `range` has of an online block back online, which was taken [offline](Self::offline_part) before.
    ///
    /// # Errors
    ///
    /// [`OnlineError`]; the part is then offline, as before.
    pub fn online_part(&self, id: BlockId, range: PhysRange) -> Result<(), OnlineError> {
        self.operations.online_part(id, range)
    }

    /// Cancels the offline of a block, or of a part of it, whose [`OfflineOp`] was leaked; the block stays online. If the value still
    /// exists, its next step fails with [`OfflineError::NotGoing`].
    ///
    /// # Errors
    ///
    /// [`OfflineError::Busy`] during a step; [`OfflineError::NotGoing`] if another block goes offline, or none.
    pub fn cancel_offline(&self, id: BlockId) -> Result<(), OfflineError> {
        self.operations.cancel_offline(id)
    }

    /// The block that is going offline, if there is one. A single load: callable from any context.
    pub fn offlining(&self) -> Option<BlockId> {
        self.operations.offlining()
    }

    /// Whether an operation is under way, or between two steps: one that begins now returns `Busy`. The result may
    /// be outdated at once.
    pub fn is_operating(&self) -> bool {
        self.allocator().turn.is_taken()
    }

    /// Clears memory of an offline block that was added: all that was allocated since it was added or scrubbed last,
    /// and what the manager has written about its pages there. Before it is removed, so that the next user
    /// of the memory cannot read what was in it.
    ///
    /// Returns after `budget` pages, but clears 1/32 of the block at least; call it until there is no
    /// [more](Scrubbed::more). If the block holds its own memmap, the descriptor of its head and those with the
    /// records of sections stay: 64 bytes each, at the start of the memmap.
    ///
    /// # Errors
    ///
    /// [`ScrubError`].
    pub fn scrub(&self, id: BlockId, budget: u64) -> Result<Scrubbed, ScrubError> {
        self.operations.scrub(id, budget)
    }

    /// As [`scrub`](Self::scrub), only what `range` has of the block: of one with memory of several devices, the memory
    /// of a device that leaves. Nothing else is read or written, since it may be of a device that is gone. The block may be
    /// online, if that memory is [offline](Self::offline_part): all of it is cleared then, and no more than `budget` pages
    /// in a call.
    ///
    /// # Errors
    ///
    /// [`ScrubError`]; `range` may be any whole subsections.
    pub fn scrub_part(
        &self,
        id: BlockId,
        range: PhysRange,
        budget: u64,
    ) -> Result<Scrubbed, ScrubError> {
        self.operations.scrub_part(id, range, budget)
    }

    /// Takes offline blocks out of the linear map: all of them, or none.
    ///
    /// When this returns they are zeroed, in memory and not only in a cache, and no CPU translates to them. They
    /// cannot come online until they are [released](Self::release).
    ///
    /// # Errors
    ///
    /// [`TakeError`]; nothing is changed then.
    pub fn take(&self, pieces: &[Piece]) -> Result<u64, TakeError> {
        self.operations.take(pieces)
    }

    /// Releases all taken memory, or none: by name, to be offline as before; by size, to the allocator. Returns the
    /// number of blocks.
    ///
    /// Contents that the taker left there are cleared before other code can read them. A block that turned bad in
    /// the meantime is not touched: it does not come online any more.
    ///
    /// # Errors
    ///
    /// [`ReleaseError`].
    pub fn release(&self) -> Result<u64, ReleaseError> {
        self.operations.release()
    }

    /// Takes `bytes` of contiguous boot memory of `node`, in one zone, out of the linear map. Its blocks stay
    /// online, with [`Owner::Taken`] as the owner of their pages.
    ///
    /// # Errors
    ///
    /// [`ContigError`].
    pub fn take_contig(&self, node: NodeId, bytes: u64) -> Result<PhysRange, ContigError> {
        self.operations.take_contig(node, bytes)
    }

    /// Takes a bad page out of use. Its block does not come online again once it is offline, until the memory that was added
    /// with the page has been removed.
    ///
    /// This also works between the steps of an offline; only a page in use that would have to be migrated waits for
    /// its end ([`PoisonError::Busy`]). Handlers of exceptions use [`poison_later`](Self::poison_later).
    ///
    /// # Errors
    ///
    /// [`PoisonError`].
    pub fn poison(&self, pfn: Pfn) -> Result<Quarantined, PoisonError> {
        self.operations.poison(pfn)
    }

    /// Queues a bad page for [`poison_queued`](Self::poison_queued). Takes no lock and never waits: for the handler
    /// of a machine check, or of any other exception.
    ///
    /// # Errors
    ///
    /// [`QueueFull`].
    pub fn poison_later(&self, pfn: Pfn) -> Result<(), QueueFull> {
        self.operations.poison_later(pfn)
    }

    /// Takes the queued pages out of use, and calls `each` with the outcome of each; `each` may do anything. Pages
    /// for which [`poison`](Self::poison) is busy stay queued: returns their number.
    pub fn poison_queued(
        &self,
        each: &mut dyn FnMut(Pfn, Result<Quarantined, PoisonError>),
    ) -> usize {
        self.operations.poison_queued(each)
    }

    /// The translation of `at` by the kernel's page tables. Waits while an operation changes them.
    pub fn walk(&self, at: VirtAddr) -> Walk {
        self.operations.walk(at)
    }

    /// Maps addresses of the kernel's own in the page tables that the manager uses, so that both never change them
    /// at once: device registers, stacks, any addresses outside the two windows. Tables come from the allocator, not
    /// from the reserve.
    ///
    /// Root entries outside the two windows change with their mappings. If address spaces
    /// [share](Machine::root_entry_bytes) more than the windows, each such entry must keep a mapping from before the
    /// first copy of the root.
    ///
    /// # Safety
    ///
    /// The addresses are not in use. The memory behind them is the kernel's, and stays so until they are unmapped;
    /// no Rust reference becomes invalid by the second mapping.
    ///
    /// # Errors
    ///
    /// [`OwnMapError`]; nothing is changed then.
    pub unsafe fn map_own(&self, mapping: &Mapping) -> Result<(), OwnMapError> {
        // SAFETY: by the contract of this function.
        unsafe { self.operations.map_own(mapping) }
    }

    /// Unmaps addresses of the kernel's own, on all CPUs. The memory behind them is free afterwards.
    ///
    /// # Safety
    ///
    /// The addresses are no longer in use.
    ///
    /// # Errors
    ///
    /// [`OwnMapError`]; nothing is changed then.
    pub unsafe fn unmap_own(&self, range: VirtRange) -> Result<(), OwnMapError> {
        // SAFETY: by the contract of this function.
        unsafe { self.operations.unmap_own(range) }
    }

    /// The policy for memory right after it was added: the kernel reads it and acts on it.
    pub fn auto_online(&self) -> AutoOnline {
        self.operations.knobs().auto_online()
    }

    /// Changes that, for memory that is added from now on.
    pub fn set_auto_online(&self, policy: AutoOnline) {
        self.operations.knobs().set_auto_online(policy)
    }

    /// Whether added memory may hold its own memmap. This is allowed by default.
    pub fn self_hosting(&self) -> bool {
        self.operations.knobs().self_hosting()
    }

    /// Allows or forbids that memory which is added from now on holds its own memmap; if forbidden, the memmap comes
    /// from system memory for every placement, so that all of the added memory is usable.
    pub fn set_self_hosting(&self, enabled: bool) {
        self.operations.knobs().set_self_hosting(enabled)
    }

    /// Whether only whole memory blocks are added.
    pub fn whole_blocks(&self) -> bool {
        self.operations.knobs().whole_blocks()
    }

    /// Refuses from now on to add a range that is not whole memory blocks.
    pub fn set_whole_blocks(&self, only: bool) {
        self.operations.knobs().set_whole_blocks(only)
    }

    /// The zone for memory that was just added on `node`, by the policy; `None` to leave it offline.
    ///
    /// Called once for all ranges of a device, so that its blocks are in one zone and count against the ratio as a
    /// whole.
    pub fn auto_zone(&self, ranges: &[PhysRange], node: NodeId) -> Option<ZoneKind> {
        self.operations.auto_zone(ranges, node)
    }

    /// The zone for offline memory on `node` that is brought online this way.
    ///
    /// By default that of the nearest online block next to it on the same node, preferably below it, so that zones
    /// stay contiguous; without such a block, [`ZoneKind::Normal`]. A block in which the range begins or ends, and which
    /// is online with other memory, is the nearest one.
    pub fn zone_of(&self, range: PhysRange, node: NodeId, way: OnlineAs) -> ZoneKind {
        self.operations.zone_of(range, node, way)
    }

    /// Adds a listener to the list, unless it is there.
    ///
    /// # Errors
    ///
    /// [`ListInUse`]; the list is unchanged.
    pub fn listen(&self, listener: &'static Listener) -> Result<(), ListInUse> {
        self.operations.listen(listener)
    }

    /// Removes a listener from the list, if it is there.
    ///
    /// # Errors
    ///
    /// [`ListInUse`]; the list is unchanged.
    pub fn unlisten(&self, listener: &'static Listener) -> Result<(), ListInUse> {
        self.operations.unlisten(listener)
    }
}

impl<M: Machine> OfflineOp<'_, M> {
    /// Steps that taking any block offline takes at most.
    pub fn bound(mm: &Mm<M>) -> u64 {
        mm.operations.offline_bound()
    }
}
