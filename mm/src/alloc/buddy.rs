//! The buddy allocator: free extents by order, split on demand and merged up to the block's order.
//!
//! No extent ever spans two blocks, so a block whose pages are all free is a handful of maximal extents.

use crate::addr::{Order, Pfn};
use crate::alloc::Allocator;
use crate::alloc::batch::Cached;
use crate::alloc::lists::free_extent;
use crate::alloc::metas::{PRIVATE, SINCE};
use crate::alloc::request::Request;
use crate::alloc::take::Take;
use crate::alloc::zone::{Zone, ZoneKind};
use crate::machine::Machine;
use crate::memmap::block::{BlockState, BlockWord};
use crate::memmap::lookup::{Here, LookUp};
use crate::memmap::page::{Owner, Page, PageState};
use crate::memmap::record::Record;
use crate::memmap::seen::Seen;
use core::sync::atomic::Ordering;

hotmem_paging::errors! {
    /// No zone that the owner may use has a free extent of the order.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct OutOfMemory {
        /// The requested order.
        pub order: Order,
    } => ("no free extent of {order} ({} pages)", order.pages());

    /// The reason why a page was not freed, or why its owner's word or metadata cannot be accessed.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    #[non_exhaustive]
    pub enum FreeError {
        /// The page is not in an online block.
        NotOnline(pfn: Pfn) => "{pfn} is not in an online block",
        /// No allocated extent begins at the page.
        NotAllocated(pfn: Pfn) => "no allocated extent begins at {pfn}",
        /// The extent has another owner: boot memory, tables or descriptors.
        NotYours(pfn: Pfn, owner: Owner) => ("{pfn} is held by {}", owner.name()),
        /// An operation empties the extent's block or a part of it.
        Leaving(pfn: Pfn) => "{pfn} is about to be moved",
        /// The page is outside of the extent, or its request asked only for the first page's metadata.
        NoMeta(pfn: Pfn) => "the extent has no metadata for {pfn}",
    }
}

/// The place of a page: its section, its block's record and word, and the zone that the block is online in.
pub(crate) struct Home<'m, M> {
    here: Here<'m, M>,
    block: Record<'m>,
    word: BlockWord,
    kind: ZoneKind,
}

impl<'m, M> Home<'m, M> {
    /// The page.
    pub(super) fn here(&self) -> Here<'m, M> {
        self.here
    }
}

/// Whether extents of `owner` belong to the kernel and are unmovable.
pub(crate) fn is_kernels(owner: Owner) -> bool {
    matches!(owner, Owner::Kernel | Owner::Named(_))
}

/// Whether extents of `owner` are freed by the user that allocated them, and not by the manager.
pub(crate) fn is_users(owner: Owner) -> bool {
    is_kernels(owner) || matches!(owner, Owner::Movable(_))
}

impl<M: Machine> Allocator<M> {
    /// Allocates for the manager itself, from the zones that `owner` may use.
    pub(crate) fn alloc_as(&self, order: Order, owner: Owner) -> Result<Pfn, OutOfMemory> {
        self.alloc_request(order.into(), owner)
    }

    /// Allocates a request from the first zone that `owner` may use and that has the memory: of each kind the
    /// nearest first. Pages in caches of CPUs are drained before the allocation fails.
    pub(crate) fn alloc_request(&self, request: Request, owner: Owner) -> Result<Pfn, OutOfMemory> {
        let found = self.alloc_nearest(request, owner).or_else(|| {
            Cached::of(self).drain_caches();
            self.alloc_nearest(request, owner)
        });
        found.ok_or(OutOfMemory { order: request.align })
    }

    fn alloc_nearest(&self, request: Request, owner: Owner) -> Option<Pfn> {
        let cpu = self.machine().cpu();
        ZoneKind::for_owner(owner).iter().find_map(|&kind| {
            Cached::of(self).alloc_refilled(cpu, kind, &request, owner).or_else(|| {
                let nodes = self.nodes.nearest_first(kind, |to| self.machine().distance(cpu, to));
                let mut nodes = nodes.filter(|&node| request.takes(node, kind));
                nodes.find_map(|node| Take { allocator: self, node, kind, request, owner }.run())
            })
        })
    }

    /// Frees an extent whose owner `mine` accepts. Returns its order.
    pub(crate) fn free_of(
        &self,
        pfn: Pfn,
        mine: impl Fn(Owner) -> bool,
    ) -> Result<Order, FreeError> {
        self.with_zone(pfn, |memmap, zone, home| {
            let (order, owner) = used(home.here, mine)?;
            if !home.here.page().claim(order, owner) {
                return Err(FreeError::NotAllocated(pfn));
            }
            free_extent(memmap, zone, home.here.section_in(memmap), home.block, pfn, order);
            Ok(order)
        })
    }

