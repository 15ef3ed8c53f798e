//! Puts this kernel's image into a guest's memory: an ELF file (System V ABI, chapters 4 and 5) whose segments go where they
//! say, and a start info that describes the board.

use crate::program::OwnFiles;
use hotmem::paging::{GuestAddr, GuestRange};
use hotmem::{PhysAddr, PhysRange};
use hotmem_arch::contract::{Described, KernelStart, NoKernel, Put};
use hotmem_boot::info::COMMAND_LINE_BYTES;
use hotmem_boot::start_info::{self, StartInfo};

/// What the file begins with: 64 bits, little-endian, the first version.
const MAGIC: &[u8] = b"\x7fELF\x02\x01\x01";
/// Fields of its header.
const MACHINE: usize = 18;
const ENTRY: usize = 24;
const SEGMENTS: usize = 32;
const SEGMENT_BYTES: usize = 54;
const SEGMENT_COUNT: usize = 56;
/// Fields of a segment; the kind of those that are loaded.
const KIND: usize = 0;
const OFFSET: usize = 8;
const PHYSICAL: usize = 24;
const FILE_BYTES: usize = 32;
const MEMORY_BYTES: usize = 40;
const LOAD: u32 = 1;

/// Segments of an image that are loaded, at most: the linker makes four.
const MOST: usize = 16;

/// Bytes of a start info with its command line and its map, at most.
const START_INFO_BYTES: usize = 4096;

/// The bytes of a field.
fn field<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    field(bytes, at).map(u16::from_le_bytes)
}

fn word(bytes: &[u8], at: usize) -> Option<u64> {
    field(bytes, at).map(u64::from_le_bytes)
}

/// A part of the file, and the place of it in memory, which may be longer: the rest is zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Segment<'f> {
    bytes: &'f [u8],
    range: GuestRange,
}

/// Reads a header of a segment; `None` if it is not whole, names bytes that the file lacks, or has more of them than of
/// memory.
fn segment<'f>(file: &'f [u8], header: &[u8]) -> Option<Segment<'f>> {
    let length = usize::try_from(word(header, FILE_BYTES)?).ok()?;
    let bytes = file.get(usize::try_from(word(header, OFFSET)?).ok()?..)?.get(..length)?;
    let range =
        GuestRange::new(GuestAddr::new(word(header, PHYSICAL)?), word(header, MEMORY_BYTES)?)?;
    (range.len() >= length as u64).then_some(Segment { bytes, range })
}

/// What an image says of itself.
#[derive(Debug)]
struct Image<'f> {
    /// Those that are loaded, and empty ones behind them.
    segments: [Segment<'f>; MOST],
    entry: GuestAddr,
}

impl<'f> Image<'f> {
    fn read(file: &'f [u8], machine: u16) -> Result<Self, NoKernel> {
        if !file.starts_with(MAGIC) || half(file, MACHINE) != Some(machine) {
            return Err(NoKernel("the image is not a 64-bit ELF file for this architecture"));
        }
        let broken = NoKernel("the headers of the image contradict its length or one another");
        let first = word(file, SEGMENTS).and_then(|at| usize::try_from(at).ok()).ok_or(broken)?;
        let size = half(file, SEGMENT_BYTES).filter(|size| *size != 0).ok_or(broken)?.into();
        let count = half(file, SEGMENT_COUNT).ok_or(broken)?.into();
        let headers = file.get(first..).ok_or(broken)?.chunks_exact(size);
        if headers.len() < count {
            return Err(broken);
        }
        let mut segments = [Segment::default(); MOST];
        let mut slots = segments.iter_mut();
        for header in headers.take(count) {
            if field(header, KIND).map(u32::from_le_bytes).ok_or(broken)? == LOAD {
                let slot = slots.next().ok_or(NoKernel("the image has more than 16 segments"))?;
                *slot = segment(file, header).ok_or(broken)?;
            }
        }
        let entry = word(file, ENTRY).map(GuestAddr::new).ok_or(broken)?;
        Ok(Self { segments, entry })
    }

    /// Where its segments go.
    fn ranges(&self) -> impl Iterator<Item = GuestRange> + Clone {
        self.segments.iter().map(|segment| segment.range).filter(|range| !range.is_empty())
    }

    /// Refuses one that would lie elsewhere than in memory that it may use, on its start info, or on itself. So what is
    /// written to place it is bounded by the guest's memory.
    fn check(&self, described: &Described) -> Result<(), NoKernel> {
        for (index, range) in self.ranges().enumerate() {
            let mut memory = described.memory.iter();
            let has_room = memory.any(|(memory, usable)| *usable && memory.covers(range));
            if !has_room || described.start_info.overlaps(range) {
                return Err(NoKernel("the image does not fit the guest's memory"));
            }
            if self.ranges().skip(index + 1).any(|other| other.overlaps(range)) {
                return Err(NoKernel("segments of the image overlap"));
            }
        }
        if self.ranges().any(|range| range.contains(self.entry)) {
            return Ok(());
        }
        Err(NoKernel("the image begins outside of its segments"))
    }
}

/// Puts this kernel into the memory of a guest, which is zero so far, on the board that `described` describes. `machine` is
/// the number of the architecture in an ELF file.
///
/// # Errors
///
/// [`NoKernel`]: the file is not an image of this architecture, or has no room; or an error of `put`.
pub fn place(
    files: &OwnFiles<'_>,
    machine: u16,
    described: &Described,
    put: &mut Put<'_>,
) -> Result<KernelStart, NoKernel> {
    let image = Image::read(files.image, machine)?;
    image.check(described)?;
    for segment in image.segments.iter().filter(|segment| !segment.bytes.is_empty()) {
        put(segment.range.start(), segment.bytes)?;
    }
    put_start_info(described, files.words, put)?;
    Ok(KernelStart { entry: image.entry, arguments: [described.start_info.start().get(), 0, 0, 0] })
}

/// Writes the start info. The addresses of the guest are physical ones to it.
fn put_start_info(described: &Described, words: &[u8], put: &mut Put<'_>) -> Result<(), NoKernel> {
    let at = described.start_info.start();
    let physical = |at: GuestAddr| PhysAddr::new(at.get());
    let ranges = described.memory.iter().filter_map(|(range, usable)| {
        let range = PhysRange::new(physical(range.start()), range.len())?;
        (!range.is_empty()).then_some((range, *usable))
    });
    if words.contains(&0) {
        return Err(NoKernel("its command line has a zero byte, which would end it"));
    }
    let too_long = NoKernel("its command line is too long");
    let command_line =
        Some(words).filter(|words| words.len() <= COMMAND_LINE_BYTES).ok_or(too_long)?;
    let info = StartInfo { rsdp: physical(described.rsdp), command_line };
    let mut bytes = [0; START_INFO_BYTES];
    let room = described.start_info.len().min(START_INFO_BYTES as u64) as usize;
    let room = bytes.get_mut(..room).ok_or(too_long)?;
    start_info::write(&info, ranges, physical(at), room).ok_or(too_long)?;
    put(at, room)
}

#[cfg(test)]
mod tests;
