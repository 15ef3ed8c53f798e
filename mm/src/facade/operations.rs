//! What the manager's users call of the operations.

// UNSAFETY: passes the contracts of what it calls on.
#![expect(unsafe_code)]

use crate::addr::VirtAddr;
use crate::machine::Machine;
use crate::paging::Mapping;
use crate::*;

impl<M: Machine> Mm<M> {
    /// Takes over the memory that the machine was started with, once, before anything else.
    ///
    /// What `early` still has free goes to the system zones of its nodes, and to the movable ones past
    /// `kernelcore`; what it gave away stays with [`Owner::Boot`].
    ///
    /// # Safety
    ///
    /// The ranges of `memory.ram` are RAM that the linear map shows, and nothing uses what `early` has not
    /// given away: not a loader's leavings, not a device.
    ///
    /// # Errors
    ///
    /// [`BootError`]. The manager cannot be used then.
    pub unsafe fn boot(
        &self,
        memory: &BootMemory<'_>,
        early: &mut dyn EarlyFrames,
    ) -> Result<(), BootError> {
        // SAFETY: by the same contract.
        unsafe { self.operations.boot(memory, early) }
    }

    /// Adds `range` on `node`; its blocks are then offline. What the range holds is lost.
    ///
    /// # Safety
    ///
    /// Where the machine has something in `range`, it is RAM that nothing uses: no device's registers, no
    /// memory of firmware, another kernel or a device. (Where nothing is there the add fails.)
    ///
    /// # Errors
    ///
    /// [`AddError`]; everything is then as it was.
    pub unsafe fn add(
        &self,
        range: PhysRange,
        node: NodeId,
        placement: Placement,
    ) -> Result<Added, AddError> {
        // SAFETY: by the same contract.
        unsafe { self.operations.add(range, node, placement) }
    }

    /// [`add`](Self::add) for callers that speak the flags of the patch series.
    ///
    /// The flags are a hint: if they make no sense, one warning is logged and the memmap comes from
    /// system memory.
    ///
    /// # Safety
    ///
    /// As [`add`](Self::add).
    ///
    /// # Errors
    ///
    /// [`AddError`]; everything is then as it was.
    pub unsafe fn add_memory(
        &self,
        node: NodeId,
        range: PhysRange,
        flags: MhpFlags,
    ) -> Result<Added, AddError> {
        // SAFETY: by the same contract.
        unsafe { self.operations.add_memory(node, range, flags) }
    }

    /// Removes a range whose blocks are all offline, whole placement groups at a time.
    ///
    /// When this returns, nothing translates to the range any more, on any CPU.
    ///
    /// # Errors
    ///
    /// [`RemoveError`]; everything is then as it was.
    pub fn remove(&self, range: PhysRange) -> Result<Removed, RemoveError> {
        self.operations.remove(range)
    }

    /// Gives each block of `range`, which was added with one memmap for all of it, its own, so that any
    /// of them can be removed alone. Returns how many blocks.
    ///
    /// While descriptors move, look-ups and frees of other CPUs wait, and interrupts are off on this one where
    /// [`Machine::Lock`] masks them. What is free of the block that is being converted is not
    /// allocated meanwhile: an allocation that nothing else can serve fails.
    ///
    /// # Errors
    ///
    /// [`ConvertError`].
    pub fn convert(&self, range: PhysRange) -> Result<u64, ConvertError> {
        self.operations.convert(range)
    }

    /// Brings an offline block online in zone `kind` of its node. Returns the block as it came online, before anybody
    /// allocates from it.
    ///
    /// A block that is memmap from end to end comes online too, and gives the allocator nothing.
    /// Takes the same few steps whatever the block holds: no descriptor is written but the heads of
    /// the extents the block falls into.
    ///
    /// # Errors
    ///
    /// [`OnlineError`].
    pub fn online(&self, id: BlockId, kind: ZoneKind) -> Result<Block, OnlineError> {
        self.operations.online(id, kind)
    }

