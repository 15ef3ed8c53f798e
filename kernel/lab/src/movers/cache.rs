//! A page cache over objects in kernel memory.
//!
//! ```text
//!   read, write ----> cached page (movable) ---- write back ----> stored page (never moves)
//!                         ^                                            |
//!                         +------------------ load --------------------+
//! ```
//!
//! Each page of an object has a record of three words: the stored page, the cached page, and the checksum of the
//! newest content.
//!
//! - A clean cached page is the same as the stored one; a page that was never stored reads as zeros.
//! - The checksum is that of the cached page, or of the stored one if the page is not cached.
//! - The manager's word of a cached page holds its object and its index there.

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
use hotmem::{Mm, MovableOps, Move, Mover, Order, OutOfMemory, Pages, Pfn, TooManyOwners};

/// Pages of an object at most.
const MAX_PAGES: u64 = 1 << 20;
/// The reason why the cache refuses a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheError {
    /// No page is free.
    Memory(OutOfMemory),
    /// The table cannot grow.
    Table(Full),
    /// There is no such object.
    NoObject(u64),
    /// The offset is past the end of the object.
    Beyond {
        /// The object.
        object: u64,
        /// The offset of the byte.
        offset: u64,
    },
    /// The content of a page has changed.
    Damaged {
        /// The object.
        object: u64,
        /// The page's number in it.
        index: u64,
        /// Whether it was read in the cache, or in the store.
        cached: bool,
    },
    /// A page is being migrated.
    Moving,
    /// The manager does not know the page as the cache's.
    Lost(Pfn),
}

impl fmt::Display for CacheError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory(error) => error.fmt(f),
            Self::Table(error) => error.fmt(f),
            Self::NoObject(object) => write!(f, "no object {object}: there are {OBJECTS}"),
            Self::Beyond { object, offset } => {
                write!(f, "offset {offset} is past the end of object {object}")
            }
            Self::Damaged { object, index, cached } => {
                let place = if *cached { "cache" } else { "store" };
                write!(f, "page {index} of object {object} has changed in the {place}")
            }
            Self::Moving => f.write_str("a page is being moved"),
            Self::Lost(pfn) => write!(f, "{pfn} of the cache is lost"),
        }
    }
}

/// The contents of the cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheStatus {
    /// Pages in the cache.
    pub cached: u64,
    /// Cached pages that were not written back yet.
    pub dirty: u64,
    /// Pages in the store.
    pub stored: u64,
    /// Pages moved so far.
    pub moved: u64,
}

/// The owner, with the functions that the manager calls.
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
    /// An empty cache of empty objects, registered with the manager for ever.
    ///
    /// # Errors
    ///
    /// [`TooManyOwners`].
    pub fn register(mm: &'static Mm<M>) -> Result<Self, TooManyOwners> {
        let objects = core::array::from_fn(|_| Array::new(mm));
        let table = Mutex::new(Table { objects, moved: 0 });
        let owner: &'static Owner<M> = Box::leak(Box::new(Owner { mm, table }));
        Ok(Self { owner, mover: mm.register(owner)? })
    }

    /// Writes `len` bytes of an object from `offset` on; the object grows to hold them. Byte n is `byte(n)`.
    ///
    /// # Errors
    ///
    /// [`CacheError::Beyond`] and [`CacheError::NoObject`] before anything is written; after any other error, the
    /// bytes before the page that cannot be cached are written.
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
    /// [`CacheError`]; `bytes` may then be filled in part.
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

    /// Fills the first `pages` pages of an object, each with its own pattern.
    ///
    /// # Errors
    ///
    /// [`CacheError`], with the number of pages filled.
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

    /// Stores every dirty page; returns how many.
    ///
    /// # Errors
    ///
    /// [`CacheError::Memory`] for the store; the remaining pages stay dirty.
    pub fn write_back(&self) -> Result<u64, CacheError> {
        let mut table = self.owner.table.lock();
        let mut count = 0;
        for key in table.keys() {
            count += u64::from(self.owner.store(&mut table, key)?);
        }
        Ok(count)
    }

    /// Writes everything back and frees the cached pages; returns how many.
    ///
    /// # Errors
    ///
    /// Those of [`write_back`](Self::write_back); [`CacheError::Moving`] if a page is being migrated, and stays.
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

    /// Empties every object: cache and store are then as after creation.
    ///
    /// # Errors
    ///
    /// Those of [`drop_pages`](Self::drop_pages).
    pub fn clear(&self) -> Result<(), CacheError> {
        self.drop_pages()?;
        let mut table = self.owner.table.lock();
        for key in table.keys() {
            if let Some(pfn) = table.record(key).stored {
                table.set_stored(key, None);
                // SAFETY: `store` left the page allocated for this record alone, and the record no longer refers to
                // it.
                let pages = unsafe { Pages::from_raw(self.owner.mm, pfn) };
                drop(pages.map_err(|_| CacheError::Lost(pfn))?);
            }
        }
        table.objects.iter_mut().for_each(|object| object.truncate(0));
        Ok(())
    }

    /// Compares every page with its checksum, and clean cached pages with the store; returns how many.
    ///
    /// # Errors
    ///
    /// [`CacheError::Damaged`], [`CacheError::Lost`] for the first wrong page.
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

    /// The contents of the cache.
    pub fn status(&self) -> CacheStatus {
        let table = self.owner.table.lock();
        let none = CacheStatus { moved: table.moved, ..CacheStatus::default() };
        table.keys().map(|key| table.record(key)).fold(none, |sum, record| CacheStatus {
            cached: sum.cached + u64::from(record.cached.is_some()),
            dirty: sum.dirty + u64::from(record.cached.is_some_and(|cached| cached.dirty)),
            stored: sum.stored + u64::from(record.stored.is_some()),
            ..sum
        })
    }

    /// Loads a page into the cache and changes it.
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

    /// Loads a page that has a record into the cache.
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
            // SAFETY: the caller holds the lock without which no code accesses the content of either page.
            Some(stored) => unsafe { frame::copy(self.owner.mm, stored, pfn) },
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

