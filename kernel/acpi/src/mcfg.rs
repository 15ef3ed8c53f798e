//! The MCFG: where the configuration space of PCI is in memory (PCI Firmware Specification 3.3, 4.1.2).

use hotmem::addr::{PhysAddr, PhysRange};
use hotmem::paging::ReadPhys;

use super::error::{Signature, TableError};
use super::root::Tables;
use super::table::{Table, le};

const MCFG: Signature = Signature(*b"MCFG");
/// Where the entries start, and the bytes of each.
const ENTRIES: usize = 44;
const ENTRY: usize = 16;
/// Bytes of the configuration space of a bus: 4 KiB for each of 256 functions.
const BUS_BYTES: u64 = 1 << 20;

/// A checked MCFG.
#[derive(Clone, Copy, Debug)]
pub struct Mcfg<'a>(Table<'a>);

impl<'a> Mcfg<'a> {
    /// Reads the MCFG; `None` if the machine has no MCFG.
    ///
    /// # Errors
    ///
    /// [`TableError`] if it is broken.
    pub fn find<P: ReadPhys>(tables: &Tables<'a, P>) -> Result<Option<Self>, TableError> {
        tables.find(MCFG, ENTRIES, |table| Ok(Self(table)))
    }

    /// Where the configuration space of all buses is, of every segment.
    pub fn ranges(&self) -> impl Iterator<Item = PhysRange> + use<'a> {
        let entries = self.0.bytes().get(ENTRIES..).unwrap_or_default().chunks_exact(ENTRY);
        entries.filter_map(|entry| {
            let (first, last) = (le(entry, 10, 1)?, le(entry, 11, 1)?);
            let start = PhysAddr::new(le(entry, 0, 8)?).checked_add(first * BUS_BYTES)?;
            PhysRange::new(start, (last + 1).checked_sub(first)? * BUS_BYTES)
        })
    }

    /// Where the configuration space of a bus is: 4 KiB for each function of each device, 1 MiB in all. `None` if the
    /// table does not describe that bus, or at no address.
    pub fn bus(&self, segment: u16, bus: u8) -> Option<PhysRange> {
        let entries = self.0.bytes().get(ENTRIES..).unwrap_or_default();
        entries.chunks_exact(ENTRY).find_map(|entry| {
            let field = |offset, size| le(entry, offset, size);
            let (first, last) = (field(10, 1)?, field(11, 1)?);
            let here = field(8, 2)? == u64::from(segment);
            if !here || !(first..=last).contains(&bus.into()) {
                return None;
            }
            // The address is that of bus 0, whether the entry begins there or not.
            let base = PhysAddr::new(field(0, 8)?);
            PhysRange::new(base.checked_add(u64::from(bus) * BUS_BYTES)?, BUS_BYTES)
        })
    }
}
