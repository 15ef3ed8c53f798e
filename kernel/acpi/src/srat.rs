//! The SRAT: the node of each range of memory and of each CPU, and where memory may be plugged (ACPI 6.5, 5.2.16).
//!
//! A hot-pluggable entry says where memory *may* appear, not where it is; QEMU writes one entry for
//! the whole window, with the last node's number. The node of a plugged device is its `_PXM`.

use hotmem::NodeId;
use hotmem::addr::{PhysAddr, PhysRange};

use super::error::{Signature, TableError};
use super::madt::Processor;
use super::root::Tables;
use super::table::{Record, Table};
use hotmem::paging::ReadPhys;
use hotmem_hotplug::{Ranges, TooManyRanges};

const SRAT: Signature = Signature(*b"SRAT");
/// Where the records start.
const RECORDS: usize = 48;
/// Kinds of records.
const LOCAL_APIC: u8 = 0;
const MEMORY: u8 = 1;
const LOCAL_X2APIC: u8 = 2;
const GIC_CPU: u8 = 3;

const ENABLED: u64 = 1 << 0;
const HOT_PLUGGABLE: u64 = 1 << 1;

/// A checked SRAT.
#[derive(Clone, Copy, Debug)]
pub struct Srat<'a>(Table<'a>);

/// A range of memory and its node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Affinity {
    /// The memory. Never empty.
    pub range: PhysRange,
    /// Its proximity domain.
    pub domain: u32,
    /// Whether memory may be plugged into the range while the machine runs.
    pub hot_pluggable: bool,
}

impl<'a> Srat<'a> {
    /// Reads the SRAT; `None` if the machine has no SRAT.
    ///
    /// # Errors
    ///
    /// [`TableError`] if it is broken. An enabled range that passes the end of the address space is
    /// left out.
    pub fn find<P: ReadPhys>(tables: &Tables<'a, P>) -> Result<Option<Self>, TableError> {
        tables.find(SRAT, RECORDS, Self::check)
    }

    fn check(table: Table<'a>) -> Result<Self, TableError> {
        let table = table.with_whole_records(RECORDS, |kind| match kind {
            LOCAL_APIC => 16,
            MEMORY => 40,
            LOCAL_X2APIC => 24,
            GIC_CPU => 18,
            _ => 2,
        })?;
        let srat = Self(table);
        for record in table.records(RECORDS).filter(|record| record.kind == MEMORY) {
            let (base, len) = (record.field(8, 8).unwrap_or(0), record.field(16, 8).unwrap_or(0));
            let enabled = record.field(28, 4).unwrap_or(0) & ENABLED != 0;
            if enabled && PhysRange::new(PhysAddr::new(base), len).is_none() {
                let error = table.bad(record.offset + 16, len);
                log::warn!("acpi: {error}; the range at {base:#x} is left out");
            }
        }
        Ok(srat)
    }

    /// The ranges into which memory may be plugged, for a memory manager's boot, when there may be no heap yet: none if
    /// there is no SRAT, or it is broken, which is logged, and so are more ranges than are kept.
    pub fn window<P: ReadPhys>(tables: &Tables<'a, P>) -> Ranges {
        let srat = Self::find(tables).unwrap_or_else(|error| {
            log::warn!("acpi: {error}; no memory can be plugged that is known at boot");
            None
        });
        let memory = srat.iter().flat_map(Self::memory);
        let mut window = Ranges::default();
        for near in memory.filter(|near| near.hot_pluggable) {
            if let Err(TooManyRanges) = window.push(near.range) {
                log::warn!(
                    "acpi: memory can be plugged from {} on; that is not known at boot",
                    near.range
                );
                break;
            }
        }
        window
    }

    /// The enabled, non-empty ranges, in the firmware's order.
    pub fn memory(&self) -> impl Iterator<Item = Affinity> + use<'a> {
        let narrow = self.has_narrow_domains();
        self.0
            .records(RECORDS)
            .filter(|record| record.kind == MEMORY)
            .filter_map(move |record| affinity(&record, narrow))
    }

    /// The proximity domain of a CPU; `None` if the table does not name it. Of several domains the first counts, which
    /// is logged.
    pub fn domain_of(&self, cpu: &Processor) -> Option<u32> {
        let narrow = self.has_narrow_domains();
        let records = self.0.records(RECORDS);
        let mut domains = records.filter_map(|record| domain_of(&record, cpu, narrow));
        let first = domains.next()?;
        if let Some(other) = domains.find(|&other| other != first) {
            let hardware = cpu.hardware;
            log::warn!(
                "acpi: SRAT: CPU {hardware:#x} has proximity domains {first} and {other}: the first counts"
            );
        }
        Some(first)
    }

    /// Revision 1 has one byte for the domain; the other three are reserved.
    fn has_narrow_domains(&self) -> bool {
        self.0.revision() < 2
    }
}

/// The node of a proximity domain, as the SRAT or a device's `_PXM` names it. Domains past the last node
/// share node 0.
pub fn node_of(domain: u64) -> NodeId {
    let node = u32::try_from(domain).ok().and_then(NodeId::new);
    node.unwrap_or_else(|| {
        log::warn!("proximity domain {domain} is past the last node, taken as node 0");
        NodeId::ZERO
    })
}

/// Decodes a memory affinity record; `None` if it is disabled or empty, as some of QEMU's are.
fn affinity(record: &Record<'_>, narrow: bool) -> Option<Affinity> {
    let flags = record.field(28, 4)?;
    let range = PhysRange::new(PhysAddr::new(record.field(8, 8)?), record.field(16, 8)?)?;
    if flags & ENABLED == 0 || range.is_empty() {
        return None;
    }
    Some(Affinity {
        range,
        domain: record.field(2, if narrow { 1 } else { 4 })? as u32,
        hot_pluggable: flags & HOT_PLUGGABLE != 0,
    })
}

/// The domain that a record assigns to `cpu`; `None` if it is about something else, or disabled (ACPI 6.5, 5.2.16.1,
/// 5.2.16.3 and 5.2.16.4).
fn domain_of(record: &Record<'_>, cpu: &Processor, narrow: bool) -> Option<u32> {
    let number = cpu.uid.map_or(cpu.hardware, u64::from);
    let (named, domain, flags) = match (record.kind, cpu.uid) {
        (LOCAL_APIC, None) => {
            let high = if narrow { 0 } else { record.field(9, 3)? };
            (record.field(3, 1)?, high << 8 | record.field(2, 1)?, record.field(4, 4)?)
        }
        (LOCAL_X2APIC, None) => (record.field(8, 4)?, record.field(4, 4)?, record.field(12, 4)?),
        (GIC_CPU, Some(_)) => (record.field(6, 4)?, record.field(2, 4)?, record.field(10, 4)?),
        _ => return None,
    };
    (named == number && flags & ENABLED != 0).then_some(domain as u32)
}
