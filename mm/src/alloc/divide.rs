//! A used extent is divided into smaller ones, in place: so that a part can be freed, or so that it fits elsewhere
//! in pieces where memory is fragmented.
//!
//! ```text
//!   before   [ head, word w                                      ]
//!   after    [ head, w(0) ][ head, w(1) ][ head, w(2) ][ head, w(3)]   each with the age, and metadata, of before
//! ```

// UNSAFETY: writes the kernel's part of descriptors that become heads.
#![expect(unsafe_code)]

use crate::addr::{Order, Pfn, PfnRange};
use crate::alloc::Allocator;
use crate::alloc::buddy::{FreeError, used};
use crate::alloc::metas::{Metas, PRIVATE, SINCE};
use crate::alloc::owners::Mover;
use crate::machine::Machine;
use crate::memmap::meta::Meta;
use crate::memmap::page::{Owner, PageState};
use crate::memmap::section::Section;
use crate::memmap::seen::Seen;
use core::mem;
use core::sync::atomic::Ordering;

/// Divides extents of an allocator.
pub(crate) struct Divider<'m, M: Machine>(&'m Allocator<M>);

impl<'m, M: Machine> Divider<'m, M> {
    pub(crate) const fn of(allocator: &'m Allocator<M>) -> Self {
        Self(allocator)
    }

    /// See [`Mm::split_movable`](crate::Mm::split_movable).
    pub(crate) fn split(
        &self,
        pfn: Pfn,
        mover: &Mover,
        into: Order,
        word: impl Fn(u64) -> u64,
    ) -> Result<(), FreeError> {
        let mine = self.0.owners.owner_of(mover);
        self.0.with_zone(pfn, |memmap, zone, home| {
            let (order, owner) = used(home.here(), |owner| Some(owner) == mine)?;
            if into >= order {
                return Ok(());
            }
            // An operation that empties the range looks for extents of the sizes that it has found there.
            if zone.isolating.intersection(PfnRange::new(pfn, order.pages())).is_some()
                && zone.dividing != Some(pfn)
            {
                return Err(FreeError::Leaving(pfn));
            }
            // A CPU that holds the lock of its cache, and no zone's, may be about to free it.
            let held = home.here().page().hold(order, owner);
            mem::forget(held.ok_or(FreeError::NotAllocated(pfn))?);
            Divide { memmap, order, owner, into }.at(pfn, word);
            Ok(())
        })
    }
}

/// A used extent that is divided. Its zone is locked, and it is held.
struct Divide<'m, M: Machine> {
    memmap: Seen<'m, M>,
    order: Order,
    owner: Owner,
    into: Order,
}

impl<M: Machine> Divide<'_, M> {
    fn at(&self, pfn: Pfn, word: impl Fn(u64) -> u64) {
        let Some(section) = self.memmap.known_section(pfn) else { return };
        let metas = Metas::of(self.memmap);
        let of_each = metas.covers_all(pfn, self.order);
        let (tag, head) = (metas.tag(pfn), self.memmap.page(pfn).payload());
        let since = head[SINCE].load(Ordering::Relaxed);
        section.clear_head(pfn, self.order);
        let parts = || (0..self.order.pages()).step_by(self.into.pages() as usize);
        for page in parts() {
            let part = pfn.add(page);
            if let Some(section) = self.memmap.known_section(part)
                && self.into < M::PART_ORDER
            {
                self.memmap.initialise_part(section, Section::<M>::part(part));
            }
            let covered = if of_each { self.into.pages() } else { 1 };
            if page > 0 && !of_each {
                self.copy_meta(pfn, part);
            }
            metas.cover(part, covered, tag);
            let payload = self.memmap.page(part).payload();
            payload[PRIVATE].store(word(page), Ordering::Relaxed);
            payload[SINCE].store(since, Ordering::Relaxed);
        }
        // A head is found as soon as its state is written, so all that belongs to it was written before.
        for page in parts() {
            let part = pfn.add(page);
            let state = PageState::Used { order: self.into, owner: self.owner };
            if let Some(section) = self.memmap.known_section(part) {
                section.set_head(part, self.into, state);
            }
        }
    }

    /// Gives the first page of a part a copy of the extent's metadata, which its first page has.
    fn copy_meta(&self, pfn: Pfn, part: Pfn) {
        if size_of::<M::Meta>() > 0 {
            let metas = Metas::of(self.memmap);
            // SAFETY: the head of a used extent has a value of this type since it was allocated. The extent is held
            // and its zone locked, so it is neither freed nor migrated, and its descriptors are not moved.
            let copy = unsafe { metas.at(pfn).as_ref() }.moved();
            // SAFETY: the page is the inside of the extent, and had no metadata, so no reference to it exists.
            unsafe { metas.at(part).write(copy) };
        }
    }
}

#[cfg(test)]
mod tests;
