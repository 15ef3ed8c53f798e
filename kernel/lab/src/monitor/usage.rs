//! Using added memory: every page is allocated, written, read back and freed.
//!
//! ```text
//!   pass 1, pass 2   allocate every page, free it again, contents untouched: their difference is the cost
//!                    of initialising descriptors at first use
//!   pass 3           allocate every page, write a pattern to each, read all of them back, free
//!   share            run by several CPUs at the same time: as pass 3, with some pages
//! ```
//! Of much memory a sample is used, unless all of it is requested: extents of 64 pages in place of single ones, of which
//! one page is written and read back. A request for all of much memory reports its progress.
//!
//! The pages are chained through the word that the allocator keeps for their owner, so that no list of them is
//! needed elsewhere.

// UNSAFETY: writes and reads allocated pages through the linear map.
#![expect(unsafe_code)]

use core::fmt;
use hotmem::{FreeError, Machine, Mm, Mover, Order, Pfn, Request, ZoneKind};

/// The pages that `use` writes and reads back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sample {
    /// All of them.
    All,
    /// All of them up to a limit; above it a sample of each block, chosen by this seed.
    Seeded(u64),
}

/// More memory than this is written and read back in samples, unless all of it is requested.
const EXHAUSTIVE_BYTES: u64 = 4 << 30;
/// A sample has one page of each window of this many pages, which are one extent.
const WINDOW_PAGES: u64 = 1 << WINDOW_ORDER;
const WINDOW_ORDER: u8 = 6;
/// Extents between two reports of the progress.
const REPORT_EXTENTS: u64 = 1 << 15;
/// What is done with each extent: three passes, the last of which also writes it and reads it back.
const PHASES: u64 = 8;
/// 2^64 divided by the golden ratio: multiplying by it spreads close numbers far apart.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

/// The results of using memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Used {
    /// Pages that were available.
    pub(super) pages: u64,
    /// Bytes written and read back.
    pub(super) touched_bytes: u64,
    /// Instructions of the first pass.
    pub(super) first: Option<u64>,
    /// Instructions of the second pass.
    pub(super) second: Option<u64>,
}

/// The reason why memory could not be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum UseError {
    /// No added memory is online and free.
    Nothing,
    /// The allocator does not know a page that it allocated.
    Lost(FreeError),
    /// A word has another value than was written.
    Mismatch {
        /// The page.
        pfn: Pfn,
        /// The word's number in the page.
        word: u64,
        /// The value written.
        written: u64,
        /// The value read.
        read: u64,
    },
}

impl fmt::Display for UseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.write_str("no added memory is online and free"),
            Self::Lost(error) => write!(f, "the allocator lost a page: {error}"),
            Self::Mismatch { pfn, word, written, read } => {
                write!(f, "{pfn}, word {word}: wrote {written:#x}, read {read:#x}")
            }
        }
    }
}

impl From<FreeError> for UseError {
    fn from(error: FreeError) -> Self {
        Self::Lost(error)
    }
}

/// The bytes done, the bytes to do, and the function that reports them.
pub(super) struct Progress<'r> {
    extents: u64,
    extent_bytes: u64,
    total_bytes: u64,
    report: &'r mut dyn FnMut(u64, u64),
}

impl<'r> Progress<'r> {
    /// Reports the bytes that are done and of all to do, from time to time.
    fn new(extent_bytes: u64, total_bytes: u64, report: &'r mut dyn FnMut(u64, u64)) -> Self {
        Self { extents: 0, extent_bytes, total_bytes, report }
    }

    /// Another extent is done with, in one of the phases.
    fn step(&mut self) {
        self.extents += 1;
        // A report costs instructions, which are counted where there is little memory.
        if self.extents.is_multiple_of(REPORT_EXTENTS) && self.total_bytes > EXHAUSTIVE_BYTES {
            let done = (self.extents * self.extent_bytes / PHASES).min(self.total_bytes);
            (self.report)(done, self.total_bytes);
        }
    }
}

/// Extents of one size that are allocated, each pointing to the next.
struct Chain<'m, M: Machine> {
    mm: &'m Mm<M>,
    held: &'m Mover,
    order: Order,
    /// The number of the first one's first page plus one; 0 for none.
    first: u64,
    extents: u64,
}

