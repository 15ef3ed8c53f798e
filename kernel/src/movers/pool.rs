//! A growable pool of pages: held by handles, filled with a pattern that is checked, movable unless
//! pinned.

use super::{copy_pages, load, store};
use alloc::vec::Vec;
use core::fmt;
use hotmem::{
    Extent, FreeError, Machine, Mm, MovableOps, Mover, NotNow, Order, OutOfMemory, Pfn,
    TooManyMovers,
};
use spin::{Mutex, Once};

/// Extents that a pool can hold.
const CAPACITY: usize = 1 << 16;
/// One byte in so many is written and checked.
const STRIDE: u64 = 61;

/// Why the pool did not do something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PoolError {
    /// Memory ran out; so many extents were added before.
    OutOfMemory(u64, OutOfMemory),
    /// The pool's own table is full, or the kernel heap is.
    Full,
    /// Nothing is held under the handle.
    NoHandle(u64),
    /// A page does not hold what was written to it.
    Mismatch(u64, Pfn),
    /// The allocator does not know an extent of the pool's.
    Lost(FreeError),
}

impl fmt::Display for PoolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OutOfMemory(count, error) => write!(f, "{error}, after {count}"),
            Self::Full => f.write_str("the pool's table is full"),
            Self::NoHandle(handle) => write!(f, "the pool has nothing under {handle}"),
            Self::Mismatch(handle, pfn) => {
                write!(f, "{pfn}, held under {handle}, does not hold what was written")
            }
            Self::Lost(error) => write!(f, "the allocator lost an extent: {error}"),
        }
    }
}

/// What the pool holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolStatus {
    /// Extents.
    pub extents: u64,
    /// Their pages.
    pub pages: u64,
    /// Extents that do not move.
    pub pinned: u64,
    /// Extents that were moved so far.
    pub moved: u64,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    pfn: Pfn,
    order: Order,
    pinned: bool,
    isolated: bool,
}

#[derive(Debug, Default)]
struct State {
    /// By handle.
    slots: Vec<Slot>,
    moved: u64,
}

/// A pool of movable pages.
#[derive(Debug)]
pub struct Pool<M: Machine + 'static> {
    mm: &'static Mm<M>,
    mover: Once<Mover>,
    state: Mutex<State>,
}

/// What is written at `offset` of page `page` of an extent.
const fn pattern(handle: u64, page: u64, offset: u64) -> u8 {
    (handle.wrapping_mul(31) ^ page.wrapping_mul(7) ^ offset) as u8
}

