//! The pieces of memory that are plugged, of all devices, ascending by address.

use alloc::vec::Vec;

use hotmem::PhysRange;

/// Pieces that there can be: as many as the driver's table has room for.
pub const MOST_PIECES: usize = 512;

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
}

impl Pieces {
    /// An empty table, which takes all its memory now.
    pub(crate) fn new() -> Self {
        Self { all: Vec::with_capacity(MOST_PIECES) }
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
        self.all.len() < MOST_PIECES
    }

    /// Notes a piece that is plugged; returns its number, or `None` if there is no room.
    pub(crate) fn insert(&mut self, device: usize, range: PhysRange) -> Option<u16> {
        if !self.has_room() {
            return None;
        }
        let id = (0..MOST_PIECES as u16).find(|&id| self.get(id).is_none())?;
        let at = self.all.partition_point(|piece| piece.range.start() < range.start());
        self.all.insert(at, Piece { id, device, range, stage: Stage::New, stuck: false });
        Some(id)
    }

    pub(crate) fn remove(&mut self, id: u16) {
        self.all.retain(|piece| piece.id != id);
    }

    /// Forgets where memory was not taken, so that it is tried there again.
    pub(crate) fn avoid_no_more(&mut self, device: usize) {
        self.all.retain(|piece| piece.device != device || piece.stage != Stage::Avoided);
    }
}
