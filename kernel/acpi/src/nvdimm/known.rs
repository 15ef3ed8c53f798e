//! What is kept of persistent memory: each region that was found, with the number that it got then.
//!
//! ```text
//!   a table is read --> region at known addresses: keeps its number, whatever is wrong beside it
//!                   --> sound region that is new: the next number, or if none is left, that of one that is gone
//!                   --> known region that it does not name: gone, its number stays
//! ```
//!
//! A region is known by its addresses. What else the table says of them may change, while they are in use, too: another
//! number, another node. The NVDIMM there may be another one, so its parts count as the last table has them.

use alloc::vec::Vec;

use hotmem::addr::{PhysAddr, PhysRange};
use hotmem_aml::NodeId;
use hotmem_hotplug::OutOfHeap;

use super::error::RegionError;
use super::limits::{MOST_PARTS, MOST_REGIONS};
use super::nfit::{Bounds, Nfit};
use super::regions::{Part, Region, Regions, with_room};
use crate::lists::push;

/// What is known of persistent memory. On a machine that cannot have any, nothing.
#[derive(Debug, Default)]
pub(crate) struct Pmem {
    known: Option<Known>,
}

#[derive(Debug)]
struct Known {
    /// What was read last.
    table: Regions,
    /// The regions, by the numbers that the operator uses.
    list: Vec<Entry>,
    /// Which parts of NVDIMMs the regions are made of, each with the number of its region.
    parts: Vec<(usize, Part)>,
    /// The device that NVDIMMs are below.
    root: Option<NodeId>,
    ram: Vec<PhysRange>,
    other: Vec<PhysRange>,
    limit: PhysAddr,
}

/// A region that was found.
#[derive(Clone, Copy, Debug)]
struct Entry {
    region: Region,
    /// The table that was read last names it.
    is_there: bool,
    used: Used,
    /// It came, and that was not taken note of.
    is_new: bool,
}

/// Whether a region is used as RAM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Used {
    /// What is in it is somebody's.
    Never,
    /// It was since it was found: what is in it is the kernel's.
    Before,
    Now,
}

impl Pmem {
    /// How many regions there are, or were.
    pub(crate) fn len(&self) -> usize {
        self.known.as_ref().map_or(0, |known| known.list.len())
    }

    /// What of the table is not used.
    pub(crate) fn refused(&self) -> &[RegionError] {
        self.known.as_ref().map_or(&[], |known| known.table.refused())
    }

    /// A region, by the number that the operator uses, whether it is still there or not.
    pub(crate) fn any(&self, number: usize) -> Option<&Region> {
        self.entry(number).map(|entry| &entry.region)
    }

    /// A region that is there.
    pub(crate) fn get(&self, number: usize) -> Option<&Region> {
        self.entry(number).filter(|entry| entry.is_there).map(|entry| &entry.region)
    }

    fn entry(&self, number: usize) -> Option<&Entry> {
        self.known.as_ref()?.list.get(number)
    }

    /// Notes whether a region is used as RAM.
    pub(crate) fn set_used(&mut self, number: usize, is_used: bool) {
        let entry = self.known.as_mut().and_then(|known| known.list.get_mut(number));
        if let Some(entry) = entry {
            entry.used = match entry.used {
                _ if is_used => Used::Now,
                Used::Now => Used::Before,
                // It is gone, and so is what was in it.
                used => used,
            };
        }
    }

    /// Whether what is in a region is the kernel's: it is used as RAM, or was since it was found.
    pub(super) fn is_ours(&self, number: usize) -> bool {
        self.entry(number).is_some_and(|entry| entry.used != Used::Never)
    }

    /// Whether a region that was used is gone, and that was not taken note of.
    pub(crate) fn has_lost(&self) -> bool {
        self.known.as_ref().is_some_and(|known| known.list.iter().any(Entry::is_lost))
    }

    /// Takes note of a region that was used and is gone; returns its number.
    pub(crate) fn take_lost(&mut self) -> Option<usize> {
        let list = &mut self.known.as_mut()?.list;
        let (number, entry) = list.iter_mut().enumerate().find(|(_, entry)| entry.is_lost())?;
        entry.used = Used::Never;
        Some(number)
    }

    /// Takes note of a region that is new; returns its number.
    pub(super) fn take_new(&mut self) -> Option<usize> {
        let list = &mut self.known.as_mut()?.list;
        list.iter_mut().position(|entry| core::mem::take(&mut entry.is_new))
    }

    /// Has regions in these ranges be refused from now on.
    pub(super) fn keep_out(
        &mut self,
        mut ranges: impl Iterator<Item = PhysRange>,
    ) -> Result<(), OutOfHeap> {
        let Some(known) = &mut self.known else { return Ok(()) };
        ranges.try_for_each(|range| push(&mut known.other, range))
    }

