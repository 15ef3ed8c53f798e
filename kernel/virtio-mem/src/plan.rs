//! Where the next piece is plugged.
//!
//! ```text
//!   cell   | whole, one piece | whole, one piece | part, part ........ | nothing yet |
//! ```
//!
//! A *cell* is a memory block, or a unit if that is larger. As long as a whole cell is wanted, one without any memory is
//! taken. The rest goes to a cell that has some memory already, where it just fits, so that few cells are in parts: each
//! part has a memmap of its own, so a cell in parts has no large free extent.

use hotmem::{PhysAddr, PhysRange};

/// The geometry of a device's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Grid {
    /// Bytes that pieces are multiples of.
    pub(crate) unit: u64,
    /// Bytes of a cell.
    pub(crate) cell: u64,
    /// The largest piece.
    pub(crate) most: u64,
}

impl Grid {
    /// That of a device with this unit, on a machine with blocks of `block` bytes, if no request is for more than `most`.
    pub(crate) fn new(unit: u64, block: u64, most: u64) -> Self {
        let cell = block.max(unit);
        Self { unit, cell, most: most.min(cell) }
    }
}

/// A place for a piece: the better, the less.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    /// In a cell with other memory, where it leaves so much room.
    Fits(u64),
    /// In a cell of its own, from its start: if a whole cell is wanted, it fits nowhere else.
    Fresh,
    /// It fills what is left of a cell; so much is to be plugged elsewhere.
    Fills(u64),
}

/// Where the next piece goes, if `need` bytes are to be plugged in `usable`, and how large it is. `taken` are the ranges
/// with memory, ascending. All of it is in whole units.
pub(crate) fn place(
    grid: &Grid,
    usable: PhysRange,
    taken: impl Iterator<Item = PhysRange>,
    need: u64,
) -> Option<PhysRange> {
    let want = need.min(grid.most);
    let (low, high) = (usable.start().get(), usable.end().get());
    let mut best: Option<(Place, u64)> = None;
    let mut consider = |start: u64, end: u64| {
        let Some(room) = end.checked_sub(start).filter(|&room| room != 0) else { return };
        let at_start = start == low || start.is_multiple_of(grid.cell);
        let at_end = end == high || end.is_multiple_of(grid.cell);
        let alone = at_start && at_end;
        let place = match (want <= room, alone) {
            (true, true) => Place::Fresh,
            (true, false) => Place::Fits(room - want),
            (false, _) => Place::Fills(want - room),
        };
        if best.is_none_or(|best| (place, start) < best) {
            best = Some((place, start));
        }
    };
    // The rest of the cell where a gap starts, a whole cell in it, and the part of the cell where it ends. Any other cell
    // of the gap is like the second, and higher.
    let mut gap = |start: u64, end: u64| {
        let first = (start / grid.cell + 1).saturating_mul(grid.cell).min(end);
        consider(start, first);
        consider(first, first.saturating_add(grid.cell).min(end));
        consider((end / grid.cell * grid.cell).max(first), end);
    };
    let mut from = low;
    for range in taken {
        let (start, end) = (range.start().get(), range.end().get());
        if end <= from {
            continue;
        }
        if start >= high {
            break;
        }
        gap(from, start.max(from));
        from = end;
    }
    gap(from, high);
    let (place, start) = best?;
    let bytes = match place {
        Place::Fills(less) => want - less,
        _ => want,
    };
    PhysRange::new(PhysAddr::new(start), bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use hotmem::testing::range;

    const GRID: Grid = Grid { unit: 2, cell: 128, most: 128 };

    fn placed(usable: (u64, u64), taken: &[(u64, u64)], need: u64) -> Option<(u64, u64)> {
        let taken = taken.iter().map(|&(start, len)| range(start, len));
        let placed = place(&GRID, range(usable.0, usable.1), taken, need)?;
        Some((placed.start().get(), placed.len()))
    }

    #[test]
    fn whole_cells_are_taken_as_long_as_one_is_wanted() {
        let usable = (1024, 1024);
        assert_eq!(placed(usable, &[], 500), Some((1024, 128)));
        assert_eq!(placed(usable, &[(1024, 128)], 372), Some((1152, 128)));
        // Not the rest of the first, which would fit a part.
        assert_eq!(placed(usable, &[(1024, 32)], 500), Some((1152, 128)));
        assert_eq!(placed(usable, &[(1024, 32), (1152, 128), (1408, 64)], 128), Some((1280, 128)));
    }

    #[test]
    fn the_rest_goes_where_it_just_fits_and_into_a_new_cell_if_it_fits_nowhere() {
        let usable = (1024, 1024);
        let taken = [(1024, 32), (1152, 100), (1280, 128)];
        assert_eq!(placed(usable, &taken, 28), Some((1252, 28)));
        assert_eq!(placed(usable, &taken, 2), Some((1252, 2)));
        assert_eq!(placed(usable, &taken, 30), Some((1056, 30)));
        assert_eq!(placed(usable, &taken, 98), Some((1408, 98)));
    }

    #[test]
    fn if_no_cell_is_without_memory_the_rest_of_one_is_filled() {
        let usable = (1024, 256);
        let taken = [(1024, 32), (1152, 100)];
        assert_eq!(placed(usable, &taken, 128), Some((1056, 96)));
        assert_eq!(placed(usable, &[(1024, 128), (1152, 100)], 128), Some((1252, 28)));
        assert_eq!(placed(usable, &[(1024, 128), (1152, 128)], 128), None);
    }

    #[test]
    fn only_usable_addresses_are_taken_whatever_else_is_there() {
        // A region that begins and ends inside of cells, among the memory of others.
        let usable = (1100, 60);
        assert_eq!(placed(usable, &[], 500), Some((1100, 52)));
        assert_eq!(placed(usable, &[(1000, 110), (1110, 42)], 500), Some((1152, 8)));
        assert_eq!(placed(usable, &[(900, 50), (1000, 110), (1110, 42)], 500), Some((1152, 8)));
        assert_eq!(placed(usable, &[(1000, 110), (1110, 50), (2000, 48)], 2), None);
        assert_eq!(placed((0, 0), &[], 2), None);
        let last = u64::MAX / 128 * 128;
        assert_eq!(placed((last - 256, 256), &[], 300), Some((last - 256, 128)));
    }

    #[test]
    fn a_unit_that_is_larger_than_a_block_is_a_cell_and_a_request_has_a_bound() {
        assert_eq!(Grid::new(512, 128, 1 << 20), Grid { unit: 512, cell: 512, most: 512 });
        assert_eq!(Grid::new(2, 128, 64), Grid { unit: 2, cell: 128, most: 64 });
    }
}
