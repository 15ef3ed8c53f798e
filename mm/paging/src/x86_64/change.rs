//! Mapping, by the crate's functions; and unmapping, which detaches tables, too.

// UNSAFETY: calls `map_to`, and takes tables out of the tree that the mapper owns.
#![expect(unsafe_code)]

use super::access::TableAccess;
use super::frames::NewTables;
use super::slot::{ENTRIES, LAST, Slot, Stop, TABLE_BYTES, flags, index, parent_flags, span};
use crate::addr::{PhysAddr, VirtAddr, VirtRange};
use crate::{Gather, MapError, Mapping, TableFrame, TableFrames, Tlb, UnmapError};

use ::x86_64::structures::paging::mapper::MapToError;
use ::x86_64::structures::paging::{Mapper, Page, PageSize, PageTable, PhysFrame};
use ::x86_64::structures::paging::{Size1GiB, Size2MiB, Size4KiB};

/// Maps the first leaf of `mapping` and returns its bytes. If it fails, the tables are unchanged, or
/// [`prune`] takes out what is new.
pub(super) fn map_leaf<T: TableAccess, S: TableFrames>(
    tree: &mut T,
    mapping: &Mapping,
    frames: &S,
) -> Result<u64, MapError> {
    let at = mapping.virt;
    let stop = Stop::at(tree, at);
    let Slot::Empty = stop.slot else { return Err(MapError::AlreadyMapped { at }) };
    // A table that is there, though it is empty, has smaller leaves than would fit.
    let level = leaf_level(mapping).max(stop.level);
    let mut tables = NewTables::take(tree, frames, level - stop.level)?;
    let mapped = match level {
        1 => map_page::<Size1GiB, T, S>(tree, mapping, &mut tables),
        2 => map_page::<Size2MiB, T, S>(tree, mapping, &mut tables),
        _ => map_page::<Size4KiB, T, S>(tree, mapping, &mut tables),
    };
    mapped.map(|()| span(level))
}

/// The level of the largest leaf that fits at the start of `mapping`.
fn leaf_level(mapping: &Mapping) -> usize {
    let bits = mapping.virt.get() | mapping.phys.get();
    let room = mapping.len.min(mapping.max_leaf);
    let fits = |&level: &usize| span(level) <= room && bits & (span(level) - 1) == 0;
    (1..LAST).find(fits).unwrap_or(LAST)
}

/// Maps one page of a size.
fn map_page<Z: PageSize, T: Mapper<Z>, S: TableFrames>(
    tree: &mut T,
    mapping: &Mapping,
    tables: &mut NewTables<'_, S>,
) -> Result<(), MapError> {
    let Mapping { virt, phys, len, attr, .. } = *mapping;
    let beyond = MapError::BeyondFormat { virt, phys, len };
    let page = page(virt).ok_or(beyond)?;
    let frame = ::x86_64::PhysAddr::try_new(phys.get()).ok();
    let frame = frame.and_then(|at| PhysFrame::<Z>::from_start_address(at).ok()).ok_or(beyond)?;
    let (flags, above) = (flags(attr), parent_flags(attr));
    // SAFETY: the page has no translation yet, and by the contract of `LockedTables::new` nothing that the caller of
    // `map` must not alias lies at `phys`.
    match unsafe { tree.map_to_with_table_flags(page, frame, flags, above, tables) } {
        Ok(flush) => {
            // An entry that was empty is not cached; the caller publishes it.
            flush.ignore();
            Ok(())
        }
        Err(MapToError::FrameAllocationFailed) => {
            Err(MapError::OutOfFrames(crate::OutOfFrames { bytes: TABLE_BYTES }))
        }
        Err(_) => Err(MapError::AlreadyMapped { at: virt }),
    }
}

fn page<Z: PageSize>(at: VirtAddr) -> Option<Page<Z>> {
    let at = ::x86_64::VirtAddr::try_new(at.get()).ok()?;
    Page::from_start_address(at).ok()
}

