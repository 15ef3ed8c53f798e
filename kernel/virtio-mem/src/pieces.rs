//! The pieces of memory that are plugged, of all devices, ascending by address.

use alloc::vec::Vec;

use hotmem::PhysRange;

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
        !self.free.is_empty()
    }

    /// Notes a piece that is plugged; returns its number, or `None` if the table is full.
    pub(crate) fn insert(&mut self, device: usize, range: PhysRange) -> Option<u16> {
        let id = self.free.pop()?;
        let at = self.all.partition_point(|piece| piece.range.start() < range.start());
        self.all.insert(at, Piece { id, device, range, stage: Stage::New, stuck: false });
        Some(id)
    }

    pub(crate) fn remove(&mut self, id: u16) {
        self.forget(|piece| piece.id == id);
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
