//! Pools of fixed size for what tables define and methods create.
//!
//! ```text
//! while loading:  | tables' data -> grows on the heap, up to a limit
//! afterwards:     | tables' data | growth -> ... | temporary -> ...   |   never touches the heap
//!                                                ^ reset to here before every evaluation
//! ```

use alloc::vec::Vec;

use crate::error::{ErrorKind, Pool as Kind};
use crate::object::Span;

/// Makes room for `count` more items, and for a quarter of those there are: doubling would take up to twice
/// what large tables need.
pub(crate) fn make_room<T>(items: &mut Vec<T>, count: usize) -> Result<(), ErrorKind> {
    if items.capacity() - items.len() >= count {
        return Ok(());
    }
    let more = count.max(items.len() / 4 + 64);
    items.try_reserve_exact(more).map_err(|_| ErrorKind::OutOfHeap)
}

/// A bump allocator over items of one type.
#[derive(Debug)]
pub(crate) struct Pool<T> {
    items: Vec<T>,
    kind: Kind,
    /// Most items while loading.
    limit: usize,
    /// Next free item of the growth area; its end is `base`. `None` while loading.
    growth: Option<usize>,
    /// First temporary item.
    base: usize,
    /// Next free temporary item.
    top: usize,
    /// The most temporary items there ever were.
    peak: usize,
}

impl<T: Copy> Pool<T> {
    /// An empty pool for loading at most `limit` items.
    pub(crate) const fn new(kind: Kind, limit: u32) -> Self {
        let limit = limit as usize;
        Self { items: Vec::new(), kind, limit, growth: None, base: 0, top: 0, peak: 0 }
    }

    /// Ends loading: takes the heap for `growth` and `temporary` items, and never more.
    pub(crate) fn seal(&mut self, growth: u32, temporary: u32, fill: T) -> Result<(), ErrorKind> {
        let (growth, temporary) = (growth as usize, temporary as usize);
        let extra = growth.checked_add(temporary).ok_or(ErrorKind::OutOfHeap)?;
        self.items.try_reserve_exact(extra).map_err(|_| ErrorKind::OutOfHeap)?;
        let loaded = self.items.len();
        self.items.resize(loaded + extra, fill);
        self.growth = Some(loaded);
        self.base = loaded + growth;
        self.top = self.base;
        Ok(())
    }

    /// Takes `count` items that live until the evaluation ends, set to `fill`.
    pub(crate) fn temporary(&mut self, count: usize, fill: T) -> Result<Span, ErrorKind> {
        if self.growth.is_none() {
            return self.loaded(count, fill);
        }
        let span = self.claim(self.top, self.items.len(), count, fill)?;
        self.top += count;
        self.peak = self.peak.max(self.top - self.base);
        Ok(span)
    }

    /// Takes `count` items that live as long as the tables, set to `fill`.
    pub(crate) fn lasting(&mut self, count: usize, fill: T) -> Result<Span, ErrorKind> {
        let Some(next) = self.growth else {
            return self.loaded(count, fill);
        };
        let span = self.claim(next, self.base, count, fill)?;
        self.growth = Some(next + count);
        Ok(span)
    }

    /// Sets `count` items from `start` on to `fill` if they end before `end`.
    fn claim(
        &mut self,
        start: usize,
        end: usize,
        count: usize,
        fill: T,
    ) -> Result<Span, ErrorKind> {
        let full = ErrorKind::Full(self.kind);
        let last = start.checked_add(count).filter(|&last| last <= end).ok_or(full)?;
        self.items.get_mut(start..last).ok_or(full)?.fill(fill);
        span(start, count).ok_or(full)
    }

    /// Takes items from the heap, while loading.
    fn loaded(&mut self, count: usize, fill: T) -> Result<Span, ErrorKind> {
        let start = self.items.len();
        let full = ErrorKind::Full(self.kind);
        let end = start.checked_add(count).filter(|&end| end <= self.limit).ok_or(full)?;
        make_room(&mut self.items, count)?;
        self.items.resize(end, fill);
        span(start, count).ok_or(full)
    }

    /// The next free temporary item, to come back to with [`Self::reset`].
    pub(crate) const fn mark(&self) -> usize {
        self.top
    }

    /// Gives back every temporary item from `mark` on.
    pub(crate) fn reset(&mut self, mark: usize) {
        self.top = mark.clamp(self.base, self.top.max(self.base));
    }

    /// Gives back all temporary items.
    pub(crate) fn reset_all(&mut self) {
        self.top = self.base;
    }

