//! The place of the kernel's metadata of a page, and the number of pages of an extent that have metadata.

// UNSAFETY: initialises the kernel's part of a descriptor.
#![expect(unsafe_code)]

use crate::addr::{Order, Pfn, PfnRange};
use crate::machine::Machine;
use crate::memmap::meta::Meta;
use crate::memmap::page::Page;
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
        fill::<M>(PfnRange::new(pfn, covered).iter().map(|pfn| self.0.page(pfn)));
    }

    /// Sets the number of pages of an extent of the zone of `tag`, from the first on, that have a kernel's part.
    #[inline]
    pub(super) fn cover(&self, pfn: Pfn, covered: u64, tag: u64) {
        let word = tag | covered << COVERED_SHIFT;
        self.0.page(pfn).payload()[COVERED].store(word, Ordering::Relaxed);
    }

    /// Whether every page of an extent has a kernel's part.
    pub(super) fn covers_all(&self, pfn: Pfn, order: Order) -> bool {
        size_of::<M::Meta>() > 0 && covered(self.0.page(pfn)) == order.pages()
    }

    /// The kernel's part of page `index` of an extent that is in use. `None` if the extent has no such page, or the
    /// page has no such part.
    pub(super) fn of_page(&self, pfn: Pfn, order: Order, index: u64) -> Option<NonNull<M::Meta>> {
        has_part::<M>(self.0.page(pfn), order, index).then(|| self.at(pfn.add(index)))
    }

    /// The tag of the zone of a used extent that was allocated for a user.
    #[inline]
    pub(super) fn tag(&self, pfn: Pfn) -> u64 {
        self.0.page(pfn).payload()[COVERED].load(Ordering::Relaxed) & ((1 << COVERED_SHIFT) - 1)
    }

    pub(super) fn at(&self, pfn: Pfn) -> NonNull<M::Meta> {
        part_of(self.0.page(pfn))
    }
}

/// Initialises the kernel's part of pages of an extent that has no user yet.
#[inline]
pub(super) fn fill<'p, M: Machine>(pages: impl Iterator<Item = &'p Page>) {
    if size_of::<M::Meta>() == 0 {
        return;
    }
    for page in pages {
        // SAFETY: the page has no user yet, so no reference to its part exists; `check_meta` has checked that the type
        // fits the bytes and their alignment.
        unsafe { part_of(page).write(M::Meta::NEW) };
    }
}

/// The kernel's part of a page's descriptor.
pub(super) fn part_of<T>(page: &Page) -> NonNull<T> {
    page.meta().cast()
}

/// Whether an extent that is kept in use, with this head, has page `index`, and that has a kernel's part.
pub(super) fn has_part<M: Machine>(head: &Page, order: Order, index: u64) -> bool {
    index < order.pages() && (size_of::<M::Meta>() == 0 || index < covered(head))
}

/// The tag of the zone of a used extent of a user, and its pages that have a kernel's part.
pub(crate) fn note_of(head: &Page) -> (u64, u64) {
    let word = head.payload()[COVERED].load(Ordering::Relaxed);
    (word & ((1 << COVERED_SHIFT) - 1), word >> COVERED_SHIFT)
}

/// The number of pages of a used extent that have a kernel's part. Called with the extent kept in use.
fn covered(head: &Page) -> u64 {
    head.payload()[COVERED].load(Ordering::Relaxed) >> COVERED_SHIFT
}
