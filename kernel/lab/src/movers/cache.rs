//! A page cache over objects that live in kernel memory.
//!
//! ```text
//!   read, write ----> cached page (movable) ---- write back ----> stored page (never moves)
//!                         ^                                            |
//!                         +------------------ load --------------------+
//! ```
//!
//! Each page of an object has a record of three words: where it is stored, where it is cached, and the
//! checksum of its newest content.
//!
//! - A cached page that is not dirty is the same as the stored one; a page that was never stored reads
//!   as zeros.
//! - The checksum is that of the cached page, or of the stored one if it is not cached.
//! - The manager's word of a cached page names its object and its place there.

// UNSAFETY: writes and reads the content of the cache's pages.
#![expect(unsafe_code)]

use super::Shared;
use super::array::{Array, Full};
use super::frame;
use super::record::{Cached, Key, OBJECTS, Record, Table};
use alloc::boxed::Box;
use core::fmt;
use core::sync::atomic::AtomicU64;
use hotmem::lock::lock_api::Mutex;
use hotmem::{
    Extent, Mm, MovableOps, Mover, NotNow, Order, OutOfMemory, Pages, Pfn, TooManyOwners,
};

/// Pages of an object.
const MAX_PAGES: u64 = 1 << 20;
/// Why the cache does not do what it is asked to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheError {
    /// No page is left.
    Memory(OutOfMemory),
    /// The table cannot grow.
    Table(Full),
    /// There is no such object.
    NoObject(u64),
    /// The object has no such byte, or cannot have one.
    Beyond {
        /// The object.
        object: u64,
        /// The byte of it.
        offset: u64,
    },
    /// The content of a page is not what it was.
    Damaged {
        /// The object.
        object: u64,
        /// The page's number in it.
        index: u64,
        /// Where it was read: in the cache, or in the store.
        cached: bool,
    },
    /// A page is just being moved.
    Moving,
    /// The manager does not know a page as the cache's.
    Lost(Pfn),
}

impl fmt::Display for CacheError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory(error) => error.fmt(f),
            Self::Table(error) => error.fmt(f),
            Self::NoObject(object) => write!(f, "there is no object {object}, only {OBJECTS}"),
            Self::Beyond { object, offset } => {
                write!(f, "object {object} has no byte {offset}, or cannot have one")
            }
            Self::Damaged { object, index, cached } => {
                let place = if *cached { "cache" } else { "store" };
                write!(f, "page {index} of object {object} has changed in the {place}")
            }
            Self::Moving => f.write_str("a page is just being moved"),
            Self::Lost(pfn) => write!(f, "{pfn} of the cache is lost"),
        }
    }
}

/// What there is in the cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheStatus {
    /// Pages in the cache.
    pub cached: u64,
    /// Those that were not written back yet.
    pub dirty: u64,
    /// Pages in the store.
    pub stored: u64,
    /// Pages moved so far.
    pub moved: u64,
    /// Moves that were called off so far.
    pub putbacks: u64,
}

/// The owner, as the manager calls it.
#[derive(Debug)]
struct Owner<M: Shared> {
    mm: &'static Mm<M>,
    table: Mutex<M::Lock, Table<M>>,
}

/// The cache.
#[derive(Debug)]
pub struct Cache<M: Shared> {
    owner: &'static Owner<M>,
    mover: Mover,
}

impl<M: Shared> Cache<M> {
    /// An empty cache of empty objects, known to the manager, for good.
    ///
    /// # Errors
    ///
    /// [`TooManyOwners`].
    pub fn register(mm: &'static Mm<M>) -> Result<Self, TooManyOwners> {
        let objects = core::array::from_fn(|_| Array::new(mm));
        let table = Mutex::new(Table { objects, moved: 0, putbacks: 0 });
        let owner: &'static Owner<M> = Box::leak(Box::new(Owner { mm, table }));
        Ok(Self { owner, mover: mm.register(owner)? })
    }

    /// Writes `len` bytes of an object from `offset` on, which grows to hold them: the n-th is `byte(n)`.
    ///
    /// # Errors
    ///
    /// [`CacheError::Beyond`] and [`CacheError::NoObject`] before anything is written; after another, what
    /// lies before the page that cannot be cached was written.
    pub fn write(
        &self,
        object: u64,
        offset: u64,
        len: u64,
        byte: impl Fn(u64) -> u8,
    ) -> Result<(), CacheError> {
        let end = offset.checked_add(len).ok_or(CacheError::Beyond { object, offset })?;
        key::<M>(object, end.saturating_sub(1))?;
        let mut table = self.owner.table.lock();
        let mut at = offset;
        while at < end {
            let (key, start) = key::<M>(object, at)?;
            let run = (M::PAGE_BYTES - start as u64).min(end - at);
            self.change(&mut table, key, |words| {
                for (place, index) in (start..).zip(at - offset..at - offset + run) {
                    frame::set_byte(words, place, byte(index));
                }
            })?;
            at += run;
        }
        Ok(())
    }