    /// Calls `use_it` with an extent whose owner `mine` accepts, and which is not freed during the call. Its zone is
    /// locked.
    pub(crate) fn with_used<R>(
        &self,
        pfn: Pfn,
        mine: impl Fn(Owner) -> bool,
        use_it: impl FnOnce(Seen<'_, M>, Order) -> R,
    ) -> Result<R, FreeError> {
        self.with_zone(pfn, |memmap, _, home| {
            let (order, owner) = used(home.here, mine)?;
            // A CPU that holds the lock of its cache, and no zone's, may be about to free it.
            let held = home.here.page().hold(order, owner);
            let _held = held.ok_or(FreeError::NotAllocated(pfn))?;
            Ok(use_it(memmap, order))
        })
    }

    /// Calls `use_it` with the zone locked that `pfn` is online in.
    pub(super) fn with_zone<R>(
        &self,
        pfn: Pfn,
        use_it: impl FnOnce(Seen<'_, M>, &mut Zone, &Home<'_, M>) -> Result<R, FreeError>,
    ) -> Result<R, FreeError> {
        let look_up = self.memmap.read(pfn);
        let home = home(&look_up, pfn)?;
        let mut zone = self.nodes.lock(home.word.node, home.kind);
        // Only now the block cannot go offline. Other facts recorded about the block, such as bad pages, may have
        // changed in the meantime.
        let now = home.block.block();
        if (now.state, now.node) != (home.word.state, home.word.node) {
            return Err(FreeError::NotOnline(pfn));
        }
        let (zone, memmap) = self.locked(&mut zone);
        use_it(memmap, zone, &home)
    }

    /// See [`Mm::private`](crate::Mm::private).
    pub(crate) fn private(&self, pfn: Pfn) -> Result<u64, FreeError> {
        let look_up = self.memmap.read(pfn);
        let here = online_page(&look_up, pfn)?;
        used(here, is_users)?;
        Ok(here.page().payload()[PRIVATE].load(Ordering::Acquire))
    }

    /// The order of the extent that begins at `pfn`, if `mine` accepts its owner.
    pub(crate) fn order_of(
        &self,
        pfn: Pfn,
        mine: impl Fn(Owner) -> bool,
    ) -> Result<Order, FreeError> {
        let look_up = self.memmap.read(pfn);
        used(online_page(&look_up, pfn)?, mine).map(|(order, _)| order)
    }

    /// Copies the owner's word and the age of the extent at `from` to the extent of `owner` at `to`.
    ///
    /// Only if the extent is still in use with this owner: a movable owner that frees pages by number may have freed
    /// it, and these words of a free extent are its list links.
    pub(crate) fn inherit(&self, memmap: Seen<'_, M>, from: Pfn, to: Pfn, owner: Owner) {
        let from = memmap.page(from).payload();
        let mine = |holder| holder == owner;
        // If it was freed, the migration detects that.
        _ = self.with_used(to, mine, |memmap, _| {
            let to = memmap.page(to).payload();
            for word in [PRIVATE, SINCE] {
                to[word].store(from[word].load(Ordering::Acquire), Ordering::Release);
            }
        });
    }

    /// As [`inherit`](Self::inherit), if that was done before: only if the words have changed since.
    pub(crate) fn inherit_changes(&self, memmap: Seen<'_, M>, from: Pfn, to: Pfn, owner: Owner) {
        let (old, new) = (memmap.page(from).payload(), memmap.page(to).payload());
        let same =
            |word: usize| old[word].load(Ordering::Acquire) == new[word].load(Ordering::Relaxed);
        if ![PRIVATE, SINCE].into_iter().all(same) {
            self.inherit(memmap, from, to, owner);
        }
    }
}

/// The page of a look-up of `pfn`, if it is online.
pub(super) fn online_page<'g, M: Machine>(
    look_up: &'g LookUp<'_, M>,
    pfn: Pfn,
) -> Result<Here<'g, M>, FreeError> {
    look_up.online().ok_or(FreeError::NotOnline(pfn))
}

/// The place of `pfn` while its block is online.
fn home<'g, M: Machine>(look_up: &'g LookUp<'_, M>, pfn: Pfn) -> Result<Home<'g, M>, FreeError> {
    let here = online_page(look_up, pfn)?;
    let block = look_up.block_record().ok_or(FreeError::NotOnline(pfn))?;
    let word = block.block();
    match word.state {
        BlockState::Online(kind) => Ok(Home { here, block, word, kind }),
        BlockState::Offline => Err(FreeError::NotOnline(pfn)),
    }
}

/// The order and the owner of the extent that begins at `pfn`, if `mine` accepts the owner.
pub(super) fn used<M: Machine>(
    here: Here<'_, M>,
    mine: impl Fn(Owner) -> bool,
) -> Result<(Order, Owner), FreeError> {
    let pfn = here.pfn();
    match here.head_state() {
        Some(PageState::Used { order, owner }) if mine(owner) => Ok((order, owner)),
        Some(PageState::Used { owner, .. }) => Err(FreeError::NotYours(pfn, owner)),
        _ => Err(FreeError::NotAllocated(pfn)),
    }
}

/// The value of [`Machine::stamp`] when the extent that begins at `pfn` was allocated.
pub(crate) fn since(head: &Page) -> u64 {
    head.payload()[SINCE].load(Ordering::Relaxed)
}

/// The owner's word of a used extent that is not freed during the call.
pub(crate) fn owners_word<M: Machine>(memmap: Seen<'_, M>, pfn: Pfn) -> u64 {
    memmap.page(pfn).payload()[PRIVATE].load(Ordering::Acquire)
}

/// Sets the word of an extent that belongs to the manager.
pub(crate) fn set_owners_word<M: Machine>(memmap: Seen<'_, M>, pfn: Pfn, word: u64) {
    memmap.page(pfn).payload()[PRIVATE].store(word, Ordering::Release);
}
