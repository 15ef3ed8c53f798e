//! A pool of movable extents, each with a handle and a pattern in every page.
//!
//! ```text
//!   table:  handle --> pfn << 12 | order << 3 | isolated | pinned | used
//! ```
//!
//! - The manager's word of an extent is its handle.
//! - An isolated or pinned extent is not freed.
//! - Every page of every extent holds the pattern of its handle and number, wherever it is.

// UNSAFETY: writes and reads the content of the pool's pages.
#![expect(unsafe_code)]

use super::Shared;
use super::array::{Array, Full};
use super::frame;
use crate::fault::{Faults, Point};
use alloc::boxed::Box;
use core::fmt;
use core::sync::atomic::AtomicU64;
use hotmem::lock::lock_api::Mutex;
use hotmem::{Extent, Mm, MovableOps, Move, Mover, Order, OutOfMemory, Pfn, TooManyOwners};

const USED: u64 = 1 << 0;
const PINNED: u64 = 1 << 1;
const ISOLATED: u64 = 1 << 2;
const ORDER_SHIFT: u32 = 3;
const ORDER_MASK: u64 = 0x1f;
const PFN_SHIFT: u32 = 12;

/// An extent of the pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// Its first page at present.
    pub pfn: Pfn,
    /// Its size.
    pub order: Order,
    /// Whether it must not move.
    pub pinned: bool,
    isolated: bool,
}

impl Slot {
    const fn encode(self) -> u64 {
        USED | (if self.pinned { PINNED } else { 0 })
            | (if self.isolated { ISOLATED } else { 0 })
            | (self.order.get() as u64) << ORDER_SHIFT
            | self.pfn.get() << PFN_SHIFT
    }

    fn decode(word: u64) -> Option<Self> {
        let order = Order::new((word >> ORDER_SHIFT & ORDER_MASK) as u8)?;
        let slot = Self {
            pfn: Pfn::new(word >> PFN_SHIFT),
            order,
            pinned: word & PINNED != 0,
            isolated: word & ISOLATED != 0,
        };
        (word & USED != 0).then_some(slot)
    }

    /// Whether it can be freed at present.
    const fn idle(self) -> bool {
        !self.pinned && !self.isolated
    }
}

/// The reason why the pool refuses a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PoolError {
    /// No extent is free.
    Memory(OutOfMemory),
    /// The table cannot grow.
    Table(Full),
    /// There is no such handle.
    NoHandle(u64),
    /// The extent of this handle is pinned, or being migrated.
    Held(u64),
    /// A word of a page has another value than was written.
    Damaged {
        /// The extent's handle.
        handle: u64,
        /// The page.
        pfn: Pfn,
        /// The word's number in the page.
        word: usize,
        /// The value read.
        read: u64,
    },
    /// The manager does not know the extent of this handle as the pool's.
    Lost(u64),
}

impl fmt::Display for PoolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory(error) => error.fmt(f),
            Self::Table(error) => error.fmt(f),
            Self::NoHandle(handle) => write!(f, "the pool has no handle {handle}"),
            Self::Held(handle) => write!(f, "handle {handle} is pinned or moving"),
            Self::Damaged { handle, pfn, word, read } => {
                write!(f, "handle {handle}, {pfn}, word {word} reads {read:#x}")
            }
            Self::Lost(handle) => write!(f, "the extent of handle {handle} is lost"),
        }
    }
}

/// The contents of the pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolStatus {
    /// Extents.
    pub extents: u64,
    /// Their pages.
    pub pages: u64,
    /// Extents that are pinned.
    pub pinned: u64,
    /// Extents moved so far.
    pub moved: u64,
}

/// The data that the lock protects.
#[derive(Debug)]
struct Table<M: Shared> {
    words: Array<M>,
    /// Every lower handle is in use.
    free_from: u64,
    moved: u64,
}

/// The owner, with the functions that the manager calls.
#[derive(Debug)]
struct Owner<M: Shared> {
    mm: &'static Mm<M>,
    table: Mutex<M::Lock, Table<M>>,
    /// Moves that fail on purpose.
    faults: &'static Faults,
}

/// The pool.
#[derive(Debug)]
pub struct Pool<M: Shared> {
    owner: &'static Owner<M>,
    mover: Mover,
}

impl<M: Shared> Pool<M> {
    /// An empty pool, registered with the manager for ever.
    ///
    /// # Errors
    ///
    /// [`TooManyOwners`].
    pub fn register(mm: &'static Mm<M>, faults: &'static Faults) -> Result<Self, TooManyOwners> {
        let table = Table { words: Array::new(mm), free_from: 0, moved: 0 };
        let owner = Owner { mm, table: Mutex::new(table), faults };
        let owner: &'static Owner<M> = Box::leak(Box::new(owner));
        Ok(Self { owner, mover: mm.register(owner)? })
    }

