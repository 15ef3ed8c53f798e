//! The buddy allocator: free extents by order, split on demand and merged up to the block's order.
//!
//! A zone's lists are doubly linked through the payload of the extents' heads. No extent ever spans
//! two blocks, so a block whose pages are all free is a handful of maximal extents.

use crate::addr::{Order, Pfn, PfnRange};
use crate::alloc::Allocator;
use crate::alloc::node::NodeId;
use crate::alloc::request::Request;
use crate::alloc::zone::{Zone, ZoneKind};
use crate::machine::Machine;
use crate::memmap::block::{BlockState, BlockWord};
use crate::memmap::page::{Owner, PageState};
use crate::memmap::section::{Record, Section, SectionState};
use core::fmt;
use core::sync::atomic::Ordering;

/// Payload words of a free extent's head: the list links, as pfn + 1, 0 for none.
const NEXT: usize = 0;
const PREVIOUS: usize = 1;
/// Payload words of a used extent's head: of how many pages there is a kernel's part, when it was allocated,
/// and its owner's word. Those from 3 on are the kernel's part: see [`crate::memmap::meta`].
pub(crate) const COVERED: usize = 0;
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

/// Adds `pages` (wrapping: may be negative) to the free counts of a zone and of a block in it.
fn count_free(zone: &mut Zone, block: Record<'_>, pages: u64) {
    zone.counts.free = zone.counts.free.wrapping_add(pages);
    block.free().set(block.free().get().wrapping_add(pages));
}

impl<M: Machine> Allocator<M> {
    /// Allocates for the manager itself, from the zones that `owner` may have memory of.
    pub(crate) fn alloc_as(&self, order: Order, owner: Owner) -> Result<Pfn, OutOfMemory> {
        self.alloc_request(order.into(), owner)
    }

    /// Allocates what is asked for, from the first zone that `owner` may have memory of and that has it.
    pub(crate) fn alloc_request(&self, request: Request, owner: Owner) -> Result<Pfn, OutOfMemory> {
        let zones = ZoneKind::for_owner(owner)
            .iter()
            .flat_map(|&kind| self.nodes.populated(kind).map(move |node| (node, kind)));
        zones
            .filter(|&(node, kind)| request.takes(node, kind))
            .filter_map(|(node, kind)| self.alloc_in(node, kind, request, owner))
            .next()
            .ok_or(OutOfMemory { order: request.align })
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
        Request { order, align, private, uses_floor, meta_of_each, below, .. }: Request,
        owner: Owner,
    ) -> Option<Pfn> {
        let mut zone = self.nodes.lock(node, kind);
        if !uses_floor && !zone.keeps_floor(kind, order, owner) {
            return None;
        }
        // An extent is aligned to its size, and its first part is kept.
        let (mut size, pfn) = self.pick(&zone, align, order, below)?;
        let section = self.memmap.section_at(pfn)?;
        let block = self.memmap.block_record(section.number())?;
        self.unlink(&mut zone, pfn, size);

        while size > order {
            let half = size.half()?;
            if size == M::PART_ORDER {
                self.memmap.clear_head(section, pfn, size);
                self.memmap.initialise_part(section, Section::<M>::part(pfn));
            }
            self.insert_free(&mut zone, pfn.add(half.pages()), half);
            size = half;
        }

        let page = section.page(pfn);
        page.payload()[PRIVATE].store(private, Ordering::Relaxed);
        page.payload()[SINCE].store(self.machine().stamp(), Ordering::Relaxed);
        self.begin_meta(pfn, if meta_of_each { order.pages() } else { 1 });
        self.memmap.set_head(section, pfn, order, PageState::Used { order, owner });
        count_free(&mut zone, block, order.pages().wrapping_neg());
        Some(pfn)
    }

    /// The smallest free extent that serves, the first of its list; or the first whose first `order` pages end
    /// by `below`, for which it looks at one after the other.
    fn pick(
        &self,
        zone: &Zone,
        align: Order,
        order: Order,
        below: Option<Pfn>,
    ) -> Option<(Order, Pfn)> {
        let mut size = zone.smallest_from(align)?;
        let Some(below) = below else { return Some((size, zone.first(size)?)) };
        loop {
            let ends_by = |pfn: &Pfn| pfn.add(order.pages()) <= below;
            if let Some(pfn) = self.list(zone, size).find(ends_by) {
                return Some((size, pfn));
            }
            size = zone.smallest_from(size.double()?)?;
        }
    }

    /// Frees an extent whose owner `mine` accepts. Returns its order.
    pub(crate) fn free_of(
        &self,
        pfn: Pfn,
        mine: impl Fn(Owner) -> bool,
    ) -> Result<Order, FreeError> {
        self.with_used(pfn, mine, |zone, home, order| {
            self.free_extent(zone, home.block, home.section, pfn, order);
            order
        })
    }