    /// Reads an object into `bytes` from the byte `offset` on.
    ///
    /// # Errors
    ///
    /// [`CacheError`]; `bytes` is then filled in part.
    pub fn read(&self, object: u64, offset: u64, bytes: &mut [u8]) -> Result<(), CacheError> {
        let mut table = self.owner.table.lock();
        for (at, byte) in (offset..).zip(bytes) {
            let (key, start) = key::<M>(object, at)?;
            if !table.has(key) {
                return Err(CacheError::Beyond { object, offset: at });
            }
            let cached = self.load(&mut table, key)?;
            *byte = frame::byte(self.owner.content(cached.pfn), start);
        }
        Ok(())
    }

    /// Fills the first `pages` pages of an object, each with a pattern of its own.
    ///
    /// # Errors
    ///
    /// [`CacheError`] with how many it filled.
    pub fn fill(&self, object: u64, pages: u64) -> Result<(), (u64, CacheError)> {
        (0..pages).try_for_each(|index| {
            let mut table = self.owner.table.lock();
            key::<M>(object, index.saturating_mul(M::PAGE_BYTES))
                .and_then(|(key, _)| {
                    self.change(&mut table, key, |words| frame::fill(words, key.encode()))
                })
                .map_err(|error| (index, error))
        })
    }

    /// Stores every page that was changed; answers how many.
    ///
    /// # Errors
    ///
    /// [`CacheError::Memory`] for the store; the pages that are left stay dirty.
    pub fn write_back(&self) -> Result<u64, CacheError> {
        let mut table = self.owner.table.lock();
        let mut count = 0;
        for key in table.keys() {
            count += u64::from(self.owner.store(&mut table, key)?);
        }
        Ok(count)
    }

    /// Writes everything back and frees the cached pages; answers how many.
    ///
    /// # Errors
    ///
    /// As [`write_back`](Self::write_back); [`CacheError::Moving`] where a page is being moved, and
    /// stays.
    pub fn drop_pages(&self) -> Result<u64, CacheError> {
        let mut table = self.owner.table.lock();
        let (mut count, mut moving) = (0, false);
        for key in table.keys() {
            self.owner.store(&mut table, key)?;
            match table.record(key).cached {
                Some(cached) if cached.isolated => moving = true,
                Some(cached) => {
                    let freed = self.owner.mm.free_movable(cached.pfn, &self.mover);
                    freed.map_err(|_| CacheError::Lost(cached.pfn))?;
                    table.set_cached(key, None);
                    count += 1;
                }
                None => {}
            }
        }
        if moving { Err(CacheError::Moving) } else { Ok(count) }
    }

    /// Empties every object: cache and store are then as at the beginning.
    ///
    /// # Errors
    ///
    /// As [`drop_pages`](Self::drop_pages).
    pub fn clear(&self) -> Result<(), CacheError> {
        self.drop_pages()?;
        let mut table = self.owner.table.lock();
        for key in table.keys() {
            if let Some(pfn) = table.record(key).stored {
                table.set_stored(key, None);
                // SAFETY: `store` left the page allocated for this record alone, which no longer has it.
                let pages = unsafe { Pages::from_raw(self.owner.mm, pfn) };
                drop(pages.map_err(|_| CacheError::Lost(pfn))?);
            }
        }
        table.objects.iter_mut().for_each(|object| object.truncate(0));
        Ok(())
    }

    /// Compares every page with its checksum, cached ones with the store, too; answers how many.
    ///
    /// # Errors
    ///
    /// [`CacheError::Damaged`], [`CacheError::Lost`] with the first that is wrong.
    pub fn check(&self) -> Result<u64, CacheError> {
        let table = self.owner.table.lock();
        let mut pages = 0;
        for key in table.keys() {
            let Record { stored, cached, sum } = table.record(key);
            let Key { object, index } = key;
            let damaged = |cached| CacheError::Damaged { object: object as u64, index, cached };
            let right = |pfn| frame::checksum(self.owner.content(pfn)) == sum;
            if let Some(Cached { pfn, .. }) = cached {
                if self.owner.mm.private(pfn) != Ok(key.encode()) {
                    return Err(CacheError::Lost(pfn));
                }
                if !right(pfn) {
                    return Err(damaged(true));
                }
            }
            let newest = cached.is_none_or(|cached| !cached.dirty);
            if stored.is_some_and(|pfn| newest && !right(pfn)) {
                return Err(damaged(false));
            }
            pages += u64::from(cached.is_some() || stored.is_some());
        }
        Ok(pages)
    }

