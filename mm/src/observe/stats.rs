//! The manager's statistics: counts, zones, single pages.

use crate::addr::{Order, Pfn, PfnRange};
use crate::alloc::buddy::since;
use crate::alloc::node::NodeId;
use crate::alloc::zone::{PageCounts, ZoneKind};
use crate::machine::Machine;
use crate::memmap::block::{BlockId, BlockState};
use crate::memmap::page::{Owner, PageState};
use crate::memmap::section::{Section, SectionState};
use crate::memmap::seen::Seen;
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
    /// ([`Owner::Stranded`]).
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
        let guard = self.allocator.memmap.read();
        let memmap = self.allocator.memmap.seen(&guard);
        let section = memmap.section_at(pfn)?;
        let word = memmap.block_record(section.number())?.block();
        let (state, head) = state_of(memmap, pfn).unzip();
        let used = head.and_then(|head| used_since(memmap, head));
        Some(PageInfo {
            pfn,
            block: BlockId::new(section.number() / memmap.block_sections()),
            node: word.node,
            block_state: word.state,
            state,
            head,
            since: used.map(|(_, since)| since),
            held_by: used.map(|(owner, _)| self.allocator.owners.name(owner)),
        })
    }

    /// See [`Mm::state`](crate::Mm::state).
    pub(crate) fn state(&self, pfn: Pfn) -> Option<PageState> {
        let guard = self.allocator.memmap.read();
        let memmap = self.allocator.memmap.seen(&guard);
        let section = memmap.section_at(pfn)?;
        let online = section.word().state() == SectionState::Online;
        if online && section.record().initialised().has(Section::<M>::part(pfn)) {
            // A page of a memmap holds its state, too.
            return section.page(pfn).state();
        }
        state_of(memmap, pfn).map(|(state, _)| state)
    }

    /// See [`Mm::is_ram`](crate::Mm::is_ram).
    pub(crate) fn is_ram(&self, pfn: Pfn) -> bool {
        let guard = self.allocator.memmap.read();
        self.allocator.memmap.seen(&guard).section_at(pfn).is_some_and(|section| {
            section.record().present().has(Section::<M>::part(pfn))
                && section.head_state(pfn) != Some(PageState::Hole)
        })
    }
}

/// The owner of the extent that begins at `head` and the time of its allocation, if it is in use.
fn used_since<M: Machine>(memmap: Seen<'_, M>, head: Pfn) -> Option<(Owner, u64)> {
    let state = memmap.section_at(head)?.head_state(head)?;
    let PageState::Used { owner, .. } = state else { return None };
    Some((owner, since(memmap, head)))
}

/// The state of `pfn`, and the first page of the extent or memmap that it belongs to.
fn state_of<M: Machine>(memmap: Seen<'_, M>, pfn: Pfn) -> Option<(PageState, Pfn)> {
    let section = memmap.section_at(pfn)?;
    if let Some(group) = memmap.group_of(section).filter(|group| group.pfns.contains(pfn)) {
        let head = group.pfns.start;
        let state =
            if pfn == head { memmap.page(head).state()? } else { PageState::MemmapTail { head } };
        return Some((state, head));
    }
    if section.word().state() != SectionState::Online {
        return None;
    }
    let (head, state) = memmap.extent_of(pfn)?;
    Some((if head == pfn { state } else { PageState::Tail }, head))
}
