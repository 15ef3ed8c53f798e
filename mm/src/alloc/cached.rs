//! Allocation and free through the cache of the current CPU.
//!
//! A holder of a cache's lock, and of no other, may access the descriptors of its pages, and of pages that are in
//! use and belong to the caller: neither go offline, and an operation that moves descriptors first keeps their pages
//! out of the caches ([`Cached::pause_caches`]), which is checked before
//! ([`Closing::is_closed`](super::closing::Closing::is_closed)).

// UNSAFETY: declares that a caller which frees pages without a look-up owns them.
#![expect(unsafe_code)]

use crate::addr::{Order, Pfn};
use crate::alloc::batch::Cached;
use crate::alloc::buddy::is_users;
use crate::alloc::cache::{Cache, CacheGuard};
use crate::alloc::class::Class;
use crate::alloc::metas::Metas;
use crate::alloc::node::NodeId;
use crate::alloc::request::Request;
use crate::alloc::take::{begin_use, covered};
use crate::alloc::zone::ZoneKind;
use crate::machine::Machine;
use crate::memmap::page::{Owner, PageState};
use crate::memmap::seen::Seen;

impl<'m, M: Machine> Cached<'m, M> {
    /// Allocates from the cache of this CPU, if the request accepts a page there.
    #[inline(always)]
    pub(super) fn alloc_cached(&self, request: &Request, owner: Owner) -> Option<Pfn> {
        let class = Class::of::<M>(request.order).filter(|_| request.is_plain())?;
        let mut guard = self.caches.lock(self.machine().cpu())?;
        let (cache, memmap) = self.opened(&mut guard);
        for &kind in ZoneKind::for_owner(owner) {
            if has_floor(kind, owner) {
                return None;
            }
            let taken = self.take(memmap, cache, kind, class, request, owner);
            // A zone that has memory comes before the next kind, even if no page of it is cached.
            if taken.is_some() || self.nodes.any(kind) {
                return taken;
            }
        }
        None
    }

    /// Allocates from the cache of `cpu`, which is refilled from its node's zone.
    pub(super) fn alloc_refilled(
        &self,
        cpu: usize,
        kind: ZoneKind,
        request: &Request,
        owner: Owner,
    ) -> Option<Pfn> {
        let class = Class::of::<M>(request.order)?;
        let node = self.cached_node(cpu);
        let cached = request.is_cacheable() && is_users(owner) && !has_floor(kind, owner);
        if !(cached && request.takes(node, kind) && self.nodes.is_populated(node, kind)) {
            return None;
        }
        let mut guard = self.cache_for(cpu, node)?;
        let (cache, memmap) = self.opened(&mut guard);
        let list = cache.stock(kind, class);
        list.warm_up(class);
        if let Some(pfn) = self.take(memmap, cache, kind, class, request, owner) {
            return Some(pfn);
        }
        self.refill(cache, node, kind, class);
        self.take(memmap, cache, kind, class, request, owner)
    }

    /// The node whose pages the cache of `cpu` keeps: its own, or the nearest that has memory.
    pub(super) fn cached_node(&self, cpu: usize) -> NodeId {
        let own = self.machine().node(cpu);
        if self.nodes.has_memory(own) {
            return own;
        }
        let distance = |to| self.machine().distance(cpu, to);
        let nearest = |kind| self.nodes.nearest_first(kind, distance).next();
        let nearest = ZoneKind::ALL.into_iter().filter_map(nearest);
        nearest.min_by_key(|&node| (distance(node), node)).unwrap_or(own)
    }

