//! The kernel's own data of the pages that it allocates: see [`Meta`].
//!
//! A descriptor is looked at only under a read guard or its zone's lock, because `convert` moves descriptors
//! while pages are in use, and excludes both.

// UNSAFETY: turns the kernel's part of a descriptor into a value of the kernel's type.
#![expect(unsafe_code)]

use crate::addr::{Order, Pfn, PfnRange};
use crate::alloc::Allocator;
use crate::alloc::buddy::{COVERED, FreeError};
use crate::alloc::migrate::Extent;
use crate::alloc::owners::Mover;
use crate::alloc::pages::Pages;
use crate::machine::Machine;
use crate::memmap::meta::Meta;
use crate::memmap::page::Owner;
use core::ptr::NonNull;
use core::sync::atomic::Ordering;

impl<M: Machine> Allocator<M> {
    /// See [`Mm::with_meta`](crate::Mm::with_meta).
    pub(crate) fn with_meta<R>(
        &self,
        pfn: Pfn,
        index: u64,
        mover: &Mover,
        look: impl FnOnce(&M::Meta) -> R,
    ) -> Result<R, FreeError> {
        let mine = self.owners.owner_of(mover);
        self.with_used(
            pfn,
            |owner| Some(owner) == mine,
            |_, _, order| {
                let meta = self.meta_of(pfn, order, index)?;
                // SAFETY: `begin_meta` wrote a value of this type when the extent was allocated, and it is still
                // in use. The zone is locked: without that lock the extent is not freed or moved, and its
                // descriptors are not moved.
                Ok(look(unsafe { meta.as_ref() }))
            },
        )?
    }

    /// See [`Mm::meta`](crate::Mm::meta).
    ///
    /// # Safety
    ///
    /// As there.
    #[must_use]
    pub(crate) unsafe fn meta(&self, pfn: Pfn) -> &M::Meta {
        // SAFETY: by the contract the page stays allocated. `begin_meta` wrote a value of this type when it
        // was allocated and writes another only at the next allocation; its block is not removed meanwhile.
        unsafe { self.meta_at(pfn).as_ref() }
    }

    /// Begins the kernel's part of the first `covered` pages of an extent that is being allocated.
    pub(crate) fn begin_meta(&self, pfn: Pfn, covered: u64) {
        if size_of::<M::Meta>() == 0 {
            return;
        }
        self.memmap.page(pfn).payload()[COVERED].store(covered, Ordering::Relaxed);
        for pfn in PfnRange::new(pfn, covered).iter() {
            // SAFETY: the page was free, so no reference to its part exists; `check_meta` made sure that the
            // type fits the bytes and their alignment.
            unsafe { self.meta_at(pfn).write(M::Meta::NEW) };
        }
    }

    /// Whether there is a kernel's part of every page of an extent.
    pub(crate) fn covers_all(&self, extent: &Extent) -> bool {
        size_of::<M::Meta>() > 0 && self.covered(extent.pfn) == extent.order.pages()
    }

    /// Gives each page of `to`, allocated for a move, the kernel's part of its page in `from`. One after the
    /// other: two zones are never locked at once.
    pub(crate) fn move_meta(&self, from: &Extent, to: Pfn, owner: Owner) {
        let mine = |holder| holder == owner;
        let pages = if self.covers_all(from) { from.order.pages() } else { 1 };
        for index in (0..pages).filter(|_| size_of::<M::Meta>() > 0) {
            let moved = self.with_used(from.pfn, mine, |_, _, order| {
                let meta = self.meta_of(from.pfn, order, index).ok()?;
                // SAFETY: as in `with_meta`.
                Some(unsafe { meta.as_ref() }.moved())
            });
            let Ok(Some(moved)) = moved else { return };
            let written = self.with_used(to, mine, |_, _, order| {
                let meta = self.meta_of(to, order, index).ok()?;
                // SAFETY: it is a value of this type since `to` was allocated. No reference to it exists:
                // `with_meta` makes one only with the zone locked, and `meta` only for pages that their
                // owner was given, which `to` is not yet.
                unsafe { meta.write(moved) };
                Some(())
            });
            if !matches!(written, Ok(Some(()))) {
                return;
            }
        }
    }

    /// Where the kernel's part of page `index` is, of an extent that is in use.
    fn meta_of(&self, pfn: Pfn, order: Order, index: u64) -> Result<NonNull<M::Meta>, FreeError> {
        let there = size_of::<M::Meta>() == 0 || index < self.covered(pfn);
        if index < order.pages() && there {
            return Ok(self.meta_at(pfn.add(index)));
        }
        Err(FreeError::NoMeta(Pfn::new(pfn.get().saturating_add(index))))
    }

    /// Of how many pages of a used extent there is a kernel's part. Called with the extent kept in use.
    fn covered(&self, pfn: Pfn) -> u64 {
        self.memmap.page(pfn).payload()[COVERED].load(Ordering::Relaxed)
    }

    fn meta_at(&self, pfn: Pfn) -> NonNull<M::Meta> {
        self.memmap.page(pfn).meta().cast()
    }
}

impl<M: Machine> Pages<'_, M> {
    /// Runs `look` on what the kernel keeps of page `index` of them.
    ///
    /// This counts as a look-up, for which removals wait: `look` must be short, and must not call the manager.
    ///
    /// # Errors
    ///
    /// [`FreeError::NoMeta`] if the extent is smaller, or if only its first page has metadata: see
    /// [`Request::with_meta_of_each`](crate::Request::with_meta_of_each).
    pub fn with_meta<R>(
        &self,
        index: u64,
        look: impl FnOnce(&M::Meta) -> R,
    ) -> Result<R, FreeError> {
        let _guard = self.allocator().memmap.read();
        let meta = self.allocator().meta_of(self.pfn(), self.order(), index)?;
        // SAFETY: the pages are this value's, so they are in use and stay so; the guard keeps `convert` from
        // moving their descriptors.
        Ok(look(unsafe { meta.as_ref() }))
    }
}
