//! Which of the CPUs that firmware describes are started.

use alloc::vec::Vec;
use core::fmt;

/// Descriptions looked at: firmware may have any number.
const MOST_LOOKED_AT: usize = 4096;

/// A CPU, as firmware describes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Described {
    /// What firmware calls it.
    pub(crate) hardware: u64,
    /// Whether it may be used.
    pub(crate) enabled: bool,
}

/// Why a CPU that firmware describes is not started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LeftOut {
    /// Firmware says that it is not to be used.
    Disabled(u64),
    /// It was described before.
    Twice(u64),
    /// There are more than the kernel has room for, this is the first of so many.
    Full(u64, usize),
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disabled(hardware) => write!(f, "CPU {hardware:#x} is disabled by firmware"),
            Self::Twice(hardware) => write!(f, "CPU {hardware:#x} is described twice"),
            Self::Full(hardware, count) => {
                write!(f, "no room for {count} more CPUs, the first is {hardware:#x}")
            }
        }
    }
}

/// The CPUs to start, at most `room`, beside the one that firmware calls `own`, and those that are left out. Firmware may
/// say anything.
pub(crate) fn choose(
    described: impl Iterator<Item = Described>,
    own: u64,
    room: usize,
) -> (Vec<u64>, Vec<LeftOut>) {
    let (mut chosen, mut left_out) = (Vec::new(), Vec::new());
    let (mut own_seen, mut too_many) = (false, None);
    for Described { hardware, enabled } in described.take(MOST_LOOKED_AT) {
        let first_own = hardware == own && !core::mem::replace(&mut own_seen, true);
        if !enabled {
            left_out.push(LeftOut::Disabled(hardware));
        } else if first_own {
            // It runs.
        } else if hardware == own || chosen.contains(&hardware) {
            left_out.push(LeftOut::Twice(hardware));
        } else if chosen.len() == room {
            let (_, count) = too_many.get_or_insert((hardware, 0));
            *count += 1;
        } else {
            chosen.push(hardware);
        }
    }
    left_out.extend(too_many.map(|(first, count)| LeftOut::Full(first, count)));
    (chosen, left_out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cpus(numbers: &[u64]) -> impl Iterator<Item = Described> {
        numbers.iter().map(|&hardware| Described { hardware, enabled: true })
    }

    #[test]
    fn every_cpu_but_the_own_one_is_started_in_order() {
        assert_eq!(choose(cpus(&[2, 0, 1, 3]), 0, 15), ([2, 1, 3].into(), Vec::new()));
        assert_eq!(choose(cpus(&[]), 7, 15), (Vec::new(), Vec::new()));
    }

    #[test]
    fn what_is_described_twice_or_disabled_is_named_and_left_out() {
        let (chosen, left_out) = choose(cpus(&[0, 1, 1, 0, 2, 1]), 0, 15);
        assert_eq!(chosen, [1, 2]);
        assert_eq!(left_out, [LeftOut::Twice(1), LeftOut::Twice(0), LeftOut::Twice(1)]);
        let off = [Described { hardware: 5, enabled: false }];
        let (chosen, left_out) = choose(cpus(&[0]).chain(off), 0, 15);
        assert_eq!((chosen, left_out), (Vec::new(), [LeftOut::Disabled(5)].into()));
    }

    #[test]
    fn more_than_there_is_room_for_are_counted_and_the_first_is_named() {
        let many: Vec<u64> = (0..100).collect();
        let (chosen, left_out) = choose(cpus(&many), 0, 15);
        assert_eq!((chosen.len(), chosen.last()), (15, Some(&15)));
        assert_eq!(left_out, [LeftOut::Full(16, 84)]);
    }

    #[test]
    fn firmware_without_end_is_not_read_to_its_end() {
        let endless = (0..).map(|hardware| Described { hardware, enabled: true });
        let (chosen, left_out) = choose(endless, u64::MAX, 15);
        assert_eq!((chosen.len(), left_out.len()), (15, 1));
    }
}
