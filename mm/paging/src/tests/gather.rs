//! Which ranges are flushed, of those whose entries were cleared.

use super::std::vec::Vec;
use super::{Gather, Machine, PAGE, RecordingTlb, VIRT, VirtRange, Virtual, range};

/// What one flush drops after these were cleared: first pages and numbers of pages.
fn flushed(cleared: &[(u64, u64)]) -> Vec<(u64, u64)> {
    let (machine, tlb) = (Machine::new(), RecordingTlb::<Virtual>::default());
    let mut gather = Gather::new(&tlb, &machine.frames);
    for &(first, pages) in cleared {
        gather.cleared(range(VIRT + first * PAGE, pages * PAGE));
    }
    gather.flush().unwrap();
    let pages = |range: &VirtRange| ((range.start().get() - VIRT) / PAGE, range.len() / PAGE);
    tlb.take().flushed.iter().map(pages).collect()
}

#[test]
fn ranges_that_meet_are_flushed_as_one_and_others_apart() {
    assert_eq!(flushed(&[(0, 1), (1, 1)]), [(0, 2)]);
    assert_eq!(flushed(&[(1, 1), (0, 1)]), [(0, 2)]);
    assert_eq!(flushed(&[(0, 4), (2, 4)]), [(0, 6)]);
    assert_eq!(flushed(&[(1, 1), (0, 4)]), [(0, 4)]);
    assert_eq!(flushed(&[(0, 1), (2, 1)]), [(0, 1), (2, 1)]);
    assert_eq!(flushed(&[(2, 1), (0, 1)]), [(2, 1), (0, 1)]);
}

#[test]
fn of_more_ranges_than_a_gather_keeps_the_last_spans_the_rest() {
    let cleared = [(0, 1), (2, 1), (4, 1), (6, 1), (9, 1), (20, 1)];
    assert_eq!(flushed(&cleared), [(0, 1), (2, 1), (4, 1), (6, 15)]);
}
