//! A look-up without a lock: of one frame, and of what it belongs to in its memory block.
//!
//! It takes the frame when it begins, and its methods take no other: so nothing outside the frame's block is reached,
//! where a conversion may be moving descriptors.

// UNSAFETY: vouches for the sections that a look-up keeps.
#![expect(unsafe_code)]

use crate::addr::{Order, Pfn, PfnRange};
use crate::machine::Machine;
use crate::memmap::Memmap;
use crate::memmap::block::{Block, Group};
use crate::memmap::page::{Page, PageState};
use crate::memmap::readers::ReadGuard;
use crate::memmap::record::Record;
use crate::memmap::section::{Section, SectionState, section_of};
use crate::memmap::seen::Seen;
use crate::memmap::share::Share;
use crate::memmap::word::BlockId;

/// A look-up under way, of one frame.
#[derive(Debug)]
#[must_use = "the lookup is protected only while this lives"]
pub(crate) struct LookUp<'m, M: Machine> {
    memmap: &'m Memmap<M>,
    pfn: Pfn,
    _reader: ReadGuard<'m>,
}

impl<M: Machine> Memmap<M> {
    /// Begins a look-up of `pfn`: its block stays mapped until the look-up is dropped. Waits while the descriptors of
    /// that block move.
    #[inline]
    pub(crate) fn read(&self, pfn: Pfn) -> LookUp<'_, M> {
        let block = || pfn.get() >> self.block_size().order::<M>().get();
        let reader = self.readers().enter(self.machine().cpu(), block, &self.relax());
        LookUp { memmap: self, pfn, _reader: reader }
    }

    /// As [`read`](Self::read); `None` where that would wait, and sometimes where it would not.
    #[inline]
    pub(crate) fn read_at_once(&self, pfn: Pfn) -> Option<LookUp<'_, M>> {
        let reader = self.readers().enter_open(self.machine().cpu())?;
        Some(LookUp { memmap: self, pfn, _reader: reader })
    }
}

/// A look-up under way, of all memory.
#[derive(Debug)]
#[must_use = "the lookup is protected only while this lives"]
pub(crate) struct LookUpAll<'m, M: Machine> {
    memmap: &'m Memmap<M>,
    _reader: ReadGuard<'m>,
}

impl<M: Machine> Memmap<M> {
    /// Begins a look-up of all memory without waiting: see [`Readers::try_enter`](super::readers::Readers::try_enter).
    pub(crate) fn try_read_all(&self) -> Option<LookUpAll<'_, M>> {
        let reader = self.readers().try_enter(self.machine().cpu())?;
        Some(LookUpAll { memmap: self, _reader: reader })
    }
}

impl<M: Machine> LookUpAll<'_, M> {
    /// The memmap during the look-up.
    pub(crate) fn seen(&self) -> Seen<'_, M> {
        // SAFETY: no gate was closed when the reader was counted. A removal that hides a section, and a conversion that
        // closes a gate, wait for it before they unmap.
        unsafe { Seen::vouched(self.memmap) }
    }
}