    /// Allocates an extent and fills it; returns its handle.
    ///
    /// # Errors
    ///
    /// [`PoolError::Memory`], [`PoolError::Table`]; the pool is then unchanged.
    pub fn take(&self, order: Order) -> Result<u64, PoolError> {
        let mut table = self.owner.table.lock();
        let handle = table.free_handle()?;
        let pfn = match self.owner.mm.alloc_movable(order, &self.mover, handle) {
            Ok(pfn) => pfn,
            Err(error) => {
                table.trim();
                return Err(PoolError::Memory(error));
            }
        };
        let slot = Slot { pfn, order, pinned: false, isolated: false };
        table.words.set(handle, slot.encode());
        table.free_from = handle + 1;
        for page in 0..order.pages() {
            frame::fill(self.owner.content(&slot, page), key(handle, page));
        }
        Ok(handle)
    }

    /// Allocates `count` extents.
    ///
    /// # Errors
    ///
    /// Those of [`take`](Self::take), with the number of extents allocated: those stay.
    pub fn grow(&self, count: u64, order: Order) -> Result<(), (u64, PoolError)> {
        (0..count).try_for_each(|taken| self.take(order).map(drop).map_err(|error| (taken, error)))
    }

    /// Frees `count` extents, or all if there are fewer, those with the highest handles first; returns how many.
    /// Extents that are pinned, or being migrated, stay.
    ///
    /// # Errors
    ///
    /// [`PoolError::Lost`].
    pub fn shrink(&self, count: u64) -> Result<u64, PoolError> {
        let mut table = self.owner.table.lock();
        let mut freed = 0;
        let mut handle = table.words.len();
        while freed < count && handle > 0 {
            handle -= 1;
            if table.slot(handle).is_some_and(Slot::idle) {
                self.owner.give_back(&mut table, handle, &self.mover)?;
                freed += 1;
            }
        }
        table.trim();
        Ok(freed)
    }

    /// Frees the extent of a handle.
    ///
    /// # Errors
    ///
    /// [`PoolError::NoHandle`], [`PoolError::Held`], [`PoolError::Lost`].
    pub fn release(&self, handle: u64) -> Result<(), PoolError> {
        let mut table = self.owner.table.lock();
        let slot = table.slot(handle).ok_or(PoolError::NoHandle(handle))?;
        if !slot.idle() {
            return Err(PoolError::Held(handle));
        }
        self.owner.give_back(&mut table, handle, &self.mover)?;
        table.trim();
        Ok(())
    }

    /// Reads every page of the extent of a handle, and frees it.
    ///
    /// # Errors
    ///
    /// Those of [`release`](Self::release); [`PoolError::Damaged`], and the extent stays.
    pub fn release_checked(&self, handle: u64) -> Result<(), PoolError> {
        {
            let table = self.owner.table.lock();
            let slot = table.slot(handle).ok_or(PoolError::NoHandle(handle))?;
            self.owner.check(handle, &slot)?;
        }
        self.release(handle)
    }

    /// The extent of a handle.
    ///
    /// # Errors
    ///
    /// [`PoolError::NoHandle`].
    pub fn find(&self, handle: u64) -> Result<Slot, PoolError> {
        self.owner.table.lock().slot(handle).ok_or(PoolError::NoHandle(handle))
    }

    /// Forbids or allows moving an extent.
    ///
    /// # Errors
    ///
    /// [`PoolError::NoHandle`]; [`PoolError::Held`] while it is being migrated.
    pub fn pin(&self, handle: u64, pinned: bool) -> Result<(), PoolError> {
        let table = self.owner.table.lock();
        let slot = table.slot(handle).ok_or(PoolError::NoHandle(handle))?;
        if slot.isolated {
            return Err(PoolError::Held(handle));
        }
        table.words.set(handle, Slot { pinned, ..slot }.encode());
        Ok(())
    }

    /// Reads every page of every extent; returns the number of extents.
    ///
    /// # Errors
    ///
    /// [`PoolError::Damaged`] with the first wrong word; [`PoolError::Lost`] if the manager has another word for the
    /// extent.
    pub fn check(&self) -> Result<u64, PoolError> {
        let table = self.owner.table.lock();
        let mut extents = 0;
        for (handle, slot) in table.slots() {
            if self.owner.mm.private(slot.pfn) != Ok(handle) {
                return Err(PoolError::Lost(handle));
            }
            self.owner.check(handle, &slot)?;
            extents += 1;
        }
        Ok(extents)
    }

    /// The number of extents, and a checksum of all that they hold. Where they are does not matter.
    pub fn sum(&self) -> (u64, u64) {
        let table = self.owner.table.lock();
        table.slots().fold((0, 0), |(extents, sum), (_, slot)| {
            let pages = (0..slot.order.pages()).map(|page| self.owner.content(&slot, page));
            let sum = pages.fold(sum, |sum: u64, page| sum.rotate_left(1) ^ frame::checksum(page));
            (extents + 1, sum)
        })
    }

