//! The page descriptor: 64 bytes for every page frame, and the meaning of its state word.
//!
//! ```text
//!   word 0      the state: one atomic word, one encoder ([`PageState::encode`])
//!   words 1..8  by state:
//!               head of a free extent      words 1 and 2 are its list links
//!               head of a cached extent    word 1 is its list link
//!               head of a used extent      word 1: pages with a kernel's part, and its zone; 2: when it was
//!                                          allocated; 3: the owner's word; 4..8: the kernel's part (`meta`)
//!               memmap page                the record of a section, in one of the section's pages
//! ```
//!
//! An *extent* is a naturally aligned run of `1 << order` pages with one state, which its first descriptor, the head, holds;
//! the others are [`PageState::Tail`], or garbage until their subsection is initialised ([`crate::memmap::section`]).

use crate::addr::{Order, Pfn};
use crate::geometry::DESCRIPTOR_BYTES;
use crate::sync::{AtomicU64, Ordering};

/// Payload words of a descriptor.
pub(crate) const PAYLOAD_WORDS: usize = 7;

/// The descriptor of one page frame.
///
/// Every field is an atomic word: a reference to memory that was never written is sound, but its values are not valid.
#[derive(Debug)]
#[cfg_attr(loom, derive(Default))]
#[repr(C, align(64))]
pub struct Page {
    word: AtomicU64,
    pub(super) payload: [AtomicU64; PAYLOAD_WORDS],
}

const _: () = assert!(cfg!(loom) || size_of::<Page>() as u64 == DESCRIPTOR_BYTES);

/// The owner of a used extent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Owner {
    /// Taken before the allocator existed: the kernel image, its boot tables, its heap.
    Boot,
    /// A page table or a section node, or several of less than a page.
    Table,
    /// Page descriptors that were placed in system memory, or will be placed in their block.
    Memmap,
    /// The kernel's own data, which is unmovable.
    Kernel,
    /// The same, for a user with a name.
    Named(UserId),
    /// No owner, for ever: the page's memory is bad.
    Poison,
    /// The taker of memory out of the linear map: its content must not be accessed.
    Taken,
    /// No owner, for ever: it held a table, or descriptors, and a CPU may still translate to it.
    Stranded,
    /// No owner: it is in a part of an online block that is offline.
    Offline,
    /// The registered owner of movable pages with this number.
    Movable(MoverId),
}

/// The number of a registered owner of movable pages, whose handle is [`Mover`](crate::Mover).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MoverId(u8);

/// Owners of movable pages that can register.
pub const MAX_MOVERS: usize = 16;

/// The number of a named user of unmovable pages, whose handle is [`User`](crate::User).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UserId(u8);

/// Users of unmovable pages that can have a name.
pub const MAX_USERS: usize = 16;

/// The first numbers of movable owners and of named users among those of owners.
const FIRST_MOVER: u64 = 16;
const FIRST_USER: u64 = FIRST_MOVER + MAX_MOVERS as u64;

impl UserId {
    /// Number `index`, below [`MAX_USERS`].
    pub(crate) const fn new(index: usize) -> Option<Self> {
        if index < MAX_USERS { Some(Self(index as u8)) } else { None }
    }

    pub(crate) const fn index(self) -> usize {
        self.0 as usize
    }
}

impl MoverId {
    /// The first number.
    pub(crate) const FIRST: Self = Self(0);

    /// Number `index`, below [`MAX_MOVERS`].
    pub(crate) const fn new(index: usize) -> Option<Self> {
        if index < MAX_MOVERS { Some(Self(index as u8)) } else { None }
    }

    pub(crate) const fn index(self) -> usize {
        self.0 as usize
    }
}

impl Owner {
    const FIXED: [Self; 8] = [
        Self::Boot,
        Self::Table,
        Self::Memmap,
        Self::Kernel,
        Self::Poison,
        Self::Taken,
        Self::Stranded,
        Self::Offline,
    ];

    /// Whether the page is never allocated again.
    pub(crate) const fn is_out_of_use(self) -> bool {
        matches!(self, Self::Poison | Self::Stranded)
    }

    #[inline]
    const fn encode(self) -> u64 {
        match self {
            Self::Boot => 0,
            Self::Table => 1,
            Self::Memmap => 2,
            Self::Kernel => 3,
            Self::Poison => 4,
            Self::Taken => 5,
            Self::Stranded => 6,
            Self::Offline => 7,
            Self::Movable(mover) => FIRST_MOVER + mover.0 as u64,
            Self::Named(user) => FIRST_USER + user.0 as u64,
        }
    }