    /// Runs `use_it` on an extent whose owner `mine` accepts, with its zone locked.
    pub(crate) fn with_used<R>(
        &self,
        pfn: Pfn,
        mine: impl Fn(Owner) -> bool,
        use_it: impl FnOnce(&mut Zone, &Home<'_, M>, Order) -> R,
    ) -> Result<R, FreeError> {
        let _guard = self.memmap.read();
        let home = self.home(pfn)?;
        let mut zone = self.nodes.lock(home.word.node, home.kind);
        // Only now can nobody else free the extent, or take its block offline. What else is noted of the
        // block, that some of it is bad for one, may have changed meanwhile.
        let now = BlockWord::decode(home.block.block().get());
        if (now.state, now.node) != (home.word.state, home.word.node) {
            return Err(FreeError::NotOnline(pfn));
        }
        let order = self.used(home.section, pfn, mine)?;
        Ok(use_it(&mut zone, &home, order))
    }

    /// Makes a used extent free; what of it is being emptied is isolated.
    pub(crate) fn free_extent(
        &self,
        zone: &mut Zone,
        block: Record<'_>,
        section: Section<'_, M>,
        pfn: Pfn,
        order: Order,
    ) {
        count_free(zone, block, order.pages());
        if zone.isolating.intersection(PfnRange::new(pfn, order.pages())).is_some() {
            self.release_isolated(zone, section, pfn, order);
        } else {
            self.merge(zone, section, pfn, order);
        }
    }

    /// See [`Mm::private`](crate::Mm::private).
    pub(crate) fn private(&self, pfn: Pfn) -> Result<u64, FreeError> {
        let _guard = self.memmap.read();
        let section = self.online_section(pfn)?;
        self.used(section, pfn, is_users)?;
        Ok(section.page(pfn).payload()[PRIVATE].load(Ordering::Acquire))
    }

    /// The order of the extent that begins at `pfn`, if an owner has it that `mine` accepts.
    pub(crate) fn order_of(
        &self,
        pfn: Pfn,
        mine: impl Fn(Owner) -> bool,
    ) -> Result<Order, FreeError> {
        let _guard = self.memmap.read();
        self.used(self.online_section(pfn)?, pfn, mine)
    }

    /// What [`Machine::stamp`] said when the extent that begins at `pfn` was allocated.
    pub(crate) fn since(&self, pfn: Pfn) -> u64 {
        self.memmap.page(pfn).payload()[SINCE].load(Ordering::Relaxed)
    }

    /// Gives the extent of `owner` at `to` the owner's word and the age of the one at `from`.
    ///
    /// Only if it is still in use, with its zone locked: a mover that frees pages by number may have freed
    /// it, and these words of a free extent are its links.
    pub(crate) fn inherit(&self, from: Pfn, to: Pfn, owner: Owner) {
        let from = self.memmap.page(from).payload();
        let mine = |holder| holder == owner;
        // If it was freed, the move finds that out.
        _ = self.with_used(to, mine, |_, _, _| {
            let to = self.memmap.page(to).payload();
            for word in [PRIVATE, SINCE] {
                to[word].store(from[word].load(Ordering::Acquire), Ordering::Release);
            }
        });
    }

    /// The owner's word of a used extent that nobody frees meanwhile.
    pub(crate) fn owners_word(&self, pfn: Pfn) -> u64 {
        self.memmap.page(pfn).payload()[PRIVATE].load(Ordering::Acquire)
    }

    /// Sets the word of an extent that is the manager's own.
    pub(crate) fn set_owners_word(&self, pfn: Pfn, word: u64) {
        self.memmap.page(pfn).payload()[PRIVATE].store(word, Ordering::Release);
    }

    fn online_section(&self, pfn: Pfn) -> Result<Section<'_, M>, FreeError> {
        let online = |section: &Section<'_, M>| section.word().state() == SectionState::Online;
        self.memmap.section_at(pfn).filter(online).ok_or(FreeError::NotOnline(pfn))
    }

