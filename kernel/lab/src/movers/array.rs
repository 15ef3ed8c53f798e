//! An array of words in unmovable kernel memory: the tables of owners of movable pages.
//!
//! Its pages are listed on the heap, eight bytes for each.

use alloc::vec::Vec;
use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};
use hotmem::{Machine, Mm, Order, OutOfMemory, Pages};

/// The reason why the array cannot grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// No page is free.
    Memory(OutOfMemory),
    /// The heap has no room for the list of pages.
    Heap,
}

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory(error) => write!(f, "no memory for the table: {error}"),
            Self::Heap => f.write_str("the kernel heap has no room for the table"),
        }
    }
}

/// The array.
#[derive(Debug)]
pub(super) struct Array<M: Machine + 'static> {
    mm: &'static Mm<M>,
    pages: Vec<Pages<'static, M>>,
    len: u64,
}

impl<M: Machine> Array<M> {
    /// Words in a page.
    const PER_PAGE: u64 = M::PAGE_BYTES / size_of::<u64>() as u64;

    pub(super) const fn new(mm: &'static Mm<M>) -> Self {
        Self { mm, pages: Vec::new(), len: 0 }
    }

    pub(super) const fn len(&self) -> u64 {
        self.len
    }

    /// The word at `index`; `None` past the end.
    pub(super) fn word(&self, index: u64) -> Option<&AtomicU64> {
        let page = self.pages.get((index / Self::PER_PAGE) as usize);
        page.filter(|_| index < self.len)?.words(0)?.get((index % Self::PER_PAGE) as usize)
    }

    /// The value at `index`; 0 past the end.
    pub(super) fn get(&self, index: u64) -> u64 {
        self.word(index).map_or(0, |word| word.load(Ordering::Relaxed))
    }

    /// Sets the word at `index`; does nothing past the end.
    pub(super) fn set(&self, index: u64, value: u64) {
        if let Some(word) = self.word(index) {
            word.store(value, Ordering::Relaxed);
        }
    }

    /// Sets the word at `index` to what `change` makes of it; returns whether it made something.
    pub(super) fn change(&self, index: u64, change: impl FnOnce(u64) -> Option<u64>) -> bool {
        let Some(word) = self.word(index) else { return false };
        let changed = change(word.load(Ordering::Relaxed));
        changed.inspect(|&value| word.store(value, Ordering::Relaxed)).is_some()
    }

    /// Grows to at least `len` words, the new ones 0. After a failure the length is unchanged.
    pub(super) fn grow(&mut self, len: u64) -> Result<(), Full> {
        let before = self.len;
        while self.len < len {
            if let Err(full) = self.grow_a_page(len) {
                self.truncate(before);
                return Err(full);
            }
        }
        Ok(())
    }

    /// Grows to `len`, or to the end of one more page.
    fn grow_a_page(&mut self, len: u64) -> Result<(), Full> {
        if self.len == self.pages.len() as u64 * Self::PER_PAGE {
            self.pages.try_reserve(1).map_err(|_| Full::Heap)?;
            self.pages.push(self.mm.alloc(Order::ZERO).map_err(Full::Memory)?);
        }
        let end = len.min(self.pages.len() as u64 * Self::PER_PAGE);
        let new = self.len..end;
        self.len = end;
        new.for_each(|index| self.set(index, 0));
        Ok(())
    }

    /// Shortens to `len` words, and frees the pages without words.
    pub(super) fn truncate(&mut self, len: u64) {
        self.len = self.len.min(len);
        let needed = self.len.div_ceil(Self::PER_PAGE) as usize;
        self.pages.truncate(needed);
    }
}