    #[inline]
    pub(super) const fn decode(raw: u64) -> Option<Self> {
        if raw < Self::FIXED.len() as u64 {
            return Some(Self::FIXED[raw as usize]);
        }
        if let Some(user) = UserId::new(raw.wrapping_sub(FIRST_USER) as usize) {
            return Some(Self::Named(user));
        }
        match MoverId::new(raw.wrapping_sub(FIRST_MOVER) as usize) {
            Some(mover) => Some(Self::Movable(mover)),
            None => None,
        }
    }

    /// The kind of owner, for messages; movable owners and users have [names](crate::Mm::owner_name) of their own.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Boot => "boot",
            Self::Table => "table",
            Self::Memmap => "memmap",
            Self::Kernel | Self::Named(_) => "kernel",
            Self::Poison => "poison",
            Self::Taken => "taken",
            Self::Stranded => "stranded",
            Self::Offline => "offline",
            Self::Movable(_) => "movable",
        }
    }
}

/// The state of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageState {
    /// Not the first page of its extent.
    Tail,
    /// No memory: a hole in a block of boot memory.
    Hole,
    /// Head of a free extent.
    Free {
        /// Size of the extent.
        order: Order,
    },
    /// Head of a free extent that the allocator must not allocate: its range is being emptied.
    Isolated {
        /// Size of the extent.
        order: Order,
    },
    /// Head of a free extent in the cache of a CPU: on no free list.
    Cached {
        /// Size of the extent.
        order: Order,
    },
    /// Head of an extent in use.
    Used {
        /// Size of the extent.
        order: Order,
        /// Its owner.
        owner: Owner,
    },
    /// First page of a self-hosted memmap: it counts the sections and pages of the memmap.
    MemmapHead {
        /// Sections whose descriptors lie in the memmap and that are still present.
        sections: u32,
        /// Pages of the memmap, this one included.
        pages: u64,
    },
    /// Any other page of a self-hosted memmap.
    MemmapTail {
        /// The memmap's first page.
        head: Pfn,
    },
}

// Layout of the state word: kind in bits 0..4, the rest by kind.
pub(super) const KIND_BITS: u32 = 4;
pub(super) const ORDER_BITS: u32 = 8;
const SECTIONS_BITS: u32 = 24;

pub(super) const TAIL: u64 = 1;
const HOLE: u64 = 2;
pub(super) const FREE: u64 = 3;
pub(super) const USED: u64 = 4;
const MEMMAP_HEAD: u64 = 5;
const MEMMAP_TAIL: u64 = 6;
pub(super) const ISOLATED: u64 = 7;
pub(super) const CACHED: u64 = 8;

/// Set in the word of a used extent that must not be freed: a CPU accesses or clears it. Not part of a state.
pub(super) const HELD_BIT: u64 = 1 << 63;
/// Set in the word of a memmap's head if a page of the memmap is bad. Not part of a state.
const BAD_BIT: u64 = 1 << 63;

pub(super) const fn field(word: u64, shift: u32, bits: u32) -> u64 {
    (word >> shift) & ((1 << bits) - 1)
}

impl PageState {
    /// The state word: together with [`PageState::decode`] the only code that knows its bits.
    #[inline]
    pub const fn encode(self) -> u64 {
        match self {
            Self::Tail => TAIL,
            Self::Hole => HOLE,
            Self::Free { order } => FREE | (order.get() as u64) << KIND_BITS,
            Self::Isolated { order } => ISOLATED | (order.get() as u64) << KIND_BITS,
            Self::Cached { order } => CACHED | (order.get() as u64) << KIND_BITS,
            Self::Used { order, owner } => {
                USED | (order.get() as u64) << KIND_BITS
                    | owner.encode() << (KIND_BITS + ORDER_BITS)
            }
            Self::MemmapHead { sections, pages } => {
                MEMMAP_HEAD | (sections as u64) << KIND_BITS | pages << (KIND_BITS + SECTIONS_BITS)
            }
            Self::MemmapTail { head } => MEMMAP_TAIL | head.get() << KIND_BITS,
        }
    }

    /// Decodes a state word; `None` for a word that [`PageState::encode`] never returns.
    #[inline]
    pub const fn decode(word: u64) -> Option<Self> {
        // Most of the words that are looked at are those of pages in use.
        if field(word, 0, KIND_BITS) == USED {
            Self::decode_used((word & !HELD_BIT) >> KIND_BITS)
        } else {
            Self::decode_unused(word)
        }
    }

    #[inline]
    const fn decode_used(rest: u64) -> Option<Self> {
        match (Order::new(rest as u8), Owner::decode(rest >> ORDER_BITS)) {
            (Some(order), Some(owner)) => Some(Self::Used { order, owner }),
            _ => None,
        }
    }