impl<'m, M: Machine> Chain<'m, M> {
    /// Allocates free extents of added memory, one by one, up to a number.
    fn take(
        mm: &'m Mm<M>,
        held: &'m Mover,
        order: Order,
        most: u64,
        progress: &mut Progress<'_>,
    ) -> Self {
        let mut chain = Self { mm, held, order, first: 0, extents: 0 };
        let request = Request::from(order).in_movable_zone();
        while chain.extents < most
            && let Ok(pfn) = mm.alloc_movable(request, held, chain.first)
        {
            chain.first = pfn.get() + 1;
            chain.extents += 1;
            progress.step();
        }
        chain
    }

    /// Their pages.
    const fn pages(&self) -> u64 {
        self.extents * self.order.pages()
    }

    /// Calls `each` with the first page of every extent.
    fn visit(
        &self,
        progress: &mut Progress<'_>,
        mut each: impl FnMut(Pfn) -> Result<(), UseError>,
    ) -> Result<(), UseError> {
        let mut next = self.first;
        while let Some(raw) = next.checked_sub(1) {
            next = self.mm.private(Pfn::new(raw))?;
            each(Pfn::new(raw))?;
            progress.step();
        }
        Ok(())
    }

    /// Frees every extent.
    fn free_all(self, progress: &mut Progress<'_>) -> Result<(), UseError> {
        self.visit(progress, |pfn| Ok(self.mm.free_movable(pfn, self.held)?))
    }
}

/// A pseudo-random number that depends on both arguments.
fn mix(a: u64, b: u64) -> u64 {
    let product = (a ^ b.rotate_left(32)).wrapping_add(1).wrapping_mul(SPREAD);
    (product ^ product >> 29).wrapping_mul(SPREAD) >> 7
}

/// The page of the window at `head` that is in the sample, chosen by the seed.
fn sampled(head: Pfn, seed: u64) -> Pfn {
    head.add(mix(head.get() / WINDOW_PAGES, seed) % WINDOW_PAGES)
}

/// The word written at `index` of a page: different from every other word of any page.
fn pattern(page: u64, index: u64) -> u64 {
    page.wrapping_add(index).wrapping_mul(SPREAD)
}

/// Calls `each` for the words of a page that this chain holds.
fn words<M: Machine>(
    chain: &Chain<'_, M>,
    pfn: Pfn,
    mut each: impl FnMut(u64, *mut u64) -> Result<(), UseError>,
) -> Result<(), UseError> {
    let count = M::PAGE_BYTES / size_of::<u64>() as u64;
    let first = chain.mm.machine().pointer(M::address(pfn)).cast::<u64>().as_ptr();
    (0..count).try_for_each(|index| each(index, first.wrapping_add(index as usize)))
}

/// Writes a page's pattern.
fn write<M: Machine>(chain: &Chain<'_, M>, pfn: Pfn) -> Result<(), UseError> {
    let page = pfn.get().wrapping_mul(M::PAGE_BYTES);
    words(chain, pfn, |index, word| {
        // SAFETY: the word is inside a page of RAM that the allocator gave to this chain, and that no other code
        // uses until the chain frees it; it is aligned, since the page is.
        unsafe { word.write_volatile(pattern(page, index)) };
        Ok(())
    })
}

/// Reads a page's pattern back.
fn check<M: Machine>(chain: &Chain<'_, M>, pfn: Pfn) -> Result<(), UseError> {
    let page = pfn.get().wrapping_mul(M::PAGE_BYTES);
    words(chain, pfn, |index, word| {
        // SAFETY: as in `write`, which initialised the word.
        let read = unsafe { word.read_volatile() };
        let written = pattern(page, index);
        if read == written {
            Ok(())
        } else {
            Err(UseError::Mismatch { pfn, word: index, written, read })
        }
    })
}

/// Allocates every extent and frees it again; returns the cost.
fn pass<M: Machine>(
    mm: &Mm<M>,
    held: &Mover,
    order: Order,
    instructions: &impl Fn() -> Option<u64>,
    progress: &mut Progress<'_>,
) -> Result<Option<u64>, UseError> {
    let before = instructions();
    Chain::take(mm, held, order, u64::MAX, progress).free_all(progress)?;
    Ok(before.zip(instructions()).map(|(before, after)| after.wrapping_sub(before)))
}

