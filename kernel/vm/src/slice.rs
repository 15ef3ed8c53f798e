//! How slices of guests end.

/// How a slice ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slice {
    /// The guest does not run.
    Idle,
    /// The guest runs, but this virtual CPU is off, or has ended.
    Off,
    /// It can go on.
    More,
    /// It waits for a move.
    Waits,
    /// It has nothing to do before the clock shows this value; it may run earlier.
    Sleeps(u64),
}

impl Slice {
    /// How the slices of two virtual CPUs ended.
    pub(crate) fn with(self, other: Self) -> Self {
        match (self, other) {
            (Self::Idle | Self::Off, slice) | (slice, Self::Idle | Self::Off) => slice,
            (Self::Sleeps(one), Self::Sleeps(two)) => Self::Sleeps(one.min(two)),
            (Self::Sleeps(_), slice) | (slice, Self::Sleeps(_)) => slice,
            (Self::Waits, Self::Waits) => Self::Waits,
            (Self::More, _) | (_, Self::More) => Self::More,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Slice::{Idle, More, Off, Sleeps, Waits};

    #[test]
    fn a_cpu_sleeps_until_the_first_of_its_guests_wakes_if_all_of_them_sleep() {
        for (one, two, both) in [
            (Idle, Idle, Idle),
            (Off, Sleeps(5), Sleeps(5)),
            (Off, More, More),
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
