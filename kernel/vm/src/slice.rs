//! How slices of guests end.

/// How a slice ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slice {
    /// The guest does not run.
    Idle,
    /// It can go on.
    More,
    /// It waits for a move.
    Waits,
    /// It has nothing to do before the clock shows this value; it may run earlier.
    Sleeps(u64),
}

impl Slice {
    /// How the slices of two guests ended.
    pub(crate) fn with(self, other: Self) -> Self {
        match (self, other) {
            (Self::Idle, slice) | (slice, Self::Idle) => slice,
            (Self::Sleeps(one), Self::Sleeps(two)) => Self::Sleeps(one.min(two)),
            (Self::Sleeps(_), slice) | (slice, Self::Sleeps(_)) => slice,
            (Self::Waits, Self::Waits) => Self::Waits,
            (Self::More, _) | (_, Self::More) => Self::More,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Slice::{Idle, More, Sleeps, Waits};

    #[test]
    fn a_cpu_sleeps_until_the_first_of_its_guests_wakes_if_all_of_them_sleep() {
        for (one, two, both) in [
            (Idle, Idle, Idle),
            (Idle, Sleeps(5), Sleeps(5)),
            (Sleeps(5), Sleeps(3), Sleeps(3)),
            (Sleeps(5), Waits, Waits),
            (More, Sleeps(5), More),
            (Waits, More, More),
        ] {
            assert_eq!((one.with(two), two.with(one)), (both, both));
        }
    }
}
