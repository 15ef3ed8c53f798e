//! The place of the kernel's metadata of a page, and the number of pages of an extent that have metadata.

// UNSAFETY: initialises the kernel's part of a descriptor.
#![expect(unsafe_code)]

use crate::addr::{Order, Pfn, PfnRange};
use crate::machine::Machine;
use crate::memmap::meta::Meta;
use crate::memmap::seen::Seen;
use core::ptr::NonNull;
use core::sync::atomic::Ordering;

/// Payload word of a used extent's head: the tag of its zone, and above that the number of pages with a kernel's
/// part.
const COVERED: usize = 0;
const COVERED_SHIFT: u32 = 32;
/// Payload words of a used extent's head after that one: the time of its allocation, and its owner's word. Those after
/// them are the kernel's: see [`crate::memmap::meta`].
pub(crate) const SINCE: usize = 1;
pub(crate) const PRIVATE: usize = 2;

/// The kernel's parts of the descriptors of a memmap.
pub(super) struct Metas<'m, M: Machine>(Seen<'m, M>);

impl<'m, M: Machine> Metas<'m, M> {
    pub(super) const fn of(memmap: Seen<'m, M>) -> Self {
        Self(memmap)
    }

    /// Initialises the kernel's part of the first `covered` pages of an extent that has no user yet.
    #[inline]
    pub(super) fn fill(&self, pfn: Pfn, covered: u64) {
        if size_of::<M::Meta>() == 0 {
            return;
        }
        for pfn in PfnRange::new(pfn, covered).iter() {
            // SAFETY: the page has no user yet, so no reference to its part exists; `check_meta` has checked that the type
            // fits the bytes and their alignment.
            unsafe { self.at(pfn).write(M::Meta::NEW) };
        }
    }

    /// Sets the number of pages of an extent of the zone of `tag`, from the first on, that have a kernel's part.
    #[inline]
    pub(super) fn cover(&self, pfn: Pfn, covered: u64, tag: u64) {
        let word = tag | covered << COVERED_SHIFT;
        self.0.page(pfn).payload()[COVERED].store(word, Ordering::Relaxed);
    }

    /// Whether every page of an extent has a kernel's part.
    pub(super) fn covers_all(&self, pfn: Pfn, order: Order) -> bool {
        size_of::<M::Meta>() > 0 && self.covered(pfn) == order.pages()
    }

    /// The kernel's part of page `index` of an extent that is in use. `None` if the extent has no such page, or the
    /// page has no such part.
    pub(super) fn of_page(&self, pfn: Pfn, order: Order, index: u64) -> Option<NonNull<M::Meta>> {
        let there = size_of::<M::Meta>() == 0 || index < self.covered(pfn);
        (index < order.pages() && there).then(|| self.at(pfn.add(index)))
    }

    /// The number of pages of a used extent that have a kernel's part. Called with the extent kept in use.
    fn covered(&self, pfn: Pfn) -> u64 {
        self.0.page(pfn).payload()[COVERED].load(Ordering::Relaxed) >> COVERED_SHIFT
    }

    /// The tag of the zone of a used extent that was allocated for a user.
    #[inline]
    pub(super) fn tag(&self, pfn: Pfn) -> u64 {
        self.0.page(pfn).payload()[COVERED].load(Ordering::Relaxed) & ((1 << COVERED_SHIFT) - 1)
    }

    pub(super) fn at(&self, pfn: Pfn) -> NonNull<M::Meta> {
        self.0.page(pfn).meta().cast()
    }
}
