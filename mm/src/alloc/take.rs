//! An extent for a request, off the free lists of one zone.
//!
//! ```text
//!   zone locked    unlink, split --> used, or held if it is not ready yet
//!   unlocked       held: metadata of many pages, zeroes --> used
//! ```

use crate::addr::{Order, Pfn};
use crate::alloc::Allocator;
use crate::alloc::buddy::{PRIVATE, SINCE};
use crate::alloc::cache::HomeTag;
use crate::alloc::lists::{FreeLists, count_free};
use crate::alloc::metas::Metas;
use crate::alloc::node::NodeId;
use crate::alloc::request::Request;
use crate::alloc::zone::{Zone, ZoneKind};
use crate::machine::Machine;
use crate::memmap::page::{Owner, PageState};
use crate::memmap::seen::Seen;
use core::sync::atomic::Ordering;

/// The largest extent whose pages get their metadata while the zone is locked: other CPUs wait for the lock.
const LARGEST_FILLED: Order = match Order::new(3) {
    Some(order) => order,
    None => Order::ZERO,
};

impl<M: Machine> Allocator<M> {
    /// Allocates in one zone.
    pub(super) fn alloc_in(
        &self,
        node: NodeId,
        kind: ZoneKind,
        request: Request,
        owner: Owner,
    ) -> Option<Pfn> {
        let pfn = self.take_in((node, kind), &request, owner)?;
        if is_held_first(&request, size_of::<M::Meta>()) {
            // The extent is held: it is not freed or migrated, so its block stays online.
            let look_up = self.memmap.read(pfn);
            let memmap = self.memmap.seen(&look_up);
            Metas::of(memmap).fill(pfn, covered(&request));
            // Who asked for zeroes clears it first.
            if !request.zeroed {
                memmap.page(pfn).release(request.order, owner);
            }
        }
        Some(pfn)
    }

    /// Takes the extent off the lists of a zone.
    fn take_in(&self, home: (NodeId, ZoneKind), request: &Request, owner: Owner) -> Option<Pfn> {
        let mut guard = self.nodes.lock(home.0, home.1);
        let (zone, memmap) = self.locked(&mut guard);
        if !request.uses_floor && !zone.keeps_floor(home.1, request.order, owner) {
            return None;
        }
        let below = request.below.filter(|&below| below < zone.span().end);
        if let Some(below) = below {
            drop(guard);
            return self.alloc_below(home, request, owner, below);
        }
        // An extent is aligned to its size, and its first part is used.
        let found = FreeLists::of(memmap).pick(zone, request.align)?;
        self.take_listed(memmap, zone, home, found, request, owner)
    }

    /// Takes a free extent of `size` off its list, for a request that needs its first part.
    pub(super) fn take_listed(
        &self,
        memmap: Seen<'_, M>,
        zone: &mut Zone,
        home: (NodeId, ZoneKind),
        (size, pfn): (Order, Pfn),
        request: &Request,
        owner: Owner,
    ) -> Option<Pfn> {
        let order = request.order;
        let section = memmap.known_section(pfn)?;
        let block = memmap.known_block_record(section.number())?;
        let lists = FreeLists::of(memmap);
        lists.unlink(zone, pfn, size);
        lists.split(zone, section, pfn, size, order);
        self.begin_use(memmap, pfn, request, HomeTag::new(home.0, home.1).get());
        let later = is_held_first(request, size_of::<M::Meta>());
        if !later {
            Metas::of(memmap).fill(pfn, covered(request));
        }
        if later || request.zeroed {
            // As soon as the zone is unlocked, an operation could ask the owner to migrate it, and it is not ready yet.
            section.set_head(pfn, order, PageState::Cached { order });
            section.page(pfn).set_held(order, owner);
        } else {
            section.set_head(pfn, order, PageState::Used { order, owner });
        }
        memmap.soil(block, pfn, order);
        count_free(zone, block, order.pages().wrapping_neg());
        Some(pfn)
    }

    /// Fills in the head of an extent that will be used, with the zone that `tag` names.
    #[inline]
    pub(super) fn begin_use(&self, memmap: Seen<'_, M>, pfn: Pfn, request: &Request, tag: u64) {
        let page = memmap.page(pfn);
        page.payload()[PRIVATE].store(request.private, Ordering::Relaxed);
        page.payload()[SINCE].store(self.machine().stamp(), Ordering::Relaxed);
        Metas::of(memmap).cover(pfn, covered(request), tag);
    }
}

/// The number of pages that have the kernel's metadata.
#[inline]
pub(super) fn covered(request: &Request) -> u64 {
    if request.meta_of_each { request.order.pages() } else { 1 }
}

/// Whether an extent that is taken from a zone has more metadata than is written with the zone locked.
#[inline]
fn is_held_first(request: &Request, meta_bytes: usize) -> bool {
    meta_bytes > 0 && request.meta_of_each && request.order > LARGEST_FILLED
}
