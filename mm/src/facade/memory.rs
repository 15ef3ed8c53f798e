//! What the manager's users call of memmap and allocator.

// UNSAFETY: passes the contracts of two calls on.
#![expect(unsafe_code)]

use crate::alloc::batch::Cached;
use crate::machine::Machine;
use crate::*;

impl<M: Machine> Mm<M> {
    /// The machine it runs on.
    pub const fn machine(&self) -> &M {
        self.allocator().memmap.machine()
    }

    /// The size of a memory block.
    pub fn block_size(&self) -> BlockSize {
        self.allocator().memmap.block_size()
    }

    /// The block that holds `address`.
    pub fn block_at(&self, address: PhysAddr) -> BlockId {
        self.allocator().memmap.block_at(address)
    }

    /// The blocks that `range` touches, ascending, there or not.
    pub fn blocks_in(&self, range: PhysRange) -> impl DoubleEndedIterator<Item = BlockId> + use<M> {
        self.allocator().memmap.blocks_in(range)
    }

    /// The bytes of a block; `None` for a number past the end of the address space.
    pub fn block_range(&self, id: BlockId) -> Option<PhysRange> {
        self.allocator().memmap.block_range(id)
    }

    /// What is known of a block, or `None` if it is not there. What CPUs have cached is given back first, so that it
    /// counts as free.
    pub fn block(&self, id: BlockId) -> Option<Block> {
        Cached::of(self.allocator()).drain_caches();
        self.allocator().memmap.block(id)
    }

