//! What is kept of persistent memory.

use alloc::vec::Vec;

use hotmem_aml::NodeId;
use hotmem_hotplug::OutOfHeap;

use super::error::RegionError;
use super::limits::MOST_REGIONS;
use super::nfit::{Bounds, Nfit};
use super::regions::{Part, Region, Regions};

/// What is known of persistent memory. Without an NFIT, nothing.
#[derive(Debug, Default)]
pub(crate) struct Pmem {
    known: Option<Known>,
}

#[derive(Debug)]
struct Known {
    regions: Regions,
    /// The regions, by the numbers that the operator uses.
    list: Vec<Region>,
    /// The device that NVDIMMs are below.
    root: Option<NodeId>,
}

impl Pmem {
    /// How many regions there are.
    pub(crate) fn len(&self) -> usize {
        self.known.as_ref().map_or(0, |known| known.list.len())
    }

    /// What of the NFIT is not used.
    pub(crate) fn refused(&self) -> &[RegionError] {
        self.known.as_ref().map_or(&[], |known| known.regions.refused())
    }

    /// A region, by the number that the operator uses.
    pub(crate) fn get(&self, number: usize) -> Option<&Region> {
        self.known.as_ref()?.list.get(number)
    }

    /// One of the parts of NVDIMMs that a region is made of.
    pub(super) fn part(&self, index: u16, at: usize) -> Option<Part> {
        self.known.as_ref()?.regions.parts(index).nth(at)
    }

    /// The device that NVDIMMs are below.
    pub(super) fn root(&self) -> Option<NodeId> {
        self.known.as_ref()?.root
    }

    /// Reads a table, whose NVDIMMs are below `root`.
    pub(super) fn read(
        &mut self,
        table: Nfit<'_>,
        bounds: Bounds<'_>,
        root: Option<NodeId>,
    ) -> Result<(), OutOfHeap> {
        let mut regions = Regions::new()?;
        regions.read(table, bounds);
        let mut list = Vec::new();
        list.try_reserve_exact(MOST_REGIONS).map_err(|_| OutOfHeap)?;
        list.extend(regions.sound());
        // The order of the table may be any: QEMU's is.
        list.sort_unstable_by_key(|region| region.range.start());
        self.known = Some(Known { regions, list, root });
        Ok(())
    }
}
