//! Free pages kept for their next user: a cache for each CPU.
//!
//! ```text
//!               alloc / free                       a batch, the zone locked once
//!   the kernel <-----------> [hot] <-> [cold] [cold] <------------------> free lists of the zone
//! ```
//!
//! A cache has a hot and two cold lists for each order that it keeps and each kind of zone. Pages are allocated from the
//! hot list and freed to it. A cold list holds a batch, or is empty: the hot list becomes a cold one when it is full, and
//! a cold one becomes the hot one when that is empty. So there are at most three batches of an order (and one of single
//! pages that are cleared: `zeroed.rs`), and the zone is locked at most once in as many allocations or frees as a batch
//! has.
//!
//! All pages of a cache are of one node, that of the CPU. A page in a cache is the head of an extent in the state
//! [`PageState::Cached`](crate::PageState::Cached), and free for this cache only: neither its zone nor its block
//! counts it as free. Its list link is in its descriptor (`links.rs`). Any CPU may lock any cache, to drain it.

use crate::addr::Pfn;
use crate::alloc::class::{CLASSES, Class};
use crate::alloc::closing::Closing;
use crate::alloc::list::{List, Taken};
use crate::alloc::node::NodeId;
use crate::alloc::zone::ZoneKind;
use crate::geometry::Geometry;
use crate::lock::{Mutex, MutexGuard, RawLock, SpinLock};
use core::fmt;

/// Where memory belongs, as a used extent remembers it: never 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HomeTag(u64);

impl HomeTag {
    /// The tag of a zone.
    #[inline]
    pub(crate) const fn new(node: NodeId, kind: ZoneKind) -> Self {
        Self((node.index() as u64 + 1) << 2 | kind as u64)
    }

    /// The tag as a number.
    #[inline]
    pub(crate) const fn get(self) -> u64 {
        self.0
    }
}

/// What a CPU did, and has cached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpuPages {
    /// Pages it allocated.
    pub allocated: u64,
    /// Pages it freed.
    pub freed: u64,
    /// Pages in its cache.
    pub cached: u64,
}

/// The cache of one CPU.
#[derive(Debug)]
pub(crate) struct Cache {
    /// The tag of its node's first kind; 0 until the first use.
    home: u64,
    /// By class, and by kind.
    lists: [[List; ZoneKind::ALL.len()]; CLASSES],
    /// Not 0 if a list may hold extents.
    stocked: u64,
    /// Extents allocated, by class.
    allocated: [u64; CLASSES],
    /// Extents that came from zones or other lists, less those that went back: what was freed is the rest.
    came: [u64; CLASSES],
}

impl Cache {
    const EMPTY: Self = Self {
        home: 0,
        lists: [const { [const { List::EMPTY }; ZoneKind::ALL.len()] }; CLASSES],
        stocked: 0,
        allocated: [0; CLASSES],
        came: [0; CLASSES],
    };

    /// The node of its pages.
    pub(crate) fn node(&self) -> Option<NodeId> {
        NodeId::new((self.home >> 2).checked_sub(1)? as u32)
    }

    /// Changes the node. All lists are empty.
    pub(crate) fn set_node(&mut self, node: NodeId) {
        self.home = HomeTag::new(node, ZoneKind::ALL[0]).get();
    }

    /// The kind of the zone that a tag names, if the zone is on this cache's node.
    #[inline]
    pub(crate) fn kind_of(&self, tag: u64) -> Option<ZoneKind> {
        match tag.wrapping_sub(self.home) {
            0 => Some(ZoneKind::System),
            1 => Some(ZoneKind::Normal),
            2 => Some(ZoneKind::Movable),
            _ => None,
        }
    }

    /// The tag of its zone `kind`.
    #[inline]
    pub(crate) const fn tag(&self, kind: ZoneKind) -> u64 {
        self.home + kind as u64
    }

    /// The list to allocate from.
    #[inline]
    pub(crate) fn list(&mut self, kind: ZoneKind, class: Class) -> &mut List {
        &mut self.lists[class.0 as usize % CLASSES][kind as usize]
    }

    /// The list to add a batch to.
    pub(crate) fn stock(&mut self, kind: ZoneKind, class: Class) -> &mut List {
        self.stocked = 1;
        self.list(kind, class)
    }

    /// The list to add the extent at `pfn` to: it is not full.
    #[inline]
    pub(crate) fn list_for(&mut self, pfn: Pfn, kind: ZoneKind, class: Class) -> &mut List {
        // Any number but 0 will do, and this one is in a register.
        self.stocked = pfn.get() + 1;
        self.list(kind, class)
    }

    /// Takes a list that holds extents, with its kind and class.
    pub(crate) fn stocked(&mut self) -> Option<(ZoneKind, Class, Taken)> {
        if self.stocked == 0 {
            return None;
        }
        let stocked = self.all().find(|(_, class, list)| list.extents(*class) > 0);
        let stocked = stocked.map(|(kind, class, list)| (kind, class, list.extents(class)));
        self.stocked = u64::from(stocked.is_some());
        let (kind, class, before) = stocked?;
        let list = self.list(kind, class);
        let taken = list.take();
        let came = list.extents(class).wrapping_sub(before);
        self.count_came(class, came);
        Some((kind, class, taken))
    }

    /// Every list, with its kind and class.
    pub(crate) fn all(&self) -> impl Iterator<Item = (ZoneKind, Class, &List)> {
        Class::all().zip(&self.lists).flat_map(|(class, lists)| {
            ZoneKind::ALL.into_iter().zip(lists).map(move |(kind, list)| (kind, class, list))
        })
    }

