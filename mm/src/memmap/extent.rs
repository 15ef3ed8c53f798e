//! Extents: naturally aligned runs of pages with one state, held in the descriptor of their head.
//!
//! ```text
//!   subsection (1/64 record)   0        1        2        3        4        5        6        7
//!   initialised                1        1        0        0        0        0        0        0
//!   heads                      0        0        1        0        1        0        0        0
//!                         [memmap ][small...][ free, 2 subs. ][ free, 4 subsections            ]
//! ```
//!
//! In an initialised subsection (`Part`) every descriptor that is not a head has the state [`PageState::Tail`]. An
//! extent of a subsection or more has its bit in `heads`, whether or not its subsections are initialised: its head
//! is always valid, and none of its other descriptors need ever be written.

use crate::addr::{Order, Pfn, PfnRange};
use crate::machine::Machine;
use crate::memmap::Memmap;
use crate::memmap::page::{Page, PageState};
use crate::memmap::record::Part;
use crate::memmap::section::{Section, section_of};
use crate::memmap::seen::Seen;
use crate::memmap::state::StateWord;

impl<'m, M: Machine> Section<'m, M> {
    /// Makes `pfn` the head of an extent. Initialises its subsection if the extent is smaller than a subsection.
    pub(crate) fn set_head(self, pfn: Pfn, order: Order, state: PageState) {
        // The state first: a reader, which takes no lock, uses it as soon as it sees the bit set (a Release in
        // `insert`, an Acquire in `has`), and `clear_head` clears the bit before the state becomes stale. So no
        // reader sees the previous contents of the descriptor, such as those of an earlier DIMM.
        self.page(pfn).set_state(state);
        if order >= M::PART_ORDER {
            self.record().heads().insert(Self::part(pfn));
        }
    }

    /// Clears the head at `pfn` of an extent of `order`; its descriptor becomes a tail of the extent that will cover
    /// it.
    pub(crate) fn clear_head(self, pfn: Pfn, order: Order) {
        let part = Self::part(pfn);
        if order >= M::PART_ORDER {
            self.record().heads().remove(part);
        }
        if self.record().initialised().has(part) {
            self.page(pfn).set_state(PageState::Tail);
        }
    }

    /// The descriptor of `pfn` if it is valid: its subsection is initialised, or an extent of a subsection or more
    /// begins there.
    pub(crate) fn believed(self, pfn: Pfn) -> Option<&'m Page> {
        let part = Self::part(pfn);
        let record = self.record();
        let begins = pfn.is_aligned(M::PART_ORDER) && record.heads().has(part);
        (begins || record.initialised().has(part)).then(|| self.page(pfn))
    }

    /// The state in `pfn`'s descriptor as the head of an extent (or as a hole).
    #[inline]
    pub(crate) fn head_state(self, pfn: Pfn) -> Option<PageState> {
        self.believed(pfn)?.state().filter(|&state| state != PageState::Tail)
    }

    /// Whether a free extent of exactly `order` begins at `pfn`.
    pub(crate) fn is_free_head(self, pfn: Pfn, order: Order) -> bool {
        let page = self.believed(pfn);
        page.is_some_and(|page| page.is(PageState::Free { order }))
    }
}

impl<'g, M: Machine> Seen<'g, M> {
    /// Writes the state of every descriptor of `part`. Payloads stay: a page's payload is initialised when the page
    /// gets its state, and the records of sections lie in memmap pages' payloads.
    pub(crate) fn initialise_part(self, section: Section<'g, M>, part: Part) {
        let initialised = section.record().initialised();
        if initialised.has(part) {
            return;
        }
        let pfns = section.part_pfns(part);
        let mut rest = pfns;
        if let Some(group) = self.group_of(section, pfns.start)
            && let Some(memmap) = group.pfns.intersection(pfns)
        {
            let head = group.pfns.start;
            for pfn in memmap.iter().filter(|&pfn| pfn != head) {
                section.page(pfn).set_state(PageState::MemmapTail { head });
            }
            rest.start = memmap.end;
        }
        for pfn in rest.iter() {
            section.page(pfn).set_state(PageState::Tail);
        }
        initialised.insert(part);
    }

    /// The head and state of the extent that contains `pfn`, which is not a memmap page.
    ///
    /// Checks each aligned place where a head could be: the page itself, then its number with one low bit after the
    /// other cleared.
    pub(crate) fn extent_of(self, pfn: Pfn) -> Option<(Pfn, PageState)> {
        let largest = u32::from(self.block_size().order::<M>().get());
        let mut head = pfn;
        loop {
            let state = self.section_at(head).and_then(|section| section.head_state(head));
            if let Some(state) = state
                && pfn.offset_from(head) < state.extent_pages()
            {
                return Some((head, state));
            }
            let number = head.get();
            if number.trailing_zeros() >= largest {
                return None;
            }
            head = Pfn::new(number & (number - 1));
        }
    }

