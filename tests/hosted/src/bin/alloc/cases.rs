//! The cases: rounds of pairs, each an allocation and a free.

use crate::frames::Frames;
use hotmem::Order;

/// What is done again and again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Case {
    /// Its name.
    pub(crate) name: &'static str,
    /// Pairs of a round.
    pub(crate) pairs: usize,
    /// Whether it is of large pages.
    large: bool,
    /// Whether the frame beside the one that comes and goes is in use.
    neighbour: bool,
}

/// Cases of every allocator.
pub(crate) const CASES: [Case; 5] = [
    Case { name: "hot", pairs: 1, large: false, neighbour: false },
    Case { name: "hot_beside_used", pairs: 1, large: false, neighbour: true },
    Case { name: "batch64", pairs: 64, large: false, neighbour: false },
    Case { name: "bulk", pairs: 1_000_000, large: false, neighbour: false },
    Case { name: "order9", pairs: 1, large: true, neighbour: false },
];

impl Case {
    /// Does the case `rounds` times. Returns nothing if an allocation fails.
    pub(crate) fn run<F: Frames>(self, frames: &F, rounds: usize) -> Option<()> {
        match self.large {
            false => self.run_with::<0, F>(frames, rounds),
            true => self.run_with::<9, F>(frames, rounds),
        }
    }

    /// The same with an order that the compiler knows, as it does where a kernel takes a page.
    fn run_with<const ORDER: u8, F: Frames>(self, frames: &F, rounds: usize) -> Option<()> {
        let order = Order::new(ORDER)?;
        let beside = if self.neighbour { Some(frames.alloc(order)?) } else { None };
        if self.pairs == 1 {
            for _ in 0..rounds {
                frames.free(frames.alloc(order)?);
            }
        } else {
            let mut held = Vec::with_capacity(self.pairs);
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
