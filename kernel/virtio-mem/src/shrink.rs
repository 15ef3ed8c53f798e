//! Which piece goes next.
//!
//! Cells without pages in use go first, then those with the fewest for what they free. A cell that is larger than what is to
//! go is only taken if there is nothing else in its class: its piece leaves, and comes back without its end.

use core::cmp::Reverse;

use super::pieces::{Piece, Stage};
use super::plan::Grid;

/// The piece that goes, and how many bytes at its start stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Choice {
    pub(crate) id: u16,
    pub(crate) keep: u64,
}

/// A cell, as far as one device has memory there.
#[derive(Clone, Copy, Debug)]
struct Cell {
    bytes: u64,
    /// Bytes of it that are in use.
    used: u64,
}

/// How willingly a cell is given up: the less, the sooner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Class {
    /// All of it goes, and nothing of it is in use: the largest first.
    Empty(Reverse<u64>),
    /// A part of it goes, and nothing of it is in use: the smallest first.
    EmptyPart(u64),
    /// All of it goes: the fewest pages for what is freed, in 1/65536.
    Used(u64),
    /// A part of it goes: the fewest pages.
    UsedPart(u64),
}

/// The piece of `pieces`, those of one device, that goes next if `excess` bytes are to go. `used` returns how many bytes of a
/// cell are in use. `None` if no piece is in use, or all of them are stuck.
pub(crate) fn choose<'p>(
    grid: &Grid,
    pieces: impl Iterator<Item = &'p Piece> + Clone,
    excess: u64,
    mut used: impl FnMut(u64) -> u64,
) -> Option<Choice> {
    let mut pieces = pieces.filter(|piece| piece.stage == Stage::Held && !piece.stuck);
    let mut best: Option<(Class, Reverse<u64>)> = None;
    let mut rest = pieces.clone().peekable();
    while let Some(piece) = rest.next() {
        let number = grid.cell_of(piece.range.start());
        let mut bytes = piece.range.len();
        while let Some(more) = rest.next_if(|more| grid.cell_of(more.range.start()) == number) {
            bytes += more.range.len();
        }
        let cell = Cell { bytes, used: used(number) };
        let class = (cell.class(excess), Reverse(number));
        if best.is_none_or(|best| class < best) {
            best = Some(class);
        }
    }
    let (_, Reverse(number)) = best?;
    let here = pieces.by_ref().filter(|piece| grid.cell_of(piece.range.start()) == number);
    // The largest one that goes as a whole, else the smallest: the least of it comes back.
    let sooner = |piece: &&Piece| {
        let bytes = piece.range.len();
        let whole = bytes <= excess;
        (!whole, if whole { u64::MAX - bytes } else { bytes }, Reverse(piece.range.start()))
    };
    let piece = here.min_by_key(sooner)?;
    Some(Choice { id: piece.id, keep: piece.range.len().saturating_sub(excess) })
}

impl Cell {
    fn class(&self, excess: u64) -> Class {
        match (self.used, self.bytes <= excess) {
            (0, true) => Class::Empty(Reverse(self.bytes)),
            (0, false) => Class::EmptyPart(self.bytes),
            (used, true) => Class::Used(used.saturating_mul(1 << 16) / self.bytes.max(1)),
            (used, false) => Class::UsedPart(used),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hotmem::testing::range;
    use std::vec::Vec;

    const GRID: Grid = Grid { unit: 2, cell: 128, most: 128 };

    /// Pieces of one device, each with its number as id.
    fn pieces(ranges: &[(u64, u64)]) -> Vec<Piece> {
        let piece = |(id, &(start, len)): (u16, &(u64, u64))| {
            let range = range(start, len);
            Piece { id, device: 0, range, stage: Stage::Held, stuck: false, offline: false }
        };
        (0..).zip(ranges).map(piece).collect()
    }

    fn chosen(all: &[Piece], excess: u64, used: &[(u64, u64)]) -> Option<(u16, u64)> {
        let used = |cell| used.iter().find(|entry| entry.0 == cell).map_or(0, |entry| entry.1);
        choose(&GRID, all.iter(), excess, used).map(|Choice { id, keep }| (id, keep))
    }

    #[test]
    fn empty_cells_go_first_the_largest_that_fits_then_a_part_of_the_smallest() {
        let all = pieces(&[(0, 128), (128, 32), (256, 128)]);
        assert_eq!(chosen(&all, 200, &[]), Some((2, 0)));
        assert_eq!(chosen(&all, 100, &[]), Some((1, 0)));
        assert_eq!(chosen(&all, 30, &[]), Some((1, 2)));
        assert_eq!(chosen(&all, 30, &[(1, 2)]), Some((2, 98)));
        assert_eq!(chosen(&all, 200, &[(2, 1), (1, 1)]), Some((0, 0)));
        // A part of an empty one, before all of a used one.
        assert_eq!(chosen(&all, 100, &[(1, 10), (2, 5)]), Some((0, 28)));
    }

    #[test]
    fn of_used_cells_those_go_first_that_free_the_most_for_what_is_moved() {
        let all = pieces(&[(0, 128), (128, 32), (256, 128)]);
        assert_eq!(chosen(&all, 200, &[(0, 100), (1, 30), (2, 90)]), Some((2, 0)));
        assert_eq!(chosen(&all, 200, &[(0, 100), (1, 10), (2, 90)]), Some((1, 0)));
        assert_eq!(chosen(&all, 10, &[(0, 100), (1, 10), (2, 9)]), Some((2, 118)));
    }

    #[test]
    fn the_pieces_of_a_cell_go_the_largest_first_and_the_least_comes_back() {
        let all = pieces(&[(0, 16), (16, 32), (48, 8), (56, 32)]);
        assert_eq!(chosen(&all, 40, &[]), Some((3, 0)));
        assert_eq!(chosen(&all, 20, &[]), Some((0, 0)));
        assert_eq!(chosen(&all, 6, &[]), Some((2, 2)));
    }

    #[test]
    fn what_is_stuck_or_on_its_way_is_not_chosen() {
        let mut all = pieces(&[(0, 128), (128, 32), (256, 128)]);
        all[2].stuck = true;
        all[0].stage = Stage::Announced;
        assert_eq!(chosen(&all, 128, &[]), Some((1, 0)));
        all[1].stage = Stage::Leaving { keep: 0 };
        assert_eq!(chosen(&all, 128, &[]), None);
    }
}
