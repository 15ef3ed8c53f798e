//! Where a heap's memory comes from and goes to.

// UNSAFETY: turns addresses into pages and back, and lends extents to the allocator of small pieces.
#![expect(unsafe_code)]

use crate::addr::{Order, Pfn, PhysAddr};
use crate::alloc::owners::{TooManyOwners, User};
use crate::alloc::pages::Pages;
use crate::alloc::request::Request;
use crate::facade::Mm;
use crate::impossible::impossible;
use crate::machine::Machine;

use core::alloc::Layout;
use core::fmt;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, Ordering};
use talc::base::Talc;
use talc::base::binning::Binning;

/// Bytes of an extent that is divided, if a page is no larger: an order that the caches of CPUs keep.
const EXTENT_BYTES: u64 = 32 << 10;

/// The manager, and what the heap holds of it.
pub(super) struct Source<M: Machine + 'static> {
    mm: &'static Mm<M>,
    user: User,
    pages: AtomicU64,
}

impl<M: Machine + 'static> Source<M> {
    /// The order of an extent that is divided.
    const EXTENT: Order = Order::fitting(EXTENT_BYTES / M::PAGE_BYTES);
    /// Its size.
    const BYTES: usize = (Self::EXTENT.pages() * M::PAGE_BYTES) as usize;

    /// # Safety
    ///
    /// Those of [`Heap::start`](super::Heap::start).
    pub(super) unsafe fn new(mm: &'static Mm<M>) -> Result<Self, TooManyOwners> {
        Ok(Self { mm, user: mm.register_user("heap")?, pages: AtomicU64::new(0) })
    }

    pub(super) fn pages(&self) -> u64 {
        self.pages.load(Ordering::Relaxed)
    }

    /// Whether `layout` is a piece of an extent: any empty extent then has room for it.
    pub(super) fn is_small(layout: Layout) -> bool {
        layout.size().saturating_add(layout.align()) <= Self::BYTES / 4
    }

    /// The order of the extent for one `layout`; `None` if there is none so large.
    pub(super) fn order(layout: Layout) -> Option<Order> {
        Self::covering(layout.size())
    }

    /// The smallest order with at least so many bytes.
    fn covering(bytes: usize) -> Option<Order> {
        let pages = (bytes as u64).div_ceil(M::PAGE_BYTES).checked_next_power_of_two()?;
        Order::new(pages.ilog2() as u8)
    }

    /// An extent for one `layout`.
    pub(super) fn take(&self, layout: Layout) -> Option<NonNull<u8>> {
        self.extent(Self::order(layout)?, Self::covering(layout.align())?)
    }

    fn extent(&self, order: Order, align: Order) -> Option<NonNull<u8>> {
        let request = Request::from(order).aligned(align).named(&self.user);
        let pfn = self.mm.alloc(request).ok()?.into_raw();
        self.pages.fetch_add(order.pages(), Ordering::Relaxed);
        Some(self.mm.machine().pointer(M::address(pfn)))
    }

    /// Frees an extent.
    ///
    /// # Safety
    ///
    /// `at` came from [`take`](Self::take) or [`extent`](Self::extent), was not passed here since, and its memory is
    /// not in use.
    pub(super) unsafe fn give_back(&self, at: *mut u8) {
        let pfn = self.pfn(at);
        // SAFETY: the extent came from `into_raw` by the contract, and is only used through this value.
        match unsafe { Pages::from_raw(self.mm, pfn) } {
            Ok(pages) => {
                self.pages.fetch_sub(pages.order().pages(), Ordering::Relaxed);
            }
            Err(_) => impossible("the heap frees what is not its own", pfn.get()),
        }
    }

    /// The page at an address of the linear map.
    fn pfn(&self, at: *mut u8) -> Pfn {
        let base = self.mm.machine().linear_base().get();
        M::pfn(PhysAddr::new((at.expose_provenance() as u64).wrapping_sub(base)))
    }
}

/// The extents that are divided: none before the heap is started.
pub(super) struct Extents<M: Machine + 'static>(Option<&'static Source<M>>);

impl<M: Machine + 'static> Extents<M> {
    pub(super) const NONE: Self = Self(None);

    pub(super) const fn of(source: &'static Source<M>) -> Self {
        Self(Some(source))
    }
}

impl<M: Machine + 'static> fmt::Debug for Extents<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Extents").finish_non_exhaustive()
    }
}

// SAFETY: the manager uses no heap. An extent is claimed whole, so its end and its size lead to its start, and `resize`
// frees it when nothing of it is in use; only its start is returned then, as the end of a heap that is gone.
unsafe impl<M: Machine + 'static> talc::source::Source for Extents<M> {
    const TRACK_HEAP_END: bool = true;

    fn acquire<B: Binning>(talc: &mut Talc<Self, B>, _layout: Layout) -> Result<(), ()> {
        let source = talc.source.0.ok_or(())?;
        let extent = source.extent(Source::<M>::EXTENT, Order::ZERO).ok_or(())?;
        // SAFETY: the extent is not in use, and is the allocator's until `resize` frees it.
        let claimed = unsafe { talc.claim(extent.as_ptr(), Source::<M>::BYTES) };
        claimed.map(drop).ok_or(())
    }

    unsafe fn resize(&mut self, first: *mut u8, end: *mut u8, is_empty: bool) -> *mut u8 {
        match self.0 {
            Some(source) if is_empty => {
                // SAFETY: `acquire` claimed the bytes up to `end`, and nothing of them is in use.
                unsafe { source.give_back(end.wrapping_sub(Source::<M>::BYTES)) };
                first
            }
            _ => end,
        }
    }
}
