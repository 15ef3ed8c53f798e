//! The kernel's metadata of the pages that it allocates: see [`Meta`].
//!
//! A descriptor of a page in use is accessed only under a read guard, because `convert` moves descriptors while
//! pages are in use, and holds off readers of their block.

// UNSAFETY: turns the kernel's part of a descriptor into a value of the kernel's type.
#![expect(unsafe_code)]

use crate::addr::Pfn;
use crate::alloc::Allocator;
use crate::alloc::buddy::FreeError;
use crate::alloc::metas::{Metas, has_part, part_of};
use crate::alloc::migrate::Extent;
use crate::alloc::owners::Mover;
use crate::alloc::pages::Pages;
use crate::machine::Machine;
use crate::memmap::lookup::Here;
use crate::memmap::meta::Meta;
use crate::memmap::page::Owner;
use crate::memmap::seen::Seen;

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
            |memmap, order| {
                let meta = Metas::of(memmap).of_page(pfn, order, index);
                let meta = meta.ok_or_else(|| no_meta(pfn, index))?;
                // SAFETY: `Metas::begin` wrote a value of this type when the extent was allocated, and it is still
                // in use with this owner: it is not freed or migrated. `with_used` is a reader, so its descriptors
                // are not moved.
                Ok(look(unsafe { meta.as_ref() }))
            },
        )?
    }

    /// See [`Mm::meta`](crate::Mm::meta).
    ///
    /// # Safety
    ///
    /// That of [`Mm::meta`](crate::Mm::meta).
    #[must_use]
    pub(crate) unsafe fn meta(&self, pfn: Pfn) -> &M::Meta {
        // SAFETY: by the contract the page stays allocated, so its block is not removed during the call, and only
        // its descriptor is accessed.
        let memmap = unsafe { Seen::vouched(&self.memmap) };
        // SAFETY: `Metas::begin` wrote a value of this type when the page was allocated and writes another only at the
        // next allocation.
        unsafe { Metas::of(memmap).at(pfn).as_ref() }
    }

    /// Moves the kernel's metadata of each page of `from` to its page in `to`, allocated for a migration. One after
    /// the other: two zones are never locked at once. It ends at once if the owner has freed either of them meanwhile,
    /// which the end of the migration reports: metadata that is not moved is that of a new extent.
    pub(crate) fn move_meta(&self, memmap: Seen<'_, M>, from: &Extent, to: Pfn, owner: Owner) {
        let mine = |holder| holder == owner;
        let pages =
            if Metas::of(memmap).covers_all(from.pfn, from.order) { from.order.pages() } else { 1 };
        for index in (0..pages).filter(|_| size_of::<M::Meta>() > 0) {
            let moved = self.with_used(from.pfn, mine, |memmap, order| {
                let meta = Metas::of(memmap).of_page(from.pfn, order, index)?;
                // SAFETY: as in `with_meta`.
                Some(unsafe { meta.as_ref() }.moved())
            });
            let Ok(Some(moved)) = moved else { return };
            let written = self.with_used(to, mine, |memmap, order| {
                let meta = Metas::of(memmap).of_page(to, order, index)?;
                // SAFETY: it is a value of this type since `to` was allocated. No reference to it exists:
                // `with_meta` creates one only with the zone locked, and `meta` only for pages that their owner was
                // given, and `to` was not given yet.
                unsafe { meta.write(moved) };
                Some(())
            });
            if !matches!(written, Ok(Some(()))) {
                return;
            }
        }
    }
}

fn no_meta(pfn: Pfn, index: u64) -> FreeError {
    FreeError::NoMeta(Pfn::new(pfn.get().saturating_add(index)))
}

impl<M: Machine> Pages<'_, M> {
    /// Calls `look` with the kernel's metadata of page `index` of the extent.
    ///
    /// This counts as a look-up, and removals wait for it: `look` must be short, and must not call the manager.
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
        let look_up = self.allocator().memmap.read(self.pfn());
        let head = look_up.here().map(Here::page);
        let head = head.filter(|head| has_part::<M>(head, self.order(), index));
        let page = head.and_then(|_| look_up.page_after(index));
        let page = page.ok_or_else(|| no_meta(self.pfn(), index))?;
        // SAFETY: the pages belong to this value, so they are in use and stay so, and `Metas::begin` wrote a value of
        // this type; the look-up keeps `convert` from moving their descriptors.
        Ok(look(unsafe { part_of(page).as_ref() }))
    }
}