    /// Takes a block offline, moving elsewhere what is in use.
    ///
    /// # Errors
    ///
    /// [`OfflineError`]; the block is then online, as it was.
    pub fn offline(&self, id: BlockId) -> Result<(), OfflineError> {
        self.operations.offline(id)
    }

    /// Begins to take a block offline; nothing is allocated in it once it is isolated.
    ///
    /// # Errors
    ///
    /// [`OfflineError`]; nothing is changed then.
    pub fn start_offline(&self, id: BlockId) -> Result<OfflineOp<'_, M>, OfflineError> {
        self.operations.start_offline(id)
    }

    /// Gives up the offline of a block whose [`OfflineOp`] is lost; the block stays online. If there is one
    /// after all, its next step fails with [`OfflineError::NotGoing`].
    ///
    /// # Errors
    ///
    /// [`OfflineError::Busy`] during a step; [`OfflineError::NotGoing`] if another block goes, or none.
    pub fn cancel_offline(&self, id: BlockId) -> Result<(), OfflineError> {
        self.operations.cancel_offline(id)
    }

    /// The block that is going offline, if one is. One load: callable from anywhere.
    pub fn offlining(&self) -> Option<BlockId> {
        self.operations.offlining()
    }

    /// Whether an operation is under way, or between two steps: one that begins now is refused as busy. That is over
    /// at any moment.
    pub fn is_operating(&self) -> bool {
        self.allocator().turn.is_taken()
    }

    /// Takes offline blocks out of the linear map: all of them, or none.
    ///
    /// When this returns they are clear, in memory and not just in a cache, and nothing translates to
    /// them on any CPU. They cannot come online until they are [released](Self::release).
    ///
    /// # Errors
    ///
    /// [`TakeError`]; everything is then as it was.
    pub fn take(&self, pieces: &[Piece]) -> Result<u64, TakeError> {
        self.operations.take(pieces)
    }

    /// Gives back all that was taken, or nothing: by name, to be offline as it was; by size, to the allocator.
    /// Returns how many blocks.
    ///
    /// What the taker left there is cleared before anybody else can read it. A block that went bad
    /// meanwhile is not touched: it does not come online any more.
    ///
    /// # Errors
    ///
    /// [`ReleaseError`].
    pub fn release(&self) -> Result<u64, ReleaseError> {
        self.operations.release()
    }

    /// Takes `bytes` of adjacent boot memory of `node`, in one zone, out of the linear map. Its blocks
    /// stay online, their pages held by [`Owner::Taken`].
    ///
    /// # Errors
    ///
    /// [`ContigError`].
    pub fn take_contig(&self, node: NodeId, bytes: u64) -> Result<PhysRange, ContigError> {
        self.operations.take_contig(node, bytes)
    }

    /// Takes a bad page out of use.
    ///
    /// Between the steps of an offline, too; only a page in use that would have to move waits for its end
    /// ([`PoisonError::Busy`]). For handlers of exceptions there is [`poison_later`](Self::poison_later).
    ///
    /// # Errors
    ///
    /// [`PoisonError`].
    pub fn poison(&self, pfn: Pfn) -> Result<Quarantined, PoisonError> {
        self.operations.poison(pfn)
    }

    /// Notes that a page is bad, for [`poison_queued`](Self::poison_queued). Takes no lock and never
    /// waits: for the handler of a machine check, or of any other exception.
    ///
    /// # Errors
    ///
    /// [`QueueFull`].
    pub fn poison_later(&self, pfn: Pfn) -> Result<(), QueueFull> {
        self.operations.poison_later(pfn)
    }

    /// Takes the pages that were noted out of use, and tells `each` what became of them; `each` may do
    /// anything. Pages for which [`poison`](Self::poison) is busy stay noted: returns how many.
    pub fn poison_queued(
        &self,
        each: &mut dyn FnMut(Pfn, Result<Quarantined, PoisonError>),
    ) -> usize {
        self.operations.poison_queued(each)
    }

    /// How the kernel's page tables translate `at`. Waits while an operation changes them.
    pub fn walk(&self, at: VirtAddr) -> Walk {
        self.operations.walk(at)
    }

    /// Maps addresses of the kernel's own in the page tables that the manager uses, so that both never
    /// change them at once: device registers, stacks, whatever lies outside the two windows. Tables come from
    /// the allocator, not from the reserve.
    ///
    /// Root entries outside the two windows come and go with what is mapped there. Where address spaces
    /// [share](Machine::root_entry_bytes) more than the windows, something stays mapped behind each entry
    /// from before the first is copied.
    ///
    /// # Safety
    ///
    /// Nothing uses the addresses. The memory behind them is the kernel's, and stays so until they are
    /// unmapped; no Rust reference is broken by the second way to it.
    ///
    /// # Errors
    ///
    /// [`OwnMapError`]; nothing is changed.
    pub unsafe fn map_own(&self, mapping: &Mapping) -> Result<(), OwnMapError> {
        // SAFETY: by the same contract.
        unsafe { self.operations.map_own(mapping) }
    }

    /// Unmaps addresses of the kernel's own, on all CPUs. The memory behind them is free afterwards.
    ///
    /// # Safety
    ///
    /// Nothing uses the addresses any more.
    ///
    /// # Errors
    ///
    /// [`OwnMapError`]; nothing is changed.
    pub unsafe fn unmap_own(&self, range: VirtRange) -> Result<(), OwnMapError> {
        // SAFETY: by the same contract.
        unsafe { self.operations.unmap_own(range) }
    }

    /// What happens to memory right after it was added: the kernel's to ask and to do.
    pub fn auto_online(&self) -> AutoOnline {
        self.operations.auto_online()
    }

    /// Changes that, for what is added from now on.
    pub fn set_auto_online(&self, policy: AutoOnline) {
        self.operations.set_auto_online(policy)
    }

    /// Whether added memory may hold its own memmap. It may, unless told otherwise.
    pub fn self_hosting(&self) -> bool {
        self.operations.self_hosting()
    }

    /// Lets memory that is added from now on hold its own memmap, or has it taken from system memory,
    /// whatever placement is asked for: for who wants to expose all of what is added.
    pub fn set_self_hosting(&self, enabled: bool) {
        self.operations.set_self_hosting(enabled)
    }

    /// The zone for memory that was just added on `node`, by the policy; `None` to leave it offline.
    ///
    /// Asked once for all the ranges that come and go together, so that their blocks do not part and
    /// count against the ratio as a whole.
    pub fn auto_zone(&self, ranges: &[PhysRange], node: NodeId) -> Option<ZoneKind> {
        self.operations.auto_zone(ranges, node)
    }

    /// The zone for offline memory on `node` that is brought online this way.
    ///
    /// By default that of the nearest online block next to it on the same node, below it if there is
    /// one, so that zones stay in one piece; without one, [`ZoneKind::Normal`].
    pub fn zone_of(&self, range: PhysRange, node: NodeId, way: OnlineAs) -> ZoneKind {
        self.operations.zone_of(range, node, way)
    }

    /// Puts a listener on the list, unless it is there.
    ///
    /// # Errors
    ///
    /// [`ListInUse`]; the list is as it was.
    pub fn listen(&self, listener: &'static Listener) -> Result<(), ListInUse> {
        self.operations.listen(listener)
    }

    /// Takes a listener off the list, if it is there.
    ///
    /// # Errors
    ///
    /// [`ListInUse`]; the list is as it was.
    pub fn unlisten(&self, listener: &'static Listener) -> Result<(), ListInUse> {
        self.operations.unlisten(listener)
    }
}

impl<M: Machine> OfflineOp<'_, M> {
    /// Steps that taking any block offline takes at the most.
    pub fn bound(mm: &Mm<M>) -> u64 {
        mm.operations.offline_bound()
    }
}