    /// Where the regions are.
    pub(crate) fn ranges(&self) -> impl Iterator<Item = PhysRange> + '_ {
        let entries = self.known.iter().flat_map(|known| &known.list);
        entries.filter(|entry| entry.is_there).map(|entry| entry.region.range)
    }

    /// One of the parts of NVDIMMs that a region is made of.
    pub(super) fn part(&self, number: usize, at: usize) -> Option<Part> {
        let mut parts = self.known.as_ref()?.parts.iter().filter(|(of, _)| *of == number);
        parts.nth(at).map(|(_, part)| *part)
    }

    /// The device that NVDIMMs are below.
    pub(super) fn root(&self) -> Option<NodeId> {
        self.known.as_ref()?.root
    }

    /// Makes room for all that there can be: NVDIMMs are below `root`.
    pub(super) fn make_room(
        &mut self,
        bounds: Bounds<'_>,
        root: Option<NodeId>,
    ) -> Result<(), OutOfHeap> {
        let mut ram = with_room(bounds.ram.len())?;
        ram.extend_from_slice(bounds.ram);
        let mut other = with_room(bounds.other.len())?;
        other.extend_from_slice(bounds.other);
        self.known = Some(Known {
            table: Regions::new()?,
            list: with_room(MOST_REGIONS)?,
            parts: with_room(MOST_PARTS)?,
            root,
            ram,
            other,
            limit: bounds.limit,
        });
        Ok(())
    }

    /// Reads a table.
    pub(super) fn read(&mut self, table: Nfit<'_>) {
        let Some(known) = &mut self.known else { return };
        known
            .table
            .read(table, Bounds { ram: &known.ram, other: &known.other, limit: known.limit });
        known.look_for_known();
        known.add_new();
    }
}

impl Entry {
    /// Forgets that what is in it is the kernel's.
    fn forget(&mut self) {
        if self.used == Used::Before {
            self.used = Used::Never;
        }
    }

    const fn is_lost(&self) -> bool {
        matches!(self.used, Used::Now) && !self.is_there
    }
}

impl Known {
    /// Looks whether the known regions are still there: of a table whose end is not known, that cannot be said. What is in use
    /// is there as long as its memory is, in a larger region, too.
    fn look_for_known(&mut self) {
        for (number, entry) in self.list.iter_mut().enumerate() {
            let Region { index, range, .. } = entry.region;
            let is_used = entry.used == Used::Now;
            let is_it = |it: PhysRange| it == range || is_used && it.covers(range);
            if !entry.is_there || self.table.is_cut() || self.table.persistent().any(is_it) {
                continue;
            }
            log::error!("acpi: range {index} of the NFIT, {range}, is gone");
            entry.is_there = false;
            entry.forget();
            self.parts.retain(|(of, _)| *of != number);
        }
    }

    /// Adds the sound regions that are not known, in the order of their addresses: that of the table may be any (QEMU's is).
    fn add_new(&mut self) {
        let mut from = PhysAddr::new(0);
        while let Some(region) = self.table.lowest_sound(from) {
            from = region.range.end();
            if let Err(error) = self.take(region) {
                self.table.refuse(error);
            }
        }
    }

    /// Takes a region as the table has it: a known one, or a new one.
    fn take(&mut self, region: Region) -> Result<(), RegionError> {
        let Region { index, range, .. } = region;
        let is_beside = |entry: &&Entry| entry.is_there && entry.region.range != range;
        let mut beside = self.list.iter().filter(is_beside);
        if let Some(other) = beside.find(|entry| entry.region.range.overlaps(range)) {
            return Err(RegionError::Overlap(index, other.region.index));
        }
        let known = self.list.iter().position(|entry| entry.region.range == range);
        let number = known.or_else(|| self.free_number()).ok_or(RegionError::TooManyRegions)?;
        self.take_parts(number, index)?;
        let new = Entry { region, is_there: true, used: Used::Never, is_new: true };
        match self.list.get_mut(number) {
            Some(entry) if known.is_some() => (entry.region, entry.is_there) = (region, true),
            Some(entry) => *entry = new,
            None => self.list.push(new),
        }
        Ok(())
    }

    /// A number for a region that is new: one that none had, as long as there is one, so that those that are gone get theirs
    /// back; then that of one that is gone.
    fn free_number(&self) -> Option<usize> {
        let is_free = |entry: &Entry| !entry.is_there && !entry.is_lost();
        match self.list.len() {
            count if count < self.list.capacity() => Some(count),
            _ => self.list.iter().position(is_free),
        }
    }

    /// Takes the parts of a region as the table has them. If the list is too full for them, the region keeps
    /// none of its parts there, and labels that were not read count as data.
    fn take_parts(&mut self, number: usize, index: u16) -> Result<(), RegionError> {
        let known = self.parts.iter().filter(|(of, _)| *of == number).map(|(_, part)| *part);
        if known.eq(self.table.parts(index)) {
            return Ok(());
        }
        // Another NVDIMM.
        if let Some(entry) = self.list.get_mut(number) {
            entry.forget();
        }
        self.parts.retain(|(of, _)| *of != number);
        if self.parts.len() + self.table.parts(index).count() > self.parts.capacity() {
            return Err(RegionError::TooManyParts(index));
        }
        self.parts.extend(self.table.parts(index).map(|part| (number, part)));
        Ok(())
    }
}
