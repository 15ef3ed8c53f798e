//! Resource descriptors: what `_CRS` returns (ACPI 6.5, 6.4).
//!
//! ```text
//! small item: | 0 type:4 length:3 | data ...              one byte of header
//! large item: | 1 type:7 | length:16 | data ...           three bytes of header
//! ```
//!
//! The list ends with an end tag (small type 0x0F). Everything is read through `get`, so a
//! length that lies is an error and never an access outside the buffer.

use core::fmt;

/// One resource of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resource {
    /// A range of memory, I/O ports or bus numbers.
    Range(Range),
    /// An interrupt.
    Interrupt(Interrupt),
    /// A descriptor of another kind: its tag as it stands in the buffer, length bits removed.
    Other(u8),
}

/// What a [`Range`] counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RangeKind {
    /// Physical addresses.
    Memory,
    /// I/O ports.
    Io,
    /// PCI bus numbers.
    BusNumber,
    /// A kind of its vendor's.
    Vendor(u8),
}

/// A range as its descriptor has it. The caller must check whether the three figures fit together:
/// firmware may have inconsistent ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// What is counted.
    pub kind: RangeKind,
    /// The lowest address (inclusive).
    pub min: u64,
    /// The highest address (inclusive).
    pub max: u64,
    /// Addresses in the range.
    pub length: u64,
    /// What to add to reach the other side of a bridge.
    pub translation: u64,
    /// Memory that can be used as RAM: it may be written, and firmware keeps it for no purpose of its own
    /// (ACPI 6.5, 6.4.3.5.5).
    pub ram: bool,
    /// The device passes the range on to what is behind it, as a bridge does, and does not use it itself.
    pub is_produced: bool,
}

/// An interrupt line. A descriptor that lists several gives several of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interrupt {
    /// The global system interrupt.
    pub gsi: u32,
    /// Edge-triggered; level-triggered otherwise.
    pub edge: bool,
    /// Active low; active high otherwise.
    pub active_low: bool,
}

/// Why a resource list cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ResourceError {
    /// A descriptor runs past the end of the buffer, or is too short for its kind; the offset.
    Truncated(usize),
    /// The buffer ends without an end tag.
    NoEnd,
}

impl fmt::Display for ResourceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated(at) => write!(f, "resource descriptor at offset {at} is cut short"),
            Self::NoEnd => f.write_str("resource list has no end tag"),
        }
    }
}

impl core::error::Error for ResourceError {}

/// Reads the resources of a `_CRS` buffer in order. After an error nothing follows.
#[must_use]
pub const fn resources(bytes: &[u8]) -> Resources<'_> {
    Resources { bytes, at: 0, more: None, done: false }
}

/// The iterator of [`resources`].
#[derive(Debug, Clone)]
pub struct Resources<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Interrupts of the last descriptor not handed out yet.
    more: Option<Pending>,
    done: bool,
}

/// The rest of an interrupt descriptor.
#[derive(Debug, Clone, Copy)]
enum Pending {
    /// A legacy descriptor: one bit per line left.
    Mask { lines: u16, edge: bool, active_low: bool },
    /// An extended descriptor: offset of the next number, and how many are left.
    List { at: usize, left: u8, edge: bool, active_low: bool },
}

impl Iterator for Resources<'_> {
    type Item = Result<Resource, ResourceError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(interrupt) = self.pending() {
                return Some(interrupt.map(Resource::Interrupt));
            }
            if self.done {
                return None;
            }
            match self.descriptor() {
                Ok(Some(resource)) => return Some(Ok(resource)),
                Ok(None) => {}
                Err(error) => {
                    self.done = true;
                    return Some(Err(error));
                }
            }
        }
    }
}

