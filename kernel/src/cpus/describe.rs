//! Selects the CPUs to start from those that firmware describes.

use alloc::vec::Vec;
use core::fmt;
use hotmem::NodeId;
use spin::Once;

/// Descriptions examined at most: firmware may list any number.
const MAX_DESCRIPTIONS: usize = 4096;

/// A CPU, as firmware describes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Described {
    /// The firmware's id of the CPU.
    pub(crate) hardware: u64,
    /// Whether it may be used.
    pub(crate) enabled: bool,
    /// The node that it is on.
    pub(crate) node: NodeId,
}

/// The CPUs that firmware describes.
static ALL: Once<Vec<Described>> = Once::new();

/// Notes the CPUs that firmware describes. Only the first call counts.
pub(super) fn note(described: Vec<Described>) -> &'static [Described] {
    ALL.call_once(|| described)
}

/// The node of the CPU with this firmware id: 0 if firmware does not describe it.
pub(super) fn node_of(hardware: u64) -> NodeId {
    let found = ALL.get().and_then(|all| all.iter().find(|cpu| cpu.hardware == hardware));
    found.map_or(NodeId::ZERO, |cpu| cpu.node)
}

/// The reason why a CPU that firmware describes is not started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LeftOut {
    /// Firmware does not allow its use.
    Disabled(u64),
    /// An earlier entry describes it.
    Twice(u64),
    /// There are more CPUs than the kernel has room for: the first of them, and their count.
    Full(u64, usize),
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disabled(hardware) => write!(f, "CPU {hardware:#x} is disabled by firmware"),
            Self::Twice(hardware) => write!(f, "CPU {hardware:#x} is listed twice"),
            Self::Full(hardware, count) => {
                write!(f, "no room for {count} more CPUs, the first is {hardware:#x}")
            }
        }
    }
}

/// The CPUs to start, at most `room`, besides the one with the firmware id `own`, and the CPUs that are left out. No
/// description is trusted.
pub(crate) fn choose(
    described: impl Iterator<Item = Described>,
    own: u64,
    room: usize,
) -> (Vec<u64>, Vec<LeftOut>) {
    let (mut chosen, mut left_out) = (Vec::new(), Vec::new());
    let (mut own_seen, mut too_many) = (false, None);
    for Described { hardware, enabled, .. } in described.take(MAX_DESCRIPTIONS) {
        let first_own = hardware == own && !core::mem::replace(&mut own_seen, true);
        if !enabled {
            left_out.push(LeftOut::Disabled(hardware));
        } else if first_own {
            // It runs already.
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

    fn cpu(hardware: u64) -> Described {
        Described { hardware, enabled: true, node: NodeId::ZERO }
    }

    fn cpus(numbers: &[u64]) -> impl Iterator<Item = Described> {
        numbers.iter().map(|&hardware| cpu(hardware))
    }

    #[test]
    fn every_cpu_but_the_own_one_is_started_in_order() {
        assert_eq!(choose(cpus(&[2, 0, 1, 3]), 0, 15), ([2, 1, 3].into(), Vec::new()));
        assert_eq!(choose(cpus(&[]), 7, 15), (Vec::new(), Vec::new()));
    }

    #[test]
    fn a_cpu_that_is_listed_twice_or_disabled_is_named_and_left_out() {
        let (chosen, left_out) = choose(cpus(&[0, 1, 1, 0, 2, 1]), 0, 15);
        assert_eq!(chosen, [1, 2]);
        assert_eq!(left_out, [LeftOut::Twice(1), LeftOut::Twice(0), LeftOut::Twice(1)]);
        let off = [Described { enabled: false, ..cpu(5) }];
        let (chosen, left_out) = choose(cpus(&[0]).chain(off), 0, 15);
        assert_eq!((chosen, left_out), (Vec::new(), [LeftOut::Disabled(5)].into()));
    }

    #[test]
    fn cpus_without_room_are_counted_and_the_first_is_named() {
        let many: Vec<u64> = (0..100).collect();
        let (chosen, left_out) = choose(cpus(&many), 0, 15);
        assert_eq!((chosen.len(), chosen.last()), (15, Some(&15)));
        assert_eq!(left_out, [LeftOut::Full(16, 84)]);
    }

    #[test]
    fn an_endless_list_of_cpus_is_not_read_to_its_end() {
        let endless = (0..).map(cpu);
        let (chosen, left_out) = choose(endless, u64::MAX, 15);
        assert_eq!((chosen.len(), left_out.len()), (15, 1));
    }
}
