//! The pages of a virtual CPU's state.

use crate::switch::order_for;
use core::sync::atomic::Ordering;
use hotmem::{Machine, Mm, OutOfMemory, Pages, Request};

/// The pages of a virtual CPU's state, if it has any: registers of the guest, which are cleared before the pages are
/// freed.
#[derive(Debug)]
pub(crate) struct StatePages<M: Machine + 'static>(Option<Pages<'static, M>>);

impl<M: Machine> StatePages<M> {
    /// Zeroed kernel memory of at least `bytes`, or none for 0 bytes.
    pub(crate) fn new(mm: &'static Mm<M>, bytes: u64) -> Result<Self, OutOfMemory> {
        let order = order_for::<M>(bytes);
        let pages = (bytes != 0).then(|| mm.alloc(Request::from(order).zeroed()));
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
