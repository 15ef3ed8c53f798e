//! The pages of a virtual CPU's state.

use core::sync::atomic::Ordering;
use hotmem::{Machine, Mm, Order, OutOfMemory, Pages, Request};

/// The pages of a virtual CPU's state, if it has any: registers of the guest, which are cleared before the pages are
/// freed.
#[derive(Debug)]
pub(crate) struct StatePages<M: Machine + 'static>(Option<Pages<'static, M>>);

impl<M: Machine> StatePages<M> {
    /// Zeroed kernel memory of an order, or none.
    pub(crate) fn new(mm: &'static Mm<M>, order: Option<Order>) -> Result<Self, OutOfMemory> {
        let pages = order.map(|order| mm.alloc(Request::from(order).zeroed()));
        pages.transpose().map(Self)
    }

    /// The pages.
    pub(crate) const fn pages(&self) -> Option<&Pages<'static, M>> {
        self.0.as_ref()
    }

    /// Clears them.
    pub(crate) fn clear(&self) {
        let Some(pages) = &self.0 else { return };
        let pages = (0..pages.order().pages()).filter_map(|page| pages.words(page));
        pages.flatten().for_each(|word| word.store(0, Ordering::Relaxed));
    }
}

impl<M: Machine> Drop for StatePages<M> {
    fn drop(&mut self) {
        self.clear();
    }
}
