//! The pieces of memory that are plugged, of all devices, ascending by address.

use alloc::vec::Vec;

use hotmem::{PhysAddr, PhysRange};

/// Devices that there can be.
pub const MOST_DEVICES: usize = 8;
/// Pieces that there can be, of all devices.
pub const MOST_PIECES: usize = 4096;
/// Pieces of a device beyond one for each of its cells: parts of cells.
const SPARE: u64 = 256;

/// What is to be done with a piece, or has become of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// It is plugged, and not announced to the driver yet.
    New,
    /// The driver takes it into use.
    Announced,
    /// It is in use.
    Held,
    /// The driver gives it up, or a part of it: so many bytes of its start stay.
    Leaving { keep: u64 },
    /// The driver did not take it: it is to be unplugged.
    Unwanted,
    /// It is not plugged: the driver would not take memory there.
    Avoided,
    /// Nothing is known of it: the device did not respond.
    Lost,
}

/// A piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    /// Its number for the driver.
    pub(crate) id: u16,
    /// Its device.
    pub(crate) device: usize,
    pub(crate) range: PhysRange,
    pub(crate) stage: Stage,
    /// Whether it could not go, until that is tried again.
    pub(crate) stuck: bool,
    /// Whether it did not come online when it was added.
    pub(crate) offline: bool,
}

/// All pieces.
#[derive(Debug)]
pub(crate) struct Pieces {
    all: Vec<Piece>,
    /// The numbers that are not in use.
    free: Vec<u16>,
    room: usize,
}

impl Pieces {
    /// A table without room.
    pub(crate) const fn new() -> Self {
        Self { all: Vec::new(), free: Vec::new(), room: 0 }
    }

    /// Makes room for the pieces of a device with so many cells, up to [`MOST_PIECES`] for all.
    pub(crate) fn make_room(&mut self, cells: u64) {
        let more = cells.saturating_add(SPARE).min(MOST_PIECES as u64) as usize;
        let room = (self.room + more).min(MOST_PIECES);
        self.all.reserve_exact(room);
        self.free.reserve_exact(room);
        self.free.extend((self.room..room).rev().map(|id| id as u16));
        self.room = room;
    }

    /// Pieces that there can be.
    pub(crate) const fn room(&self) -> usize {
        self.room
    }

    pub(crate) fn all(&self) -> &[Piece] {
        &self.all
    }

    pub(crate) fn of(&self, device: usize) -> impl Iterator<Item = &Piece> + Clone {
        self.all.iter().filter(move |piece| piece.device == device)
    }

    pub(crate) fn of_mut(&mut self, device: usize) -> impl Iterator<Item = &mut Piece> {
        self.all.iter_mut().filter(move |piece| piece.device == device)
    }

    pub(crate) fn get(&self, id: u16) -> Option<&Piece> {
        self.all.iter().find(|piece| piece.id == id)
    }

    pub(crate) fn get_mut(&mut self, id: u16) -> Option<&mut Piece> {
        self.all.iter_mut().find(|piece| piece.id == id)
    }

    pub(crate) fn has_room(&self) -> bool {
        self.left() != 0
    }

    /// How many more pieces there can be.
    pub(crate) const fn left(&self) -> usize {
        self.free.len()
    }

    /// Whether a piece of `device` may be split: half of what the table has beyond a piece for each cell is for the gaps that
    /// parts of cells leave, which take a piece each when memory grows again.
    pub(crate) fn can_split(&self, device: usize, cell: u64) -> bool {
        let cells = || self.of(device).map(|piece| piece.range.start().get() / cell);
        let parts = cells().zip(cells().skip(1)).filter(|(before, this)| before == this).count();
        self.has_room() && (parts as u64) < SPARE / 2
    }

    /// Notes a piece that is plugged; returns its number, or `None` if the table is full.
    pub(crate) fn insert(&mut self, device: usize, range: PhysRange) -> Option<u16> {
        let id = self.free.pop()?;
        let at = self.all.partition_point(|piece| piece.range.start() < range.start());
        self.all.insert(
            at,
            Piece { id, device, range, stage: Stage::New, stuck: false, offline: false },
        );
        Some(id)
    }

    /// Notes that what a piece has from `at` on is another one, with all else as before; returns its number, or `None` if the
    /// table is full.
    pub(crate) fn split(&mut self, id: u16, at: PhysAddr) -> Option<u16> {
        let piece = *self.get(id)?;
        let start = piece.range.start();
        let lower = PhysRange::new(start, at.offset_from(start))?;
        let upper = PhysRange::new(at, piece.range.end().offset_from(at))?;
        let second = self.insert(piece.device, upper)?;
        *self.get_mut(second)? = Piece { id: second, range: upper, ..piece };
        self.get_mut(id)?.range = lower;
        Some(second)
    }