    #[inline]
    const fn decode_unused(word: u64) -> Option<Self> {
        let (kind, rest) = (field(word, 0, KIND_BITS), word >> KIND_BITS);
        let order = if rest >> ORDER_BITS == 0 { Order::new(rest as u8) } else { None };
        let state = match (kind, order) {
            (TAIL, _) if rest == 0 => Self::Tail,
            (HOLE, _) if rest == 0 => Self::Hole,
            (FREE, Some(order)) => Self::Free { order },
            (ISOLATED, Some(order)) => Self::Isolated { order },
            (CACHED, Some(order)) => Self::Cached { order },
            (MEMMAP_HEAD, _) => Self::MemmapHead {
                sections: field(rest, 0, SECTIONS_BITS) as u32,
                pages: (word & !BAD_BIT) >> KIND_BITS >> SECTIONS_BITS,
            },
            (MEMMAP_TAIL, _) => Self::MemmapTail { head: Pfn::new(rest) },
            _ => return None,
        };
        Some(state)
    }
}

impl Page {
    /// The state, or `None` for a word that was never encoded: an uninitialised descriptor.
    #[inline]
    pub fn state(&self) -> Option<PageState> {
        PageState::decode(self.word())
    }

    /// The state word.
    #[inline]
    pub(crate) fn word(&self) -> u64 {
        // Acquire: partner of the Release in `set_state`; a CPU that sees a state sees its payload.
        self.word.load(Ordering::Acquire)
    }

    /// Whether the state word is exactly that of `state`.
    #[inline]
    pub(crate) fn is(&self, state: PageState) -> bool {
        self.word.load(Ordering::Acquire) == state.encode()
    }

    /// Publishes a new state, after its payload.
    #[inline]
    pub(crate) fn set_state(&self, state: PageState) {
        self.word.store(state.encode(), Ordering::Release);
    }

    /// Releases a used extent of `owner` from its owner, unless it has another one by now or is held.
    ///
    /// Every free does this first, so that only one of two CPUs that free the same extent succeeds.
    #[inline]
    pub(crate) fn claim(&self, order: Order, owner: Owner) -> bool {
        let (used, free) = (PageState::Used { order, owner }, PageState::Cached { order });
        let (used, free) = (used.encode(), free.encode());
        // Acquire: the freeing CPU sees what the owner wrote; Release: as in `set_state`.
        self.word.compare_exchange(used, free, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// Whether it is the head of an extent of the kernel, with a name or without, that is not held. For its owner, which
    /// has seen the state before.
    #[inline]
    pub(crate) fn is_kernels(&self, order: Order) -> bool {
        // Relaxed: no payload is read because of it. It does not change; the second load keeps the compiler from
        // computing what only users with a name need before the first comparison.
        let word = || self.word.load(Ordering::Relaxed);
        let unnamed = PageState::Used { order, owner: Owner::Kernel }.encode();
        word() == unnamed || {
            let owner = (word() >> KIND_BITS >> ORDER_BITS).wrapping_sub(FIRST_USER);
            let low = (1 << (KIND_BITS + ORDER_BITS)) - 1;
            word() & low == unnamed & low && owner < MAX_USERS as u64
        }
    }

    /// Keeps a used extent of `owner` from being freed until the value is dropped, unless it has another owner by
    /// now. Called with its zone locked.
    pub(crate) fn hold(&self, order: Order, owner: Owner) -> Option<Held<'_>> {
        let used = PageState::Used { order, owner }.encode();
        let held = used | HELD_BIT;
        self.word.compare_exchange(used, held, Ordering::AcqRel, Ordering::Acquire).ok()?;
        Some(Held { word: &self.word, used })
    }

    /// Publishes a used extent of `owner` that is held from the start, until [`release`](Self::release): until then
    /// it is neither freed nor migrated.
    pub(crate) fn set_held(&self, order: Order, owner: Owner) {
        let used = PageState::Used { order, owner }.encode();
        self.word.store(used | HELD_BIT, Ordering::Release);
    }

    /// Ends the hold that [`set_held`](Self::set_held) began.
    pub(crate) fn release(&self, order: Order, owner: Owner) {
        self.set_state(PageState::Used { order, owner });
    }

    /// Whether it is the head of a used extent that is held.
    pub(crate) fn is_held(&self) -> bool {
        let word = self.word.load(Ordering::Acquire);
        field(word, 0, KIND_BITS) == USED && word & HELD_BIT != 0
    }

    /// Notes that a page of the memmap of which this is the head is bad.
    pub(crate) fn set_bad_memmap(&self) {
        self.word.fetch_or(BAD_BIT, Ordering::AcqRel);
    }

    /// Whether a page of the memmap of which this is the head is bad.
    pub(crate) fn has_bad_memmap(&self) -> bool {
        self.word() & BAD_BIT != 0
    }

    /// Clears all of it: the page has no state.
    pub(crate) fn clear(&self) {
        self.word.store(0, Ordering::Release);
        self.payload.iter().for_each(|word| word.store(0, Ordering::Relaxed));
    }

    /// The payload words, whose meaning depends on the state.
    pub(crate) fn payload(&self) -> &[AtomicU64; PAYLOAD_WORDS] {
        &self.payload
    }
}

/// A used extent that is not freed as long as this lives.
#[derive(Debug)]
#[must_use = "the extent is held only while this lives"]
pub(crate) struct Held<'m> {
    word: &'m AtomicU64,
    used: u64,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        // Release: all accesses to the extent end before another CPU frees it.
        self.word.store(self.used, Ordering::Release);
    }
}

