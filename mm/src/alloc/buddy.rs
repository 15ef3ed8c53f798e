//! The buddy allocator: free extents by order, split on demand and merged up to the block's order.
//!
//! No extent ever spans two blocks, so a block whose pages are all free is a handful of maximal extents.

use crate::addr::{Order, Pfn};
use crate::alloc::Allocator;
use crate::alloc::batch::Cached;
use crate::alloc::cache::HomeTag;
use crate::alloc::lists::{FreeLists, count_free, free_extent};
use crate::alloc::metas::Metas;
use crate::alloc::node::NodeId;
use crate::alloc::request::Request;
use crate::alloc::zone::{Zone, ZoneKind};
use crate::machine::Machine;
use crate::memmap::block::{BlockState, BlockWord};
use crate::memmap::page::{Owner, PageState};
use crate::memmap::record::Record;
use crate::memmap::section::{Section, SectionState};
use crate::memmap::seen::Seen;
use core::fmt;
use core::sync::atomic::Ordering;

/// Payload words of a used extent's head: when it was allocated, and its owner's word. The word before them
/// belongs to [`metas`](super::metas), those behind them are the kernel's: see [`crate::memmap::meta`].
pub(crate) const SINCE: usize = 1;
pub(crate) const PRIVATE: usize = 2;

/// There is no free extent of the order in any zone the owner may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutOfMemory {
    /// The order that was wanted.
    pub order: Order,
}

impl fmt::Display for OutOfMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no free extent of {} ({} pages)", self.order, self.order.pages())
    }
}

impl core::error::Error for OutOfMemory {}

/// Why a page was not freed, or its owner's word or metadata not reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FreeError {
    /// The page is in no online block.
    NotOnline(Pfn),
    /// No extent that the allocator handed out begins at the page.
    NotAllocated(Pfn),
    /// The extent is somebody else's: boot memory, tables or descriptors.
    NotYours(Pfn, Owner),
    /// The page is not of the extent, or its request asked for no metadata but the first page's.
    NoMeta(Pfn),
}

impl fmt::Display for FreeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotOnline(pfn) => write!(f, "{pfn} is in no online block"),
            Self::NotAllocated(pfn) => write!(f, "no allocated extent begins at {pfn}"),
            Self::NotYours(pfn, owner) => write!(f, "{pfn} is held by {}", owner.name()),
            Self::NoMeta(pfn) => write!(f, "the extent has no metadata of {pfn}"),
        }
    }
}

impl core::error::Error for FreeError {}

/// Where a page belongs: its section, its block's record and word, and the zone that is online in.
pub(crate) struct Home<'m, M> {
    section: Section<'m, M>,
    block: Record<'m>,
    word: BlockWord,
    kind: ZoneKind,
}

/// Whether extents of `owner` are the kernel's, which stay where they are.
pub(crate) fn is_kernels(owner: Owner) -> bool {
    matches!(owner, Owner::Kernel | Owner::Named(_))
}

/// Whether extents of `owner` are freed by who allocated them, and not by the manager.
pub(crate) fn is_users(owner: Owner) -> bool {
    is_kernels(owner) || matches!(owner, Owner::Movable(_))
}

impl<M: Machine> Allocator<M> {
    /// Allocates for the manager itself, from the zones that `owner` may have memory of.
    pub(crate) fn alloc_as(&self, order: Order, owner: Owner) -> Result<Pfn, OutOfMemory> {
        self.alloc_request(order.into(), owner)
    }

