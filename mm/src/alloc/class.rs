//! Which orders CPUs cache.

use crate::addr::Order;
use crate::geometry::Geometry;

/// Orders that are cached: each below the last, then that of a large page. Single pages of zeroes are a class of their own.
const SMALL: u8 = 4;
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
        match order.get() {
            small if small < SMALL => Some(Self(small)),
            large if large == const { G::LARGE_ORDER.get() } => Some(Self(SMALL)),
            _ => None,
        }
    }

    /// Its order.
    pub(crate) fn order<G: Geometry>(self) -> Order {
        match self.0 {
            SMALL => G::LARGE_ORDER,
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
