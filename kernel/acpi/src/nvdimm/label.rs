//! The label storage area of an NVDIMM (UEFI 2.10, 13.19): a list of labels, twice, and the labels. Each says which part of the
//! NVDIMM a namespace has, that is, data that somebody wants to keep.
//!
//! ```text
//!   0              index block 0: signature, sequence, places, free slots as bits, checksum
//!   size of it     index block 1: the one with the later sequence counts
//!   labels         slot 0, slot 1, ... of 128 bytes (version 1.1) or 256 (1.2)
//! ```
//!
//! It is not trusted, and read in pieces of [`PIECE`] bytes, without a heap. What it says is taken for a namespace as soon as that
//! cannot be excluded: data that is overwritten is gone.

use core::fmt;

use super::error::LabelError;
use super::regions::Part;
use crate::table::le;

/// Bytes that are read at once: the least that an area may transfer is more.
pub(super) const PIECE: usize = 256;

const SIGNATURE: &[u8; 16] = b"NAMESPACE_INDEX\0";
/// Bytes of an index block before the bits.
const FIXED: u32 = 72;
/// Where its checksum is.
const CHECKSUM: usize = 64;
/// Index blocks are multiples of this, and no longer than that.
const ALIGN: u32 = 256;
const LONGEST: u32 = 64 << 10;
/// Bytes of the labels of both versions.
const SMALL: u32 = 128;
const LARGE: u32 = 256;
/// Where the checksum of a large label is.
const LABEL_CHECKSUM: usize = 248;
/// Labels that are read: each may take a millisecond.
const MOST_LABELS: u32 = 128;

/// A label storage area.
pub trait Area {
    /// Its bytes; 0 if the NVDIMM has no such area.
    fn size(&self) -> u32;

    /// Reads at most 256 bytes at an offset.
    ///
    /// # Errors
    ///
    /// [`LabelError`] if that fails, or not all of them are there.
    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), LabelError>;
}

/// What the labels of an NVDIMM say of a part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contents {
    /// The NVDIMM has no label storage area: nothing can say that there is a namespace.
    NoArea,
    /// The area was never used: all of its start is 0x00, or 0xFF.
    Empty,
    /// The labels are about other parts only.
    NoNamespace,
    /// A namespace has some of the part.
    Namespace(Name),
}

/// The name of a namespace: what is printable of it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Name {
    /// The slot of its label.
    slot: u32,
    bytes: [u8; 64],
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.bytes.split(|&byte| byte == 0).next().unwrap_or_default();
        if name.is_empty() {
            return write!(f, "without a name, in slot {}", self.slot);
        }
        write!(f, "\"{}\"", name.escape_ascii())
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// An index block that adds up.
#[derive(Clone, Copy, Debug)]
struct Index {
    offset: u32,
    sequence: u32,
    other: u64,
    /// Where slot 0 is, how many slots there are, and the bytes of each.
    labels: u32,
    slots: u32,
    label: u32,
}

/// What the labels in an area say of a part of the NVDIMM.
///
/// # Errors
///
/// [`LabelError`] if that is not known: then a namespace cannot be excluded.
pub fn contents(area: &mut dyn Area, part: &Part) -> Result<Contents, LabelError> {
    if area.size() == 0 {
        return Ok(Contents::NoArea);
    }
    let Some((index, is_sure)) = current(area)? else {
        return if is_empty(area)? { Ok(Contents::Empty) } else { Err(LabelError::NoIndex) };
    };
    let (mut read, mut bits) = (0, [0; PIECE]);
    let mut held = None;
    for slot in 0..index.slots {
        // A set bit is a free slot.
        let byte = FIXED + slot / 8;
        let piece = byte / PIECE as u32;
        if held != Some(piece) {
            area.read(index.offset + piece * PIECE as u32, &mut bits)?;
            held = Some(piece);
        }
        let here = bits.get(byte as usize % PIECE).copied().unwrap_or(0);
        if here & 1 << (slot % 8) != 0 {
            continue;
        }
        if read == MOST_LABELS {
            return Err(LabelError::TooMany);
        }
        read += 1;
        if let Some(name) = label(area, &index, slot, part)? {
            return Ok(Contents::Namespace(name));
        }
    }
    if is_sure { Ok(Contents::NoNamespace) } else { Err(LabelError::OneIndex) }
}

/// The name of the namespace whose label is in a slot, if it has some of the part.
fn label(
    area: &mut dyn Area,
    index: &Index,
    slot: u32,
    part: &Part,
) -> Result<Option<Name>, LabelError> {
    let mut room = [0; LARGE as usize];
    let bytes = room.get_mut(..index.label as usize).ok_or(LabelError::Label(slot))?;
    area.read(index.labels + slot * index.label, bytes)?;
    let field = |offset, size| le(bytes, offset, size).unwrap_or(0);
    let (base, length) = (field(104, 8), field(112, 8));
    // Small labels have no checksum.
    let adds_up = index.label != LARGE || {
        let mut sum = Fletcher::default();
        sum.add(&without(bytes, LABEL_CHECKSUM));
        sum.value() == field(LABEL_CHECKSUM, 8)
    };
    if field(120, 4) != u64::from(slot) || length == 0 || !adds_up {
        return Err(LabelError::Label(slot));
    }
    let name = bytes.get(16..80).and_then(|name| name.try_into().ok()).unwrap_or([0; 64]);
    Ok(part.overlaps(base, length).then_some(Name { slot, bytes: name }))
}

