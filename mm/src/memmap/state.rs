//! The state of a page as its descriptor holds it, for frequent callers: it fits a register.

use crate::addr::Order;
use crate::memmap::page::{
    CACHED, FREE, HELD_BIT, ISOLATED, KIND_BITS, ORDER_BITS, Owner, Page, PageState, TAIL, USED,
    field,
};
use core::fmt;
use core::num::NonZeroU64;

/// The state of a page, encoded: each question decodes only what it needs.
///
/// ```
/// # use hotmem::{Machine, Mm, Owner, Pfn};
/// fn is_the_kernels<M: Machine>(mm: &Mm<M>, pfn: Pfn) -> bool {
///     mm.state(pfn).is_some_and(|state| state.owner() == Some(Owner::Kernel))
/// }
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct StateWord(NonZeroU64);

impl StateWord {
    /// The word of a descriptor; `None` for one that was never written.
    #[inline]
    pub(crate) const fn new(word: u64) -> Option<Self> {
        match NonZeroU64::new(word) {
            Some(word) => Some(Self(word)),
            None => None,
        }
    }

    /// That of the head of an extent, or of a hole; `None` for other descriptors.
    #[inline]
    pub(crate) fn of_head(page: &Page) -> Option<Self> {
        Self::new(page.word()).filter(|state| state.kind() != TAIL)
    }

    /// The size and the owner of the extent, if it is the head of one in use.
    #[inline]
    pub(crate) const fn used(self) -> Option<(Order, Owner)> {
        match (self.order(), self.owner()) {
            (Some(order), Some(owner)) => Some((order, owner)),
            _ => None,
        }
    }

    /// All of it; `None` if the descriptor is damaged: no state has this word.
    #[inline]
    pub const fn decode(self) -> Option<PageState> {
        PageState::decode(self.0.get())
    }

    /// Whether it is the head of an extent without a user.
    #[inline]
    pub const fn is_free(self) -> bool {
        matches!(self.kind(), FREE | ISOLATED | CACHED)
    }

    /// The size of its extent, if it is the head of one on a free list.
    #[inline]
    pub(crate) const fn free_order(self) -> Option<Order> {
        if self.kind() == FREE { Order::new((self.0.get() >> KIND_BITS) as u8) } else { None }
    }

    /// The owner, if it is the head of an extent in use. The bits above are not looked at: [`decode`](Self::decode) knows
    /// what they mean.
    #[inline]
    pub const fn owner(self) -> Option<Owner> {
        match self.kind() {
            USED => Owner::decode((self.0.get() >> (KIND_BITS + ORDER_BITS)) as u32 as u64),
            _ => None,
        }
    }

    /// The size of its extent, if it is the head of one.
    #[inline]
    pub const fn order(self) -> Option<Order> {
        match self.kind() {
            FREE | ISOLATED | CACHED | USED => Order::new((self.0.get() >> KIND_BITS) as u8),
            _ => None,
        }
    }

    /// The pages of its extent, if it is the head of one; 1 otherwise.
    #[inline]
    pub(crate) const fn extent_pages(self) -> u64 {
        match self.order() {
            Some(order) => order.pages(),
            None => 1,
        }
    }

    /// Whether it is the head of a used extent that is held.
    #[inline]
    pub(crate) const fn is_held(self) -> bool {
        self.kind() == USED && self.0.get() & HELD_BIT != 0
    }

    #[inline]
    const fn kind(self) -> u64 {
        field(self.0.get(), 0, KIND_BITS)
    }
}

impl From<PageState> for StateWord {
    /// Every state has a kind that is not 0, so that its word is not either.
    fn from(state: PageState) -> Self {
        Self(NonZeroU64::new(state.encode()).unwrap_or(NonZeroU64::MIN))
    }
}

impl fmt::Debug for StateWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.decode() {
            Some(state) => state.fmt(f),
            None => write!(f, "StateWord({:#x})", self.0),
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn each_part_of_a_word_is_that_of_the_state_that_it_decodes_to() {
        for state in PageState::all() {
            let word = StateWord::from(state);
            assert_eq!(word.decode(), Some(state));
            let (order, owner, free) = match state {
                PageState::Used { order, owner } => (Some(order), Some(owner), false),
                PageState::Free { order }
                | PageState::Isolated { order }
                | PageState::Cached { order } => (Some(order), None, true),
                _ => (None, None, false),
            };
            assert_eq!((word.order(), word.owner(), word.is_free()), (order, owner, free));
            assert_eq!(word.extent_pages(), state.extent_pages());
            assert_eq!(word.used(), order.zip(owner));
        }
    }

    #[test]
    fn an_extent_that_is_held_has_its_owner_and_a_damaged_word_has_no_state() {
        let used = PageState::Used { order: Order::ZERO, owner: Owner::Kernel };
        let held = StateWord::new(used.encode() | 1 << 63).unwrap();
        assert_eq!((held.owner(), held.decode()), (Some(Owner::Kernel), Some(used)));
        assert!(StateWord::new(0).is_none());
        let damaged = StateWord::new(u64::MAX).unwrap();
        assert_eq!((damaged.decode(), damaged.owner(), damaged.is_free()), (None, None, false));
    }
}
