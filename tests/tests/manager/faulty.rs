//! A machine of the kernel whose mapper returns errors.

// UNSAFETY: passes on the guarantees of the fake machine.
#![expect(unsafe_code)]

use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use hotmem::paging::{
    Gather, MapError, Mapper, Mapping, StrangeEntry, TableAt, TableFrames, Translation, UnmapError,
};
use hotmem::testing::{FakeMachine, Shape, Tiny};
use hotmem::{
    CpuCaches, Machine, NodeTable, Page, Pfn, PhysAddr, PhysMem, Sizes, SpinLock, VirtAddr,
    VirtRange,
};

/// A fake machine whose mapper refuses one call.
pub(crate) struct Faulty<S: Shape = Tiny> {
    pub(crate) inner: FakeMachine<S>,
    calls: AtomicU64,
    fails_at: AtomicU64,
    /// Whether it uses leaves as large as fit, and ignores the limit it is given.
    pub(crate) large: AtomicBool,
}

impl<S: Shape> Faulty<S> {
    /// Over a machine, with the `nth` call failing; 0 for none.
    pub(crate) fn over(inner: FakeMachine<S>, nth: u64) -> Self {
        let (calls, fails_at) = (AtomicU64::new(0), AtomicU64::new(nth));
        Self { inner, calls, fails_at, large: AtomicBool::new(false) }
    }

    /// The `n`-th call that changes something fails, once; 0 for none.
    pub(crate) fn arm(&self, n: u64) {
        self.calls.store(0, Ordering::Relaxed);
        self.fails_at.store(n, Ordering::Relaxed);
    }

    fn fails(&self) -> bool {
        self.calls.fetch_add(1, Ordering::Relaxed) + 1 == self.fails_at.load(Ordering::Relaxed)
    }

    pub(crate) fn fired(&self) -> bool {
        let at = self.fails_at.load(Ordering::Relaxed);
        at != 0 && self.calls.load(Ordering::Relaxed) >= at
    }
}

// SAFETY: the fake machine's tables do everything that the mapper does not refuse.
unsafe impl<S: Shape> Mapper for Faulty<S> {
    type Tlb = <<FakeMachine<S> as Machine>::Mapper as Mapper>::Tlb;

    fn tlb(&self) -> &Self::Tlb {
        self.inner.tables().tlb()
    }

    fn map<F: TableFrames>(&self, mapping: &Mapping, frames: &F) -> Result<(), MapError> {
        if self.fails() {
            return Err(MapError::AlreadyMapped { at: mapping.virt });
        }
        let large = self.large.load(Ordering::Relaxed);
        let max_leaf = if large { u64::MAX } else { mapping.max_leaf };
        self.inner.tables().map(&Mapping { max_leaf, ..*mapping }, frames)
    }

    fn unmap<F: TableFrames>(
        &self,
        range: VirtRange,
        gather: &mut Gather<'_, Self::Tlb, F>,
    ) -> Result<(), UnmapError> {
        if self.fails() {
            return Err(UnmapError::BeyondFormat { range });
        }
        self.inner.tables().unmap(range, gather)
    }

    fn translate(&self, at: VirtAddr) -> Option<Translation> {
        self.inner.tables().translate(at)
    }

    fn visit(&self, range: VirtRange, each: &mut dyn FnMut(Translation)) {
        self.inner.tables().visit(range, each);
    }

    fn tables_for(&self, range: VirtRange, max_leaf: u64, each: &mut dyn FnMut(u64, u64)) {
        self.inner.tables().tables_for(range, max_leaf, each);
    }

    fn visit_tables(&self, each: &mut dyn FnMut(TableAt)) {
        self.inner.tables().visit_tables(each);
    }

    fn examine(&self, each: &mut dyn FnMut(TableAt) -> bool) -> Option<StrangeEntry> {
        self.inner.tables().examine(each)
    }
}

impl<S: Shape> Sizes for Faulty<S> {
    const PAGE_SHIFT: u32 = FakeMachine::<S>::PAGE_SHIFT;
    const SECTION_SHIFT: u32 = FakeMachine::<S>::SECTION_SHIFT;
}

// SAFETY: every guarantee is the fake machine's own.
unsafe impl<S: Shape> PhysMem for Faulty<S> {
    fn linear_base(&self) -> VirtAddr {
        self.inner.linear_base()
    }

    fn pointer(&self, at: PhysAddr) -> NonNull<u8> {
        self.inner.pointer(at)
    }
}

// SAFETY: every guarantee is the fake machine's own.
unsafe impl<S: Shape> Machine for Faulty<S> {
    type Mapper = Self;
    type Nodes = NodeTable<1>;
    type Caches = CpuCaches<1>;
    type Lock = SpinLock;
    type Meta = ();

    fn vmemmap_base(&self) -> VirtAddr {
        self.inner.vmemmap_base()
    }

    fn phys_limit(&self) -> PhysAddr {
        self.inner.phys_limit()
    }

    unsafe fn mapper(&self) -> &Self {
        self
    }

    fn descriptor(&self, pfn: Pfn) -> NonNull<Page> {
        self.inner.descriptor(pfn)
    }

    fn clean(&self, range: VirtRange) {
        self.inner.clean(range);
    }
}
