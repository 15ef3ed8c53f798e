//! The page cache's records of the pages of its objects.

use super::Shared;
use super::array::{Array, Full};
use hotmem::{Extent, Pfn};

/// The number of objects.
pub const OBJECTS: u64 = 64;
/// Words of a record.
const RECORD: u64 = 3;
/// The position of the object's number in the manager's word.
const OBJECT_SHIFT: u32 = 32;

const HELD: u64 = 1 << 0;
const DIRTY: u64 = 1 << 1;
const ISOLATED: u64 = 1 << 2;
const PFN_SHIFT: u32 = 12;

/// The record of a page of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) stored: Option<Pfn>,
    pub(super) cached: Option<Cached>,
    pub(super) sum: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cached {
    pub(super) pfn: Pfn,
    pub(super) dirty: bool,
    pub(super) isolated: bool,
}

impl Cached {
    pub(super) const fn encode(self) -> u64 {
        HELD | (if self.dirty { DIRTY } else { 0 })
            | (if self.isolated { ISOLATED } else { 0 })
            | self.pfn.get() << PFN_SHIFT
    }
}

/// A page of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) object: usize,
    pub(super) index: u64,
}

impl Key {
    pub(super) const fn encode(self) -> u64 {
        (self.object as u64) << OBJECT_SHIFT | self.index
    }

    pub(super) const fn decode(word: u64) -> Self {
        Self { object: (word >> OBJECT_SHIFT) as usize, index: word & ((1 << OBJECT_SHIFT) - 1) }
    }
}

/// The data that the lock protects.
#[derive(Debug)]
pub(super) struct Table<M: Shared> {
    pub(super) objects: [Array<M>; OBJECTS as usize],
    pub(super) moved: u64,
}

impl<M: Shared> Table<M> {
    /// Creates a record for a page, if there is none.
    pub(super) fn reach(&mut self, key: Key) -> Result<(), Full> {
        let object = self.objects.get_mut(key.object);
        object.map_or(Ok(()), |object| object.grow((key.index + 1) * RECORD))
    }

    /// Whether there is a record for a page.
    pub(super) fn has(&self, key: Key) -> bool {
        self.objects.get(key.object).is_some_and(|object| key.index * RECORD < object.len())
    }

    /// Every page that has a record.
    pub(super) fn keys(&self) -> impl Iterator<Item = Key> + use<M> {
        let pages: [u64; OBJECTS as usize] =
            core::array::from_fn(|at| self.objects.get(at).map_or(0, |one| one.len() / RECORD));
        let objects = pages.into_iter().enumerate();
        objects.flat_map(|(object, pages)| (0..pages).map(move |index| Key { object, index }))
    }

    fn word(&self, key: Key, place: u64) -> u64 {
        self.objects.get(key.object).map_or(0, |object| object.get(key.index * RECORD + place))
    }

    fn set_word(&mut self, key: Key, place: u64, value: u64) {
        if let Some(object) = self.objects.get(key.object) {
            object.set(key.index * RECORD + place, value);
        }
    }

    pub(super) fn record(&self, key: Key) -> Record {
        let (stored, cached) = (self.word(key, 0), self.word(key, 1));
        Record {
            stored: (stored & HELD != 0).then(|| Pfn::new(stored >> PFN_SHIFT)),
            cached: (cached & HELD != 0).then(|| Cached {
                pfn: Pfn::new(cached >> PFN_SHIFT),
                dirty: cached & DIRTY != 0,
                isolated: cached & ISOLATED != 0,
            }),
            sum: self.word(key, 2),
        }
    }

    pub(super) fn set_stored(&mut self, key: Key, pfn: Option<Pfn>) {
        self.set_word(key, 0, pfn.map_or(0, |pfn| HELD | pfn.get() << PFN_SHIFT));
    }

    pub(super) fn set_cached(&mut self, key: Key, cached: Option<Cached>) {
        self.set_word(key, 1, cached.map_or(0, Cached::encode));
    }

    pub(super) fn set_sum(&mut self, key: Key, sum: u64) {
        self.set_word(key, 2, sum);
    }

    /// The cached page that the manager asks for, if the cache has it.
    pub(super) fn cached(&self, extent: &Extent) -> Option<(Key, Cached)> {
        let key = Key::decode(extent.private);
        let cached = self.record(key).cached.filter(|cached| cached.pfn == extent.pfn)?;
        Some((key, cached))
    }
}