/// The page of an object that contains byte `at`, and the offset in it.
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
        // SAFETY: the page is in a record, or will be, and the caller holds the lock without which the page is
        // neither freed nor dropped; only the cache accesses its content.
        unsafe { frame::words(self.mm, pfn) }
    }

    /// Stores a page if it is dirty; returns whether it was.
    fn store(&self, table: &mut Table<M>, key: Key) -> Result<bool, CacheError> {
        let Record { stored, cached, .. } = table.record(key);
        let Some(cached) = cached.filter(|cached| cached.dirty) else { return Ok(false) };
        let stored = match stored {
            Some(stored) => stored,
            None => self.mm.alloc(Order::ZERO).map_err(CacheError::Memory)?.into_raw(),
        };
        // SAFETY: the caller holds the lock without which no code accesses the content of either page.
        unsafe { frame::copy(self.mm, cached.pfn, stored) };
        table.set_stored(key, Some(stored));
        table.set_cached(key, Some(Cached { dirty: false, ..cached }));
        Ok(true)
    }
}

impl<M: Shared> MovableOps for Owner<M> {
    fn name(&self) -> &'static str {
        "cache"
    }

    fn isolate(&self, moves: &[Move]) {
        let mut table = self.table.lock();
        for one in moves {
            match table.cached(one.from()).filter(|(_, cached)| !cached.isolated) {
                // Reads and writes may continue: each holds the lock, and so does the copy.
                Some((key, cached)) => {
                    table.set_cached(key, Some(Cached { isolated: true, ..cached }));
                }
                None => one.refuse(),
            }
        }
    }

    fn migrate(&self, moves: &[Move]) {
        for one in moves {
            let mut table = self.table.lock();
            match table.cached(one.from()).filter(|(_, cached)| cached.isolated) {
                Some((key, cached)) => {
                    // SAFETY: no code accesses the content of either page without the lock.
                    unsafe { frame::copy(self.mm, cached.pfn, one.to()) };
                    let moved = Cached { pfn: one.to(), isolated: false, ..cached };
                    table.set_cached(key, Some(moved));
                    table.moved += 1;
                }
                None => one.refuse(),
            }
        }
    }
}

#[cfg(test)]
impl<M: Shared> Cache<M> {
    /// The stored page and the cached page of a page of an object.
    pub(super) fn owner_record(&self, object: usize, index: u64) -> (Option<Pfn>, Option<Pfn>) {
        let record = self.owner.table.lock().record(Key { object, index });
        (record.stored, record.cached.map(|cached| cached.pfn))
    }
}
