//! Regions: the ranges of persistent memory that are sound, and which parts of NVDIMMs they are made of.

use alloc::vec::Vec;

use hotmem::addr::{PhysAddr, PhysRange};
use hotmem_hotplug::OutOfHeap;

use super::error::RegionError;
use super::limits::{MOST_PARTS, MOST_REGIONS};
use super::nfit::{Bounds, MappedPart, Nfit, Range, Structure, overlap};

/// A range of persistent memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    /// The number that the table gives it.
    pub index: u16,
    /// Where it is. Never empty.
    pub range: PhysRange,
    /// Its proximity domain, if the table says it.
    pub domain: Option<u32>,
}

/// A part of an NVDIMM that is mapped into a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// The handle of the NVDIMM, which is the address of its device.
    pub handle: u32,
    /// Its first address in the NVDIMM.
    pub base: u64,
    /// Its bytes.
    pub length: u64,
}

impl Part {
    /// Whether it has some of these addresses of the NVDIMM. A range that passes the end goes up to the end.
    #[must_use]
    pub const fn overlaps(&self, base: u64, length: u64) -> bool {
        overlap((self.base, self.length), (base, length))
    }
}

/// What a table says: regions and their parts, and what of it is not used. All memory is taken when it is made.
#[derive(Debug)]
pub struct Regions {
    /// Every range: of any kind, sound or not.
    ranges: Vec<(Range, Option<RegionError>)>,
    parts: Vec<MappedPart>,
    refused: Vec<RegionError>,
    /// Something of the table was left out that may have been a range.
    is_cut: bool,
}

impl Regions {
    /// No regions, and room for as many as there can be.
    ///
    /// # Errors
    ///
    /// [`OutOfHeap`].
    pub fn new() -> Result<Self, OutOfHeap> {
        Ok(Self {
            ranges: with_room(MOST_REGIONS)?,
            parts: with_room(MOST_PARTS)?,
            refused: with_room(2 * MOST_REGIONS)?,
            is_cut: false,
        })
    }

    /// Reads a table. What was read before is forgotten.
    pub fn read(&mut self, table: Nfit<'_>, bounds: Bounds<'_>) {
        let Self { ranges, parts, refused, is_cut } = self;
        ranges.clear();
        parts.clear();
        refused.clear();
        *is_cut = false;
        for structure in table.structures() {
            match structure {
                Ok(Structure::Range(range)) if ranges.len() < MOST_REGIONS => {
                    ranges.push((range, None));
                }
                Ok(Structure::Range(_)) => {
                    *is_cut = true;
                    refuse(refused, RegionError::TooManyRegions);
                }
                Ok(Structure::Part(part)) if part.index == 0 => {}
                Ok(Structure::Part(part)) if parts.len() < MOST_PARTS => parts.push(part),
                Ok(Structure::Part(part)) => {
                    let error = RegionError::TooManyParts(part.index);
                    let whole = ranges.iter_mut().filter(|(range, _)| range.index == part.index);
                    whole.for_each(|(_, fault)| *fault = Some(error));
                    refuse(refused, error);
                }
                Err(error) => {
                    *is_cut = true;
                    refuse(refused, error);
                }
            }
        }
        self.check(bounds);
    }

    /// Finds what is wrong with each range. A fault costs all ranges that have it, and no other.
    fn check(&mut self, bounds: Bounds<'_>) {
        for at in 0..self.ranges.len() {
            let Some(&(range, fault)) = self.ranges.get(at) else { return };
            let fault = fault.or_else(|| self.fault(at, &range, bounds));
            if let (Some(error), true) = (fault, range.persistent) {
                refuse(&mut self.refused, error);
            }
            if let Some((_, slot)) = self.ranges.get_mut(at) {
                *slot = fault;
            }
        }
    }