    /// Allocates what is asked for, from the first zone that `owner` may have memory of and that has it: of each kind
    /// the nearest first. What CPUs have cached is given back before it fails.
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
                nodes.find_map(|node| self.alloc_in(node, kind, request, owner))
            })
        })
    }

    /// As [`alloc_as`](Self::alloc_as), the smallest free extent that fits in any of the zones; among
    /// equals, on `node` if there is one. So no large extent is split while a small one would do.
    ///
    /// For what moves: see [`Request::for_move`].
    pub(crate) fn alloc_best(
        &self,
        node: NodeId,
        request: Request,
        owner: Owner,
    ) -> Result<Pfn, OutOfMemory> {
        let kinds = ZoneKind::for_owner(owner).iter();
        let zones = kinds.flat_map(|&kind| self.nodes.populated(kind).map(move |at| (at, kind)));
        let sized = zones.filter_map(|(at, kind)| {
            let size = self.nodes.lock(at, kind).smallest_from(request.order)?;
            Some((size, at != node, at, kind))
        });
        // Nobody else may have taken it meanwhile; if so, any will do.
        sized
            .min_by_key(|&(size, far, ..)| (size, far))
            .and_then(|(_, _, at, kind)| self.alloc_in(at, kind, request, owner))
            .map_or_else(|| self.alloc_request(request, owner), Ok)
    }

    fn alloc_in(
        &self,
        node: NodeId,
        kind: ZoneKind,
        request: Request,
        owner: Owner,
    ) -> Option<Pfn> {
        let Request { order, align, uses_floor, below, .. } = request;
        let mut guard = self.nodes.lock(node, kind);
        let (zone, memmap) = self.locked(&mut guard);
        if !uses_floor && !zone.keeps_floor(kind, order, owner) {
            return None;
        }
        // An extent is aligned to its size, and its first part is kept.
        let lists = FreeLists::of(memmap);
        let (size, pfn) = lists.pick(zone, align, order, below)?;
        let section = memmap.known_section(pfn)?;
        let block = memmap.known_block_record(section.number())?;
        lists.unlink(zone, pfn, size);
        lists.split(zone, section, pfn, size, order);
        self.begin_use(memmap, pfn, &request, HomeTag::new(node, kind).get());
        if request.zeroed {
            // Its owner may be asked to move it as soon as the zone is unlocked, and it is not cleared yet.
            section.set_head(pfn, order, PageState::Cached { order });
            section.page(pfn).set_held(order, owner);
        } else {
            section.set_head(pfn, order, PageState::Used { order, owner });
        }
        count_free(zone, block, order.pages().wrapping_neg());
        Some(pfn)
    }

    /// Fills in what the head of an extent says that is about to be used, of the zone that `tag` names.
    #[inline]
    pub(super) fn begin_use(&self, memmap: Seen<'_, M>, pfn: Pfn, request: &Request, tag: u64) {
        let page = memmap.page(pfn);
        page.payload()[PRIVATE].store(request.private, Ordering::Relaxed);
        page.payload()[SINCE].store(self.machine().stamp(), Ordering::Relaxed);
        let covered = if request.meta_of_each { request.order.pages() } else { 1 };
        Metas::of(memmap).begin(pfn, covered, tag);
    }

    /// Frees an extent whose owner `mine` accepts. Returns its order.
    pub(crate) fn free_of(
        &self,
        pfn: Pfn,
        mine: impl Fn(Owner) -> bool,
    ) -> Result<Order, FreeError> {
        self.with_zone(pfn, |memmap, zone, home| {
            let (order, owner) = used(home.section, pfn, mine)?;
            if !home.section.page(pfn).claim(order, owner) {
                return Err(FreeError::NotAllocated(pfn));
            }
            free_extent(memmap, zone, home.section, home.block, pfn, order);
            Ok(order)
        })
    }

    /// Runs `use_it` on an extent whose owner `mine` accepts, which is not freed meanwhile. Its zone is locked.
    pub(crate) fn with_used<R>(
        &self,
        pfn: Pfn,
        mine: impl Fn(Owner) -> bool,
        use_it: impl FnOnce(Seen<'_, M>, Order) -> R,
    ) -> Result<R, FreeError> {
        self.with_zone(pfn, |memmap, _, home| {
            let (order, owner) = used(home.section, pfn, mine)?;
            // A CPU that has its cache locked, and no zone, may be about to free it.
            let held = home.section.page(pfn).hold(order, owner);
            let _held = held.ok_or(FreeError::NotAllocated(pfn))?;
            Ok(use_it(memmap, order))
        })
    }

    /// Runs `use_it` with the zone locked that `pfn` is online in.
    fn with_zone<R>(
        &self,
        pfn: Pfn,
        use_it: impl FnOnce(Seen<'_, M>, &mut Zone, &Home<'_, M>) -> Result<R, FreeError>,
    ) -> Result<R, FreeError> {
        let guard = self.memmap.read();
        let memmap = self.memmap.seen(&guard);
        let home = home(memmap, pfn)?;
        let mut zone = self.nodes.lock(home.word.node, home.kind);
        // Only now can nobody take the block offline. What else is noted of the
        // block, that some of it is bad for one, may have changed meanwhile.
        let now = home.block.block();
        if (now.state, now.node) != (home.word.state, home.word.node) {
            return Err(FreeError::NotOnline(pfn));
        }
        use_it(memmap, &mut zone, &home)
    }

    /// See [`Mm::private`](crate::Mm::private).
    pub(crate) fn private(&self, pfn: Pfn) -> Result<u64, FreeError> {
        let guard = self.memmap.read();
        let section = online_section(self.memmap.seen(&guard), pfn)?;
        used(section, pfn, is_users)?;
        Ok(section.page(pfn).payload()[PRIVATE].load(Ordering::Acquire))
    }

    /// The order of the extent that begins at `pfn`, if an owner has it that `mine` accepts.
    pub(crate) fn order_of(
        &self,
        pfn: Pfn,
        mine: impl Fn(Owner) -> bool,
    ) -> Result<Order, FreeError> {
        let guard = self.memmap.read();
        used(online_section(self.memmap.seen(&guard), pfn)?, pfn, mine).map(|(order, _)| order)
    }

    /// Gives the extent of `owner` at `to` the owner's word and the age of the one at `from`.
    ///
    /// Only if it is still in use, and held so: a mover that frees pages by number may have freed
    /// it, and these words of a free extent are its links.
    pub(crate) fn inherit(&self, memmap: Seen<'_, M>, from: Pfn, to: Pfn, owner: Owner) {
        let from = memmap.page(from).payload();
        let mine = |holder| holder == owner;
        // If it was freed, the move finds that out.
        _ = self.with_used(to, mine, |memmap, _| {
            let to = memmap.page(to).payload();
            for word in [PRIVATE, SINCE] {
                to[word].store(from[word].load(Ordering::Acquire), Ordering::Release);
            }
        });
    }
}