/// The index block that counts, if one adds up, and whether that is sure: a block that does not add up may have been the later
/// one, unless it was never written.
fn current(area: &mut dyn Area) -> Result<Option<(Index, bool)>, LabelError> {
    let first = index(area, 0)?;
    let places = match first {
        Some(first) => [u32::try_from(first.other).ok(), None],
        None => seconds(area.size()).map(Some),
    };
    let mut second = None;
    for place in places.into_iter().flatten().filter(|&place| place != 0) {
        if second.is_none() {
            second = index(area, place)?;
        }
    }
    let (index, other) = match (first, second) {
        (None, None) => return Ok(None),
        (Some(first), Some(second)) => return Ok(Some((later(first, second), true))),
        (Some(first), None) => (first, u32::try_from(first.other).unwrap_or(u32::MAX)),
        (None, Some(second)) => (second, 0),
    };
    Ok(Some((index, is_blank(area, other)? == Some(true))))
}

/// The one of two index blocks that counts. Numbers go 1, 2, 3, 1; of equal ones it is the block behind.
const fn later(first: Index, second: Index) -> Index {
    let is_second = first.sequence == second.sequence || first.sequence % 3 + 1 == second.sequence;
    if is_second { second } else { first }
}

/// Whether all that two index blocks can take was never written, or erased: where the second one is depends on the software that
/// made them.
fn is_empty(area: &mut dyn Area) -> Result<bool, LabelError> {
    for place in (0..area.size().min(2 * LONGEST)).step_by(PIECE) {
        if is_blank(area, place)? == Some(false) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether the start of an index block was never written, or erased; `None` if it passes the end of the area.
fn is_blank(area: &mut dyn Area, place: u32) -> Result<Option<bool>, LabelError> {
    if u64::from(place) + PIECE as u64 > u64::from(area.size()) {
        return Ok(None);
    }
    let mut bytes = [0; PIECE];
    area.read(place, &mut bytes)?;
    Ok(Some([0, 0xff].iter().any(|fill| bytes.iter().all(|byte| byte == fill))))
}

/// Where the second index block of an area of this size is, with small labels and with large ones.
fn seconds(size: u32) -> [u32; 2] {
    [SMALL, LARGE].map(|label| {
        let bytes = |slots: u32| (FIXED + slots.div_ceil(8)).next_multiple_of(ALIGN);
        let most = bytes(size / label);
        bytes(size.saturating_sub(most.saturating_mul(2)) / label)
    })
}

/// The index block at an offset, if it adds up.
fn index(area: &mut dyn Area, offset: u32) -> Result<Option<Index>, LabelError> {
    let whole = u64::from(area.size());
    if u64::from(offset) + PIECE as u64 > whole {
        return Ok(None);
    }
    let mut head = [0; PIECE];
    area.read(offset, &mut head)?;
    let field = |at, size| le(&head, at, size).unwrap_or(0);
    let (size, labels, slots) = (field(32, 8), field(48, 8), field(56, 4));
    // Of version 1.1 the byte is reserved, and 0.
    let label = u64::from(SMALL) << field(19, 1).min(16);
    let fits = head.starts_with(SIGNATURE)
        && (1..=3).contains(&field(20, 4))
        && field(24, 8) == u64::from(offset)
        && (u64::from(ALIGN)..=LONGEST.into()).contains(&size)
        && size % u64::from(ALIGN) == 0
        && u64::from(offset) + size <= whole
        && slots.div_ceil(8) + u64::from(FIXED) <= size
        && labels <= whole
        && labels + slots * label <= whole;
    if !fits || sum(area, offset, size as u32)? != field(CHECKSUM, 8) {
        return Ok(None);
    }
    let version = (field(60, 2) as u16, field(62, 2) as u16);
    if !matches!((version, label as u32), ((1, 1), SMALL) | ((1, 2), SMALL | LARGE)) {
        return Err(LabelError::Version(version.0, version.1));
    }
    Ok(Some(Index {
        offset,
        sequence: field(20, 4) as u32,
        other: field(40, 8),
        labels: labels as u32,
        slots: slots as u32,
        label: label as u32,
    }))
}

/// The checksum of an index block.
fn sum(area: &mut dyn Area, offset: u32, size: u32) -> Result<u64, LabelError> {
    let mut sum = Fletcher::default();
    for at in (0..size).step_by(PIECE) {
        let mut bytes = [0; PIECE];
        area.read(offset + at, &mut bytes)?;
        sum.add(&if at == 0 { without(&bytes, CHECKSUM) } else { bytes });
    }
    Ok(sum.value())
}

/// The same bytes with zeros where their checksum is.
fn without(bytes: &[u8], checksum: usize) -> [u8; PIECE] {
    let mut copy = [0; PIECE];
    for (at, (to, &from)) in copy.iter_mut().zip(bytes).enumerate() {
        *to = if (checksum..checksum + 8).contains(&at) { 0 } else { from };
    }
    copy
}

/// The checksum of index blocks and labels, after Fletcher: two sums of 32-bit words (UEFI 2.10, 13.19.5).
#[derive(Debug, Default)]
struct Fletcher {
    words: u32,
    sums: u32,
}

impl Fletcher {
    fn add(&mut self, bytes: &[u8]) {
        for word in bytes.chunks_exact(4) {
            let word = le(word, 0, 4).unwrap_or(0) as u32;
            self.words = self.words.wrapping_add(word);
            self.sums = self.sums.wrapping_add(self.words);
        }
    }

    fn value(&self) -> u64 {
        u64::from(self.sums) << 32 | u64::from(self.words)
    }
}