    fn fault(&self, at: usize, range: &Range, bounds: Bounds<'_>) -> Option<RegionError> {
        let index = range.index;
        if index == 0 {
            return Some(RegionError::NoNumber);
        }
        let others = || self.ranges.iter().enumerate().filter(move |&(other, _)| other != at);
        if others().any(|(_, (other, _))| other.index == index) {
            return Some(RegionError::Repeated(index));
        }
        if range.length == 0 {
            return Some(RegionError::Empty(index));
        }
        let Some(memory) = memory_of(range) else {
            let (base, length) = (range.base, range.length);
            return Some(RegionError::Wraps { index, base, length });
        };
        if memory.end() > bounds.limit {
            return Some(RegionError::Beyond(index, memory));
        }
        if let Some(ram) = bounds.ram.iter().find_map(|&ram| ram.intersection(memory)) {
            return Some(RegionError::Ram(index, ram));
        }
        if let Some(other) = bounds.other.iter().find_map(|&other| other.intersection(memory)) {
            return Some(RegionError::Other(index, other));
        }
        let overlaps = |other: &Range| memory_of(other).is_some_and(|it| it.overlaps(memory));
        if let Some((_, (other, _))) = others().find(|(_, (other, _))| overlaps(other)) {
            return Some(RegionError::Overlap(index, other.index));
        }
        let failed = self.parts.iter().find(|part| part.index == index && part.failed);
        failed.map(|part| RegionError::NotMapped(index, part.handle)).or_else(|| self.shared(index))
    }

    /// Whether memory of an NVDIMM is in a range and in another range of persistent memory, or twice in this one.
    fn shared(&self, index: u16) -> Option<RegionError> {
        let persistent =
            |of: u16| self.ranges.iter().any(|(it, _)| it.persistent && it.index == of);
        let own = self.parts.iter().enumerate().filter(|(_, part)| part.index == index);
        own.into_iter().find_map(|(at, part)| {
            let others = self.parts.iter().enumerate().filter(|(other, _)| *other != at);
            let mut others = others.map(|(_, other)| other).filter(|other| part.shares(other));
            let other = others.find(|other| other.index == index || persistent(other.index))?;
            Some(RegionError::Shared(index, other.index, part.handle))
        })
    }

    /// The regions that can be used, in the order of the table.
    pub fn sound(&self) -> impl Iterator<Item = Region> + '_ {
        let sound = self.ranges.iter().filter(|(range, fault)| range.persistent && fault.is_none());
        sound.filter_map(|(range, _)| of(range))
    }

    /// The first sound region from an address on.
    pub(super) fn lowest_sound(&self, from: PhysAddr) -> Option<Region> {
        let behind = self.sound().filter(|region| region.range.start() >= from);
        behind.min_by_key(|region| region.range.start())
    }

    /// Where the table has persistent memory, sound or not.
    pub(super) fn persistent(&self) -> impl Iterator<Item = PhysRange> + '_ {
        self.ranges.iter().filter_map(|(range, _)| memory_of(range).filter(|_| range.persistent))
    }

    /// Whether the table may have more ranges than were read.
    pub(super) const fn is_cut(&self) -> bool {
        self.is_cut
    }

    /// Adds to what is not used.
    pub(super) fn refuse(&mut self, error: RegionError) {
        refuse(&mut self.refused, error);
    }

    /// The parts of NVDIMMs that a region is made of.
    pub fn parts(&self, index: u16) -> impl Iterator<Item = Part> + '_ {
        let parts = self.parts.iter().filter(move |part| part.index == index);
        parts.map(|&MappedPart { handle, base, length, .. }| Part { handle, base, length })
    }

    /// What of the table is not used. Beyond twice [`MOST_REGIONS`] faults are not kept.
    pub fn refused(&self) -> &[RegionError] {
        &self.refused
    }
}

fn of(range: &Range) -> Option<Region> {
    let Range { index, domain, .. } = *range;
    Some(Region { index, range: memory_of(range)?, domain })
}

fn memory_of(range: &Range) -> Option<PhysRange> {
    PhysRange::new(PhysAddr::new(range.base), range.length)
}

pub(super) fn with_room<T>(count: usize) -> Result<Vec<T>, OutOfHeap> {
    let mut list = Vec::new();
    list.try_reserve_exact(count).map_err(|_| OutOfHeap)?;
    Ok(list)
}

fn refuse(refused: &mut Vec<RegionError>, error: RegionError) {
    if refused.len() < refused.capacity() {
        refused.push(error);
    }
}