    /// Where `pfn` belongs while its block is online.
    fn home(&self, pfn: Pfn) -> Result<Home<'_, M>, FreeError> {
        let section = self.online_section(pfn)?;
        let block = self.memmap.block_record(section.number()).ok_or(FreeError::NotOnline(pfn))?;
        let word = BlockWord::decode(block.block().get());
        match word.state {
            BlockState::Online(kind) => Ok(Home { section, block, word, kind }),
            BlockState::Offline => Err(FreeError::NotOnline(pfn)),
        }
    }

    /// The order of the extent that begins at `pfn`, if somebody whom `mine` accepts holds it.
    fn used(
        &self,
        section: Section<'_, M>,
        pfn: Pfn,
        mine: impl Fn(Owner) -> bool,
    ) -> Result<Order, FreeError> {
        match self.memmap.head_state(section, pfn) {
            Some(PageState::Used { order, owner }) if mine(owner) => Ok(order),
            Some(PageState::Used { owner, .. }) => Err(FreeError::NotYours(pfn, owner)),
            _ => Err(FreeError::NotAllocated(pfn)),
        }
    }

    /// Makes an extent free, merged with its free buddies as far as the block goes.
    pub(crate) fn merge(&self, zone: &mut Zone, section: Section<'_, M>, pfn: Pfn, order: Order) {
        let largest = self.memmap.block_size().order::<M>();
        let (mut section, mut pfn, mut order) = (section, pfn, order);
        while order < largest {
            let buddy = Pfn::new(pfn.get() ^ order.pages());
            let Some(double) = order.double() else { break };
            let Some(buddy_section) = self.memmap.section_at(buddy) else {
                break;
            };
            if !self.memmap.is_free_head(buddy_section, buddy, order) {
                break;
            }
            self.unlink(zone, buddy, order);
            // Both stop being heads of this order; the lower becomes the head of the next below.
            self.memmap.clear_head(buddy_section, buddy, order);
            self.memmap.clear_head(section, pfn, order);
            if buddy < pfn {
                (section, pfn) = (buddy_section, buddy);
            }
            order = double;
        }
        self.insert_free_in(zone, section, pfn, order);
    }

    /// Puts a free extent on its list.
    pub(crate) fn insert_free(&self, zone: &mut Zone, pfn: Pfn, order: Order) {
        if let Some(section) = self.memmap.section_at(pfn) {
            self.insert_free_in(zone, section, pfn, order);
        }
    }

    fn insert_free_in(&self, zone: &mut Zone, section: Section<'_, M>, pfn: Pfn, order: Order) {
        let page = section.page(pfn);
        let next = zone.first(order);
        page.payload()[NEXT].store(next.map_or(0, |next| next.get() + 1), Ordering::Relaxed);
        page.payload()[PREVIOUS].store(0, Ordering::Relaxed);
        if let Some(next) = next {
            self.memmap.page(next).payload()[PREVIOUS].store(pfn.get() + 1, Ordering::Relaxed);
        }
        zone.set_first(order, Some(pfn));
        zone.count_extent(order);
        self.memmap.set_head(section, pfn, order, PageState::Free { order });
    }

    /// Takes a free extent off its list. Its state stays: the caller changes it.
    pub(crate) fn unlink(&self, zone: &mut Zone, pfn: Pfn, order: Order) {
        let link = |word: u64| word.checked_sub(1).map(Pfn::new);
        let payload = self.memmap.page(pfn).payload();
        let next = payload[NEXT].load(Ordering::Relaxed);
        let previous = payload[PREVIOUS].load(Ordering::Relaxed);
        if let Some(next) = link(next) {
            self.memmap.page(next).payload()[PREVIOUS].store(previous, Ordering::Relaxed);
        }
        match link(previous) {
            Some(previous) => {
                self.memmap.page(previous).payload()[NEXT].store(next, Ordering::Relaxed)
            }
            None => zone.set_first(order, link(next)),
        }
        zone.uncount_extent(order);
    }

    /// Gives `pfns`, of a block that comes online in `zone`, to the allocator as free extents.
    pub(crate) fn insert_range(&self, zone: &mut Zone, pfns: PfnRange) {
        for (pfn, order) in self.memmap.cut(pfns) {
            let Some(section) = self.memmap.section_at(pfn) else {
                continue;
            };
            if order < M::PART_ORDER {
                self.memmap.initialise_part(section, Section::<M>::part(pfn));
            }
            self.insert_free_in(zone, section, pfn, order);
        }
    }

    /// The extent before the free extent `pfn` on its list. Called with the zone locked.
    pub(crate) fn previous(&self, pfn: Pfn) -> Option<Pfn> {
        self.memmap.page(pfn).payload()[PREVIOUS]
            .load(Ordering::Relaxed)
            .checked_sub(1)
            .map(Pfn::new)
    }

    /// The free extents of a list, first to last. Called with the zone locked.
    pub(crate) fn list(&self, zone: &Zone, order: Order) -> impl Iterator<Item = Pfn> {
        let mut next = zone.first(order);
        core::iter::from_fn(move || {
            let pfn = next?;
            let link = self.memmap.page(pfn).payload()[NEXT].load(Ordering::Relaxed);
            next = link.checked_sub(1).map(Pfn::new);
            Some(pfn)
        })
    }
}
