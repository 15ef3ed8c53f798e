//! The cost of a frame allocator: the cases, the same on a host and on bare metal.
//!
//! A case is a number of rounds of pairs, each an allocation and its free. The caller counts a short and a long run:
//! they differ by the work alone.

use alloc::vec::Vec;
use hotmem::{Machine, Mm, Order, Pages};

/// An allocator of frames.
pub trait Frames {
    /// The result of an allocation.
    type Held;
    /// The order of a large page.
    const LARGE: Order;

    /// Allocates `1 << order` frames, aligned to their size.
    fn alloc(&self, order: Order) -> Option<Self::Held>;

    /// Frees an allocation.
    fn free(&self, held: Self::Held);
}

impl<'m, M: Machine> Frames for &'m Mm<M> {
    type Held = Pages<'m, M>;
    const LARGE: Order = M::LARGE_ORDER;

    #[inline(always)]
    fn alloc(&self, order: Order) -> Option<Self::Held> {
        Mm::alloc(self, order).ok()
    }

    #[inline(always)]
    fn free(&self, held: Self::Held) {
        drop(held);
    }
}

/// A case: the work that is repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Case {
    /// Its name.
    pub name: &'static str,
    /// Pairs in a round.
    pub pairs: usize,
    /// Whether it allocates large pages.
    large: bool,
    /// Whether the buddy of the frame that is allocated and freed is in use.
    neighbour: bool,
}

/// A multiple of the pages of a batch.
const BATCHES: usize = 64;

/// All cases.
pub const CASES: [Case; 5] = [
    Case { name: "hot", pairs: 1, large: false, neighbour: false },
    Case { name: "hot_beside_used", pairs: 1, large: false, neighbour: true },
    Case { name: "batch64", pairs: 64, large: false, neighbour: false },
    Case { name: "bulk", pairs: 1_000_000, large: false, neighbour: false },
    Case { name: "order9", pairs: 1, large: true, neighbour: false },
];

impl Case {
    /// The case with at most `pairs` pairs in a round, but at least one. If they are many, they are whole batches of a
    /// cache, as a million are: of a number that is not, each batch that is freed is parts of two that were allocated.
    #[must_use]
    pub fn with_at_most(self, pairs: usize) -> Self {
        let most = if pairs < BATCHES { pairs } else { pairs / BATCHES * BATCHES };
        Self { pairs: self.pairs.min(most).max(1), ..self }
    }

    /// Its name for these frames: that of large pages has their order.
    pub const fn name_for<F: Frames>(self) -> &'static str {
        match F::LARGE.get() {
            _ if !self.large => self.name,
            9 => self.name,
            7 => "order7",
            5 => "order5",
            _ => "large",
        }
    }

    /// Runs the case `rounds` times. Returns `None` if an allocation fails.
    ///
    /// The allocations of a round are kept in `held`, which should have room for its pairs: otherwise it grows
    /// during the run.
    pub fn run<F: Frames>(self, frames: &F, rounds: usize, held: &mut Vec<F::Held>) -> Option<()> {
        let done = match self.large {
            false => self.run_with::<false, F>(frames, rounds, held),
            true => self.run_with::<true, F>(frames, rounds, held),
        };
        // The allocations of a round that failed.
        held.drain(..).for_each(|held| frames.free(held));
        done
    }

    /// The same with an order known at compile time, as in a kernel that allocates a page.
    fn run_with<const LARGE: bool, F: Frames>(
        self,
        frames: &F,
        rounds: usize,
        held: &mut Vec<F::Held>,
    ) -> Option<()> {
        let order = const { if LARGE { F::LARGE } else { Order::ZERO } };
        let beside = if self.neighbour { Some(frames.alloc(order)?) } else { None };
        if self.pairs == 1 {
            for _ in 0..rounds {
                frames.free(frames.alloc(order)?);
            }
        } else {
            for _ in 0..rounds {
                for _ in 0..self.pairs {
                    held.push(frames.alloc(order)?);
                }
                held.drain(..).for_each(|held| frames.free(held));
            }
        }
        beside.into_iter().for_each(|beside| frames.free(beside));
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::{Cell, RefCell};

    /// Frames by number: each allocation takes the lowest free one, up to a limit.
    #[derive(Default)]
    struct Counted {
        used: RefCell<Vec<bool>>,
        most: Cell<usize>,
        pairs: Cell<usize>,
        limit: usize,
    }

    impl Frames for Counted {
        type Held = usize;
        const LARGE: Order = Order::fitting(512);

        fn alloc(&self, _: Order) -> Option<usize> {
            let mut used = self.used.borrow_mut();
            let free = used.iter().position(|used| !used).unwrap_or(used.len());
            if free == self.limit {
                return None;
            }
            let len = used.len().max(free + 1);
            used.resize(len, false);
            used[free] = true;
            self.most.set(self.most.get().max(used.iter().filter(|&&used| used).count()));
            Some(free)
        }

        fn free(&self, held: usize) {
            assert!(std::mem::take(&mut self.used.borrow_mut()[held]));
            self.pairs.set(self.pairs.get() + 1);
        }
    }

    #[test]
    fn a_case_frees_every_allocation_and_runs_the_requested_number_of_pairs() {
        for case in CASES.map(|case| case.with_at_most(100)) {
            let frames = Counted { limit: 1000, ..Counted::default() };
            case.run(&frames, 3, &mut Vec::new()).unwrap();
            assert!(!frames.used.borrow().contains(&true), "{case:?}");
            let beside = usize::from(case.neighbour);
            assert_eq!(frames.pairs.get(), 3 * case.pairs + beside, "{case:?}");
            assert_eq!(frames.most.get(), case.pairs + beside, "{case:?}");
        }
    }

    #[test]
    fn insufficient_memory_is_reported() {
        let frames = Counted { limit: 63, ..Counted::default() };
        assert_eq!(CASES[2].run(&frames, 1, &mut Vec::new()), None);
        assert_eq!(CASES[2].with_at_most(0).pairs, 1);
    }
}