#[cfg(all(test, not(loom)))]
impl PageState {
    /// All states, with the ends of their numbers.
    pub(super) fn all() -> impl Iterator<Item = Self> {
        let orders = (0..Order::COUNT as u8).filter_map(Order::new);
        let sized = orders.flat_map(|order| {
            let movers = (0..MAX_MOVERS).filter_map(MoverId::new).map(Owner::Movable);
            let users = (0..MAX_USERS).filter_map(UserId::new).map(Owner::Named);
            let owners = Owner::FIXED.into_iter().chain(movers).chain(users);
            let used = owners.map(move |owner| PageState::Used { order, owner });
            let free = [PageState::Free { order }, PageState::Isolated { order }];
            used.chain(free).chain([PageState::Cached { order }])
        });
        sized.chain([
            PageState::Tail,
            PageState::Hole,
            PageState::MemmapHead { sections: 64, pages: 32768 },
            PageState::MemmapHead { sections: (1 << SECTIONS_BITS) - 1, pages: (1 << 35) - 1 },
            PageState::MemmapTail { head: Pfn::new(0x10_0000) },
            PageState::MemmapTail { head: Pfn::new((1 << 52) - 1) },
        ])
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn every_state_survives_its_encoding() {
        for state in PageState::all() {
            assert_eq!(PageState::decode(state.encode()), Some(state));
        }
    }

    #[test]
    fn no_two_states_share_a_word() {
        let mut words: [u64; 4096] = [0; 4096];
        for (count, state) in PageState::all().enumerate() {
            assert!(!words[..count].contains(&state.encode()));
            words[count] = state.encode();
        }
    }

    #[test]
    fn an_extent_that_is_held_is_not_freed_and_one_that_is_freed_is_not_held() {
        let (order, owner) = (Order::ZERO, Owner::Kernel);
        let page = Page { word: AtomicU64::new(0), payload: [const { AtomicU64::new(0) }; 7] };
        page.set_state(PageState::Used { order, owner });
        assert!(page.is_kernels(order) && !page.is_kernels(Order::MAX));
        let held = page.hold(order, owner).unwrap();
        assert_eq!(page.state(), Some(PageState::Used { order, owner }));
        assert!(!page.is_kernels(order) && !page.claim(order, owner));
        assert!(page.hold(order, owner).is_none());
        drop(held);
        assert!(!page.claim(order, Owner::Table) && page.claim(order, owner));
        assert!(page.hold(order, owner).is_none() && !page.claim(order, owner));
        assert_eq!(page.state(), Some(PageState::Cached { order }));
        for user in (0..MAX_USERS).filter_map(UserId::new) {
            page.set_state(PageState::Used { order, owner: Owner::Named(user) });
            assert!(page.is_kernels(order));
        }
        for owner in [Owner::Boot, Owner::Table, Owner::Movable(MoverId(15))] {
            page.set_state(PageState::Used { order, owner });
            assert!(!page.is_kernels(order));
        }
    }

    #[test]
    fn zeroed_and_all_ones_memory_has_no_state() {
        assert_eq!(PageState::decode(0), None);
        assert_eq!(PageState::decode(u64::MAX), None);
    }

    #[test]
    fn a_word_means_a_state_only_if_that_state_encodes_to_it() {
        for word in PageState::all().map(PageState::encode) {
            for bit in 0..u64::BITS {
                let stray = word ^ 1 << bit;
                if let Some(state) = PageState::decode(stray) {
                    let marked =
                        matches!(state, PageState::Used { .. } | PageState::MemmapHead { .. });
                    let part = if marked { stray & !HELD_BIT } else { stray };
                    assert_eq!(state.encode(), part);
                }
            }
        }
        let free = PageState::Free { order: Order::ZERO }.encode();
        assert_eq!(PageState::decode(free | 1 << 63), None);
    }
}