    /// Every block that is there, ascending, counted as by [`block`](Self::block).
    pub fn blocks(&self) -> impl Iterator<Item = Block> + '_ {
        Cached::of(self.allocator()).drain_caches();
        self.allocator().memmap.blocks()
    }

    /// The self-hosted memmap whose head is `head`, as it is written there; `None` if that page is
    /// no head.
    pub fn group(&self, head: Pfn) -> Option<Group> {
        self.allocator().memmap.group(head)
    }

    /// Where the descriptors of `pfns` are.
    pub fn memmap_virt(&self, pfns: PfnRange) -> VirtRange {
        self.allocator().memmap.windows().memmap_virt(pfns)
    }

    /// Where `range` is in the linear map.
    pub fn linear_virt(&self, range: PhysRange) -> VirtRange {
        self.allocator().memmap.windows().linear_virt(range)
    }

    /// Allocates pages that stay where they are, contents unspecified.
    ///
    /// They never come from a movable zone, whose blocks can therefore always be emptied.
    ///
    /// # Errors
    ///
    /// [`OutOfMemory`] with the order: also in the name of a user of another manager, who has no memory here.
    #[inline(always)]
    pub fn alloc(&self, request: impl Into<Request> + Copy) -> Result<Pages<'_, M>, OutOfMemory> {
        self.allocator().alloc(request)
    }

    /// Allocates pages, contents unspecified, that `mover` will move when it is asked to. Movable zones are
    /// filled first; of system zones it leaves [`SYSTEM_FLOOR_SHARE`] free. From the moment that the extent can
    /// be moved on it has the owner's word `private`.
    ///
    /// Where it is at any time only the mover knows: it gives it back by [`free_movable`](Self::free_movable).
    ///
    /// # Errors
    ///
    /// [`OutOfMemory`] with the order: also for a mover of another manager, which has no memory here.
    pub fn alloc_movable(
        &self,
        request: impl Into<Request>,
        mover: &Mover,
        private: u64,
    ) -> Result<Pfn, OutOfMemory> {
        self.allocator().alloc_movable(request, mover, private)
    }

    /// Frees an extent that `mover` allocated, or moved to where it is.
    ///
    /// Frame numbers are values, so a mover may free one twice. If another extent of its own begins there
    /// by then, that is freed, and the next to allocate has the page: what a mover does with the content of
    /// its pages is `unsafe` in the mover, and relies on its own frees. Pages of others, and the manager's
    /// own state, are out of its reach.
    ///
    /// # Errors
    ///
    /// [`FreeError`] if no extent of that mover begins at `pfn`; nothing is changed then.
    pub fn free_movable(&self, pfn: Pfn, mover: &Mover) -> Result<(), FreeError> {
        self.allocator().free_movable(pfn, mover)
    }

    /// Makes `ops` an owner of movable pages. Returns what it allocates with.
    ///
    /// # Errors
    ///
    /// [`TooManyOwners`] from the 17th on.
    pub fn register(&self, ops: &'static dyn MovableOps) -> Result<Mover, TooManyOwners> {
        self.allocator().owners.register(ops)
    }

    /// Names a user of pages that stay, the heap or a driver. What it allocates as
    /// [`named`](crate::Request::named) shows who keeps a block from going offline.
    ///
    /// # Errors
    ///
    /// [`TooManyOwners`] from the 17th on.
    pub fn register_user(&self, name: &'static str) -> Result<User, TooManyOwners> {
        self.allocator().owners.register_user(name)
    }

    /// The name of an owner, for people: that of a mover or a user is its own.
    pub fn owner_name(&self, owner: Owner) -> &'static str {
        self.allocator().owners.name(owner)
    }

    /// Runs `look` on what the kernel keeps of page `index` of the extent that begins at `pfn`, which
    /// `mover` allocated.
    ///
    /// The zone is locked meanwhile: `look` must be short, and must not call the manager.
    ///
    /// # Errors
    ///
    /// [`FreeError`] if no extent of that mover begins at `pfn`, or if it keeps nothing of that page: see
    /// [`Request::with_meta_of_each`](crate::Request::with_meta_of_each).
    pub fn with_meta<R>(
        &self,
        pfn: Pfn,
        index: u64,
        mover: &Mover,
        look: impl FnOnce(&M::Meta) -> R,
    ) -> Result<R, FreeError> {
        self.allocator().with_meta(pfn, index, mover, look)
    }

    /// What the kernel keeps of an allocated page. Takes no lock and does not check the owner.
    ///
    /// # Safety
    ///
    /// The page is the first of an extent that is allocated, or of one that
    /// [`Request::with_meta_of_each`](crate::Request::with_meta_of_each) asked for. While the reference is in use it is
    /// not freed, nor moved if it is movable, and [`Mm::convert`] is not called.
    #[must_use]
    pub unsafe fn meta(&self, pfn: Pfn) -> &M::Meta {
        // SAFETY: by the same contract.
        unsafe { self.allocator().meta(pfn) }
    }

    /// The owner's word of an allocated extent.
    ///
    /// # Errors
    ///
    /// [`FreeError`] if no extent that a user of the allocator could own begins at `pfn`.
    pub fn private(&self, pfn: Pfn) -> Result<u64, FreeError> {
        self.allocator().private(pfn)
    }

    /// Sees to it that a zone has a free extent of `order` at least. Returns where, and it may be
    /// allocated away at once.
    ///
    /// Looks at every extent of the zone. What it isolates meanwhile is free again when it returns.
    ///
    /// # Errors
    ///
    /// [`CompactError`]; what had moved stays where it went.
    pub fn compact(
        &self,
        node: NodeId,
        kind: ZoneKind,
        order: Order,
    ) -> Result<PfnRange, CompactError> {
        self.allocator().compact(node, kind, order)
    }

    /// What CPU `cpu` allocated and freed by way of its cache, and what waits there; `None` if it has none.
    pub fn cpu_pages(&self, cpu: usize) -> Option<CpuPages> {
        self.allocator().caches.counts(cpu)
    }

    /// Clears a page for a later [`zeroed`](crate::Request::zeroed) request of this CPU, if too few wait. Returns
    /// whether there was one to clear. For a CPU that has nothing else to do.
    pub fn zero_ahead(&self) -> bool {
        Cached::of(self.allocator()).zero_ahead()
    }

    /// Gives the pages that CPUs have cached back to their zones, where they are free for everybody and merge: as every
    /// CPU does itself when it finds no memory.
    pub fn drain_caches(&self) {
        Cached::of(self.allocator()).drain_caches();
    }

    /// Every node that has memory, ascending: from when its first block is added until its last is
    /// removed.
    pub fn nodes(&self) -> impl Iterator<Item = NodeInfo> + '_ {
        self.allocator().nodes()
    }
}

impl<'m, M: Machine> Pages<'m, M> {
    /// Takes over pages that [`into_raw`](Self::into_raw) left allocated.
    ///
    /// # Safety
    ///
    /// `pfn` came from `into_raw` of pages of `mm`, and has not been passed here since. Nothing uses the
    /// pages but by this value.
    ///
    /// # Errors
    ///
    /// [`FreeError`] if no such pages begin at `pfn`.
    pub unsafe fn from_raw(mm: &'m Mm<M>, pfn: Pfn) -> Result<Self, FreeError> {
        // SAFETY: by the contract.
        unsafe { Pages::of(mm.allocator(), pfn) }
    }
}