    /// The extents of `pfns`, in online blocks, ascending: head, pages and state.
    ///
    /// Holes are returned page by page, absent memory and memmap pages not at all. A page that should be a head and is
    /// not one is returned as a tail of one page.
    pub(crate) fn extents(
        self,
        pfns: PfnRange,
    ) -> impl Iterator<Item = (Pfn, u64, PageState)> + use<'g, M> {
        self.places(pfns).filter_map(|(pfn, place)| match place {
            Place::Extent(pages, state) => Some((pfn, pages, state)),
            _ => None,
        })
    }

    /// What is in `pfns`, in online blocks, ascending.
    pub(crate) fn places(self, pfns: PfnRange) -> impl Iterator<Item = (Pfn, Place)> + use<'g, M> {
        let mut pfn = pfns.start;
        core::iter::from_fn(move || {
            let here = pfn;
            (here < pfns.end).then(|| {
                let place = self.place_at(here);
                pfn = place.end(here);
                (here, place)
            })
        })
    }

    /// What begins at `pfn`, or continues there.
    fn place_at(self, pfn: Pfn) -> Place {
        let next_section = Pfn::new((section_of::<M>(pfn) + 1) * M::SECTION_PAGES);
        let Some(section) = self.section_at(pfn) else { return Place::Absent(next_section) };
        if !section.record().present().has(Section::<M>::part(pfn)) {
            return Place::Absent(pfn.align_down(M::PART_ORDER).add(M::PART_PAGES));
        }
        let rest = PfnRange { start: pfn, end: next_section };
        if let Some(memmap) = self.memmap_in(section, rest)
            && memmap.contains(pfn)
        {
            return Place::Memmap(memmap.end);
        }
        let state = section.head_state(pfn).unwrap_or(PageState::Tail);
        Place::Extent(state.extent_pages(), state)
    }

    /// Where the search for extents continues behind `pfn`, which is in none.
    #[cold]
    pub(crate) fn skip(self, pfn: Pfn) -> Pfn {
        match self.place_at(pfn) {
            Place::Extent(..) => pfn.add(1),
            place => place.end(pfn),
        }
    }
}

/// Heads of extents of online memory, one after the other, for the holder of their zone's lock: in a subsection that is
/// initialised they are read without another look at the map.
pub(crate) struct Heads<'g, M: Machine> {
    memmap: Seen<'g, M>,
    /// The section of the last look at the map.
    section: Option<Section<'g, M>>,
    /// An initialised subsection of it.
    initialised: PfnRange,
}

impl<'g, M: Machine> Heads<'g, M> {
    pub(crate) const fn of(memmap: Seen<'g, M>) -> Self {
        Self { memmap, section: None, initialised: PfnRange::EMPTY }
    }

    /// The head and state of the extent that contains `pfn`, as [`Seen::extent_of`] returns them.
    #[inline(always)]
    pub(crate) fn at(&mut self, pfn: Pfn) -> Option<(Pfn, StateWord)> {
        if self.initialised.contains(pfn)
            && let Some(state) = StateWord::of_head(self.memmap.page(pfn))
        {
            return Some((pfn, state));
        }
        self.find(pfn)
    }

    #[inline(never)]
    fn find(&mut self, pfn: Pfn) -> Option<(Pfn, StateWord)> {
        self.section = self.memmap.section_after(self.section, pfn);
        // Most extents begin where the previous one ends.
        if let Some(section) = self.section
            && let Some(state) = section.believed(pfn).and_then(StateWord::of_head)
        {
            if state.extent_pages() < M::PART_PAGES {
                self.initialised = section.part_pfns(Section::<M>::part(pfn));
            }
            return Some((pfn, state));
        }
        let (head, _) = self.memmap.extent_of(pfn)?;
        Some((head, StateWord::of_head(self.memmap.page(head))?))
    }
}

/// What is at a place in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// An extent: its pages and state.
    Extent(u64, PageState),
    /// Descriptors, up to here.
    Memmap(Pfn),
    /// No memory, up to here.
    Absent(Pfn),
}

impl Place {
    fn end(self, start: Pfn) -> Pfn {
        match self {
            Self::Extent(pages, _) => start.add(pages),
            Self::Memmap(end) | Self::Absent(end) => end,
        }
    }
}

impl<M: Machine> Memmap<M> {
    /// Divides `pfns` into the fewest naturally aligned extents, none larger than a block.
    pub(crate) fn cut(&self, pfns: PfnRange) -> impl Iterator<Item = (Pfn, Order)> + use<M> {
        let largest = self.block_size().order::<M>();
        let mut rest = pfns;
        core::iter::from_fn(move || {
            if rest.start >= rest.end {
                return None;
            }
            let start = rest.start;
            let aligned =
                Order::new(start.get().trailing_zeros().min(Order::MAX.get().into()) as u8);
            let order = Order::fitting(rest.pages()).min(aligned?).min(largest);
            rest.start = start.add(order.pages());
            Some((start, order))
        })
    }
}

impl PageState {
    /// Pages of the extent whose head has this state.
    pub(crate) fn extent_pages(self) -> u64 {
        match self {
            Self::Free { order }
            | Self::Isolated { order }
            | Self::Cached { order }
            | Self::Used { order, .. } => order.pages(),
            _ => 1,
        }
    }
}
