//! The lists of cached extents: each extent has the next one of its list in its descriptor.

use crate::addr::Pfn;
use crate::alloc::class::Class;
use crate::machine::Machine;
use crate::memmap::seen::Seen;
use core::sync::atomic::Ordering;

/// Payload word of a cached page: the next on its list, as pfn + 1; 0 for none.
const NEXT: usize = 0;

/// Cached extents of one order and kind. First extents are pfn + 1; 0 for none.
#[derive(Debug)]
pub(crate) struct List {
    hot: u64,
    /// Extents of the hot list.
    count: u64,
    /// A batch, or nothing.
    cold: u64,
}

impl List {
    pub(crate) const EMPTY: Self = Self { hot: 0, count: 0, cold: 0 };

    /// Whether the hot list holds a batch.
    #[inline]
    pub(crate) const fn is_full(&self, class: Class) -> bool {
        self.count >= class.batch()
    }

    /// Makes the cold list the hot one, which is empty.
    pub(crate) fn warm_up(&mut self, class: Class) {
        if self.hot == 0 && self.cold != 0 {
            (self.hot, self.count, self.cold) = (self.cold, class.batch(), 0);
        }
    }

    /// Makes the hot list, which is full, the cold one, which is empty.
    pub(crate) fn cool_down(&mut self) {
        debug_assert_eq!(self.cold, 0, "the cold list is empty");
        (self.cold, self.hot, self.count) = (self.hot, 0, 0);
    }

    /// Takes the cold list, if it holds something.
    pub(crate) fn take_cold(&mut self) -> Option<Taken> {
        Some(Taken(core::mem::take(&mut self.cold))).filter(|taken| !taken.is_empty())
    }

    /// Takes the cold list, or else the hot one.
    pub(crate) fn take(&mut self) -> Taken {
        if self.cold != 0 {
            return Taken(core::mem::take(&mut self.cold));
        }
        self.count = 0;
        Taken(core::mem::take(&mut self.hot))
    }

    /// Extents of both lists.
    pub(super) fn extents(&self, class: Class) -> u64 {
        self.count + if self.cold == 0 { 0 } else { class.batch() }
    }
}

/// A list that was taken out of a cache.
#[derive(Debug)]
#[must_use = "its extents are lost"]
pub(crate) struct Taken(u64);

impl Taken {
    pub(crate) const fn is_empty(&self) -> bool {
        self.0 == 0
    }
}

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

    /// The extents of both lists, and whether each list has as many as its count.
    #[must_use]
    pub(crate) fn visit<M: Machine>(
        &self,
        memmap: Seen<'_, M>,
        class: Class,
        each: &mut dyn FnMut(Pfn),
    ) -> bool {
        let cold = if self.cold == 0 { 0 } else { class.batch() };
        [(self.hot, self.count), (self.cold, cold)].into_iter().all(|(first, count)| {
            // One more than the count, so that a cyclic list is detected and left.
            let extents = chain(memmap, first).take(count as usize + 1);
            extents.inspect(|&pfn| each(pfn)).count() as u64 == count
        })
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
