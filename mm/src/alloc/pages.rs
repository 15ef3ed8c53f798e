//! Allocations of users: unmovable pages, as owned values, and movable pages, registered for their owner.

// UNSAFETY: gives access to the content of pages that a value owns.
#![expect(unsafe_code)]

use crate::addr::{Order, Pfn, PfnRange};
use crate::alloc::Allocator;
use crate::alloc::batch::Cached;
use crate::alloc::buddy::{FreeError, OutOfMemory, is_kernels};
use crate::alloc::owners::Mover;
use crate::alloc::request::Request;
use crate::machine::Machine;
use crate::memmap::page::Owner;
use core::mem::ManuallyDrop;
use core::sync::atomic::AtomicU64;
use core::{fmt, slice};

/// Allocated, unmovable pages. They are freed when this is dropped.
///
/// To keep frame numbers instead, for example in page tables, use [`into_raw`](Self::into_raw).
///
/// They are freed once:
///
/// ```
/// # use hotmem::{Machine, Mm, Order, OutOfMemory};
/// fn use_a_page<M: Machine>(mm: &Mm<M>) -> Result<(), OutOfMemory> {
///     let pages = mm.alloc(Order::ZERO)?;
///     let other = mm.alloc(Order::ZERO)?;
///     drop(pages);
///     drop(other);
///     Ok(())
/// }
/// ```
///
/// ```compile_fail,E0382
/// # use hotmem::{Machine, Mm, Order, OutOfMemory};
/// fn use_a_page<M: Machine>(mm: &Mm<M>) -> Result<(), OutOfMemory> {
///     let pages = mm.alloc(Order::ZERO)?;
///     let other = mm.alloc(Order::ZERO)?;
///     drop(pages);
///     drop(pages);
///     Ok(())
/// }
/// ```
#[must_use = "the pages are freed when this is dropped"]
pub struct Pages<'m, M: Machine> {
    allocator: &'m Allocator<M>,
    pfn: Pfn,
    order: Order,
}

impl<'m, M: Machine> Pages<'m, M> {
    /// The value for the used pages of the kernel that begin at `pfn`.
    ///
    /// # Safety
    ///
    /// No other value owns them, and they are used only through this one.
    pub(crate) unsafe fn of(allocator: &'m Allocator<M>, pfn: Pfn) -> Result<Self, FreeError> {
        let order = allocator.order_of(pfn, is_kernels)?;
        Ok(Self { allocator, pfn, order })
    }

    pub(super) const fn allocator(&self) -> &'m Allocator<M> {
        self.allocator
    }

    /// The first page.
    pub const fn pfn(&self) -> Pfn {
        self.pfn
    }

    /// The size.
    pub const fn order(&self) -> Order {
        self.order
    }

    /// All of them.
    pub const fn pfns(&self) -> PfnRange {
        PfnRange::new(self.pfn, self.order.pages())
    }

    /// The content of page `index`, if there are so many pages; initially unspecified.
    pub fn words(&self, index: u64) -> Option<&[AtomicU64]> {
        let pfn = (index < self.order.pages()).then(|| self.pfn.add(index))?;
        let first = self.allocator.machine().pointer(M::address(pfn)).cast::<AtomicU64>();
        // SAFETY: the page is RAM of an online block, which no operation removes while the page is allocated, so the
        // machine's pointer is valid for all of it, and aligned to it; and it belongs to this value, which returns
        // shared references to atomic words only.
        Some(unsafe {
            slice::from_raw_parts(first.as_ptr(), M::PAGE_BYTES as usize / size_of::<u64>())
        })
    }

    /// Drops the value and keeps the pages allocated, until [`from_raw`](Self::from_raw).
    #[must_use = "the pages stay allocated"]
    pub fn into_raw(self) -> Pfn {
        ManuallyDrop::new(self).pfn
    }
}

impl<M: Machine> Drop for Pages<'_, M> {
    #[inline]
    fn drop(&mut self) {
        let Self { allocator, pfn, order } = *self;
        if order == Order::ZERO {
            // SAFETY: the page is in use and belongs to this value, which is being dropped; nothing borrows from it
            // any more.
            unsafe { free_page(allocator, pfn) };
        } else {
            // SAFETY: as above.
            unsafe { free_larger(allocator, pfn, order) };
        }
    }
}

/// Frees the page `pfn`. Most extents are single pages: a constant order lets the compiler simplify the code.
///
/// # Safety
///
/// Those of [`free`].
#[inline(never)]
unsafe fn free_page<M: Machine>(allocator: &Allocator<M>, pfn: Pfn) {
    // SAFETY: by the contract.
    unsafe { free(allocator, pfn, Order::ZERO) }
}