    /// Has a piece announced again, in parts of these sizes as far as there is room: the last is all of the rest.
    pub(crate) fn come_back(&mut self, id: u16, sizes: impl Iterator<Item = u64>) {
        let Some(&Piece { device, range, .. }) = self.get(id) else { return };
        let (mut start, mut number) = (range.start(), Some(id));
        for bytes in sizes {
            let rest = range.end().offset_from(start);
            // The last number is for all of the rest.
            let is_last = self.left() <= usize::from(number.is_none());
            let part = PhysRange::new(start, if is_last { rest } else { bytes });
            let Some(part) = part.filter(|part| !part.is_empty()) else { return };
            let of_part = number.take().or_else(|| self.insert(device, part));
            if let Some(piece) = of_part.and_then(|id| self.get_mut(id)) {
                (piece.range, piece.stage) = (part, Stage::New);
            }
            start = part.end();
        }
    }

    pub(crate) fn remove(&mut self, id: u16) {
        self.forget(|piece| piece.id == id);
    }

    /// Has all that could not go be tried again.
    pub(crate) fn free_all(&mut self) {
        self.all.iter_mut().for_each(|piece| piece.stuck = false);
    }

    /// Forgets where memory was not taken, so that it is tried there again.
    pub(crate) fn avoid_no_more(&mut self, device: usize) {
        self.forget(|piece| piece.device == device && piece.stage == Stage::Avoided);
    }

    fn forget(&mut self, is_it: impl Fn(&Piece) -> bool) {
        let Self { all, free, .. } = self;
        free.extend(all.iter().filter(|piece| is_it(piece)).map(|piece| piece.id));
        all.retain(|piece| !is_it(piece));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hotmem::testing::range;
    use std::vec::Vec;

    fn starts(pieces: &Pieces) -> Vec<u64> {
        pieces.all().iter().map(|piece| piece.range.start().get()).collect()
    }

    #[test]
    fn pieces_are_in_the_order_of_their_addresses_whatever_that_of_their_plugs() {
        let mut pieces = Pieces::new();
        pieces.make_room(4);
        for start in [80, 16, 48, 0, 64] {
            assert!(pieces.insert(usize::from(start == 48), range(start, 16)).is_some());
        }
        assert_eq!(starts(&pieces), [0, 16, 48, 64, 80]);
        let of = |device| pieces.of(device).map(|piece| piece.range.start().get());
        assert!(of(0).eq([0, 16, 64, 80]) && of(1).eq([48]));
    }

    #[test]
    fn numbers_are_used_again_and_no_more_pieces_are_noted_than_there_is_room_for() {
        let mut pieces = Pieces::new();
        assert!(!pieces.has_room());
        pieces.make_room(10);
        pieces.make_room(u64::MAX);
        assert_eq!(pieces.room(), MOST_PIECES);
        for _ in 0..2 {
            let ids = (0..MOST_PIECES as u64).map(|at| pieces.insert(0, range(at, 1)).unwrap());
            let mut ids: Vec<u16> = ids.collect();
            ids.sort_unstable();
            assert!(ids.iter().copied().eq(0..MOST_PIECES as u16));
            assert!(!pieces.has_room() && pieces.insert(0, range(0, 1)).is_none());
            ids.into_iter().for_each(|id| pieces.remove(id));
        }
    }

    #[test]
    fn a_cell_is_split_only_as_often_as_there_is_room_for_the_gaps() {
        let mut pieces = Pieces::new();
        pieces.make_room(2);
        let first = pieces.insert(0, range(0, 1 << 20)).unwrap();
        let second = pieces.insert(0, range(1 << 20, 1 << 20)).unwrap();
        let mut splits = 0;
        while pieces.can_split(0, 1 << 20) {
            splits += 1;
            let at = hotmem::PhysAddr::new((2 << 20) - splits * 4096);
            assert!(pieces.split(second, at).is_some());
        }
        assert_eq!((splits, pieces.left()), (SPARE / 2, SPARE as usize / 2));
        assert!(pieces.can_split(1, 1 << 20), "another device");
        let of = |id| pieces.get(id).unwrap().range;
        assert_eq!(
            (of(first), of(second)),
            (range(0, 1 << 20), range(1 << 20, (1 << 20) - (128 << 12)))
        );
    }

    #[test]
    fn what_one_device_avoids_is_forgotten_and_nothing_else() {
        let mut pieces = Pieces::new();
        pieces.make_room(4);
        for (device, start) in [(0, 0), (0, 16), (1, 32)] {
            let id = pieces.insert(device, range(start, 16)).unwrap();
            pieces.get_mut(id).unwrap().stage =
                if start == 0 { Stage::Held } else { Stage::Avoided };
        }
        pieces.avoid_no_more(0);
        assert_eq!(starts(&pieces), [0, 32]);
    }
}
