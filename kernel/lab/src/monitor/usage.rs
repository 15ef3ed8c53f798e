//! Using added memory: every page is allocated, written, read back and freed.
//!
//! ```text
//!   pass 1, pass 2   allocate every page, free it again, contents untouched: their difference is the cost
//!                    of initialising descriptors at first use
//!   pass 3           allocate every page, write a pattern to each, read all of them back, free
//!   share            run by several CPUs at the same time: as pass 3, with some pages
//! ```
//!
//! The pages are chained through the word that the allocator keeps for their owner, so that no list of them is
//! needed elsewhere.

// UNSAFETY: writes and reads allocated pages through the linear map.
#![expect(unsafe_code)]

use super::command::Sample;
use core::fmt;
use hotmem::{FreeError, Machine, Mm, Mover, Order, Pfn, Request};

/// More memory than this is written and read back in samples, unless all of it is requested.
const EXHAUSTIVE_BYTES: u64 = 4 << 30;
/// A sample has one page of each window of this many pages.
const WINDOW_PAGES: u64 = 64;
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

/// Pages that are allocated, each pointing to the next.
struct Chain<'m, M: Machine> {
    mm: &'m Mm<M>,
    held: &'m Mover,
    /// The first page's number plus one; 0 for none.
    first: u64,
    pages: u64,
}

impl<'m, M: Machine> Chain<'m, M> {
    /// Allocates every free page of added memory, one by one.
    fn take_all(mm: &'m Mm<M>, held: &'m Mover) -> Self {
        Self::take(mm, held, u64::MAX)
    }

    /// Allocates free pages of added memory, one by one, up to a number.
    fn take(mm: &'m Mm<M>, held: &'m Mover, most: u64) -> Self {
        let mut chain = Self { mm, held, first: 0, pages: 0 };
        let request = Request::from(Order::ZERO).in_movable_zone();
        while chain.pages < most
            && let Ok(pfn) = mm.alloc_movable(request, held, chain.first)
        {
            chain.first = pfn.get() + 1;
            chain.pages += 1;
        }
        chain
    }

    /// Calls `each` with every page.
    fn visit(&self, mut each: impl FnMut(Pfn) -> Result<(), UseError>) -> Result<(), UseError> {
        let mut next = self.first;
        while let Some(raw) = next.checked_sub(1) {
            next = self.mm.private(Pfn::new(raw))?;
            each(Pfn::new(raw))?;
        }
        Ok(())
    }

    /// Frees every page.
    fn free_all(self) -> Result<(), UseError> {
        self.visit(|pfn| Ok(self.mm.free_movable(pfn, self.held)?))
    }
}

/// A pseudo-random number that depends on both arguments.
fn mix(a: u64, b: u64) -> u64 {
    let product = (a ^ b.rotate_left(32)).wrapping_add(1).wrapping_mul(SPREAD);
    (product ^ product >> 29).wrapping_mul(SPREAD) >> 7
}

/// Whether the page is in the sample: exactly one of each window is, chosen by the seed.
fn in_sample(pfn: Pfn, seed: u64) -> bool {
    let (window, offset) = (pfn.get() / WINDOW_PAGES, pfn.get() % WINDOW_PAGES);
    mix(window, seed) % WINDOW_PAGES == offset
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

/// Allocates every page and frees it again; returns the cost.
fn pass<M: Machine>(
    mm: &Mm<M>,
    held: &Mover,
    instructions: &impl Fn() -> Option<u64>,
) -> Result<Option<u64>, UseError> {
    let before = instructions();
    Chain::take_all(mm, held).free_all()?;
    Ok(before.zip(instructions()).map(|(before, after)| after.wrapping_sub(before)))
}

/// Uses all added memory that is online and free, and frees it.
pub(super) fn run<M: Machine>(
    mm: &Mm<M>,
    held: &Mover,
    sample: Sample,
    instructions: impl Fn() -> Option<u64>,
) -> Result<Used, UseError> {
    let first = pass(mm, held, &instructions)?;
    let second = pass(mm, held, &instructions)?;

    let chain = Chain::take_all(mm, held);
    if chain.pages == 0 {
        return Err(UseError::Nothing);
    }
    let large = chain.pages.saturating_mul(M::PAGE_BYTES) > EXHAUSTIVE_BYTES;
    let wanted = |pfn| match sample {
        Sample::Seeded(seed) if large => in_sample(pfn, seed),
        Sample::All | Sample::Seeded(_) => true,
    };
    let (all, mut pages) = (chain.pages, 0);
    let touched =
        chain.visit(|pfn| if wanted(pfn) { write(&chain, pfn) } else { Ok(()) }).and_then(|()| {
            chain.visit(|pfn| {
                pages += u64::from(wanted(pfn));
                if wanted(pfn) { check(&chain, pfn) } else { Ok(()) }
            })
        });
    chain.free_all()?;
    touched?;
    Ok(Used { pages: all, touched_bytes: pages * M::PAGE_BYTES, first, second })
}

/// Uses up to `most` pages of added memory, while other CPUs do the same. Returns the number of pages.
pub(super) fn share<M: Machine>(mm: &Mm<M>, held: &Mover, most: u64) -> Result<u64, UseError> {
    let chain = Chain::take(mm, held, most);
    let pages = chain.pages;
    let touched =
        chain.visit(|pfn| write(&chain, pfn)).and_then(|()| chain.visit(|pfn| check(&chain, pfn)));
    chain.free_all()?;
    touched?;
    Ok(pages)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_has_one_page_of_every_window() {
        for seed in [0, 1, 77, u64::MAX] {
            for window in 0..300 {
                let pages = (0..WINDOW_PAGES).map(|page| Pfn::new(window * WINDOW_PAGES + page));
                assert_eq!(pages.filter(|&pfn| in_sample(pfn, seed)).count(), 1);
            }
        }
    }

    #[test]
    fn another_seed_selects_another_sample() {
        let chosen = |seed| (0..1 << 20).map(Pfn::new).filter(move |&pfn| in_sample(pfn, seed));
        assert!(!chosen(1).eq(chosen(2)));
        assert!(chosen(3).eq(chosen(3)));
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
