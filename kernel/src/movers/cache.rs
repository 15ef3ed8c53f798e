//! A page cache over a store of objects in RAM.
//!
//! The store keeps each object's pages in kernel memory, which stays. What is read or written goes
//! through cached copies in movable memory; those that were written are dirty until they are written
//! back. A cached page that moves keeps its object, its place in it, and whether it is dirty.

use super::{clear_page, copy_pages, load, store};
use alloc::vec::Vec;
use core::fmt;
use hotmem::{
    Extent, FreeError, Machine, Mm, MovableOps, Mover, NotNow, Order, OutOfMemory, Pfn,
    TooManyMovers,
};
use spin::{Mutex, Once};

/// Objects that the store can have.
const MAX_OBJECTS: u64 = 64;
/// Pages of an object at the most.
const MAX_PAGES: u64 = 1 << 14;

/// Why the cache did not do something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheError {
    /// Memory ran out.
    OutOfMemory(OutOfMemory),
    /// The kernel heap ran out.
    OutOfHeap,
    /// There is no such object, or it cannot be that large.
    Beyond {
        /// The object.
        object: u64,
        /// The byte of it.
        offset: u64,
    },
    /// A clean page differs from the store's.
    Differs {
        /// The object.
        object: u64,
        /// The byte of it.
        offset: u64,
    },
    /// The allocator does not know a page of the cache's.
    Lost(FreeError),
}

impl fmt::Display for CacheError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OutOfMemory(error) => error.fmt(f),
            Self::OutOfHeap => f.write_str("the kernel heap is used up"),
            Self::Beyond { object, offset } => {
                write!(f, "object {object} has no byte {offset}, and cannot have one")
            }
            Self::Differs { object, offset } => {
                write!(f, "object {object} differs from the store at byte {offset}")
            }
            Self::Lost(error) => write!(f, "the allocator lost a page: {error}"),
        }
    }
}

impl From<OutOfMemory> for CacheError {
    fn from(error: OutOfMemory) -> Self {
        Self::OutOfMemory(error)
    }
}

/// What the cache holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheStatus {
    /// Pages of objects in the store.
    pub stored: u64,
    /// Pages of them that are cached.
    pub cached: u64,
    /// Cached pages that the store does not have yet.
    pub dirty: u64,
    /// Cached pages that were moved so far.
    pub moved: u64,
}

/// A cached page.
#[derive(Clone, Copy, Debug)]
struct Entry {
    pfn: Pfn,
    object: u64,
    page: u64,
    dirty: bool,
    isolated: bool,
}

#[derive(Debug)]
struct State {
    /// The store: the pages of each object.
    objects: Vec<Vec<Pfn>>,
    /// The cache; a page's word is its place here.
    entries: Vec<Entry>,
    moved: u64,
}

/// A page cache, and the store under it.
#[derive(Debug)]
pub struct Cache<M: Machine + 'static> {
    mm: &'static Mm<M>,
    mover: Once<Mover>,
    state: Mutex<State>,
}

impl<M: Machine + Sync> Cache<M> {
    /// An empty cache over an empty store.
    pub const fn new(mm: &'static Mm<M>) -> Self {
        let state = State { objects: Vec::new(), entries: Vec::new(), moved: 0 };
        Self { mm, mover: Once::new(), state: Mutex::new(state) }
    }

    /// Becomes an owner of movable pages.
    ///
    /// # Errors
    ///
    /// [`TooManyMovers`].
    pub fn register(&'static self) -> Result<(), TooManyMovers> {
        let mover = self.mm.register(self)?;
        self.mover.call_once(|| mover);
        Ok(())
    }

    /// Writes `len` bytes of an object from `offset` on, which grows to hold them: the n-th is `byte(n)`.
    ///
    /// # Errors
    ///
    /// [`CacheError`]; bytes before the one that failed are written.
    pub fn write(
        &self,
        object: u64,
        offset: u64,
        len: u64,
        byte: impl Fn(u64) -> u8,
    ) -> Result<(), CacheError> {
        let mut state = self.state.lock();
        let mut done = 0;
        while done < len {
            let at = offset.checked_add(done).ok_or(CacheError::Beyond { object, offset })?;
            let place = self.entry(&mut state, object, at, true)?;
            let run = (M::PAGE_BYTES - at % M::PAGE_BYTES).min(len - done);
            let Some(entry) = state.entries.get_mut(place) else { break };
            entry.dirty = true;
            for index in done..done + run {
                store(self.mm, entry.pfn, offset.wrapping_add(index), byte(index));
            }
            done += run;
        }
        Ok(())
    }

    /// Reads a byte of an object.
    ///
    /// # Errors
    ///
    /// [`CacheError::Beyond`] if it has no such byte; or memory ran out.
    pub fn read(&self, object: u64, offset: u64) -> Result<u8, CacheError> {
        let mut state = self.state.lock();
        let index = self.entry(&mut state, object, offset, false)?;
        let entry = state.entries.get(index).ok_or(CacheError::Beyond { object, offset })?;
        Ok(load(self.mm, entry.pfn, offset))
    }

    /// Writes dirty pages back to the store; answers how many.
    pub fn write_back(&self) -> u64 {
        let mut state = self.state.lock();
        let State { objects, entries, .. } = &mut *state;
        let mut count = 0;
        for entry in entries.iter_mut().filter(|entry| entry.dirty) {
            if let Some(stored) = stored(objects, entry.object, entry.page) {
                copy_pages(self.mm, entry.pfn, stored, Order::ZERO);
                entry.dirty = false;
                count += 1;
            }
        }
        count
    }

