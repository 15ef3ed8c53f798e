//! The bytes of the loaded tables, and reading terms from them.

use alloc::vec::Vec;

use crate::error::{ErrorKind, Place, Pool};
use crate::name::{NameSeg, is_lead};
use crate::opcode::EXTENDED;

/// Bytes of every table's header (ACPI 6.5, table 5.4).
pub(crate) const HEADER: usize = 36;

/// Levels that a namespace may have, and parents that a name may go up. What the tables of real
/// machines have is a tenth of it; without a bound a look-up would have none.
pub(crate) const DEEPEST: u32 = 64;

/// The tables, one behind the other.
#[derive(Debug)]
pub(crate) struct Code {
    bytes: Vec<u8>,
    tables: Vec<Loaded>,
    limit: usize,
}

/// Where a table lies in [`Code`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct Loaded {
    pub(crate) start: u32,
    pub(crate) end: u32,
}

/// A place to read from, and where reading has to stop.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cursor {
    pub(crate) at: u32,
    pub(crate) end: u32,
}

/// A name as it is spelled in a table.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Path {
    /// Starts at the root.
    pub(crate) absolute: bool,
    /// Parents to go up first.
    pub(crate) up: u32,
    /// Offset of the first segment.
    pub(crate) at: u32,
    /// Number of segments.
    pub(crate) count: u32,
    /// The first segment, if there is one.
    pub(crate) first: NameSeg,
}

impl Path {
    /// A single segment without prefix, which is searched for upwards (ACPI 6.5, 5.3).
    pub(crate) const fn is_searched(&self) -> bool {
        !self.absolute && self.up == 0 && self.count == 1
    }
}

impl Code {
    /// No tables yet, and at most `limit` bytes of them.
    pub(crate) const fn new(limit: u32) -> Self {
        Self { bytes: Vec::new(), tables: Vec::new(), limit: limit as usize }
    }

    /// Copies a table. Its length must fit its header; its checksum is the caller's business.
    pub(crate) fn add(&mut self, table: &[u8]) -> Result<Cursor, ErrorKind> {
        let length = table.get(4..8).ok_or(ErrorKind::BadTable)?;
        let length = length.iter().rev().fold(0, |sum, &byte| sum << 8 | usize::from(byte));
        let table = table.get(..length).ok_or(ErrorKind::BadTable)?;
        let start = self.bytes.len();
        let end = start + length;
        if length < HEADER {
            return Err(ErrorKind::BadTable);
        }
        if end > self.limit || self.tables.len() >= usize::from(u8::MAX) {
            return Err(ErrorKind::Full(Pool::Code));
        }
        self.bytes.try_reserve(length).map_err(|_| ErrorKind::OutOfHeap)?;
        self.tables.try_reserve(1).map_err(|_| ErrorKind::OutOfHeap)?;
        self.bytes.extend_from_slice(table);
        // Both fit: the limit is 32 bits wide.
        let (start, end) = (start as u32, end as u32);
        self.tables.push(Loaded { start, end });
        Ok(Cursor { at: start + HEADER as u32, end })
    }

    /// Bytes of heap that are held.
    pub(crate) const fn heap(&self) -> usize {
        self.bytes.capacity() + self.tables.capacity() * size_of::<Loaded>()
    }

    /// Where the tables lie.
    pub(crate) fn tables(&self) -> &[Loaded] {
        &self.tables
    }

    /// Bytes `at..at + len`.
    pub(crate) fn slice(&self, at: u32, len: u32) -> Result<&[u8], ErrorKind> {
        let end = at.checked_add(len).ok_or(ErrorKind::Truncated)?;
        self.bytes.get(at as usize..end as usize).ok_or(ErrorKind::Truncated)
    }

    /// Names the byte at `at` for a message.
    pub(crate) fn place(&self, at: u32) -> Option<Place> {
        let (index, table) = self
            .tables
            .iter()
            .enumerate()
            .find(|(_, table)| at >= table.start && at < table.end)?;
        let signature = self.slice(table.start, 4).ok()?.try_into().ok()?;
        Some(Place { signature, table: index as u8, offset: at - table.start })
    }

    /// The next byte, without taking it.
    pub(crate) fn peek(&self, cur: Cursor) -> Result<u8, ErrorKind> {
        if cur.at >= cur.end {
            return Err(ErrorKind::Truncated);
        }
        self.bytes.get(cur.at as usize).copied().ok_or(ErrorKind::Truncated)
    }

    /// Takes a byte.
    pub(crate) fn byte(&self, cur: &mut Cursor) -> Result<u8, ErrorKind> {
        let byte = self.peek(*cur)?;
        cur.at += 1;
        Ok(byte)
    }

    /// Takes a little-endian number of `size` (at most 8) bytes.
    pub(crate) fn number(&self, cur: &mut Cursor, size: u32) -> Result<u64, ErrorKind> {
        let bytes = self.take(cur, size.min(8))?;
        Ok(bytes.iter().rev().fold(0, |value, &byte| value << 8 | u64::from(byte)))
    }

    /// Takes `len` bytes.
    #[inline]
    fn take(&self, cur: &mut Cursor, len: u32) -> Result<&[u8], ErrorKind> {
        let start = cur.at;
        let end = start.checked_add(len).filter(|&end| end <= cur.end);
        cur.at = end.ok_or(ErrorKind::Truncated)?;
        self.bytes.get(start as usize..cur.at as usize).ok_or(ErrorKind::Truncated)
    }

    /// The opcode at `cur`, without taking it. A name counts as the byte it starts with.
    pub(crate) fn peek_opcode(&self, cur: Cursor) -> Result<u16, ErrorKind> {
        self.opcode(&mut { cur })
    }

