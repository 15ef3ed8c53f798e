//! The lists of cached extents: each extent has the next one of its list in its descriptor.

use crate::addr::{Order, Pfn, PfnRange};
use crate::alloc::class::Class;
use crate::alloc::list::{List, Taken};
use crate::machine::Machine;
use crate::memmap::page::PageState;
use crate::memmap::seen::Seen;
use core::sync::atomic::Ordering;

/// Payload word of a cached page: the next on its list, as pfn + 1; 0 for none.
const NEXT: usize = 0;

impl List {
    /// Takes the extent that was added last from the hot list.
    #[inline]
    pub(crate) fn pop<M: Machine>(&mut self, memmap: Seen<'_, M>) -> Option<Pfn> {
        let pfn = Pfn::new(self.hot.checked_sub(1)?);
        self.hot = memmap.page(pfn).payload()[NEXT].load(Ordering::Relaxed);
        self.count = self.count.wrapping_sub(1);
        Some(pfn)
    }

    /// Puts an extent first on the hot list, which is not full.
    #[inline]
    pub(crate) fn push<M: Machine>(&mut self, memmap: Seen<'_, M>, pfn: Pfn) {
        memmap.page(pfn).payload()[NEXT].store(self.hot, Ordering::Relaxed);
        self.hot = pfn.get() + 1;
        self.count += 1;
    }

    /// Puts adjacent extents of `order` on the hot list, which has room for them, and marks them as cached: the first one
    /// on top, so that they are allocated in order.
    pub(crate) fn push_run<M: Machine>(
        &mut self,
        memmap: Seen<'_, M>,
        run: PfnRange,
        order: Order,
    ) {
        let (pages, cached) = (order.pages(), PageState::Cached { order });
        let mut pfn = run.start;
        while pfn < run.end {
            let next = pfn.add(pages);
            let link = if next < run.end { next.get() + 1 } else { self.hot };
            let page = memmap.page(pfn);
            page.payload()[NEXT].store(link, Ordering::Relaxed);
            page.set_state(cached);
            pfn = next;
        }
        self.hot = run.start.get() + 1;
        self.count += run.pages() >> order.get();
    }

    /// Calls `each` with the extents of one of its lists, each before its link is read, until it returns `false`. Returns
    /// whether the list has as many as its count.
    #[must_use]
    pub(crate) fn visit<M: Machine>(
        &self,
        memmap: Seen<'_, M>,
        class: Class,
        part: usize,
        each: &mut dyn FnMut(Pfn) -> bool,
    ) -> bool {
        let (first, count) = self.part(part, class);
        let (mut next, mut seen) = (first, 0);
        // One more than the count, so that a cyclic list is detected and left.
        while let Some(pfn) = next.checked_sub(1).map(Pfn::new)
            && seen <= count
        {
            seen += 1;
            if !each(pfn) {
                return false;
            }
            next = memmap.page(pfn).payload()[NEXT].load(Ordering::Relaxed);
        }
        seen == count
    }
}

impl Taken {
    /// Its extents, first to last. Each may be changed once the iterator is past it.
    pub(crate) fn iter<M: Machine>(&self, memmap: Seen<'_, M>) -> impl Iterator<Item = Pfn> {
        chain(memmap, self.0)
    }
}

/// The extents of a list whose first is `first`.
fn chain<M: Machine>(memmap: Seen<'_, M>, first: u64) -> impl Iterator<Item = Pfn> {
    let mut next = first;
    core::iter::from_fn(move || {
        let pfn = Pfn::new(next.checked_sub(1)?);
        next = memmap.page(pfn).payload()[NEXT].load(Ordering::Relaxed);
        Some(pfn)
    })
}
