//! Pages whose bytes are all zero.
//!
//! ```text
//!   an idle CPU:  zero_ahead   [hot] --- cleared, the cache locked ---> [zeroed]    at most a batch of each kind
//!   alloc of a page, zeroed    <--------------------------------------- [zeroed], or else
//!                              <--- zone: used, and held while it is cleared without a lock
//! ```
//!
//! Pages on a zeroed list are cached pages like all others: they are drained with them. Cached pages are never
//! written, since their link is in their descriptor.

// UNSAFETY: clears pages that have no user.
#![expect(unsafe_code)]

use crate::addr::{Order, Pfn, PfnRange};
use crate::alloc::batch::Cached;
use crate::alloc::buddy::OutOfMemory;
use crate::alloc::cached::has_floor;
use crate::alloc::class::{Class, MAX_BATCH};
use crate::alloc::request::Request;
use crate::alloc::zone::ZoneKind;
use crate::machine::Machine;
use crate::memmap::page::Owner;

/// Free pages that a zone must have for clearing ahead: a batch is at most a quarter of them.
const LEAST_FREE: u64 = 4 * MAX_BATCH as u64;

/// Clears a page.
///
/// # Safety
///
/// The page is mapped RAM, and no other code refers to it.
pub(crate) unsafe fn clear_page<M: Machine>(machine: &M, pfn: Pfn) {
    let page = machine.pointer(M::address(pfn));
    // SAFETY: the machine's pointer to RAM is valid for all of the page, which only the caller uses.
    unsafe { page.write_bytes(0, M::PAGE_BYTES as usize) };
}

impl<M: Machine> Cached<'_, M> {
    /// Allocates for a user whose request is [`zeroed`](Request::zeroed).
    #[cold]
    pub(super) fn alloc_zeroed(&self, request: Request, owner: Owner) -> Result<Pfn, OutOfMemory> {
        if let Some(pfn) = self.take_zeroed(&request, owner) {
            return Ok(pfn);
        }
        let (pfn, order) = (self.alloc_request(request, owner)?, request.order);
        for page in PfnRange::new(pfn, order.pages()).iter() {
            // SAFETY: the extent is held: it is not freed or migrated, so its block stays online, and it has no user
            // yet.
            unsafe { clear_page(self.machine(), page) };
        }
        let look_up = self.memmap.read(pfn);
        if let Some(here) = look_up.here() {
            here.page().release(order, owner);
        }
        Ok(pfn)
    }

    /// Takes a cached zeroed page of this CPU, if the request accepts it.
    fn take_zeroed(&self, request: &Request, owner: Owner) -> Option<Pfn> {
        let kinds = ZoneKind::for_owner(owner).iter();
        let kind = kinds.copied().find(|&kind| self.nodes.any(kind))?;
        if !request.is_plain_page_of_zeroes() || has_floor(kind, owner) {
            return None;
        }
        let mut guard = self.caches.lock(self.machine().cpu())?;
        let (cache, memmap) = self.opened(&mut guard);
        self.take(memmap, cache, kind, Class::ZEROED, request, owner)
    }

    /// See [`Mm::zero_ahead`](crate::Mm::zero_ahead).
    pub(crate) fn zero_ahead(&self) -> bool {
        let cpu = self.machine().cpu();
        let mut kernels = ZoneKind::for_owner(Owner::Kernel).iter().copied();
        let kernels = kernels.find(|&kind| self.nodes.any(kind));
        kernels.into_iter().chain([ZoneKind::Movable]).any(|kind| self.zero_one(cpu, kind))
    }

    /// Clears a page of the zone `kind` on the node of `cpu`. Returns `false` if a batch of zeroed pages is cached
    /// already, or the zone has too few free pages.
    fn zero_one(&self, cpu: usize, kind: ZoneKind) -> bool {
        let (node, Some(small)) = (self.cached_node(cpu), Class::of::<M>(Order::ZERO)) else {
            return false;
        };
        let Some(mut guard) = self.cache_for(cpu, node) else { return false };
        let (cache, memmap) = self.opened(&mut guard);
        let waits_enough = cache.list(kind, Class::ZEROED).is_full(Class::ZEROED);
        if waits_enough || !self.nodes.is_populated(node, kind) {
            return false;
        }
        // The last pages of a zone are left for allocations that need them now.
        if self.nodes.lock(node, kind).counts().free < LEAST_FREE {
            return false;
        }
        let list = cache.stock(kind, small);
        list.warm_up(small);
        let page = list.pop(memmap).or_else(|| {
            self.refill(cache, node, kind, small);
            cache.list(kind, small).pop(memmap)
        });
        let Some(pfn) = page else { return false };
        // SAFETY: the page is cached, and the lock of its cache is held: no code uses it, and its block stays
        // online.
        unsafe { clear_page(self.machine(), pfn) };
        cache.list_for(pfn, kind, Class::ZEROED).push(memmap, pfn);
        cache.count_cleared(small);
        true
    }
}

#[cfg(test)]
mod tests;
