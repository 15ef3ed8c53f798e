//! A table whose header was checked: the only way the other parsers get at bytes.
//!
//! ```text
//! +0 signature  +4 length  +8 revision  +9 checksum  +10 OEM ...  +36 the table's own fields
//! ```
//!
//! The header is ACPI 6.5, 5.2.6. Holding a [`Table`] proves that its signature was wanted, that
//! `bytes.len()` equals the length in its header, and that its bytes add up to 0. A list of records
//! ends before the first one that is not whole.

use hotmem::addr::{PhysAddr, PhysRange};

use super::error::{Signature, TableError};
use hotmem::paging::ReadPhys;

/// Bytes of the header that every table has.
pub(super) const HEADER: usize = 36;

/// No table is longer than this: a bound for hostile lengths, far above the largest DSDT.
const LONGEST: u32 = 16 << 20;
/// Bytes of the longest table of records: what is read from it is kept on the kernel's heap.
const LONGEST_LIST: usize = 256 << 10;

/// A checked table.
#[derive(Clone, Copy, Debug)]
pub struct Table<'a> {
    signature: Signature,
    at: PhysAddr,
    bytes: &'a [u8],
}

impl<'a> Table<'a> {
    /// Reads and checks the table at `at`.
    ///
    /// # Errors
    ///
    /// [`TableError`] unless the table is named `wanted`, is at least `least` bytes long, readable
    /// as a whole, and adds up.
    pub fn read(
        memory: &'a impl ReadPhys,
        at: PhysAddr,
        wanted: Signature,
        least: usize,
    ) -> Result<Self, TableError> {
        let table = Self::unsummed(memory, at, wanted, least)?;
        table.check_sum()?;
        Ok(table)
    }

    /// As [`read`](Self::read), but whether the table adds up or not.
    pub(super) fn unsummed(
        memory: &'a impl ReadPhys,
        at: PhysAddr,
        wanted: Signature,
        least: usize,
    ) -> Result<Self, TableError> {
        let found = signature(memory, at)?;
        if found != wanted {
            return Err(TableError::Signature { at, wanted, found });
        }

        let header = slice(memory, at, HEADER as u64)?;
        let length = le(header, 4, 4).ok_or(TableError::Address(at))? as u32;
        if (length as usize) < least.max(HEADER) || length > LONGEST {
            return Err(TableError::Length { table: wanted, at, length });
        }

        let bytes = slice(memory, at, u64::from(length))?;
        Ok(Self { signature: wanted, at, bytes })
    }

    /// Refuses a table that does not add up.
    pub(super) fn check_sum(&self) -> Result<(), TableError> {
        check_sum(self.signature, self.at, self.bytes)
    }

    /// The table's name.
    pub const fn signature(&self) -> Signature {
        self.signature
    }

    /// Where the table is.
    pub const fn address(&self) -> PhysAddr {
        self.at
    }

    /// The whole table, header included.
    pub const fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The revision in the header.
    pub fn revision(&self) -> u8 {
        self.bytes.get(8).copied().unwrap_or(0)
    }

    /// The little-endian field of `size` (at most 8) bytes at `offset`; `None` past the end.
    pub fn field(&self, offset: usize, size: usize) -> Option<u64> {
        le(self.bytes, offset, size)
    }

    /// Complains about the value of a field.
    pub(super) const fn bad(&self, offset: usize, value: u64) -> TableError {
        TableError::Value { table: self.signature, offset: offset as u32, value }
    }

    /// Walks the records behind the fixed fields of a MADT or SRAT, once, to see that each is whole. One
    /// that passes the end costs what follows as well, since nothing says where the next one begins; one
    /// that is shorter than its kind costs itself, since its fields are missing.
    ///
    /// # Errors
    ///
    /// [`TableError::Length`] if the table is longer than any list of records is.
    pub(super) fn with_whole_records(
        self,
        first: usize,
        least: impl Fn(u8) -> usize,
    ) -> Result<Self, TableError> {
        if self.bytes.len() > LONGEST_LIST {
            return Err(TableError::Length {
                table: self.signature,
                at: self.at,
                length: self.bytes.len() as u32,
            });
        }
        let mut at = first;
        while at < self.bytes.len() {
            let kind = self.bytes.get(at).copied().unwrap_or(0);
            let length = self.bytes.get(at + 1).copied().unwrap_or(0);
            let error =
                TableError::Record { table: self.signature, offset: at as u32, kind, length };
            // Two bytes of kind and length are in every record: a length of 0 would never end.
            if length < 2 || at + usize::from(length) > self.bytes.len() {
                log::warn!("acpi: {error}; it and what follows it are left out");
                let bytes = self.bytes.get(..at).unwrap_or_default();
                return Ok(Self { bytes, ..self });
            }
            if usize::from(length) < least(kind) {
                log::warn!("acpi: {error}; it is left out");
            }
            at += usize::from(length);
        }
        Ok(self)
    }

    /// The records from `first` on, as (offset, kind, bytes). Stops at the first broken one.
    pub(super) fn records(&self, first: usize) -> impl Iterator<Item = Record<'a>> + use<'a> {
        let bytes = self.bytes;
        let mut at = first;
        core::iter::from_fn(move || {
            let kind = *bytes.get(at)?;
            let length = usize::from(*bytes.get(at + 1)?);
            let record = Record { offset: at, kind, bytes: bytes.get(at..at + length.max(2))? };
            at += length.max(2);
            Some(record)
        })
    }
}

/// A record of a MADT or SRAT.
#[derive(Clone, Copy, Debug)]
pub(super) struct Record<'a> {
    /// Bytes from the table's start.
    pub(super) offset: usize,
    /// The kind in its first byte.
    pub(super) kind: u8,
    bytes: &'a [u8],
}

impl Record<'_> {
    /// The little-endian field of `size` (at most 8) bytes at `offset` in the record.
    pub(super) fn field(&self, offset: usize, size: usize) -> Option<u64> {
        le(self.bytes, offset, size)
    }
}

/// Reads the name of the table at `at`.
pub(super) fn signature(memory: &impl ReadPhys, at: PhysAddr) -> Result<Signature, TableError> {
    let bytes = slice(memory, at, 4)?;
    bytes.try_into().map(Signature).map_err(|_| TableError::Address(at))
}

/// `len` bytes at `at`.
pub(super) fn slice(memory: &impl ReadPhys, at: PhysAddr, len: u64) -> Result<&[u8], TableError> {
    let range = PhysRange::new(at, len).ok_or(TableError::Address(at))?;
    let bytes = memory.bytes(range).ok_or(TableError::Unreadable(range))?;
    // An implementation that returns another length would break every offset below.
    if bytes.len() as u64 == len { Ok(bytes) } else { Err(TableError::Unreadable(range)) }
}

/// Refuses bytes that do not add up to 0 modulo 256.
pub(super) fn check_sum(table: Signature, at: PhysAddr, bytes: &[u8]) -> Result<(), TableError> {
    match bytes.iter().fold(0u8, |sum, &byte| sum.wrapping_add(byte)) {
        0 => Ok(()),
        sum => Err(TableError::Checksum { table, at, sum }),
    }
}

/// The little-endian number of `size` (at most 8) bytes at `offset`.
pub(super) fn le(bytes: &[u8], offset: usize, size: usize) -> Option<u64> {
    let field = bytes.get(offset..offset.checked_add(size)?)?;
    Some(field.iter().rev().fold(0, |sum, &byte| sum << 8 | u64::from(byte)))
}