    /// Takes an opcode.
    pub(crate) fn opcode(&self, cur: &mut Cursor) -> Result<u16, ErrorKind> {
        match self.byte(cur)? {
            EXTENDED => Ok(u16::from(EXTENDED) << 8 | u16::from(self.byte(cur)?)),
            byte => Ok(u16::from(byte)),
        }
    }

    /// Takes a `PkgLength` as a plain number (ACPI 6.5, 20.2.4).
    pub(crate) fn length(&self, cur: &mut Cursor) -> Result<u32, ErrorKind> {
        let lead = self.byte(cur)?;
        let more = u32::from(lead >> 6);
        if more == 0 {
            return Ok(u32::from(lead & 0x3F));
        }
        let high = self.number(cur, more)? as u32;
        Ok(high << 4 | u32::from(lead & 0x0F))
    }

    /// Takes a `PkgLength` and gives the package's contents; `cur` goes behind them.
    pub(crate) fn package(&self, cur: &mut Cursor) -> Result<Cursor, ErrorKind> {
        let start = cur.at;
        let length = self.length(cur)?;
        let end = start.checked_add(length).ok_or(ErrorKind::Truncated)?;
        if end < cur.at || end > cur.end {
            return Err(ErrorKind::Truncated);
        }
        let inside = Cursor { at: cur.at, end };
        cur.at = end;
        Ok(inside)
    }

    /// Takes a `NameString` (ACPI 6.5, 20.2.2).
    pub(crate) fn path(&self, cur: &mut Cursor) -> Result<Path, ErrorKind> {
        let (lead, at) = (self.peek(*cur)?, cur.at);
        if is_lead(lead) {
            // Most names are a single segment.
            return Ok(Path { absolute: false, up: 0, at, count: 1, first: self.segment(cur)? });
        }
        let absolute = lead == b'\\';
        let mut up = 0;
        if absolute {
            cur.at += 1;
        } else {
            while self.peek(*cur)? == b'^' {
                cur.at += 1;
                up += 1;
                if up > DEEPEST {
                    return Err(ErrorKind::BadName);
                }
            }
        }
        let count = match self.peek(*cur)? {
            0 => {
                cur.at += 1;
                0
            }
            0x2E => {
                cur.at += 1;
                2
            }
            0x2F => {
                cur.at += 1;
                u32::from(self.byte(cur)?)
            }
            _ => 1,
        };
        let at = cur.at;
        let first = if count == 0 { NameSeg::ROOT } else { self.segment(cur)? };
        for _ in 1..count {
            self.segment(cur)?;
        }
        Ok(Path { absolute, up, at, count, first })
    }

    /// Takes four characters of a name.
    #[inline]
    pub(crate) fn segment(&self, cur: &mut Cursor) -> Result<NameSeg, ErrorKind> {
        let bytes = self.take(cur, 4)?.try_into().map_err(|_| ErrorKind::Truncated)?;
        NameSeg::new(bytes).ok_or(ErrorKind::BadName)
    }

    /// Segment `n` of a path that was read already.
    pub(crate) fn segment_of(&self, path: &Path, n: u32) -> Result<NameSeg, ErrorKind> {
        let at = path.at.checked_add(n.saturating_mul(4)).ok_or(ErrorKind::BadName)?;
        self.segment(&mut Cursor { at, end: u32::MAX })
    }
}

/// Whether a byte starts a `NameString`.
pub(crate) const fn starts_name(byte: u8) -> bool {
    is_lead(byte) || matches!(byte, b'\\' | b'^' | 0x2E | 0x2F)
}

#[cfg(test)]
mod tests {
    use std::string::ToString;
    use std::vec::Vec;

    use super::{Code, Cursor, HEADER};
    use crate::error::ErrorKind;

    fn code(body: &[u8]) -> (Code, Cursor) {
        let mut table = Vec::from(*b"SSDT");
        table.extend(((HEADER + body.len()) as u32).to_le_bytes());
        table.resize(HEADER, 0);
        table.extend(body);
        let mut code = Code::new(1 << 20);
        let cur = code.add(&table).expect("a table");
        (code, cur)
    }

    #[test]
    fn package_lengths_of_every_size_are_read() {
        for (bytes, want) in [
            (&[0x3Fu8][..], 0x3F),
            (&[0x4F, 0x01], 0x1F),
            (&[0x81, 0x02, 0x03], 0x3021),
            (&[0xC1, 0x02, 0x03, 0x04], 0x040_3021),
        ] {
            let (code, mut cur) = code(bytes);
            assert_eq!(code.length(&mut cur), Ok(want), "{bytes:x?}");
        }
    }

    #[test]
    fn a_package_that_ends_outside_its_parent_is_an_error() {
        for bytes in [&[0x03u8, 0, 0][..], &[0x04, 0, 0], &[0x00, 0, 0], &[0xC0]] {
            let (code, mut cur) = code(bytes);
            let ok = bytes[0] == 3;
            assert_eq!(code.package(&mut cur).is_ok(), ok, "{bytes:x?}");
        }
    }

    #[test]
    fn a_place_names_table_and_offset() {
        let (code, cur) = code(&[0, 0]);
        let place = code.place(cur.at + 1).expect("inside");
        assert_eq!(place.to_string(), "SSDT (table 0) at offset 0x25");
        assert_eq!(code.place(cur.end), None);
    }

    #[test]
    fn a_table_shorter_than_it_says_is_refused() {
        let mut table = [0u8; HEADER];
        table[4] = HEADER as u8 + 1;
        assert_eq!(Code::new(1000).add(&table).err(), Some(ErrorKind::BadTable));
    }
}