impl<M: Machine + Sync> Pool<M> {
    /// An empty pool.
    pub const fn new(mm: &'static Mm<M>) -> Self {
        let state = State { slots: Vec::new(), moved: 0 };
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

    /// Adds `count` extents of `order`.
    ///
    /// # Errors
    ///
    /// [`PoolError`]; those that were added before stay.
    pub fn grow(&self, count: u64, order: Order) -> Result<(), PoolError> {
        let Some(&mover) = self.mover.get() else { return Err(PoolError::Full) };
        let mut state = self.state.lock();
        for done in 0..count {
            if state.slots.len() >= CAPACITY || state.slots.try_reserve(1).is_err() {
                return Err(PoolError::Full);
            }
            let pfn = self.mm.alloc_movable(order, mover);
            let pfn = pfn.map_err(|error| PoolError::OutOfMemory(done, error))?;
            let handle = state.slots.len() as u64;
            self.mm.set_private(pfn, handle).map_err(PoolError::Lost)?;
            each_byte::<M>(order, |page, offset| {
                store(self.mm, pfn.add(page), offset, pattern(handle, page, offset));
                true
            });
            state.slots.push(Slot { pfn, order, pinned: false, isolated: false });
        }
        Ok(())
    }

    /// Frees the last `count` extents, or all if there are fewer; those that are being moved stay.
    ///
    /// # Errors
    ///
    /// [`PoolError::Lost`].
    pub fn shrink(&self, count: u64) -> Result<u64, PoolError> {
        let mut state = self.state.lock();
        let mut freed = 0;
        while freed < count
            && let Some(slot) = state.slots.pop_if(|slot| !slot.isolated)
        {
            self.mm.free(slot.pfn).map_err(PoolError::Lost)?;
            freed += 1;
        }
        Ok(freed)
    }

    /// Keeps an extent where it is, or lets it move again.
    ///
    /// # Errors
    ///
    /// [`PoolError::NoHandle`].
    pub fn pin(&self, handle: u64, pinned: bool) -> Result<(), PoolError> {
        let mut state = self.state.lock();
        let slot = usize::try_from(handle).ok().and_then(|index| state.slots.get_mut(index));
        slot.ok_or(PoolError::NoHandle(handle))?.pinned = pinned;
        Ok(())
    }

    /// Where the extent under `handle` is.
    pub fn at(&self, handle: u64) -> Option<Pfn> {
        let state = self.state.lock();
        state.slots.get(usize::try_from(handle).ok()?).map(|slot| slot.pfn)
    }

    /// Checks that every extent holds what was written to it.
    ///
    /// # Errors
    ///
    /// [`PoolError::Mismatch`] with the first that does not.
    pub fn check(&self) -> Result<u64, PoolError> {
        let state = self.state.lock();
        for (slot, handle) in state.slots.iter().zip(0..) {
            let holds = each_byte::<M>(slot.order, |page, offset| {
                load(self.mm, slot.pfn.add(page), offset) == pattern(handle, page, offset)
            });
            if !holds {
                return Err(PoolError::Mismatch(handle, slot.pfn));
            }
        }
        Ok(state.slots.len() as u64)
    }

    /// What the pool holds.
    pub fn status(&self) -> PoolStatus {
        let state = self.state.lock();
        let pages = state.slots.iter().map(|slot| slot.order.pages()).sum();
        let pinned = state.slots.iter().filter(|slot| slot.pinned).count() as u64;
        PoolStatus { extents: state.slots.len() as u64, pages, pinned, moved: state.moved }
    }

    /// Runs `f` on the slot of an extent, if it is the pool's.
    fn with_slot<T>(&self, extent: &Extent, f: impl FnOnce(&mut Slot, &mut u64) -> T) -> Option<T> {
        let mut state = self.state.lock();
        let State { slots, moved } = &mut *state;
        let slot = slots.get_mut(usize::try_from(extent.private).ok()?)?;
        (slot.pfn == extent.pfn).then(|| f(slot, moved))
    }
}

/// Runs `each` over the bytes of an extent that are written, until it answers `false`.
fn each_byte<M: Machine>(order: Order, mut each: impl FnMut(u64, u64) -> bool) -> bool {
    (0..order.pages()).all(|page| {
        let mut offset = page % STRIDE;
        let mut more = true;
        while more && offset < M::PAGE_BYTES {
            more = each(page, offset);
            offset += STRIDE;
        }
        more
    })
}

impl<M: Machine + Sync> MovableOps for Pool<M> {
    fn name(&self) -> &'static str {
        "pool"
    }

    fn pinned(&self, extent: &Extent) -> bool {
        self.with_slot(extent, |slot, _| slot.pinned).unwrap_or(false)
    }

    fn isolate(&self, extent: &Extent) -> Result<(), NotNow> {
        let isolate = |slot: &mut Slot, _: &mut u64| {
            slot.isolated = !slot.pinned;
            slot.isolated
        };
        match self.with_slot(extent, isolate) {
            Some(true) => Ok(()),
            _ => Err(NotNow),
        }
    }

    fn migrate(&self, from: &Extent, to: Pfn) -> Result<(), NotNow> {
        let migrate = |slot: &mut Slot, moved: &mut u64| {
            copy_pages(self.mm, from.pfn, to, from.order);
            (slot.pfn, slot.isolated) = (to, false);
            *moved += 1;
        };
        self.with_slot(from, migrate).ok_or(NotNow)
    }

    fn putback(&self, extent: &Extent) {
        self.with_slot(extent, |slot, _| slot.isolated = false);
    }
}