impl Resources<'_> {
    /// Bytes read so far; behind the end tag once the iterator is through.
    #[must_use]
    pub const fn offset(&self) -> usize {
        self.at
    }

    /// The next interrupt of the descriptor read last.
    fn pending(&mut self) -> Option<Result<Interrupt, ResourceError>> {
        match self.more.take()? {
            Pending::Mask { lines: 0, .. } | Pending::List { left: 0, .. } => None,
            Pending::Mask { lines, edge, active_low } => {
                let gsi = lines.trailing_zeros();
                self.more = Some(Pending::Mask { lines: lines & (lines - 1), edge, active_low });
                Some(Ok(Interrupt { gsi, edge, active_low }))
            }
            Pending::List { at, left, edge, active_low } => {
                let Some(gsi) = self.number(at, 4) else {
                    self.done = true;
                    return Some(Err(ResourceError::Truncated(at)));
                };
                self.more = Some(Pending::List { at: at + 4, left: left - 1, edge, active_low });
                Some(Ok(Interrupt { gsi: gsi as u32, edge, active_low }))
            }
        }
    }

    /// Reads one descriptor; `None` if its resources are in `more` or the list ends.
    fn descriptor(&mut self) -> Result<Option<Resource>, ResourceError> {
        let start = self.at;
        let tag = *self.bytes.get(start).ok_or(ResourceError::NoEnd)?;
        let cut = ResourceError::Truncated(start);
        let (kind, body, length) = if tag & 0x80 == 0 {
            (tag & 0x78, start + 1, usize::from(tag & 7))
        } else {
            (tag, start + 3, self.number(start + 1, 2).ok_or(cut)? as usize)
        };
        let end = body.checked_add(length).filter(|&end| end <= self.bytes.len()).ok_or(cut)?;
        self.at = end;
        match kind {
            END_TAG => {
                self.done = true;
                Ok(None)
            }
            _ => self.decode(kind, body, end).ok_or(cut),
        }
    }

    /// Decodes a descriptor whose data is `body..end`; the outer `None` means too short.
    fn decode(&mut self, kind: u8, body: usize, end: usize) -> Option<Option<Resource>> {
        let range = |range| Some(Some(Resource::Range(range)));
        match kind {
            IRQ => {
                // The third byte is optional; without it: edge, active high (6.4.2.1).
                let flags = if end - body > 2 { self.number(body + 2, 1)? } else { 1 };
                let lines = self.checked(body, 2, end)? as u16;
                let (edge, active_low) = (flags & 1 != 0, flags & 8 != 0);
                self.more = Some(Pending::Mask { lines, edge, active_low });
                Some(None)
            }
            EXTENDED_INTERRUPT => {
                let flags = self.checked(body, 1, end)?;
                let left = self.checked(body + 1, 1, end)? as u8;
                self.checked(body + 2, usize::from(left) * 4, end)?;
                let (edge, active_low) = (flags & 2 != 0, flags & 4 != 0);
                self.more = Some(Pending::List { at: body + 2, left, edge, active_low });
                Some(None)
            }
            IO_PORT => range(self.ports(body, end)?),
            FIXED_IO => range(self.fixed_ports(body, end)?),
            MEMORY32 => range(self.memory32(body, end)?),
            FIXED_MEMORY32 => range(self.fixed_memory32(body, end)?),
            WORD_SPACE => range(self.space(body, end, 3, 2)?),
            DWORD_SPACE => range(self.space(body, end, 3, 4)?),
            QWORD_SPACE => range(self.space(body, end, 3, 8)?),
            // One byte of revision and one reserved stand before the five figures (6.4.3.5.4).
            EXTENDED_SPACE => range(self.space(body, end, 5, 8)?),
            other => Some(Some(Resource::Other(other))),
        }
    }

    /// A word, double word or quad word address space descriptor: type, flags, then granularity,
    /// minimum, maximum, translation and length of `size` bytes each, from `body + skip` on.
    fn space(&self, body: usize, end: usize, skip: usize, size: usize) -> Option<Range> {
        let figure = |n: usize| self.checked(body + skip + n * size, size, end);
        let kind = match self.checked(body, 1, end)? {
            0 => RangeKind::Memory,
            1 => RangeKind::Io,
            2 => RangeKind::BusNumber,
            other => RangeKind::Vendor(other as u8),
        };
        let uses = self.checked(body + 2, 1, end)?;
        Some(Range {
            kind,
            ram: kind == RangeKind::Memory && uses & (WRITABLE | MEMORY_TYPE) == WRITABLE,
            min: figure(1)?,
            max: figure(2)?,
            translation: figure(3)?,
            is_produced: self.checked(body + 1, 1, end)? & CONSUMED == 0,
            length: figure(4)?,
        })
    }

    /// An I/O port descriptor: decode, minimum, maximum, alignment, length (6.4.2.5).
    fn ports(&self, body: usize, end: usize) -> Option<Range> {
        let min = self.checked(body + 1, 2, end)?;
        let max = self.checked(body + 3, 2, end)?;
        let length = self.checked(body + 6, 1, end)?;
        // The maximum is that of the base; the range goes on from there.
        Some(Range::new(RangeKind::Io, min, max.saturating_add(length.saturating_sub(1)), length))
    }

    /// A fixed I/O descriptor: base, length (6.4.2.6).
    fn fixed_ports(&self, body: usize, end: usize) -> Option<Range> {
        let min = self.checked(body, 2, end)?;
        let length = self.checked(body + 2, 1, end)?;
        Some(Range::new(RangeKind::Io, min, min + length.saturating_sub(1), length))
    }

    /// A 32-bit memory descriptor: flags, minimum, maximum, alignment, length (6.4.3.3).
    fn memory32(&self, body: usize, end: usize) -> Option<Range> {
        let min = self.checked(body + 1, 4, end)?;
        let max = self.checked(body + 5, 4, end)?;
        let length = self.checked(body + 13, 4, end)?;
        // To the specification the maximum is the highest base, to compilers the last address.
        let fixed = max == min.saturating_add(length.saturating_sub(1));
        let last = if fixed { max } else { max.saturating_add(length.saturating_sub(1)) };
        let ram = self.checked(body, 1, end)? & WRITABLE != 0;
        Some(Range { ram, ..Range::new(RangeKind::Memory, min, last, length) })
    }

    /// A fixed 32-bit memory descriptor: flags, base, length (6.4.3.4).
    fn fixed_memory32(&self, body: usize, end: usize) -> Option<Range> {
        let min = self.checked(body + 1, 4, end)?;
        let length = self.checked(body + 5, 4, end)?;
        let ram = self.checked(body, 1, end)? & WRITABLE != 0;
        let last = min + length.saturating_sub(1);
        Some(Range { ram, ..Range::new(RangeKind::Memory, min, last, length) })
    }

    /// `size` bytes at `at`, little-endian, if they lie before `end`. Longer runs are only
    /// checked; what is returned then is their first eight bytes.
    fn checked(&self, at: usize, size: usize, end: usize) -> Option<u64> {
        if at.checked_add(size)? > end {
            return None;
        }
        self.number(at, size.min(8))
    }

    /// `size` (at most 8) bytes at `at`, little-endian.
    fn number(&self, at: usize, size: usize) -> Option<u64> {
        let bytes = self.bytes.get(at..at.checked_add(size)?)?;
        Some(bytes.iter().rev().fold(0, |sum, &byte| sum << 8 | u64::from(byte)))
    }
}

