//! The manager's statistics: counts, zones, single pages.

use crate::addr::{Order, Pfn, PfnRange};
use crate::alloc::buddy::since;
use crate::alloc::node::NodeId;
use crate::alloc::zone::{PageCounts, ZoneKind};
use crate::machine::Machine;
use crate::memmap::block::{BlockId, BlockState, BlockWord};
use crate::memmap::page::PageState;
use crate::memmap::section::{Section, SectionState};
use crate::memmap::seen::Seen;
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
        let cached = self.allocator.caches.pages(node, kind);
        let zone = self.allocator.nodes.lock(node, kind);
        let (span, mut counts, isolated) = (zone.span(), zone.counts(), zone.isolated());
        counts.free += cached;
        ZoneInfo { node, kind, span, counts, isolated, cached, extents: zone.all_extents() }
    }

    /// See [`Mm::page_info`](crate::Mm::page_info).
    pub(crate) fn page_info(&self, pfn: Pfn) -> Option<PageInfo> {
        let guard = self.allocator.memmap.read(pfn);
        let memmap = self.allocator.memmap.seen(&guard);
        let section = memmap.section_at(pfn)?;
        let word = memmap.block_record(section.number())?.block();
        let found = find(memmap, section, word, pfn);
        let used = found.and_then(|found| match found.head_state {
            PageState::Used { owner, .. } => Some((owner, since(memmap, found.head))),
            _ => None,
        });
        Some(PageInfo {
            pfn,
            block: BlockId::new(section.number() / memmap.block_sections()),
            node: word.node,
            block_state: word.state,
            state: found.map(|found| found.state(pfn)),
            head: found.map(|found| found.head),
            since: used.map(|(_, since)| since),
            held_by: used.map(|(owner, _)| self.allocator.owners.name(owner)),
        })
    }

    /// See [`Mm::state`](crate::Mm::state).
    #[inline]
    pub(crate) fn state(self, pfn: Pfn) -> Option<StateWord> {
        match self.word(pfn) {
            Some(word) => StateWord::new(word),
            None => self.state_around(pfn).map(StateWord::from),
        }
    }

    /// The state word of `pfn`, if its own descriptor says what it is: so does that of a page of a memmap.
    #[inline]
    fn word(self, pfn: Pfn) -> Option<u64> {
        let guard = self.allocator.memmap.read(pfn);
        let section = self.allocator.memmap.seen(&guard).online_section_at(pfn)?;
        let initialised = section.record().initialised().has(Section::<M>::part(pfn));
        initialised.then(|| section.page(pfn).word())
    }

    /// As [`state`](Self::state), where others say it.
    #[cold]
    #[inline(never)]
    fn state_around(self, pfn: Pfn) -> Option<PageState> {
        let guard = self.allocator.memmap.read(pfn);
        let memmap = self.allocator.memmap.seen(&guard);
        let section = memmap.section_at(pfn)?;
        let word = memmap.block_record(section.number())?.block();
        find(memmap, section, word, pfn).map(|found| found.state(pfn))
    }

    /// See [`Mm::is_ram`](crate::Mm::is_ram).
    pub(crate) fn is_ram(&self, pfn: Pfn) -> bool {
        let guard = self.allocator.memmap.read(pfn);
        self.allocator.memmap.seen(&guard).section_at(pfn).is_some_and(|section| {
            section.record().present().has(Section::<M>::part(pfn))
                && section.head_state(pfn) != Some(PageState::Hole)
        })
    }
}

/// The extent, or the memmap, that a page belongs to.
#[derive(Clone, Copy)]
struct Found {
    head: Pfn,
    head_state: PageState,
}

impl Found {
    /// What a page of it is.
    fn state(self, pfn: Pfn) -> PageState {
        match self.head_state {
            state if pfn == self.head => state,
            PageState::MemmapHead { .. } => PageState::MemmapTail { head: self.head },
            _ => PageState::Tail,
        }
    }
}

/// What `pfn` belongs to, a page of `section`, in a block with this word.
fn find<M: Machine>(
    memmap: Seen<'_, M>,
    section: Section<'_, M>,
    word: BlockWord,
    pfn: Pfn,
) -> Option<Found> {
    if word.placement.self_hosted() {
        let head = section.group_head();
        if let Some(head_state @ PageState::MemmapHead { pages, .. }) = memmap.page(head).state()
            && PfnRange::new(head, pages).contains(pfn)
        {
            return Some(Found { head, head_state });
        }
    }
    if section.word().state() != SectionState::Online {
        return None;
    }
    let (head, head_state) = memmap.extent_of(pfn)?;
    Some(Found { head, head_state })
}
