//! The structures of the NFIT (ACPI 6.5, 5.2.25), and of what `_FIT` returns, which has no header.

use hotmem::addr::{PhysAddr, PhysRange};
use hotmem::paging::ReadPhys;

use super::error::RegionError;
use super::limits::HANDLE;
use crate::error::{Signature, TableError};
use crate::root::Tables;
use crate::table::le;

const NFIT: Signature = Signature(*b"NFIT");
/// Where the structures start: behind the header and four reserved bytes.
const STRUCTURES: usize = 40;
/// Bytes of the kind and the length of a structure.
const LEAST: usize = 4;
/// Kinds of structures, and the bytes that are read of them.
const RANGE: u64 = 0;
const RANGE_BYTES: usize = 56;
const PART: u64 = 1;
const PART_BYTES: usize = 48;
/// A flag of a range: its proximity domain is valid.
const DOMAIN_VALID: u64 = 1 << 1;
/// A flag of a part: firmware could not map the NVDIMM's memory.
const MAP_FAILED: u64 = 1 << 6;
/// The kind of a range that is persistent memory, 66F0D379-B4F3-4074-AC43-0D3318B78CDB.
const PERSISTENT: [u8; 16] = [
    0x79, 0xd3, 0xf0, 0x66, 0xf3, 0xb4, 0x74, 0x40, 0xac, 0x43, 0x0d, 0x33, 0x18, 0xb7, 0x8c, 0xdb,
];

/// What a range of the NFIT must not be: RAM at boot, something else, or past the last physical address.
#[derive(Clone, Copy, Debug)]
pub struct Bounds<'a> {
    /// The RAM that the machine was started with.
    pub ram: &'a [PhysRange],
    /// Addresses of another use: of registers, and those that host bridges forward.
    pub other: &'a [PhysRange],
    /// The first address that there cannot be.
    pub limit: PhysAddr,
}

/// A list of structures.
#[derive(Clone, Copy, Debug)]
pub struct Nfit<'a>(&'a [u8]);

/// A structure that was understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Structure {
    Range(Range),
    Part(MappedPart),
}

/// A range of addresses, as the structure has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Range {
    /// The number by which parts refer to it.
    pub(super) index: u16,
    pub(super) base: u64,
    pub(super) length: u64,
    pub(super) domain: Option<u32>,
    pub(super) persistent: bool,
}

/// A part of an NVDIMM that is mapped into a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct MappedPart {
    /// The number of the range.
    pub(super) index: u16,
    /// The handle of the NVDIMM, which is the address of its device.
    pub(super) handle: u32,
    /// Which addresses of the NVDIMM, and how many.
    pub(super) base: u64,
    pub(super) length: u64,
    pub(super) failed: bool,
}

impl MappedPart {
    /// Whether another one has some of the same memory of the same NVDIMM.
    pub(super) const fn shares(&self, other: &Self) -> bool {
        let is_one = self.handle & HANDLE == other.handle & HANDLE;
        is_one && overlap((self.base, self.length), (other.base, other.length))
    }
}

/// Whether two ranges of an NVDIMM, each a start and a length, overlap. One that passes the end goes up to the end.
pub(super) const fn overlap(one: (u64, u64), other: (u64, u64)) -> bool {
    one.0 < other.0.saturating_add(other.1) && other.0 < one.0.saturating_add(one.1)
}

impl<'a> Nfit<'a> {
    /// Reads the NFIT; `None` if the machine has no NFIT.
    ///
    /// # Errors
    ///
    /// [`TableError`] if it is broken as a whole.
    pub fn find<P: ReadPhys>(tables: &Tables<'a, P>) -> Result<Option<Self>, TableError> {
        tables.find(NFIT, STRUCTURES, |table| {
            Ok(Self(table.bytes().get(STRUCTURES..).unwrap_or_default()))
        })
    }

    /// The structures that `_FIT` returned.
    #[must_use]
    pub const fn of_method(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The structures that are used, and what is wrong with others. One whose length cannot be costs what follows as well,
    /// since nothing says where the next one begins; one that is too short for its kind costs itself.
    pub(super) fn structures(
        &self,
    ) -> impl Iterator<Item = Result<Structure, RegionError>> + use<'a> {
        let mut rest = self.0;
        let whole = rest.len();
        core::iter::from_fn(move || {
            while !rest.is_empty() {
                let offset = (whole - rest.len()) as u32;
                let (kind, length) = (le(rest, 0, 2).unwrap_or(0), le(rest, 2, 2).unwrap_or(0));
                let bytes = rest.get(..length as usize).filter(|bytes| bytes.len() >= LEAST);
                let Some(bytes) = bytes else {
                    rest = &[];
                    return Some(Err(RegionError::Length { offset, length: length as u16 }));
                };
                rest = rest.get(bytes.len()..).unwrap_or_default();
                if let Some(structure) = read(kind, bytes) {
                    let short =
                        RegionError::Short { offset, kind: kind as u16, length: length as u16 };
                    return Some(structure.ok_or(short));
                }
            }
            None
        })
    }
}

/// A structure of a kind that is used: `Some(None)` if it is too short.
fn read(kind: u64, bytes: &[u8]) -> Option<Option<Structure>> {
    match kind {
        RANGE if bytes.len() < RANGE_BYTES => Some(None),
        RANGE => Some(range(bytes)),
        PART if bytes.len() < PART_BYTES => Some(None),
        PART => Some(part(bytes)),
        _ => None,
    }
}

fn range(bytes: &[u8]) -> Option<Structure> {
    let has_domain = le(bytes, 6, 2)? & DOMAIN_VALID != 0;
    Some(Structure::Range(Range {
        index: le(bytes, 4, 2)? as u16,
        domain: le(bytes, 12, 4).filter(|_| has_domain).map(|domain| domain as u32),
        persistent: bytes.get(16..32)? == PERSISTENT,
        base: le(bytes, 32, 8)?,
        length: le(bytes, 40, 8)?,
    }))
}

fn part(bytes: &[u8]) -> Option<Structure> {
    Some(Structure::Part(MappedPart {
        handle: le(bytes, 4, 4)? as u32,
        index: le(bytes, 12, 2)? as u16,
        length: le(bytes, 16, 8)?,
        base: le(bytes, 32, 8)?,
        failed: le(bytes, 44, 2)? & MAP_FAILED != 0,
    }))
}