/// Bytes of added memory that are free.
fn free_bytes<M: Machine>(mm: &Mm<M>) -> u64 {
    let movable = mm.zones().filter(|zone| zone.kind == ZoneKind::Movable);
    movable.map(|zone| zone.counts.free * M::PAGE_BYTES).sum()
}

/// Uses all added memory that is online and free, or a sample of it, and frees it. `report` is called with the progress: bytes
/// that are done, and all of them.
pub(super) fn run<M: Machine>(
    mm: &Mm<M>,
    held: &Mover,
    sample: Sample,
    instructions: impl Fn() -> Option<u64>,
    report: &mut dyn FnMut(u64, u64),
) -> Result<Used, UseError> {
    let bytes = free_bytes(mm);
    let seed = match sample {
        Sample::Seeded(seed) if bytes > EXHAUSTIVE_BYTES => Some(seed),
        Sample::All | Sample::Seeded(_) => None,
    };
    let order = seed.and_then(|_| Order::new(WINDOW_ORDER)).unwrap_or(Order::ZERO);
    let mut progress = Progress::new(order.pages() * M::PAGE_BYTES, bytes, report);
    let progress = &mut progress;
    let first = pass(mm, held, order, &instructions, progress)?;
    let second = pass(mm, held, order, &instructions, progress)?;

    let chain = Chain::take(mm, held, order, u64::MAX, progress);
    if chain.extents == 0 {
        return Err(UseError::Nothing);
    }
    let page = |head| seed.map_or(head, |seed| sampled(head, seed));
    let touched = chain
        .visit(progress, |head| write(&chain, page(head)))
        .and_then(|()| chain.visit(progress, |head| check(&chain, page(head))));
    let (pages, touched_bytes) = (chain.pages(), chain.extents * M::PAGE_BYTES);
    chain.free_all(progress)?;
    touched?;
    Ok(Used { pages, touched_bytes, first, second })
}

/// Uses up to `most` pages of added memory, while other CPUs do the same. Returns the number of pages.
pub(super) fn share<M: Machine>(mm: &Mm<M>, held: &Mover, most: u64) -> Result<u64, UseError> {
    let mut nobody = |_, _| {};
    let progress = &mut Progress::new(M::PAGE_BYTES, 0, &mut nobody);
    let chain = Chain::take(mm, held, Order::ZERO, most, progress);
    let pages = chain.pages();
    let touched = chain
        .visit(progress, |pfn| write(&chain, pfn))
        .and_then(|()| chain.visit(progress, |pfn| check(&chain, pfn)));
    chain.free_all(progress)?;
    touched?;
    Ok(pages)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    #[test]
    fn the_sample_of_a_window_is_one_of_its_pages() {
        for seed in [0, 1, 77, u64::MAX] {
            for head in (0..300).map(|window| window * WINDOW_PAGES) {
                let page = sampled(Pfn::new(head), seed).get();
                assert!((head..head + WINDOW_PAGES).contains(&page));
            }
        }
    }

    #[test]
    fn another_seed_selects_another_sample() {
        let chosen = |seed| (0..1 << 14).map(move |w| sampled(Pfn::new(w * WINDOW_PAGES), seed));
        assert!(!chosen(1).eq(chosen(2)));
        assert!(chosen(3).eq(chosen(3)));
    }

    #[test]
    fn progress_is_told_now_and_then_and_ends_at_the_whole() {
        let mut reported = Vec::new();
        let mut report = |done, total| reported.push((done, total));
        let (extent, little) = (1 << 20, EXHAUSTIVE_BYTES);
        let mut progress = Progress::new(extent, little, &mut report);
        (0..PHASES * REPORT_EXTENTS).for_each(|_| progress.step());
        let total = REPORT_EXTENTS * extent;
        let mut progress = Progress::new(extent, total, &mut report);
        (0..PHASES * REPORT_EXTENTS).for_each(|_| progress.step());
        assert_eq!(reported.len() as u64, PHASES);
        assert_eq!((reported[0], reported[7]), ((total / PHASES, total), (total, total)));
        assert!(reported.is_sorted());
    }

    #[test]
    fn no_two_words_of_neighbouring_pages_have_the_same_pattern() {
        let pages = [0, 4096, 8192, 1 << 32];
        let mut words: Vec<_> =
            pages.iter().flat_map(|&page| (0..512).map(move |i| pattern(page, i))).collect();
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), pages.len() * 512);
    }
}