/// Frees an extent of any order.
///
/// # Safety
///
/// Those of [`free`].
#[inline(never)]
unsafe fn free_larger<M: Machine>(allocator: &Allocator<M>, pfn: Pfn, order: Order) {
    // SAFETY: by the contract.
    unsafe { free(allocator, pfn, order) }
}

/// Frees the extent of `order` that begins at `pfn`, into the cache of this CPU if the cache accepts it.
///
/// # Safety
///
/// The extent is in use and belongs to the caller, and no other code frees or uses it any more.
#[inline(always)]
unsafe fn free<M: Machine>(allocator: &Allocator<M>, pfn: Pfn, order: Order) {
    // SAFETY: by the contract.
    if !unsafe { Cached::of(allocator).free_hot(pfn, order) } {
        allocator.free_pages(pfn);
    }
}

impl<M: Machine> fmt::Debug for Pages<'_, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pages").field("pfn", &self.pfn).field("order", &self.order).finish()
    }
}

impl<M: Machine> Allocator<M> {
    /// See [`Mm::alloc`](crate::Mm::alloc).
    #[inline(always)]
    pub(crate) fn alloc(
        &self,
        wanted: impl Into<Request> + Copy,
    ) -> Result<Pages<'_, M>, OutOfMemory> {
        let request = wanted.into();
        let (owner, manager) = request.user;
        let (mine, order) = (manager.is_none(), request.order);
        let pfn = if mine { Cached::of(self).alloc_cached(&request, owner) } else { None };
        let pfn = pfn.map_or_else(|| self.alloc_slowly(wanted), Ok)?;
        Ok(Pages { allocator: self, pfn, order })
    }

    /// Allocates when the cache has no page, or the request may have to be refused. The request is computed again,
    /// so that it need not be kept in memory before.
    #[cold]
    fn alloc_slowly(&self, wanted: impl Into<Request>) -> Result<Pfn, OutOfMemory> {
        let request = wanted.into();
        let (owner, manager) = request.user;
        if manager.is_some_and(|manager| !self.owners.is_here(manager)) {
            return Err(OutOfMemory { order: request.order });
        }
        self.alloc_user(request, owner)
    }

    /// Frees pages of the kernel that are in use.
    #[cold]
    fn free_pages(&self, pfn: Pfn) {
        if let Err(error) = self.free_user(pfn, is_kernels) {
            log::error!("allocated pages cannot be freed: {error}");
        }
    }

    /// See [`Mm::alloc_movable`](crate::Mm::alloc_movable).
    pub(crate) fn alloc_movable(
        &self,
        request: impl Into<Request>,
        mover: &Mover,
        private: u64,
    ) -> Result<Pfn, OutOfMemory> {
        let request = request.into().with_private(private);
        let owner = self.owners.owner_of(mover).ok_or(OutOfMemory { order: request.order })?;
        self.owners.note_size(mover, request.order);
        self.alloc_user(request, owner)
    }

    #[inline]
    fn alloc_user(&self, request: Request, owner: Owner) -> Result<Pfn, OutOfMemory> {
        if request.zeroed {
            return Cached::of(self).alloc_zeroed(request, owner);
        }
        Cached::of(self)
            .alloc_cached(&request, owner)
            .map_or_else(|| self.alloc_request(request, owner), Ok)
    }

    /// See [`Mm::free_movable`](crate::Mm::free_movable).
    pub(crate) fn free_movable(&self, pfn: Pfn, mover: &Mover) -> Result<(), FreeError> {
        let mine = self.owners.owner_of(mover);
        self.free_user(pfn, |owner| Some(owner) == mine)
    }

    /// Frees the extent of a user that `mine` accepts.
    pub(crate) fn free_user(
        &self,
        pfn: Pfn,
        mine: impl Fn(Owner) -> bool + Copy,
    ) -> Result<(), FreeError> {
        if Cached::of(self).free_cached(pfn, mine) {
            return Ok(());
        }
        self.free_of(pfn, mine).map(drop)
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use crate::NodeId;
    use crate::memmap::page::PageState;
    use crate::testing::{Bench, Holder, Setup, Tiny};

    const MIB: u64 = 1 << 20;

    /// Two nodes with four mebibytes each.
    fn bench() -> Bench<Tiny> {
        Bench::new(&Setup {
            ram: [(0, 4 * MIB, 0), (4 * MIB, 4 * MIB, 1)].into(),
            block: MIB,
            window: (64 * MIB, MIB),
            kernelcore: None,
        })
    }

    fn free(bench: &Bench<Tiny>) -> u64 {
        bench.mm.stats().pages.free
    }

    #[test]
    fn pages_are_freed_when_their_value_goes_unless_they_were_taken_out_of_it() {
        let bench = bench();
        let before = free(&bench);
        let pages = bench.mm.alloc(Order::new(3).unwrap()).unwrap();
        assert_eq!((pages.order().get(), pages.pfns().pages()), (3, 8));
        assert_eq!(pages.words(7).map(<[_]>::len), Some(512));
        assert!(pages.words(8).is_none());
        assert_eq!(free(&bench), before - 8);
        drop(pages);
        assert_eq!(free(&bench), before);

        let pfn = bench.mm.alloc(Order::ZERO).unwrap().into_raw();
        assert_eq!(free(&bench), before - 1);
        // SAFETY: `into_raw` has just returned `pfn`.
        drop(unsafe { Pages::from_raw(&bench.mm, pfn) }.unwrap());
        assert_eq!(free(&bench), before);
        // SAFETY: the page is not in use: no value owns it.
        let again = unsafe { Pages::from_raw(&bench.mm, pfn) };
        assert_eq!(again.unwrap_err(), FreeError::NotAllocated(pfn));
        bench.check();
    }

    #[test]
    fn pages_of_one_owner_are_not_freed_as_those_of_another() {
        let bench = bench();
        let (one, other) = (Holder::register(&bench), Holder::register(&bench));
        let pfn = bench.mm.alloc_movable(Order::ZERO, one.mover(), 7).unwrap();
        let owner = Owner::Movable(one.mover().id());
        let refused = Err(FreeError::NotYours(pfn, owner));
        assert_eq!(bench.mm.free_movable(pfn, other.mover()), refused);
        // SAFETY: no value owns the page.
        let stolen = unsafe { Pages::from_raw(&bench.mm, pfn) };
        assert_eq!(stolen.map(drop), refused);
        let mine = bench.mm.alloc(Order::ZERO).unwrap();
        let refused = bench.mm.free_movable(mine.pfn(), one.mover());
        assert_eq!(refused, Err(FreeError::NotYours(mine.pfn(), Owner::Kernel)));
        assert_eq!(bench.mm.private(pfn), Ok(7));
        assert_eq!(bench.mm.free_movable(pfn, one.mover()), Ok(()));
        bench.check();
    }

    #[test]
    fn an_owner_of_another_manager_is_refused() {
        let (here, there) = (bench(), bench());
        let stranger = Holder::register(&there);
        let theirs = there.mm.register_user("heap").unwrap();
        let before = here.snapshot();
        let out = OutOfMemory { order: Order::ZERO };
        let movable = here.mm.alloc_movable(Order::ZERO, stranger.mover(), 7);
        assert_eq!(movable, Err(out));
        let named = here.mm.alloc(Request::from(Order::ZERO).named(&theirs));
        assert_eq!(named.map(drop), Err(out));
        assert_eq!(here.snapshot(), before);

        // Both have the same number.
        let mine = Holder::register(&here);
        assert_eq!(mine.mover().id(), stranger.mover().id());
        assert_ne!(mine.mover(), stranger.mover());
        let pfn = here.mm.alloc_movable(Order::ZERO, mine.mover(), 7).unwrap();
        let refused = FreeError::NotYours(pfn, Owner::Movable(mine.mover().id()));
        assert_eq!(here.mm.free_movable(pfn, stranger.mover()), Err(refused));
        let looked = here.mm.with_meta(pfn, 0, stranger.mover(), |_| ());
        assert_eq!(looked, Err(refused));
        here.mm.free_movable(pfn, mine.mover()).unwrap();
        assert_eq!(here.snapshot(), before);
    }

    #[test]
    fn a_page_freed_twice_is_freed_of_its_own_mover_only() {
        let bench = bench();
        let (one, other) = (Holder::register(&bench), Holder::register(&bench));
        let pfn = bench.mm.alloc_movable(Order::ZERO, one.mover(), 1).unwrap();
        let again = |mover| {
            let next = bench.mm.alloc_movable(Order::ZERO, mover, 2).unwrap();
            assert_eq!(next, pfn, "the page that was freed last");
        };
        bench.mm.free_movable(pfn, one.mover()).unwrap();
        again(other.mover());
        let refused = FreeError::NotYours(pfn, Owner::Movable(other.mover().id()));
        assert_eq!(bench.mm.free_movable(pfn, one.mover()), Err(refused));
        bench.mm.free_movable(pfn, other.mover()).unwrap();
        again(one.mover());
        assert_eq!(bench.mm.free_movable(pfn, one.mover()), Ok(()));
        assert_eq!(bench.mm.free_movable(pfn, one.mover()), Err(FreeError::NotAllocated(pfn)));
        bench.check();
    }

    #[test]
    fn a_page_freed_before_it_inherits_keeps_the_links_of_its_free_list() {
        let bench = bench();
        let one = Holder::register(&bench);
        let take = || bench.mm.alloc_movable(Order::ZERO, one.mover(), u64::MAX).unwrap();
        let (from, to) = (take(), take());
        let memmap = bench.mm.allocator().memmap.alone();
        let since = &memmap.page(from).payload()[crate::alloc::metas::SINCE];
        since.store(u64::MAX, core::sync::atomic::Ordering::Relaxed);
        bench.mm.free_movable(to, one.mover()).unwrap();
        bench.mm.allocator().inherit(*memmap, from, to, Owner::Movable(one.mover().id()));
        bench.check();
    }

    #[test]
    fn a_request_says_node_alignment_and_zone() {
        let bench = bench();
        let order = |raw| Order::new(raw).unwrap();
        let request = Request::from(order(1));
        for raw in 0..2 {
            let node = NodeId::new(raw).unwrap();
            let pages = bench.mm.alloc(request.on(node)).unwrap();
            assert_eq!(bench.mm.page_info(pages.pfn()).map(|info| info.node), Some(node));
        }
        let far = NodeId::new(5).unwrap();
        assert_eq!(bench.mm.alloc(request.on(far)).unwrap_err(), OutOfMemory { order: order(1) });

        let before = free(&bench);
        let wide = bench.mm.alloc(request.aligned(order(6)).with_private(9)).unwrap();
        assert_eq!((wide.pfn().get() % 64, free(&bench)), (0, before - 2));
        assert_eq!(bench.mm.private(wide.pfn()), Ok(9));
        let state = bench.mm.page_info(wide.pfn()).and_then(|info| info.state);
        assert_eq!(state, Some(PageState::Used { order: order(1), owner: Owner::Kernel }));
        let narrow = bench.mm.alloc(request.aligned(Order::ZERO)).unwrap();
        assert_eq!(narrow.pfn().get() % 2, 0);
        // There is no movable zone.
        assert!(bench.alloc_movable_zone(Order::ZERO).is_none());
        drop((wide, narrow));
        assert_eq!(free(&bench), before);
        bench.check();
    }

    #[test]
    fn memory_that_must_end_early_does_so_or_is_not_there() {
        let bench = bench();
        let order = |raw| Order::new(raw).unwrap();
        let low = Pfn::new(2 * MIB / 4096);
        let request = Request::from(order(2));
        assert!(bench.mm.alloc(request.below(Pfn::new(0))).is_err());
        assert!(bench.mm.alloc(request.below(Pfn::new(u64::MAX))).is_ok());
        let (before, mut taken) = (free(&bench), std::vec::Vec::new());
        while let Ok(pages) = bench.mm.alloc(request.below(low)) {
            assert!(pages.pfns().end <= low, "{:?}", pages.pfns());
            taken.push(pages);
        }
        // No extent of four pages is left there, and no page beyond was taken.
        assert!(taken.len() > 64);
        assert_eq!(free(&bench), before - 4 * taken.len() as u64);
        let beyond = bench.mm.alloc(request).unwrap();
        assert!(beyond.pfn() >= low);
        let wide = request.aligned(order(7));
        drop(taken);
        let aligned = bench.mm.alloc(wide.below(low)).unwrap();
        assert!(aligned.pfn().is_aligned(order(7)) && aligned.pfns().end <= low);
        drop((beyond, aligned));
        bench.check();
    }

    #[test]
    fn pages_that_stay_give_the_name_of_who_has_them() {
        let bench = bench();
        let heap = bench.mm.register_user("heap").unwrap();
        let pages = bench.mm.alloc(Request::from(Order::ZERO).named(&heap)).unwrap();
        let owner = Owner::Named(heap.id());
        assert_eq!(bench.mm.owner_name(owner), "heap");
        let info = bench.mm.page_info(pages.pfn()).unwrap();
        assert_eq!(info.state, Some(PageState::Used { order: Order::ZERO, owner }));
        assert_eq!(info.held_by, Some("heap"));
        // They are owned as others are: by their value.
        let pfn = pages.into_raw();
        // SAFETY: `into_raw` has just returned `pfn`.
        drop(unsafe { Pages::from_raw(&bench.mm, pfn) }.unwrap());
        for _ in 1..crate::MAX_USERS {
            bench.mm.register_user("another").unwrap();
        }
        let full = bench.mm.register_user("one too many").unwrap_err();
        assert_eq!(std::format!("{full}"), "16 owners have registered already");
        bench.check();
    }
}
