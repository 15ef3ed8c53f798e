//! The manager's statistics: counts, zones, single pages.

use crate::addr::{Order, Pfn, PfnRange};
use crate::alloc::buddy::since;
use crate::alloc::node::NodeId;
use crate::alloc::zone::{PageCounts, ZoneKind};
use crate::machine::Machine;
use crate::memmap::block::{BlockId, BlockState};
use crate::memmap::lookup::{Head, Here, LookUp};
use crate::memmap::page::PageState;
use crate::memmap::state::StateWord;
use crate::observe::View;

/// Counts over all memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// All zones together, in pages.
    pub pages: PageCounts,
    /// Free pages in the caches of CPUs.
    pub cached: u64,
    /// Pages of the allocator that operations hold: tables and nodes past the reserve, and memmaps placed in system
    /// memory.
    pub system_pages: u64,
    /// Pages that a CPU may still reach by stale translations, since a flush failed: they are out of use for ever
    /// ([`Owner::Stranded`](crate::Owner::Stranded)).
    pub stranded: u64,
    /// The pages reserved at boot for tables and section nodes.
    pub reserve: u64,
    /// The free pages of the reserve.
    pub reserve_free: u64,
    /// The numbers of online and offline blocks.
    pub blocks: (u64, u64),
}

/// One zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ZoneInfo {
    /// Its node.
    pub node: NodeId,
    /// Its kind.
    pub kind: ZoneKind,
    /// From the first frame of its first block to the end of its last, including gaps.
    pub span: PfnRange,
    /// Its pages. Cached pages count as free.
    pub counts: PageCounts,
    /// Free pages in the caches of CPUs, which are on no list.
    pub cached: u64,
    /// Free pages that are not allocated, since their range is being emptied. They are not in `counts`.
    pub isolated: u64,
    /// Extents on the free lists, by order.
    pub extents: [u64; Order::COUNT],
}

/// The state of one page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PageInfo {
    /// The page.
    pub pfn: Pfn,
    /// Its block.
    pub block: BlockId,
    /// Its block's node.
    pub node: NodeId,
    /// Its block's state.
    pub block_state: BlockState,
    /// Its state; `None` for a page of an offline block, which has no state yet.
    pub state: Option<PageState>,
    /// The first page of the extent, or of the memmap, that it belongs to.
    pub head: Option<Pfn>,
    /// The value of [`Machine::stamp`] when its extent was allocated, if it is in use.
    pub since: Option<u64>,
    /// The name of the owner of its extent, if it is in use: a movable owner's or a user's own, or the kind of
    /// owner.
    pub held_by: Option<&'static str>,
}

impl<'m, M: Machine> View<'m, M> {
    /// See [`Mm::stats`](crate::Mm::stats).
    pub(crate) fn stats(&self) -> Stats {
        let (mut pages, mut cached) = (PageCounts::default(), 0);
        for zone in self.zones() {
            pages = pages.plus(zone.counts);
            cached += zone.cached;
        }
        let (pieces, reserve_free) = self.allocator.frames.reserve();
        let reserve = pieces.iter().map(|piece| piece.len()).sum::<u64>() / M::PAGE_BYTES;
        let blocks = self.allocator.memmap.blocks().fold((0, 0), |(online, offline), block| {
            match block.state {
                BlockState::Online(_) => (online + 1, offline),
                BlockState::Offline => (online, offline + 1),
            }
        });
        let system_pages = self.allocator.frames.system_pages();
        let stranded = self.allocator.frames.stranded();
        Stats { pages, cached, system_pages, stranded, reserve, reserve_free, blocks }
    }

    /// See [`Mm::zones`](crate::Mm::zones).
    pub(crate) fn zones(self) -> impl Iterator<Item = ZoneInfo> + 'm {
        let kinds = ZoneKind::ALL.into_iter();
        kinds.flat_map(move |kind| {
            self.allocator.nodes.populated(kind).map(move |node| self.zone(node, kind))
        })
    }

    fn zone(&self, node: NodeId, kind: ZoneKind) -> ZoneInfo {
        let cached = self.allocator.caches.pages::<M>(node, kind);
        let zone = self.allocator.nodes.lock(node, kind);
        let (span, mut counts, isolated) = (zone.span(), zone.counts(), zone.isolated());
        counts.free += cached;
        ZoneInfo { node, kind, span, counts, isolated, cached, extents: zone.all_extents() }
    }

    /// See [`Mm::page_info`](crate::Mm::page_info).
    pub(crate) fn page_info(&self, pfn: Pfn) -> Option<PageInfo> {
        let look_up = self.allocator.memmap.read(pfn);
        let here = look_up.here().filter(|here| here.is_present())?;
        let word = look_up.block_record()?.block();
        let found = find(&look_up, here);
        let used = found.and_then(|head| match head.state {
            PageState::Used { owner, .. } => Some((owner, since(head.page))),
            _ => None,
        });
        Some(PageInfo {
            pfn,
            block: look_up.block_id(),
            node: word.node,
            block_state: word.state,
            state: found.map(|head| state_of(pfn, head)),
            head: found.map(|head| head.pfn),
            since: used.map(|(_, since)| since),
            held_by: used.map(|(owner, _)| self.allocator.owners.name(owner)),
        })
    }

    /// See [`Mm::state`](crate::Mm::state). What is rare is a call at the end, so that the rest needs no stack.
    #[inline]
    pub(crate) fn state(self, pfn: Pfn) -> Option<StateWord> {
        match self.word(pfn) {
            Some(word) => StateWord::new(word),
            None => self.state_around(pfn),
        }
    }

    /// The state word of `pfn`, if its own descriptor says what it is: so does that of a page of a memmap. `None` also
    /// if the look-up has to wait.
    #[inline]
    fn word(self, pfn: Pfn) -> Option<u64> {
        let look_up = self.allocator.memmap.read_at_once(pfn)?;
        let here = look_up.online()?;
        here.is_initialised().then(|| here.page().word())
    }

    /// As [`state`](Self::state), where others say it, or the look-up has to wait.
    #[cold]
    #[inline(never)]
    fn state_around(self, pfn: Pfn) -> Option<StateWord> {
        let look_up = self.allocator.memmap.read(pfn);
        find(&look_up, look_up.here()?).map(|head| state_of(pfn, head).into())
    }

    /// See [`Mm::is_ram`](crate::Mm::is_ram).
    pub(crate) fn is_ram(&self, pfn: Pfn) -> bool {
        let look_up = self.allocator.memmap.read(pfn);
        let is_hole = |here: Here<'_, M>| here.head_state() == Some(PageState::Hole);
        look_up.here().is_some_and(|here| here.is_present() && !is_hole(here))
    }
}

/// The head of what the page of a look-up belongs to.
fn find<'g, M: Machine>(look_up: &'g LookUp<'_, M>, here: Here<'g, M>) -> Option<Head<'g>> {
    let memmap = look_up.memmap_head(here);
    memmap.or_else(|| here.is_online().then(|| look_up.extent_head()).flatten())
}

/// The state of `pfn`, which belongs to `head`.
fn state_of(pfn: Pfn, head: Head<'_>) -> PageState {
    match head.state {
        state if pfn == head.pfn => state,
        PageState::MemmapHead { .. } => PageState::MemmapTail { head: head.pfn },
        _ => PageState::Tail,
    }
}
