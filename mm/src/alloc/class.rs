//! Which orders CPUs cache.

use crate::addr::Order;
use crate::geometry::Geometry;

/// Orders that are cached: each below the last, then that of a large page. Single pages of zeroes are a class of their own.
const SMALL: u8 = 4;
const LARGE: Order = match Order::new(9) {
    Some(order) => order,
    None => Order::MAX,
};
/// Extents larger than this are not kept from others.
const LARGEST_BYTES: u64 = 4 << 20;
pub(super) const CLASSES: usize = SMALL as usize + 2;

/// Extents of a batch, by class.
const BATCHES: [u64; CLASSES] = [32, 16, 8, 4, 1, 32];
/// The largest batch.
pub(crate) const MAX_BATCH: usize = 32;

/// An order that is cached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Class(pub(super) u8);

impl Class {
    /// Single pages whose bytes are all zero.
    pub(crate) const ZEROED: Self = Self(SMALL + 1);

    /// The class of `order`, if it is cached.
    #[inline]
    pub(crate) fn of<G: Geometry>(order: Order) -> Option<Self> {
        let large = const { G::PAGE_BYTES << LARGE.get() <= LARGEST_BYTES };
        match order.get() {
            small if small < SMALL => Some(Self(small)),
            _ if large && order == LARGE => Some(Self(SMALL)),
            _ => None,
        }
    }

    /// Its order.
    pub(crate) fn order(self) -> Order {
        match self.0 {
            SMALL => LARGE,
            small => Order::new(small).filter(|_| small < SMALL).unwrap_or(Order::ZERO),
        }
    }

    /// Extents of a batch.
    #[inline]
    pub(crate) const fn batch(self) -> u64 {
        BATCHES[self.0 as usize % CLASSES]
    }

    pub(super) fn all() -> impl Iterator<Item = Self> {
        (0..CLASSES as u8).map(Self)
    }
}