    /// Pages of the zones `kinds` in this cache.
    pub(crate) fn pages<G: Geometry>(&self, of: impl Fn(ZoneKind) -> bool) -> u64 {
        let lists = self.all().filter(|&(kind, ..)| of(kind));
        lists.map(|(_, class, list)| list.extents(class) * class.order::<G>().pages()).sum()
    }

    #[inline]
    pub(crate) fn count_allocated(&mut self, class: Class) {
        let count = &mut self.allocated[class.0 as usize % CLASSES];
        *count = count.wrapping_add(1);
    }

    /// A page of the class `small` was cleared, and is kept as one of zeroes.
    pub(crate) fn count_cleared(&mut self, small: Class) {
        self.count_came(small, 1_u64.wrapping_neg());
        self.count_came(Class::ZEROED, 1);
    }

    /// Counts extents that came, or went (wrapping: then a negative number).
    pub(crate) fn count_came(&mut self, class: Class, extents: u64) {
        let came = &mut self.came[class.0 as usize % CLASSES];
        *came = came.wrapping_add(extents);
    }

    fn counts<G: Geometry>(&self) -> CpuPages {
        let pages = |counts: &[u64]| {
            let counts = Class::all().zip(counts);
            counts.fold(0, |sum: u64, (class, count)| {
                sum.wrapping_add(count.wrapping_mul(class.order::<G>().pages()))
            })
        };
        let (allocated, cached) = (pages(&self.allocated), self.pages::<G>(|_| true));
        // Each page that came or was freed was allocated, or is still here.
        let freed = allocated.wrapping_add(cached).wrapping_sub(pages(&self.came));
        CpuPages { allocated, freed, cached }
    }
}

/// A cache that is locked.
pub(crate) type CacheGuard<'c, L> = MutexGuard<'c, L, Cache>;

/// The cache of a CPU and its lock, in a cache line that it does not share with other CPUs'.
#[derive(Debug)]
#[repr(align(64))]
pub struct CpuCache<L: RawLock>(Mutex<L, Cache>);

/// Storage for the caches of a machine's CPUs: [`CpuCaches`] with their number. A kernel names it as
/// `Caches` of its [machine](crate::Machine).
pub trait CacheStorage: fmt::Debug + Sync {
    /// The locks of the caches.
    type Lock: RawLock;

    /// Caches without pages. All bytes are zero, so that a static of it takes no room in an image.
    const EMPTY: Self;

    /// The caches, from CPU 0 on. A CPU past the last has no cache.
    fn caches(&self) -> &[CpuCache<Self::Lock>];
}

/// Storage for the caches of the CPUs below `N`, 768 bytes each. With 0, caching is off.
#[derive(Debug)]
pub struct CpuCaches<const N: usize, L: RawLock = SpinLock>([CpuCache<L>; N]);

impl<const N: usize, L: RawLock> CacheStorage for CpuCaches<N, L> {
    type Lock = L;

    const EMPTY: Self = Self([const { CpuCache(Mutex::new(Cache::EMPTY)) }; N]);

    #[inline]
    fn caches(&self) -> &[CpuCache<L>] {
        &self.0
    }
}

/// Locks a cache that another CPU has locked.
#[cold]
fn wait_for<L: RawLock>(cache: &Mutex<L, Cache>) -> CacheGuard<'_, L> {
    cache.lock()
}

/// The caches of all CPUs.
#[derive(Debug)]
pub(crate) struct Caches<S> {
    storage: S,
    /// Which are used, and what none may have.
    pub(crate) closing: Closing,
}

impl<S: CacheStorage> Caches<S> {
    pub(crate) const fn new() -> Self {
        Self { storage: S::EMPTY, closing: Closing::new() }
    }

    /// Locks the cache of `cpu`, if it has one. Lock order: before a zone's lock, never after it, and never two
    /// caches.
    #[inline]
    #[track_caller]
    pub(crate) fn lock(&self, cpu: usize) -> Option<CacheGuard<'_, S::Lock>> {
        let cache = &self.storage.caches().get(cpu)?.0;
        // The wait is out of line: mostly the CPU locks its own cache, which is free.
        Some(cache.try_lock().unwrap_or_else(|| wait_for(cache)))
    }

    /// The same if it is free.
    #[inline]
    #[track_caller]
    pub(crate) fn try_lock(&self, cpu: usize) -> Option<CacheGuard<'_, S::Lock>> {
        self.storage.caches().get(cpu)?.0.try_lock()
    }

    /// All CPUs that have a cache.
    pub(crate) fn all(&self) -> core::ops::Range<usize> {
        0..self.storage.caches().len()
    }

    /// Pages of a zone that wait in caches.
    pub(crate) fn pages<G: Geometry>(&self, node: NodeId, kind: ZoneKind) -> u64 {
        let here = |cache: &Cache| {
            if cache.node() == Some(node) { cache.pages::<G>(|other| other == kind) } else { 0 }
        };
        self.closing.used().filter_map(|cpu| self.lock(cpu)).map(|cache| here(&cache)).sum()
    }

    /// Counters of a CPU, and the size of its cache.
    pub(crate) fn counts<G: Geometry>(&self, cpu: usize) -> Option<CpuPages> {
        Some(self.lock(cpu)?.counts::<G>())
    }
}
