//! The manager's functions on the memmap and the allocator.

// UNSAFETY: passes the safety contracts of two functions on.
#![expect(unsafe_code)]

use crate::alloc::batch::Cached;
use crate::alloc::divide::Divider;
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

    /// The blocks that `range` touches, ascending, present or not.
    pub fn blocks_in(&self, range: PhysRange) -> impl DoubleEndedIterator<Item = BlockId> + use<M> {
        self.allocator().memmap.blocks_in(range)
    }

    /// The bytes of a block; `None` for a number past the end of the address space.
    pub fn block_range(&self, id: BlockId) -> Option<PhysRange> {
        self.allocator().memmap.block_range(id)
    }

    /// The state of a block, or `None` if it is not present. Drains the caches of CPUs first, so that cached pages
    /// count as free.
    pub fn block(&self, id: BlockId) -> Option<Block> {
        Cached::of(self.allocator()).drain_caches();
        self.allocator().memmap.block(id)
    }

    /// As [`block`](Self::block), without draining: cached pages count as in use.
    pub fn peek_block(&self, id: BlockId) -> Option<Block> {
        self.allocator().memmap.block(id)
    }

    /// Every present block, ascending, counted as by [`block`](Self::block).
    pub fn blocks(&self) -> impl Iterator<Item = Block> + '_ {
        Cached::of(self.allocator()).drain_caches();
        self.allocator().memmap.blocks()
    }

    /// The parts of a block that were added apart, ascending: one if it is completely there and was added at once. Of
    /// boot memory, the parts between holes. They are those at the time of the call that returns each.
    pub fn block_shares(&self, id: BlockId) -> impl Iterator<Item = Share> + '_ {
        self.allocator().memmap.shares_of(id)
    }

    /// Bytes of the unit of presence, a subsection: memory is added in whole, aligned ones. It is 1/64 of a section, or
    /// what one page of descriptors describes if that is more.
    pub const fn subsection(&self) -> u64 {
        M::UNIT_PAGES * M::PAGE_BYTES
    }

    /// The self-hosted memmap whose head is `head`, with the values stored there; `None` if that page is not a head.
    pub fn group(&self, head: Pfn) -> Option<Group> {
        self.allocator().memmap.group(head)
    }

    /// The address of the descriptors of `pfns`.
    pub fn memmap_virt(&self, pfns: PfnRange) -> VirtRange {
        self.allocator().memmap.windows().memmap_virt(pfns)
    }

    /// The address of `range` in the linear map.
    pub fn linear_virt(&self, range: PhysRange) -> VirtRange {
        self.allocator().memmap.windows().linear_virt(range)
    }

    /// Allocates unmovable pages, contents unspecified.
    ///
    /// They never come from a movable zone, whose blocks can therefore always be emptied.
    ///
    /// # Errors
    ///
    /// [`OutOfMemory`] with the order: also for a user of another manager, which has no memory here.
    #[inline(always)]
    pub fn alloc(&self, request: impl Into<Request> + Copy) -> Result<Pages<'_, M>, OutOfMemory> {
        self.allocator().alloc(request)
    }

    /// Allocates pages, contents unspecified, that `mover` migrates on request. Movable zones are filled first; of
    /// system zones it leaves [`SYSTEM_FLOOR_SHARE`] free. The extent has the owner's word `private` from the moment
    /// that it can be migrated.
    ///
    /// Only the mover knows its place at any time: it frees the extent by [`free_movable`](Self::free_movable).
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

    /// Frees an extent that `mover` allocated, or migrated to `pfn`.
    ///
    /// Frame numbers are values, so a mover may free one twice. If another extent of its own begins there by then,
    /// that one is freed, and the next allocation may return the page: accesses to the content of a mover's pages
    /// are `unsafe` code of the mover, which relies on the mover's own frees. Pages of other owners, and the
    /// manager's own state, are not affected.
    ///
    /// # Errors
    ///
    /// [`FreeError`] if no extent of that mover begins at `pfn`; nothing is changed then.
    pub fn free_movable(&self, pfn: Pfn, mover: &Mover) -> Result<(), FreeError> {
        self.allocator().free_movable(pfn, mover)
    }

    /// Divides an extent that `mover` allocated, or migrated to `pfn`, into extents of the order `into`, each to be
    /// freed by itself. The part that begins at page `n` of the extent gets the owner's word `word(n)`, and a copy of
    /// the metadata. `word` is called with a zone locked. Does nothing if the extent is as small already.
    ///
    /// # Errors
    ///
    /// [`FreeError`] if no extent of that mover begins at `pfn`; [`FreeError::Leaving`] while an operation empties its
    /// block, unless that asks for it ([`MovableOps::split`]). Nothing is changed then.
    pub fn split_movable(
        &self,
        pfn: Pfn,
        mover: &Mover,
        into: Order,
        word: impl Fn(u64) -> u64,
    ) -> Result<(), FreeError> {
        Divider::of(self.allocator()).split(pfn, mover, into, word)
    }

    /// Registers `ops` as an owner of movable pages. Returns the handle for its allocations.
    ///
    /// # Errors
    ///
    /// [`TooManyOwners`] from the 17th on.
    pub fn register(&self, ops: &'static dyn MovableOps) -> Result<Mover, TooManyOwners> {
        self.allocator().owners.register(ops)
    }

    /// Registers a name for a user of unmovable pages, such as the heap or a driver. Errors name this user if its
    /// allocations ([`named`](crate::Request::named)) keep a block from going offline.
    ///
    /// # Errors
    ///
    /// [`TooManyOwners`] from the 17th on.
    pub fn register_user(&self, name: &'static str) -> Result<User, TooManyOwners> {
        self.allocator().owners.register_user(name)
    }

    /// Watches free memory: `watch` is notified when it falls below the low mark of `marks`, and when it has risen above the
    /// high mark. Called again with the same watch, this changes its marks. Both take effect at once: if memory is low
    /// now, the watch is notified before this returns.
    ///
    /// Free memory is that of all zones of the node, or of the machine, in bytes. It counts neither pages in caches of
    /// CPUs nor memory that is offline or about to be. The marks are compared whenever a zone is unlocked, so
    /// an allocation from the cache of a CPU costs nothing more. A watch is never unregistered: with [`Marks::NEVER`] it
    /// is not notified any more. If two CPUs change the marks of one watch at once, it may have a mark of each.
    ///
    /// # Errors
    ///
    /// [`WatchError`].
    pub fn watch(&self, watch: &'static Watch, marks: Marks) -> Result<(), WatchError> {
        let pages = (marks.low().div_ceil(M::PAGE_BYTES), marks.high() / M::PAGE_BYTES);
        self.allocator().nodes.watch(watch, self.allocator().owners.number(), pages)
    }

    /// Bytes of free memory, as a registered `watch` compares them with its marks. Takes no lock.
    pub fn free_of(&self, watch: &Watch) -> u64 {
        self.allocator().nodes.pages_of(watch).saturating_mul(M::PAGE_BYTES)
    }

    /// The name of an owner, for messages: that of a movable owner or a user is its own.
    pub fn owner_name(&self, owner: Owner) -> &'static str {
        self.allocator().owners.name(owner)
    }

    /// Calls `look` with the kernel's metadata of page `index` of the extent that begins at `pfn`, which `mover`
    /// allocated.
    ///
    /// The zone is locked during the call: `look` must be short, and must not call the manager.
    ///
    /// # Errors
    ///
    /// [`FreeError`] if no extent of that mover begins at `pfn`, or if the page has no metadata: see
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

    /// The kernel's metadata of an allocated page. Takes no lock and does not check the owner.
    ///
    /// # Safety
    ///
    /// The page is the first of an extent that is allocated, or any page of one that
    /// [`Request::with_meta_of_each`](crate::Request::with_meta_of_each) asked for. While the reference is in use
    /// the extent is not freed, nor migrated if it is movable, and [`Mm::convert`] is not called.
    #[must_use]
    pub unsafe fn meta(&self, pfn: Pfn) -> &M::Meta {
        // SAFETY: by the contract of this function.
        unsafe { self.allocator().meta(pfn) }
    }

    /// The owner's word of an allocated extent.
    ///
    /// # Errors
    ///
    /// [`FreeError`] if no extent of a user of the allocator begins at `pfn`.
    pub fn private(&self, pfn: Pfn) -> Result<u64, FreeError> {
        self.allocator().private(pfn)
    }

    /// Makes sure that a zone has a free extent of at least `order`. Returns its place; it may be allocated at once
    /// by another CPU.
    ///
    /// Examines every extent of the zone. Pages that it isolates are free again when it returns.
    ///
    /// # Errors
    ///
    /// [`CompactError`]; pages already migrated are not moved back.
    pub fn compact(
        &self,
        node: NodeId,
        kind: ZoneKind,
        order: Order,
    ) -> Result<PfnRange, CompactError> {
        self.allocator().compact(node, kind, order)
    }

    /// The pages that CPU `cpu` allocated and freed through its cache, and those in it; `None` if it has no cache.
    pub fn cpu_pages(&self, cpu: usize) -> Option<CpuPages> {
        self.allocator().caches.counts::<M>(cpu)
    }

    /// Clears a page for a later [`zeroed`](crate::Request::zeroed) request of this CPU, if too few zeroed pages are
    /// cached. Returns whether it cleared one. For an idle CPU.
    pub fn zero_ahead(&self) -> bool {
        Cached::of(self.allocator()).zero_ahead()
    }

    /// Returns the pages in the caches of CPUs to their zones, where every CPU can allocate them and they merge: an
    /// allocation does so itself when it finds no memory.
    pub fn drain_caches(&self) {
        Cached::of(self.allocator()).drain_caches();
    }

    /// Every node that has memory, ascending: from the add of its first block until the removal of its last.
    pub fn nodes(&self) -> impl Iterator<Item = NodeInfo> + '_ {
        self.allocator().nodes()
    }
}

impl<'m, M: Machine> Pages<'m, M> {
    /// Takes over pages that [`into_raw`](Self::into_raw) left allocated.
    ///
    /// # Safety
    ///
    /// `pfn` came from `into_raw` of pages of `mm`, and has not been passed here since. The pages are used only
    /// through this value.
    ///
    /// # Errors
    ///
    /// [`FreeError`] if no such pages begin at `pfn`.
    pub unsafe fn from_raw(mm: &'m Mm<M>, pfn: Pfn) -> Result<Self, FreeError> {
        // SAFETY: by the contract of this function.
        unsafe { Pages::of(mm.allocator(), pfn) }
    }
}
