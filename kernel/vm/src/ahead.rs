//! An extent that is copied while its guest runs, so that few pages are left to copy when it moves.
//!
//! ```text
//!   begin:  the leaf becomes a table of pages, marks taken back, flush      every page differs from its copy
//!   round:  copy the pages that differ, a part in each step
//!           marks taken back, flush                                         those differ that were marked
//!   ... until few differ, or after the last round ...
//!   move:   leaves cleared with their marks, flush, copy what differs, map  the guest cannot access it: the pause
//!   after:  the table becomes a leaf again; what the extent held is cleared, a part in each step
//! ```
//!
//! The guest accesses the extent all the time, but for the pause and for the moments of the flushes. A page that it
//! stores to while that is copied is marked, and copied again.

use crate::Shared;
use crate::platform::Platform;
use crate::switch;
use crate::word::PageWord;
use alloc::vec::Vec;
use hotmem::paging::{GuestRange, PteFormat};
use hotmem::{Mm, Move, Pfn};
use hotmem_arch::contract::Guests;

/// Pages that may differ when the extent moves.
const FEW: u64 = 16;

/// Rounds at most: a guest that stores faster than its pages are copied is paused for all that differ then.
const MOST_ROUNDS: u64 = 8;

/// Bits of a word.
const BITS: u64 = u64::BITS as u64;

/// What is known of a set of pages, a bit for each.
#[derive(Debug)]
struct Pages {
    bits: Vec<u64>,
    count: u64,
}

impl Pages {
    /// All of so many; `None` if the kernel's heap has no room.
    fn all(count: u64) -> Option<Self> {
        let mut bits = Vec::new();
        bits.try_reserve_exact(count.div_ceil(BITS) as usize).ok()?;
        bits.resize(count.div_ceil(BITS) as usize, 0);
        let mut pages = Self { bits, count: 0 };
        (0..count).for_each(|page| pages.add(page));
        Some(pages)
    }

    fn add(&mut self, page: u64) {
        if let Some(word) = self.bits.get_mut((page / BITS) as usize) {
            let bit = 1 << (page % BITS);
            self.count += u64::from(*word & bit == 0);
            *word |= bit;
        }
    }

    /// Takes the first one out.
    fn take(&mut self) -> Option<u64> {
        let at = self.bits.iter().position(|word| *word != 0)?;
        let word = self.bits.get_mut(at)?;
        let bit = u64::from(word.trailing_zeros());
        *word &= *word - 1;
        self.count -= 1;
        Some(at as u64 * BITS + bit)
    }
}

/// The work on one extent.
#[derive(Debug)]
pub(crate) struct Ahead {
    from: Pfn,
    to: Pfn,
    /// Its addresses in the guest.
    pub(crate) range: GuestRange,
    /// Pages of which the copy differs, or may.
    differ: Pages,
    rounds: u64,
    /// Pages that were cleared behind it.
    cleared: u64,
}

impl Ahead {
    /// The work on the extent of a move; `None` if it is moved at once: its memory is bad, the CPUs do not mark what guests
    /// write, or the kernel's heap has no room.
    pub(crate) fn new<M: Shared, P: Platform>(one: &Move) -> Option<Self> {
        type Format<P> = <<P as Platform>::Guests as Guests>::GuestFormat;
        let marks = Format::<P>::WRITTEN != 0 && P::Guests::marks_writes();
        if one.is_bad() || !marks {
            return None;
        }
        let pages = one.from().order.pages();
        let at = PageWord::decode(one.from().private).address::<M>();
        let range = GuestRange::new(at, pages * M::PAGE_BYTES)?;
        let differ = Pages::all(pages)?;
        let (from, to) = (one.from().pfn, one.to());
        Some(Self { from, to, range, differ, rounds: 0, cleared: 0 })
    }

    /// Whether this is the work on a move.
    pub(crate) fn is_of(&self, one: &Move) -> bool {
        (self.from, self.to) == (one.from().pfn, one.to())
    }

    /// Pages of the extent.
    pub(crate) fn pages<M: Shared>(&self) -> u64 {
        self.range.len() / M::PAGE_BYTES
    }

    /// Notes that a leaf was marked.
    pub(crate) fn note<M: Shared>(&mut self, leaf: GuestRange) {
        let first = leaf.start().offset_from(self.range.start()) / M::PAGE_BYTES;
        (first..first + leaf.len() / M::PAGE_BYTES).for_each(|page| self.differ.add(page));
    }

    /// Copies pages that differ, at most so many. Returns how many.
    pub(crate) fn copy<M: Shared, P: Platform>(
        &mut self,
        mm: &Mm<M>,
        one: &Move,
        most: u64,
    ) -> u64 {
        let mut copied = 0;
        while copied < most
            && let Some(page) = self.differ.take()
        {
            switch::copy_page::<M, P>(mm, one, page);
            copied += 1;
        }
        copied
    }

    /// Whether all pages that differed in this round were copied.
    pub(crate) const fn is_round_over(&self) -> bool {
        self.differ.count == 0
    }

    /// Ends a round, with what was marked meanwhile noted. Returns whether it was the last.
    pub(crate) const fn end_round(&mut self) -> bool {
        self.rounds += 1;
        self.differ.count <= FEW || self.rounds >= MOST_ROUNDS
    }

    /// Whether the guest stored faster than its pages were copied.
    pub(crate) const fn is_hurried(&self) -> bool {
        self.differ.count > FEW
    }

    /// Clears pages that the extent had, at most so many. Returns how many, and whether those were the last.
    pub(crate) fn clear<M: Shared>(&mut self, mm: &Mm<M>, one: &Move, most: u64) -> (u64, bool) {
        let (begun, end) = (self.cleared, self.pages::<M>());
        self.cleared = begun.saturating_add(most).min(end);
        (begun..self.cleared).for_each(|page| switch::clear_behind(mm, one, page));
        (self.cleared - begun, self.cleared == end)
    }
}
