//! Memory by its number, for tests: what a kernel does only by owned values, or by `unsafe`.

use super::{FakeMachine, Shape};
use crate::addr::{Order, Pfn};
use crate::alloc::buddy::{PRIVATE, is_users};
use crate::{FreeError, Mm, OutOfMemory, Pages};
use core::sync::atomic::Ordering;

impl<S: Shape> Mm<FakeMachine<S>> {
    /// Allocates pages that stay, and keeps only their number.
    ///
    /// # Errors
    ///
    /// As [`Mm::alloc`].
    pub fn take_pages(&self, order: Order) -> Result<Pfn, OutOfMemory> {
        self.alloc(order).map(Pages::into_raw)
    }

    /// Frees an extent of any user. A test has no memory behind its numbers that this could harm.
    ///
    /// # Errors
    ///
    /// [`FreeError`] if no extent of a user begins at `pfn`; nothing is changed then.
    pub fn free_pages(&self, pfn: Pfn) -> Result<(), FreeError> {
        self.free_of(pfn, is_users).map(drop)
    }

    /// Changes the owner's word of an extent of any user.
    ///
    /// # Errors
    ///
    /// As [`Mm::private`].
    pub fn set_private(&self, pfn: Pfn, word: u64) -> Result<(), FreeError> {
        self.order_of(pfn, is_users)?;
        self.page(pfn).payload()[PRIVATE].store(word, Ordering::Release);
        Ok(())
    }
}
