//! The metadata of a kernel under test: the owner of the page, in all the room of the metadata.

use super::std::cell::Cell;
use crate::memmap::meta::{META_BYTES, Meta};
use core::sync::atomic::{AtomicU64, Ordering};

super::std::thread_local! {
    static COPIES: Cell<u64> = const { Cell::new(0) };
}

/// A value for each page that fills the metadata, so that a misplaced byte is detected.
#[derive(Debug)]
#[repr(align(32))]
pub struct Tag([AtomicU64; META_BYTES / 8]);

impl Tag {
    fn of(value: u64) -> Self {
        Self([0, 1, 2, 3].map(|word| AtomicU64::new(value ^ u64::MAX << word)))
    }

    /// How many copies this thread has made for other pages.
    pub fn copies() -> u64 {
        COPIES.get()
    }

    /// Stores `value`.
    pub fn set(&self, value: u64) {
        for (word, new) in self.0.iter().zip(Self::of(value).0) {
            word.store(new.into_inner(), Ordering::Relaxed);
        }
    }

    /// The stored value, if one was stored since the page was allocated.
    ///
    /// # Panics
    ///
    /// If the words are inconsistent.
    pub fn get(&self) -> Option<u64> {
        let words = self.0.each_ref().map(|word| word.load(Ordering::Relaxed));
        if words == [0; 4] {
            return None;
        }
        let value = words[0] ^ u64::MAX;
        assert_eq!(words, Self::of(value).0.map(AtomicU64::into_inner), "a torn tag");
        Some(value)
    }
}

impl Meta for Tag {
    const NEW: Self = Self([const { AtomicU64::new(0) }; META_BYTES / 8]);

    fn moved(&self) -> Self {
        COPIES.set(COPIES.get() + 1);
        self.get().map_or(Self::NEW, Self::of)
    }
}