    /// Whether an item lives only until the evaluation ends.
    pub(crate) const fn is_temporary(&self, start: u32) -> bool {
        self.growth.is_some() && start as usize >= self.base
    }

    /// The items of a span.
    pub(crate) fn get(&self, span: Span) -> Result<&[T], ErrorKind> {
        let start = span.start as usize;
        let end = start.checked_add(span.len as usize).ok_or(ErrorKind::OutOfBounds)?;
        self.items.get(start..end).ok_or(ErrorKind::OutOfBounds)
    }

    /// The items of a span, to be changed.
    pub(crate) fn get_mut(&mut self, span: Span) -> Result<&mut [T], ErrorKind> {
        let start = span.start as usize;
        let end = start.checked_add(span.len as usize).ok_or(ErrorKind::OutOfBounds)?;
        self.items.get_mut(start..end).ok_or(ErrorKind::OutOfBounds)
    }

    /// One item.
    pub(crate) fn item(&self, at: u32) -> Result<T, ErrorKind> {
        self.items.get(at as usize).copied().ok_or(ErrorKind::OutOfBounds)
    }

    /// Changes one item.
    pub(crate) fn set(&mut self, at: u32, value: T) -> Result<(), ErrorKind> {
        *self.items.get_mut(at as usize).ok_or(ErrorKind::OutOfBounds)? = value;
        Ok(())
    }

    /// Copies `from` to `to`; both must be of one length.
    pub(crate) fn copy(&mut self, from: Span, to: Span) -> Result<(), ErrorKind> {
        let bad = ErrorKind::OutOfBounds;
        let start = from.start as usize;
        let end = start.checked_add(from.len as usize).ok_or(bad)?;
        let dest = to.start as usize;
        let last = dest.checked_add(from.len as usize).ok_or(bad)?;
        if from.len != to.len || end > self.items.len() || last > self.items.len() {
            return Err(bad);
        }
        self.items.copy_within(start..end, dest);
        Ok(())
    }

    /// Moves the items of a temporary span down to `mark` and gives back all behind them. What
    /// lies below `mark`, or lasts, stays where it is.
    pub(crate) fn compact(&mut self, from: Span, mark: usize) -> Result<Span, ErrorKind> {
        if !self.is_temporary(from.start) || (from.start as usize) < mark {
            self.reset(mark);
            return Ok(from);
        }
        let bad = ErrorKind::OutOfBounds;
        let to = Span { start: u32::try_from(mark).map_err(|_| bad)?, len: from.len };
        self.copy(from, to)?;
        self.reset(mark + to.len as usize);
        Ok(to)
    }

    /// Bytes of heap that are held.
    pub(crate) const fn heap(&self) -> usize {
        self.items.capacity() * size_of::<T>()
    }

    /// Items that the tables define.
    pub(crate) fn defined(&self) -> u32 {
        self.growth.unwrap_or(self.items.len()) as u32
    }

    /// The most temporary items there ever were.
    pub(crate) const fn peak(&self) -> u32 {
        self.peak as u32
    }
}

/// A span whose figures fit 32 bits, as all pools' do.
fn span(start: usize, len: usize) -> Option<Span> {
    Some(Span { start: u32::try_from(start).ok()?, len: u32::try_from(len).ok()? })
}

#[cfg(test)]
mod tests {
    use super::{Kind, Pool};
    use crate::error::ErrorKind;

    #[test]
    fn a_sealed_pool_never_grows() {
        let mut pool = Pool::new(Kind::Bytes, 16);
        pool.temporary(10, 1u8).expect("loading");
        pool.seal(4, 4, 0).expect("sealed");
        pool.temporary(4, 2).expect("fits");
        assert_eq!(pool.temporary(1, 2), Err(ErrorKind::Full(Kind::Bytes)));
        pool.lasting(4, 3).expect("growth fits");
        assert_eq!(pool.lasting(1, 3), Err(ErrorKind::Full(Kind::Bytes)));
    }

    #[test]
    fn a_reset_gives_temporary_items_back_and_keeps_lasting_ones() {
        let mut pool = Pool::new(Kind::Bytes, 16);
        let loaded = pool.lasting(3, 7u8).expect("loading");
        pool.seal(2, 4, 0).expect("sealed");
        let mark = pool.mark();
        let first = pool.temporary(4, 9).expect("fits");
        pool.reset(mark);
        assert_eq!(pool.temporary(4, 9), Ok(first));
        assert_eq!(pool.get(loaded), Ok(&[7u8, 7, 7][..]));
        assert_eq!(pool.peak(), 4);
    }
}