    /// The contents of the pool.
    pub fn status(&self) -> PoolStatus {
        let table = self.owner.table.lock();
        let none = PoolStatus { moved: table.moved, ..PoolStatus::default() };
        table.slots().fold(none, |sum, (_, slot)| PoolStatus {
            extents: sum.extents + 1,
            pages: sum.pages + slot.order.pages(),
            pinned: sum.pinned + u64::from(slot.pinned),
            ..sum
        })
    }
}

/// The word of an extent that is at `pfn`, and neither pinned nor isolated.
const fn idle(extent: &Extent, pfn: Pfn) -> u64 {
    Slot { pfn, order: extent.order, pinned: false, isolated: false }.encode()
}

/// The key of the pattern of a page.
const fn key(handle: u64, page: u64) -> u64 {
    handle << 20 | page
}

impl<M: Shared> Table<M> {
    fn slot(&self, handle: u64) -> Option<Slot> {
        Slot::decode(self.words.get(handle))
    }

    fn slots(&self) -> impl Iterator<Item = (u64, Slot)> + '_ {
        (0..self.words.len()).filter_map(|handle| Some((handle, self.slot(handle)?)))
    }

    /// A handle that is not in use.
    fn free_handle(&mut self) -> Result<u64, PoolError> {
        let len = self.words.len();
        let free = (self.free_from..len).find(|&handle| self.slot(handle).is_none());
        let handle = free.unwrap_or(len);
        self.words.grow(handle + 1).map_err(PoolError::Table)?;
        Ok(handle)
    }

    /// Frees the unused end of the table.
    fn trim(&mut self) {
        let last = (0..self.words.len()).rev().find(|&handle| self.slot(handle).is_some());
        self.words.truncate(last.map_or(0, |last| last + 1));
        self.free_from = self.free_from.min(self.words.len());
    }
}

impl<M: Shared> Owner<M> {
    /// Reads every page of an extent.
    fn check(&self, handle: u64, slot: &Slot) -> Result<(), PoolError> {
        for page in 0..slot.order.pages() {
            let content = self.content(slot, page);
            if let Some((word, read)) = frame::find_damage(content, key(handle, page)) {
                let pfn = slot.pfn.add(page);
                return Err(PoolError::Damaged { handle, pfn, word, read });
            }
        }
        Ok(())
    }

    /// The content of a page of an extent in the table.
    fn content(&self, slot: &Slot, page: u64) -> &[AtomicU64] {
        // SAFETY: every user of a slot holds the table's lock, without which its extent is neither freed nor
        // dropped; only the pool accesses the content.
        unsafe { frame::words(self.mm, slot.pfn.add(page)) }
    }

    /// Copies an extent that is in the table; returns where to.
    fn copied(&self, one: &Move) -> Pfn {
        for (from, to) in one.pages() {
            // SAFETY: the caller holds the lock without which no code accesses the content of either page.
            unsafe { frame::copy(self.mm, from, to) };
        }
        one.to()
    }

    fn give_back(&self, table: &mut Table<M>, handle: u64, mover: &Mover) -> Result<(), PoolError> {
        let slot = table.slot(handle).ok_or(PoolError::NoHandle(handle))?;
        self.mm.free_movable(slot.pfn, mover).map_err(|_| PoolError::Lost(handle))?;
        table.words.set(handle, 0);
        table.free_from = table.free_from.min(handle);
        Ok(())
    }
}

impl<M: Shared> MovableOps for Owner<M> {
    fn name(&self) -> &'static str {
        "pool"
    }

    fn pinned(&self, extent: &Extent) -> bool {
        self.table.lock().words.get(extent.private) & !ISOLATED == idle(extent, extent.pfn) | PINNED
    }

    fn isolate(&self, moves: &[Move]) {
        let table = self.table.lock();
        for one in moves {
            let idle = idle(one.from(), one.from().pfn);
            let isolated = |word| (word == idle).then_some(word | ISOLATED);
            if !table.words.change(one.from().private, isolated) {
                one.refuse();
            }
        }
    }

    fn migrate(&self, moves: &[Move]) {
        // The lock masks interrupts: it is held for one copy at a time.
        for one in moves {
            let (mut table, from) = (self.table.lock(), one.from());
            let idle = |at| idle(from, at);
            let moves = self.faults.allows(Point::Move);
            let used = table.words.change(from.private, |word| {
                let isolated = word == idle(from.pfn) | ISOLATED;
                isolated.then(|| if moves { idle(self.copied(one)) } else { idle(from.pfn) })
            });
            if used && moves {
                table.moved += 1;
            } else {
                one.refuse();
            }
        }
    }
}