    /// Locks the cache of `cpu`, for pages of `node`. If it keeps those of another, it is emptied first: list by list,
    /// so that it is locked for one list at most.
    pub(super) fn cache_for(&self, cpu: usize, node: NodeId) -> Option<CacheGuard<'m, M::Lock>> {
        loop {
            let mut guard = self.0.caches.lock(cpu)?;
            if guard.node() == Some(node) {
                return Some(guard);
            }
            let (cache, memmap) = self.opened(&mut guard);
            if !self.drain_list(memmap, cache) {
                cache.set_node(node);
                self.caches.closing.note_used(cpu);
                return Some(guard);
            }
        }
    }

    /// Takes an extent from a hot list.
    #[inline(always)]
    pub(super) fn take(
        &self,
        memmap: Seen<'_, M>,
        cache: &mut Cache,
        kind: ZoneKind,
        class: Class,
        request: &Request,
        owner: Owner,
    ) -> Option<Pfn> {
        let order = request.order;
        let pfn = cache.list(kind, class).pop(memmap)?;
        begin_use(memmap, pfn, request, self.machine().stamp(), cache.tag(kind));
        Metas::of(memmap).fill(pfn, covered(request));
        memmap.page(pfn).set_state(PageState::Used { order, owner });
        cache.count_allocated(class);
        Some(pfn)
    }

    /// Frees pages of the kernel into the cache of this CPU; returns `false` if the cache does not keep such pages, its
    /// list is full, or another CPU has the lock: [`free_cached`](Self::free_cached) waits for it.
    ///
    /// # Safety
    ///
    /// The extent is in use and belongs to the caller, and no other code frees or uses it any more.
    #[inline(always)]
    pub(super) unsafe fn free_hot(&self, pfn: Pfn, order: Order) -> bool {
        let Some(class) = Class::of::<M>(order) else { return false };
        let Some(mut guard) = self.caches.try_lock(self.machine().cpu()) else { return false };
        if self.caches.closing.is_closed(pfn, order) {
            return false;
        }
        let (cache, memmap) = self.opened(&mut guard);
        let page = memmap.page(pfn);
        let Some(kind) = cache.kind_of(Metas::of(memmap).tag(pfn)) else { return false };
        if !page.is_kernels(order) || cache.list(kind, class).is_full(class) {
            return false;
        }
        cache.list_for(pfn, kind, class).push(memmap, pfn);
        page.set_state(PageState::Cached { order });
        true
    }

    /// Frees the extent that begins at `pfn` into the cache of this CPU, if `mine` accepts its owner and the cache
    /// keeps such extents. Empties a full list first.
    pub(super) fn free_cached(&self, pfn: Pfn, mine: impl Fn(Owner) -> bool) -> bool {
        let look_up = self.memmap.read(pfn);
        let Some(here) = look_up.online() else { return false };
        let Some(PageState::Used { order, owner }) = here.head_state() else { return false };
        let cached = is_users(owner) && mine(owner);
        let Some(class) = Class::of::<M>(order).filter(|_| cached) else { return false };
        let Some(mut guard) = self.caches.lock(self.machine().cpu()) else { return false };
        if self.caches.closing.is_closed(pfn, order) {
            return false;
        }
        let (cache, memmap) = self.opened(&mut guard);
        let Some(kind) = cache.kind_of(Metas::of(memmap).tag(pfn)) else { return false };
        // Another CPU may have freed it, or it may have another owner.
        if !memmap.page(pfn).claim(order, owner) {
            return false;
        }
        if cache.list(kind, class).is_full(class) {
            self.make_room(memmap, cache, kind, class);
        }
        cache.list_for(pfn, kind, class).push(memmap, pfn);
        true
    }

    /// Empties a full hot list: it becomes a cold one, and if there are too many then, the oldest returns to its zone.
    fn make_room(&self, memmap: Seen<'_, M>, cache: &mut Cache, kind: ZoneKind, class: Class) {
        let node = cache.node();
        let taken = cache.list(kind, class).cool_down();
        if let Some(node) = node.filter(|_| !taken.is_empty()) {
            cache.count_came(class, class.batch().wrapping_neg());
            self.give_back(memmap, &taken, node, kind, class);
        }
    }
}

/// Whether an allocation must leave a part of the zone free, which needs the zone's counts.
#[inline]
pub(super) fn has_floor(kind: ZoneKind, owner: Owner) -> bool {
    kind == ZoneKind::System && matches!(owner, Owner::Movable(_))
}

#[cfg(test)]
mod tests;