    /// What there is in the cache.
    pub fn status(&self) -> CacheStatus {
        let table = self.owner.table.lock();
        let none =
            CacheStatus { moved: table.moved, putbacks: table.putbacks, ..CacheStatus::default() };
        table.keys().map(|key| table.record(key)).fold(none, |sum, record| CacheStatus {
            cached: sum.cached + u64::from(record.cached.is_some()),
            dirty: sum.dirty + u64::from(record.cached.is_some_and(|cached| cached.dirty)),
            stored: sum.stored + u64::from(record.stored.is_some()),
            ..sum
        })
    }

    /// Has a page in the cache and changes it.
    fn change(
        &self,
        table: &mut Table<M>,
        key: Key,
        change: impl FnOnce(&[AtomicU64]),
    ) -> Result<(), CacheError> {
        table.reach(key).map_err(CacheError::Table)?;
        let cached = self.load(table, key)?;
        let words = self.owner.content(cached.pfn);
        change(words);
        table.set_sum(key, frame::checksum(words));
        table.set_cached(key, Some(Cached { dirty: true, ..cached }));
        Ok(())
    }

    /// Has a page that there is a record of in the cache.
    fn load(&self, table: &mut Table<M>, key: Key) -> Result<Cached, CacheError> {
        let record = table.record(key);
        if let Some(cached) = record.cached {
            return Ok(cached);
        }
        let pfn = self
            .owner
            .mm
            .alloc_movable(Order::ZERO, &self.mover, key.encode())
            .map_err(CacheError::Memory)?;
        let words = self.owner.content(pfn);
        match record.stored {
            Some(stored) => frame::copy(self.owner.content(stored), words),
            None => {
                frame::clear(words);
                table.set_sum(key, frame::checksum(words));
            }
        }
        let cached = Cached { pfn, dirty: false, isolated: false };
        table.set_cached(key, Some(cached));
        Ok(cached)
    }
}

/// The page that the byte `at` of an object is in, and its place there.
fn key<M: Shared>(object: u64, at: u64) -> Result<(Key, usize), CacheError> {
    if object >= OBJECTS {
        return Err(CacheError::NoObject(object));
    }
    let index = at / M::PAGE_BYTES;
    if index >= MAX_PAGES {
        return Err(CacheError::Beyond { object, offset: at });
    }
    Ok((Key { object: object as usize, index }, (at % M::PAGE_BYTES) as usize))
}

impl<M: Shared> Owner<M> {
    /// The content of a page in the cache or the store.
    fn content(&self, pfn: Pfn) -> &[AtomicU64] {
        // SAFETY: the page is in a record, or on its way into one, and the caller holds the lock
        // without which it is neither freed nor forgotten; nobody but the cache looks into it.
        unsafe { frame::words(self.mm, pfn) }
    }

    /// Stores a page if it was changed; whether it was.
    fn store(&self, table: &mut Table<M>, key: Key) -> Result<bool, CacheError> {
        let Record { stored, cached, .. } = table.record(key);
        let Some(cached) = cached.filter(|cached| cached.dirty) else { return Ok(false) };
        let stored = match stored {
            Some(stored) => stored,
            None => self.mm.alloc(Order::ZERO).map_err(CacheError::Memory)?.into_raw(),
        };
        frame::copy(self.content(cached.pfn), self.content(stored));
        table.set_stored(key, Some(stored));
        table.set_cached(key, Some(Cached { dirty: false, ..cached }));
        Ok(true)
    }
}

impl<M: Shared> MovableOps for Owner<M> {
    fn name(&self) -> &'static str {
        "cache"
    }

    fn isolate(&self, extent: &Extent) -> Result<(), NotNow> {
        let mut table = self.table.lock();
        let found = table.cached(extent).filter(|(_, cached)| !cached.isolated);
        let (key, cached) = found.ok_or(NotNow)?;
        // Reads and writes may go on: each holds the lock, and so does the copy.
        table.set_cached(key, Some(Cached { isolated: true, ..cached }));
        Ok(())
    }

    fn migrate(&self, from: &Extent, to: Pfn) -> Result<(), NotNow> {
        let mut table = self.table.lock();
        let found = table.cached(from).filter(|(_, cached)| cached.isolated);
        let (key, cached) = found.ok_or(NotNow)?;
        frame::copy(self.content(from.pfn), self.content(to));
        table.set_cached(key, Some(Cached { pfn: to, isolated: false, ..cached }));
        table.moved += 1;
        Ok(())
    }

    fn putback(&self, extent: &Extent) {
        let mut table = self.table.lock();
        if let Some((key, cached)) = table.cached(extent) {
            table.set_cached(key, Some(Cached { isolated: false, ..cached }));
            table.putbacks += 1;
        }
    }
}

#[cfg(test)]
impl<M: Shared> Cache<M> {
    /// Where a page of an object is stored, and where it is cached.
    pub(super) fn owner_record(&self, object: usize, index: u64) -> (Option<Pfn>, Option<Pfn>) {
        let record = self.owner.table.lock().record(Key { object, index });
        (record.stored, record.cached.map(|cached| cached.pfn))
    }
}
