//! The hot and the cold lists of cached extents of a class, without the links between extents (`links.rs`).

use crate::alloc::class::Class;

/// Cold lists. With the hot one they have room for pages whose number goes up and down by two batches: after the first
/// time that needs no zone, however many there were in the beginning.
const COLD: usize = 2;

/// Cached extents of one order and kind. First extents are pfn + 1; 0 for none.
#[derive(Debug)]
pub(crate) struct List {
    pub(super) hot: u64,
    /// Extents of the hot list.
    pub(super) count: u64,
    /// A batch each, the oldest first, then nothing.
    cold: [u64; COLD],
}

impl List {
    pub(crate) const EMPTY: Self = Self { hot: 0, count: 0, cold: [0; COLD] };

    /// How many lists it is: see [`part`](Self::part).
    pub(crate) const PARTS: usize = 1 + COLD;

    /// The first extent of one of its lists, and its number of extents.
    pub(super) fn part(&self, part: usize, class: Class) -> (u64, u64) {
        match part.checked_sub(1).and_then(|cold| self.cold.get(cold)) {
            None => (self.hot, self.count),
            Some(0) => (0, 0),
            Some(&cold) => (cold, class.batch()),
        }
    }

    /// Whether the hot list holds a batch.
    #[inline]
    pub(crate) const fn is_full(&self, class: Class) -> bool {
        self.count >= class.batch()
    }

    /// Makes a cold list the hot one, if that is empty.
    pub(crate) fn warm_up(&mut self, class: Class) {
        if self.hot == 0
            && let Some(cold) = self.cold.iter_mut().rfind(|cold| **cold != 0)
        {
            (self.hot, self.count) = (core::mem::take(cold), class.batch());
        }
    }

    /// Makes the hot list, which is full, a cold one. Returns the oldest cold list if there are too many then.
    pub(crate) fn cool_down(&mut self) -> Taken {
        let mut taken = Taken(0);
        if !self.cold.contains(&0) {
            self.cold.rotate_left(1);
            taken = Taken(core::mem::take(&mut self.cold[COLD - 1]));
        }
        if let Some(free) = self.cold.iter_mut().find(|cold| **cold == 0) {
            (*free, self.hot, self.count) = (self.hot, 0, 0);
        }
        taken
    }

    /// Takes a cold list, or else the hot one.
    pub(crate) fn take(&mut self) -> Taken {
        if let Some(cold) = self.cold.iter_mut().rfind(|cold| **cold != 0) {
            return Taken(core::mem::take(cold));
        }
        self.count = 0;
        Taken(core::mem::take(&mut self.hot))
    }

    /// Extents of all its lists.
    pub(super) fn extents(&self, class: Class) -> u64 {
        (0..Self::PARTS).map(|part| self.part(part, class).1).sum()
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