    /// Writes back and forgets every cached page that is not being moved; answers how many.
    ///
    /// # Errors
    ///
    /// [`CacheError::Lost`].
    pub fn drop_all(&self) -> Result<u64, CacheError> {
        self.write_back();
        let mut state = self.state.lock();
        let mut count = 0;
        while let Some(entry) = state.entries.pop_if(|entry| !entry.isolated) {
            self.mm.free(entry.pfn).map_err(CacheError::Lost)?;
            count += 1;
        }
        Ok(count)
    }

    /// Checks that every clean page is as the store has it; answers how many.
    ///
    /// # Errors
    ///
    /// [`CacheError::Differs`] with the first byte that is not.
    pub fn check(&self) -> Result<u64, CacheError> {
        let state = self.state.lock();
        let mut count = 0;
        for entry in state.entries.iter().filter(|entry| !entry.dirty) {
            let Entry { pfn, object, page, .. } = *entry;
            let Some(stored) = stored(&state.objects, object, page) else { continue };
            let same = |at: &u64| load(self.mm, pfn, *at) == load(self.mm, stored, *at);
            if let Some(at) = (0..M::PAGE_BYTES).find(|at| !same(at)) {
                return Err(CacheError::Differs { object, offset: page * M::PAGE_BYTES + at });
            }
            count += 1;
        }
        Ok(count)
    }

    /// Where the cached page at `place` is.
    #[cfg(test)]
    pub(super) fn cached_at(&self, place: usize) -> Option<Pfn> {
        self.state.lock().entries.get(place).map(|entry| entry.pfn)
    }

    /// What the cache holds.
    pub fn status(&self) -> CacheStatus {
        let state = self.state.lock();
        CacheStatus {
            stored: state.objects.iter().map(|pages| pages.len() as u64).sum(),
            cached: state.entries.len() as u64,
            dirty: state.entries.iter().filter(|entry| entry.dirty).count() as u64,
            moved: state.moved,
        }
    }

    /// The place of the cached page that holds a byte of an object, filled if it was not cached.
    fn entry(
        &self,
        state: &mut State,
        object: u64,
        offset: u64,
        grow: bool,
    ) -> Result<usize, CacheError> {
        let page = offset / M::PAGE_BYTES;
        let here = |entry: &Entry| (entry.object, entry.page) == (object, page);
        if let Some(index) = state.entries.iter().position(here) {
            return Ok(index);
        }
        let beyond = CacheError::Beyond { object, offset };
        if grow {
            self.grow(state, object, page, beyond)?;
        }
        let source = stored(&state.objects, object, page).ok_or(beyond)?;
        let &mover = self.mover.get().ok_or(CacheError::OutOfHeap)?;
        state.entries.try_reserve(1).map_err(|_| CacheError::OutOfHeap)?;
        let pfn = self.mm.alloc_movable(Order::ZERO, mover)?;
        let index = state.entries.len();
        self.mm.set_private(pfn, index as u64).map_err(CacheError::Lost)?;
        copy_pages(self.mm, source, pfn, Order::ZERO);
        state.entries.push(Entry { pfn, object, page, dirty: false, isolated: false });
        Ok(index)
    }

    /// Makes an object long enough to have `page`.
    fn grow(
        &self,
        state: &mut State,
        object: u64,
        page: u64,
        beyond: CacheError,
    ) -> Result<(), CacheError> {
        if object >= MAX_OBJECTS || page >= MAX_PAGES {
            return Err(beyond);
        }
        while state.objects.len() as u64 <= object {
            state.objects.try_reserve(1).map_err(|_| CacheError::OutOfHeap)?;
            state.objects.push(Vec::new());
        }
        let Some(pages) = state.objects.get_mut(object as usize) else { return Err(beyond) };
        while pages.len() as u64 <= page {
            pages.try_reserve(1).map_err(|_| CacheError::OutOfHeap)?;
            let pfn = self.mm.alloc(Order::ZERO)?;
            clear_page(self.mm, pfn);
            pages.push(pfn);
        }
        Ok(())
    }

    /// Runs `f` on the entry of an extent, if it is the cache's.
    fn with_entry<T>(
        &self,
        extent: &Extent,
        f: impl FnOnce(&mut Entry, &mut u64) -> T,
    ) -> Option<T> {
        let mut state = self.state.lock();
        let State { entries, moved, .. } = &mut *state;
        let entry = entries.get_mut(usize::try_from(extent.private).ok()?)?;
        (entry.pfn == extent.pfn).then(|| f(entry, moved))
    }
}

/// Where the store keeps a page of an object.
fn stored(objects: &[Vec<Pfn>], object: u64, page: u64) -> Option<Pfn> {
    let pages = objects.get(usize::try_from(object).ok()?)?;
    pages.get(usize::try_from(page).ok()?).copied()
}

impl<M: Machine + Sync> MovableOps for Cache<M> {
    fn name(&self) -> &'static str {
        "cache"
    }

    fn isolate(&self, extent: &Extent) -> Result<(), NotNow> {
        self.with_entry(extent, |entry, _| entry.isolated = true).ok_or(NotNow)
    }

    fn migrate(&self, from: &Extent, to: Pfn) -> Result<(), NotNow> {
        let migrate = |entry: &mut Entry, moved: &mut u64| {
            copy_pages(self.mm, from.pfn, to, from.order);
            (entry.pfn, entry.isolated) = (to, false);
            *moved += 1;
        };
        self.with_entry(from, migrate).ok_or(NotNow)
    }

    fn putback(&self, extent: &Extent) {
        self.with_entry(extent, |entry, _| entry.isolated = false);
    }
}
