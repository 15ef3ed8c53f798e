//! The sections, records and nodes that a range has, for the operations that add and remove it.

use crate::addr::PfnRange;
use crate::alloc::Allocator;
use crate::machine::Machine;
use crate::memmap::section::{NODE_SECTIONS, sections_touched};
use crate::paging::TableFrames;

/// Frees the node of `section` if it is empty.
pub(super) fn release_node<M: Machine>(allocator: &Allocator<M>, section: u64) {
    let Some(frame) = allocator.memmap.sections().take_empty_node(allocator.machine(), section)
    else {
        return;
    };
    // A look-up that found the node before it was removed reads absent sections there, but must not read the frame's
    // next contents.
    if allocator.memmap.drain_readers().is_ok() {
        allocator.table_frames().give_back(frame);
    } else {
        allocator.memmap.sections().put_back_node(section, frame);
    }
}

/// The first section of `pfns` in each record, in which it is or not; `pfns` is whole units of presence.
pub(super) fn records_of<M: Machine>(
    pfns: PfnRange,
) -> impl DoubleEndedIterator<Item = u64> + ExactSizeIterator {
    let sections = sections_touched::<M>(pfns);
    let first = sections.start() / M::RECORD_SECTIONS;
    let count = sections.end() / M::RECORD_SECTIONS - first + 1;
    let start = *sections.start();
    (0..count as usize).map(move |i| start.max((first + i as u64) * M::RECORD_SECTIONS))
}

/// The first section of each node that holds a section of `pfns`.
pub(super) fn nodes_of<M: Machine>(
    pfns: PfnRange,
) -> impl DoubleEndedIterator<Item = u64> + ExactSizeIterator {
    let sections = sections_touched::<M>(pfns);
    let first = sections.start() / NODE_SECTIONS;
    let count = sections.end() / NODE_SECTIONS - first + 1;
    (0..count as usize).map(move |i| (first + i as u64) * NODE_SECTIONS)
}
