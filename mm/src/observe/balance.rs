//! The extents that migrate, weighed against those that are free elsewhere.
//!
//! A migration target is always the smallest free extent that fits, so no large extent is split while a small one
//! suffices; then the extents to migrate fit, in any order, exactly if they fit largest first. Those that their owner
//! divides migrate last, and fit if as many pages are left.

use crate::addr::Order;

/// Extents by their order.
pub(super) type Counts = [u64; Order::COUNT];

/// The extents of memory that is to go.
#[derive(Debug, Default)]
pub(super) struct Balance {
    /// Those to migrate.
    needed: Counts,
    /// Those among them that are not divided.
    whole: Counts,
    /// Those that are free, and go with the memory, all or in part.
    inside: Counts,
    /// The parts of these that stay.
    left: Counts,
}

impl Balance {
    /// Counts an extent that migrates, in parts if it is `divided`.
    pub(super) fn add(&mut self, order: Order, divided: bool) {
        let index = order.get() as usize;
        self.needed[index] += 1;
        self.whole[index] += u64::from(!divided);
    }

    /// Counts an extent that is free.
    pub(super) fn add_free(&mut self, order: Order) {
        self.inside[order.get() as usize] += 1;
    }

    /// Counts an extent that stays of one that is [free](Self::add_free).
    pub(super) fn add_left(&mut self, order: Order) {
        self.left[order.get() as usize] += 1;
    }

    /// The extents that migrate, and their pages.
    ///
    /// # Errors
    ///
    /// The largest order with too few extents among `free`, those of all memory.
    pub(super) fn weigh(&self, free: &Counts) -> Result<(u64, u64), Order> {
        // Pages freed in the meantime may not have been counted in both.
        let elsewhere: Counts = core::array::from_fn(|index| {
            (free[index] + self.left[index]).saturating_sub(self.inside[index])
        });
        if let Some(order) = self.shortage(&elsewhere) {
            return Err(order);
        }
        let pages = pages_of(&self.needed);
        if pages > pages_of(&elsewhere) {
            return Err(Order::ZERO);
        }
        Ok((self.needed.iter().sum(), pages))
    }

    /// The largest order with too few free extents; the rest of a larger extent serves smaller ones.
    fn shortage(&self, free: &Counts) -> Option<Order> {
        let mut left: u64 = 0;
        (0..Order::COUNT as u8).rev().filter_map(Order::new).find(|order| {
            let index = order.get() as usize;
            left = left.saturating_mul(2).saturating_add(free[index]);
            let short = self.whole[index] > left;
            left = left.saturating_sub(self.whole[index]);
            short
        })
    }
}

/// The pages of extents that are counted by order.
fn pages_of(extents: &Counts) -> u64 {
    (0_u32..).zip(extents).map(|(order, count)| count << order).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(raw: u8) -> Order {
        Order::new(raw).unwrap()
    }

    /// `extents` of each order that migrate, and whether they are divided.
    fn balance(extents: &[(u8, u64, bool)]) -> Balance {
        let mut balance = Balance::default();
        for &(raw, count, divided) in extents {
            (0..count).for_each(|_| balance.add(order(raw), divided));
        }
        balance
    }

    fn free(extents: &[(usize, u64)]) -> Counts {
        let mut counts = Counts::default();
        extents.iter().for_each(|&(index, count)| counts[index] = count);
        counts
    }

    #[test]
    fn larger_free_extents_serve_smaller_needs_but_not_the_reverse() {
        assert_eq!(balance(&[(0, 8, false)]).weigh(&free(&[(3, 1)])), Ok((8, 8)));
        assert_eq!(balance(&[(0, 9, false)]).weigh(&free(&[(3, 1)])), Err(order(0)));
        assert_eq!(balance(&[(1, 1, false)]).weigh(&free(&[(0, 100)])), Err(order(1)));
    }

    #[test]
    fn the_largest_shortage_is_named() {
        let balance = balance(&[(0, 1, false), (7, 1, false)]);
        assert_eq!(balance.weigh(&free(&[])), Err(order(7)));
        assert_eq!(balance.weigh(&free(&[(8, 1)])), Ok((2, 129)));
    }

    #[test]
    fn extents_that_are_divided_fit_if_as_many_pages_are_left() {
        let mut divided = balance(&[(4, 2, true)]);
        assert_eq!(divided.weigh(&free(&[(0, 31)])), Err(order(0)));
        assert_eq!(divided.weigh(&free(&[(0, 32)])), Ok((2, 32)));
        divided.add(order(3), false);
        assert_eq!(divided.weigh(&free(&[(0, 32)])), Err(order(3)));
        assert_eq!(divided.weigh(&free(&[(0, 32), (3, 1)])), Ok((3, 40)));
    }

    #[test]
    fn what_is_free_in_the_memory_that_goes_is_no_room() {
        let mut balance = balance(&[(0, 2, false)]);
        balance.add_free(order(1));
        assert_eq!(balance.weigh(&free(&[(1, 1)])), Err(order(0)));
        assert_eq!(balance.weigh(&free(&[(1, 2)])), Ok((2, 2)));
    }
}