impl<M: Machine> LookUp<'_, M> {
    /// The memmap, for the methods here: of the frame's block, and of the head of its group.
    #[inline]
    fn seen(&self) -> Seen<'_, M> {
        // SAFETY: a removal hides sections, or subsections of one that stays, and a conversion closes the gate of a
        // block; then each waits for the readers that were counted before, and only then unmaps. A reader that is
        // counted later finds no memory there, or looks at another block.
        unsafe { Seen::vouched(self.memmap) }
    }

    /// The frame, if its section is present.
    #[inline]
    pub(crate) fn here(&self) -> Option<Here<'_, M>> {
        self.seen().section_at(self.pfn).map(|section| Here { section, pfn: self.pfn })
    }

    /// The frame, if its section is online.
    #[inline]
    pub(crate) fn online(&self) -> Option<Here<'_, M>> {
        self.seen().online_section_at(self.pfn).map(|section| Here { section, pfn: self.pfn })
    }

    /// The number of the frame's block.
    pub(crate) fn block_id(&self) -> BlockId {
        BlockId::new(section_of::<M>(self.pfn) / self.memmap.block_sections())
    }

    /// The record that holds the words of the frame's block, if that is present.
    #[inline]
    pub(crate) fn block_record(&self) -> Option<Record<'_>> {
        self.seen().block_record(section_of::<M>(self.pfn))
    }

    /// The frame's block, if it is present.
    pub(crate) fn block(&self) -> Option<Block> {
        self.seen().describe_block(self.block_id())
    }

    /// The self-hosted memmap that describes the frame.
    pub(crate) fn group(&self) -> Option<Group> {
        let here = self.here().filter(|here| here.is_present())?;
        self.seen().group_of(here.section, self.pfn)
    }

    /// The first share of the frame's block from `pfn` on.
    pub(crate) fn share_from(&self, pfn: Pfn) -> Option<Share> {
        self.seen().shares(self.block_id()).find(|share| share.pfns.start >= pfn)
    }

    /// The head of the self-hosted memmap that the frame is a page of.
    pub(crate) fn memmap_head(&self, here: Here<'_, M>) -> Option<Head<'_>> {
        // In this order: where memory begins is noted before it is shown, so that this is not the head of memory before
        // it, which may be gone.
        if !here.is_present() {
            return None;
        }
        let pfn = here.section.group_head(self.pfn)?;
        let page = self.seen().page(pfn);
        let state = page.state()?;
        let PageState::MemmapHead { pages, .. } = state else { return None };
        PfnRange::new(pfn, pages).contains(self.pfn).then_some(Head { pfn, page, state })
    }

    /// The head of the extent that contains the frame, which is not a page of a memmap.
    pub(crate) fn extent_head(&self) -> Option<Head<'_>> {
        let (pfn, state) = self.seen().extent_of(self.pfn)?;
        Some(Head { pfn, page: self.seen().page(pfn), state })
    }

    /// The extents of the part of `pfns` that lies in the frame's block, as [`Seen::extents`] returns them.
    pub(crate) fn extents(&self, pfns: PfnRange) -> impl Iterator<Item = (Pfn, u64, PageState)> {
        let block = self.memmap.block_pfns(self.block_id());
        let inside = block.intersection(pfns).unwrap_or(PfnRange::new(self.pfn, 0));
        self.seen().extents(inside)
    }

    /// The descriptor of the frame `index` further on, if it is in the same block. It is of the frame's extent.
    #[inline]
    pub(crate) fn page_after(&self, index: u64) -> Option<&Page> {
        let order = self.memmap.block_size().order::<M>().get();
        let pfn = Pfn::new(self.pfn.get().saturating_add(index));
        let is_near = pfn.get() >> order == self.pfn.get() >> order;
        (is_near && self.here().is_some()).then(|| self.seen().page(pfn))
    }
}

/// The head of what the frame of a look-up belongs to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Head<'g> {
    pub(crate) pfn: Pfn,
    pub(crate) page: &'g Page,
    pub(crate) state: PageState,
}

/// The frame of a look-up, in a present section.
#[derive(Debug)]
pub(crate) struct Here<'g, M> {
    section: Section<'g, M>,
    pfn: Pfn,
}

impl<M> Clone for Here<'_, M> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<M> Copy for Here<'_, M> {}

impl<'g, M: Machine> Here<'g, M> {
    /// Its number.
    pub(crate) fn pfn(self) -> Pfn {
        self.pfn
    }

    /// Its descriptor.
    #[inline]
    pub(crate) fn page(self) -> &'g Page {
        self.section.page(self.pfn)
    }

    /// The state of the extent that begins here, if one does.
    #[inline]
    pub(crate) fn head_state(self) -> Option<PageState> {
        self.section.head_state(self.pfn)
    }

    /// Whether a free extent of exactly `order` begins here.
    pub(crate) fn is_free_head(self, order: Order) -> bool {
        self.section.is_free_head(self.pfn, order)
    }

    /// Whether its section is online.
    pub(crate) fn is_online(self) -> bool {
        self.section.word().state() == SectionState::Online
    }

    /// Whether its descriptor holds a state.
    #[inline]
    pub(crate) fn is_initialised(self) -> bool {
        self.section.record().initialised().has(Section::<M>::part(self.pfn))
    }

    /// Whether its subsection is memory.
    pub(crate) fn is_present(self) -> bool {
        self.section.record().present().has(Section::<M>::part(self.pfn))
    }

    /// Its section, for the holder of a lock under which `memmap` is seen.
    #[inline]
    pub(crate) fn section_in(self, _memmap: Seen<'_, M>) -> Section<'g, M> {
        self.section
    }
}
