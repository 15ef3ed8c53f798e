//! The two lists of cached extents of a class, without the links between extents (`links.rs`).

use crate::alloc::class::Class;

/// Cached extents of one order and kind. First extents are pfn + 1; 0 for none.
#[derive(Debug)]
pub(crate) struct List {
    pub(super) hot: u64,
    /// Extents of the hot list.
    pub(super) count: u64,
    /// A batch, or nothing.
    pub(super) cold: u64,
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
pub(crate) struct Taken(pub(super) u64);

impl Taken {
    pub(crate) const fn is_empty(&self) -> bool {
        self.0 == 0
    }
}