impl Range {
    /// A range without translation that must not be used as RAM, and is the device's own.
    const fn new(kind: RangeKind, min: u64, max: u64, length: u64) -> Self {
        Self { kind, min, max, length, translation: 0, ram: false, is_produced: false }
    }
}

/// The flags of a memory range: it may be written; it is reserved, ACPI's or non-volatile, not memory.
const WRITABLE: u64 = 1 << 0;
const MEMORY_TYPE: u64 = 0b11 << 3;
/// The flag of an address space: the device uses it itself.
const CONSUMED: u64 = 1 << 0;

// Small tags, length bits removed (ACPI 6.5, table 6.27).
const IRQ: u8 = 0x20;
const IO_PORT: u8 = 0x40;
const FIXED_IO: u8 = 0x48;
const END_TAG: u8 = 0x78;

// Large tags (ACPI 6.5, table 6.40).
const MEMORY32: u8 = 0x85;
const FIXED_MEMORY32: u8 = 0x86;
const DWORD_SPACE: u8 = 0x87;
const WORD_SPACE: u8 = 0x88;
const EXTENDED_INTERRUPT: u8 = 0x89;
const QWORD_SPACE: u8 = 0x8A;
const EXTENDED_SPACE: u8 = 0x8B;

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::{Interrupt, Range, RangeKind, Resource, ResourceError, resources};

    /// The end of every list.
    const END: &[u8] = &[0x79, 0];

    fn all(parts: &[&[u8]]) -> Vec<Result<Resource, ResourceError>> {
        resources(&parts.concat()).collect()
    }

    /// A memory range of one of the address space descriptors.
    fn memory(min: u64, max: u64, length: u64) -> Range {
        let (kind, is_produced) = (RangeKind::Memory, false);
        Range { kind, min, max, length, translation: 0, ram: true, is_produced }
    }

    #[test]
    fn memory_ranges_of_every_width_are_read() {
        let figures = |size: usize| {
            let values = [0u64, 0x1000, 0x2FFF, 0, 0x2000];
            let bytes = values.map(|value| Vec::from(&value.to_le_bytes()[..size]));
            bytes.concat()
        };
        let own = memory(0x1000, 0x2FFF, 0x2000);
        let want = |is_produced| Ok(Resource::Range(Range { is_produced, ..own }));
        for (tag, size, skip) in [(0x88, 2, 0), (0x87, 4, 0), (0x8A, 8, 0), (0x8B, 8, 2)] {
            let mut item = Vec::from([tag, (3 + skip + 5 * size) as u8, 0, 0, 0xC, 1]);
            item.resize(6 + skip, 0);
            item.extend(figures(size));
            assert_eq!(all(&[&item, END]), [want(true)], "{tag:#x}");
            // Its own.
            item[4] |= 1;
            assert_eq!(all(&[&item, END]), [want(false)], "{tag:#x}");
        }
        assert_eq!(
            all(&[&[0x86, 9, 0, 1, 0, 0x10, 0, 0, 0, 0x20, 0, 0], END]),
            [want(false)],
            "fixed 32-bit memory"
        );
    }

    #[test]
    fn memory_that_is_read_only_or_has_a_purpose_is_not_ram() {
        let ram = |list: &[u8]| match all(&[list, END])[..] {
            [Ok(Resource::Range(range))] => range.ram,
            ref other => panic!("{other:?}"),
        };
        let space = |kind, flags| {
            let mut item = Vec::from([0x87, 23, 0, kind, 0xC, flags]);
            item.resize(26, 0);
            ram(&item)
        };
        // Whatever the caching is (bits 1 and 2); bit 0 is write, bits 3 and 4 the purpose.
        for flags in 0..0x20 {
            assert_eq!(space(0, flags), flags & 1 == 1 && flags >> 3 == 0, "{flags:#x}");
        }
        assert!(!space(1, 1), "ports");
        for (writable, flags) in [(false, 0), (true, 1)] {
            assert_eq!(ram(&[0x86, 9, 0, flags, 0, 0x10, 0, 0, 0, 0x20, 0, 0]), writable);
            let mut item = Vec::from([0x85, 17, 0, flags]);
            item.resize(20, 0);
            assert_eq!(ram(&item), writable);
        }
    }

    #[test]
    fn interrupts_are_listed_one_by_one() {
        let extended: &[u8] = &[0x89, 10, 0, 0b0010, 2, 41, 0, 0, 0, 42, 0, 0, 0];
        let legacy: &[u8] = &[0x23, 0x10, 0x02, 0x18];
        let interrupt =
            |gsi, edge, active_low| Ok(Resource::Interrupt(Interrupt { gsi, edge, active_low }));
        assert_eq!(
            all(&[extended, legacy, END]),
            [
                interrupt(41, true, false),
                interrupt(42, true, false),
                interrupt(4, false, true),
                interrupt(9, false, true),
            ]
        );
    }

    #[test]
    fn ports_are_read_and_unknown_kinds_are_passed_on() {
        let io = |min, max, length| {
            let kind = RangeKind::Io;
            Ok(Resource::Range(Range::new(kind, min, max, length)))
        };
        assert_eq!(
            all(&[&[0x47, 1, 0x00, 0x0A, 0x00, 0x0A, 0, 0x18], &[0x2A, 1, 2], END]),
            [io(0xA00, 0xA17, 0x18), Ok(Resource::Other(0x28))]
        );
        assert_eq!(all(&[&[0x4B, 0x10, 0x03, 4], END]), [io(0x310, 0x313, 4)]);
    }

    #[test]
    fn a_list_that_lies_about_its_lengths_is_an_error_and_then_over() {
        let cut = Err(ResourceError::Truncated(0));
        let lists: [&[u8]; 6] = [
            &[0x8A, 0x2B],
            &[0x8A, 0x2B, 0, 0],
            &[0x8A, 3, 0, 0, 0, 0, 0x79, 0],
            &[0x89, 6, 0, 0, 2, 41, 0, 0, 0, 0x79, 0],
            &[0x89, 1, 0, 0, 0x79, 0],
            &[0x23],
        ];
        for list in lists {
            assert_eq!(all(&[list]), [cut], "{list:x?}");
        }
        assert_eq!(all(&[]), [Err(ResourceError::NoEnd)]);
        assert_eq!(all(&[&[0x22, 0, 0]]), [Err(ResourceError::NoEnd)]);
    }
}
