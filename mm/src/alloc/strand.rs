//! Stranded pages: a flush failed, so a CPU may still reach them by stale translations. Their content stays as it
//! is, and they are never allocated again; they are counted.

// UNSAFETY: vouches for boot memory, which such pages are in.
#![expect(unsafe_code)]

use crate::addr::{Order, Pfn, PfnRange};
use crate::alloc::Allocator;
use crate::alloc::isolate::Area;
use crate::alloc::lists::FreeLists;
use crate::machine::Machine;
use crate::memmap::page::{Owner, PageState};
use crate::memmap::seen::Seen;

/// Strands the extent of a memmap that begins at `pfn`.
pub(super) fn strand_memmap<M: Machine>(allocator: &Allocator<M>, pfn: Pfn) {
    let is_memmap = |owner| owner == Owner::Memmap;
    let pages = allocator.order_of(pfn, is_memmap).map_or(0, Order::pages);
    if strand(allocator, PfnRange::new(pfn, pages)).is_some() {
        allocator.frames.uncount_system(pages);
    }
}

/// Strands the page of a table, which may hold other tables in use. Returns its owner, unless it is out of use
/// already.
pub(super) fn strand_table<M: Machine>(allocator: &Allocator<M>, pfn: Pfn) -> Option<Owner> {
    strand(allocator, PfnRange::new(pfn, 1))
}

/// Strands pages of one extent that is in use.
fn strand<M: Machine>(allocator: &Allocator<M>, pfns: PfnRange) -> Option<Owner> {
    // SAFETY: tables, and memmaps in pages of the allocator, are in boot memory that is never removed, and whose
    // memmap is never moved.
    let memmap = unsafe { Seen::vouched(&allocator.memmap) };
    let area = Area::among(memmap, pfns).filter(|area| area.pfns == pfns)?;
    let _zone = allocator.nodes.lock(area.node, area.kind);
    let (head, PageState::Used { order, owner }) = memmap.extent_of(pfns.start)? else {
        return None;
    };
    if owner.is_out_of_use() {
        return None;
    }
    FreeLists::of(memmap).hand_over((head, order, owner), pfns, Owner::Stranded);
    allocator.frames.count_stranded(pfns.pages());
    Some(owner)
}
