//! Which piece goes next.
//!
//! Pieces without pages in use go first, then those with the fewest for what they free: a piece leaves without the others
//! of its memory block. A piece that is larger than what is to go is only taken if there is nothing else in its class: it
//! leaves, and comes back without its end.

use core::cmp::Reverse;

use super::pieces::{Piece, Stage};

/// The piece that goes, and how many bytes at its start stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Choice {
    pub(crate) id: u16,
    pub(crate) keep: u64,
}

/// How willingly a piece is given up: the less, the sooner.
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

impl Class {
    /// That of a piece of so many bytes, of which so many are in use, if `excess` bytes are to go.
    fn of(bytes: u64, used: u64, excess: u64) -> Self {
        match (used, bytes <= excess) {
            (0, true) => Self::Empty(Reverse(bytes)),
            (0, false) => Self::EmptyPart(bytes),
            (used, true) => Self::Used(used.saturating_mul(1 << 16) / bytes.max(1)),
            (used, false) => Self::UsedPart(used),
        }
    }
}

/// The piece of `pieces`, those of one device, that goes next if `excess` bytes are to go. `used` returns how many bytes of a
/// piece are in use. `None` if no piece is in use, or all of them are stuck.
pub(crate) fn choose<'p>(
    pieces: impl Iterator<Item = &'p Piece>,
    excess: u64,
    used: impl Fn(&Piece) -> u64,
) -> Option<Choice> {
    let pieces = pieces.filter(|piece| piece.stage == Stage::Held && !piece.stuck);
    let class = |piece: &&Piece| {
        let bytes = piece.range.len();
        // Among equals the highest.
        (Class::of(bytes, used(piece), excess), Reverse(bytes), Reverse(piece.range.start()))
    };
    let piece = pieces.min_by_key(class)?;
    Some(Choice { id: piece.id, keep: piece.range.len().saturating_sub(excess) })
}

/// The sizes in which `keep` bytes of a piece come back, whole units: halves of a cell, quarters, and so on. So what goes
/// next is not much more than is to go.
pub(crate) fn parts_of(keep: u64, unit: u64) -> impl Iterator<Item = u64> {
    let mut left = keep;
    core::iter::from_fn(move || {
        let units = (left / unit).checked_ilog2()?;
        let part = unit << units;
        left -= part;
        Some(part)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use hotmem::testing::range;
    use std::vec::Vec;

    /// Pieces of one device, each with its number as id.
    fn pieces(ranges: &[(u64, u64)]) -> Vec<Piece> {
        let piece = |(id, &(start, len)): (u16, &(u64, u64))| {
            let range = range(start, len);
            Piece { id, device: 0, range, stage: Stage::Held, stuck: false, offline: false }
        };
        (0..).zip(ranges).map(piece).collect()
    }

    /// `used` has the bytes in use of some pieces, by their number.
    fn chosen(all: &[Piece], excess: u64, used: &[(u16, u64)]) -> Option<(u16, u64)> {
        let used = |piece: &Piece| {
            used.iter().find(|entry| entry.0 == piece.id).map_or(0, |entry| entry.1)
        };
        choose(all.iter(), excess, used).map(|Choice { id, keep }| (id, keep))
    }

    #[test]
    fn empty_pieces_go_first_the_largest_that_fits_then_a_part_of_the_smallest() {
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
    fn of_used_pieces_those_go_first_that_free_the_most_for_what_is_moved() {
        let all = pieces(&[(0, 128), (128, 32), (256, 128)]);
        assert_eq!(chosen(&all, 200, &[(0, 100), (1, 30), (2, 90)]), Some((2, 0)));
        assert_eq!(chosen(&all, 200, &[(0, 100), (1, 10), (2, 90)]), Some((1, 0)));
        assert_eq!(chosen(&all, 10, &[(0, 100), (1, 10), (2, 9)]), Some((2, 118)));
    }

    #[test]
    fn a_piece_goes_whatever_is_in_use_beside_it_in_its_block() {
        let all = pieces(&[(0, 16), (16, 32), (48, 8), (56, 32)]);
        assert_eq!(chosen(&all, 40, &[]), Some((3, 0)));
        assert_eq!(chosen(&all, 20, &[]), Some((0, 0)));
        assert_eq!(chosen(&all, 6, &[]), Some((2, 2)));
        assert_eq!(chosen(&all, 40, &[(0, 1), (1, 1), (3, 1)]), Some((2, 0)));
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

    #[test]
    fn what_stays_of_a_piece_comes_back_in_parts_that_halve() {
        let parts = |keep| parts_of(keep, 2).collect::<Vec<_>>();
        assert_eq!(parts(126), [64, 32, 16, 8, 4, 2]);
        assert_eq!(parts(2), [2]);
        assert_eq!(parts(96), [64, 32]);
        assert_eq!(parts(0), []);
        assert_eq!(parts_of(3 * 5, 3).collect::<Vec<_>>(), [12, 3]);
    }
}