/// The section of `pfn`, if it is online.
pub(super) fn online_section<'g, M: Machine>(
    memmap: Seen<'g, M>,
    pfn: Pfn,
) -> Result<Section<'g, M>, FreeError> {
    let online = |section: &Section<'g, M>| section.word().state() == SectionState::Online;
    memmap.section_at(pfn).filter(online).ok_or(FreeError::NotOnline(pfn))
}

/// Where `pfn` belongs while its block is online.
fn home<M: Machine>(memmap: Seen<'_, M>, pfn: Pfn) -> Result<Home<'_, M>, FreeError> {
    let section = online_section(memmap, pfn)?;
    let block = memmap.block_record(section.number()).ok_or(FreeError::NotOnline(pfn))?;
    let word = block.block();
    match word.state {
        BlockState::Online(kind) => Ok(Home { section, block, word, kind }),
        BlockState::Offline => Err(FreeError::NotOnline(pfn)),
    }
}

/// The order of the extent that begins at `pfn`, and who holds it, if that is somebody whom `mine` accepts.
fn used<M: Machine>(
    section: Section<'_, M>,
    pfn: Pfn,
    mine: impl Fn(Owner) -> bool,
) -> Result<(Order, Owner), FreeError> {
    match section.head_state(pfn) {
        Some(PageState::Used { order, owner }) if mine(owner) => Ok((order, owner)),
        Some(PageState::Used { owner, .. }) => Err(FreeError::NotYours(pfn, owner)),
        _ => Err(FreeError::NotAllocated(pfn)),
    }
}

/// What [`Machine::stamp`] said when the extent that begins at `pfn` was allocated.
pub(crate) fn since<M: Machine>(memmap: Seen<'_, M>, pfn: Pfn) -> u64 {
    memmap.page(pfn).payload()[SINCE].load(Ordering::Relaxed)
}

/// The owner's word of a used extent that nobody frees meanwhile.
pub(crate) fn owners_word<M: Machine>(memmap: Seen<'_, M>, pfn: Pfn) -> u64 {
    memmap.page(pfn).payload()[PRIVATE].load(Ordering::Acquire)
}

/// Sets the word of an extent that is the manager's own.
pub(crate) fn set_owners_word<M: Machine>(memmap: Seen<'_, M>, pfn: Pfn, word: u64) {
    memmap.page(pfn).payload()[PRIVATE].store(word, Ordering::Release);
}