/// Refuses a range that cuts a leaf, which only its first and its last can be.
pub(super) fn check_ends<T: TableAccess>(tree: &T, range: VirtRange) -> Result<(), UnmapError> {
    let last = range.start().add(range.len() - 1);
    for at in [range.start(), last] {
        let leaf = Stop::at(tree, at).leaf(at);
        if let Some(leaf) = leaf.filter(|leaf| !range.covers(leaf.range())) {
            return Err(UnmapError::CutsLeaf { at: leaf.virt, len: leaf.len });
        }
    }
    Ok(())
}

/// Clears every leaf of a range that cuts none, from its end to its start.
pub(super) fn clear<T: TableAccess, B: Tlb, S: TableFrames>(
    tree: &mut T,
    range: VirtRange,
    gather: &mut Gather<'_, B, S>,
) {
    let mut left = range.len();
    while left > 0 {
        let last = range.start().add(left - 1);
        let mut stop = Stop::at(tree, last);
        if let (Slot::Leaf(..), true) = (stop.slot, stop.level > 0) {
            // SAFETY: the walk found the table, and no other reference to it exists while `tree` is borrowed here.
            let table = unsafe { stop.tables[stop.level - 1].as_mut() };
            left -= clear_run(table, stop.level, last, left, gather);
            // The lowest address that was cleared: addresses are reported from the last one down.
            prune(tree, range.start().add(left), gather);
        } else {
            let skipped = last.offset_from(last.align_down(span(stop.level))) + 1;
            left = left.saturating_sub(skipped);
        }
    }
}

/// Clears the leaves from that of `last` downwards, as many as follow one another in `table`, of `level`, within
/// `left` bytes. Returns their bytes: at least one leaf's.
fn clear_run<B: Tlb, S: TableFrames>(
    table: &mut PageTable,
    level: usize,
    last: VirtAddr,
    left: u64,
    gather: &mut Gather<'_, B, S>,
) -> u64 {
    let most = (usize::from(index(last, level)) + 1).min((left / span(level)) as usize);
    let mut start = last.align_down(span(level)).add(span(level));
    let mut done = 0;
    for _ in 0..most {
        let at = start.add(span(level).wrapping_neg());
        let entry = &mut table[index(at, level)];
        let Slot::Leaf(..) = Slot::read(entry, level) else { break };
        entry.set_unused();
        start = at;
        done += span(level);
    }
    if let Some(cleared) = VirtRange::new(start, done) {
        gather.cleared(cleared);
    }
    done
}

/// Detaches the tables that lead to `at`, from the last one upwards, as far as they are empty and do not stay.
pub(super) fn prune<T: TableAccess, B: Tlb, S: TableFrames>(
    tree: &mut T,
    at: VirtAddr,
    gather: &mut Gather<'_, B, S>,
) {
    if gather.keeps_tables() {
        return;
    }
    let mut stop = Stop::at(tree, at);
    let Some(near) = VirtRange::new(at.align_down(TABLE_BYTES), TABLE_BYTES) else { return };
    for level in (1..=stop.level).rev() {
        let Some(frame) = stop.frames[level - 1] else { return };
        let physical = PhysAddr::new(frame.start_address().as_u64());
        // SAFETY: the walk found the table, and no other reference to it exists while `tree` is borrowed here.
        let table: &PageTable = unsafe { stop.tables[level - 1].as_ref() };
        if !is_empty(table) || gather.keeps(physical) {
            return;
        }
        let parents = match level {
            1 => tree.root_mut(),
            // SAFETY: the table above is in the tree, too; `table` is not used any more.
            _ => unsafe { stop.tables[level - 2].as_mut() },
        };
        parents[index(at, level - 1)].set_unused();
        // SAFETY: a table of this tree was a table frame, or was there before, by the contract of
        // `LockedTables::new`. Its entry is cleared, so only walks under way reach it; those end with the flush,
        // before which the gather frees no frame.
        let frame = unsafe { TableFrame::new(physical, TABLE_BYTES) };
        if tree.recursive_index().is_some() {
            // The address by which the table itself was reached translates to it no more.
            let own = VirtAddr::new(stop.tables[level - 1].as_ptr().addr() as u64);
            gather.cleared(VirtRange::new(own, TABLE_BYTES).unwrap_or_default());
        }
        gather.detached(frame, near);
    }
}

fn is_empty(table: &PageTable) -> bool {
    (0..ENTRIES).all(|index| table[index].is_unused())
}
