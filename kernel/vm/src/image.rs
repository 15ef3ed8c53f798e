//! Puts this kernel's image into a guest's memory: an ELF file (System V ABI, chapters 4 and 5) whose segments go where they
//! say, and a start info that describes the board.

use crate::program::OwnFiles;
use hotmem::paging::{GuestAddr, GuestRange};
use hotmem::{PhysAddr, PhysRange};
use hotmem_arch::contract::{Described, Guests, KernelStart, NoKernel, Put};
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Segment<'f> {
    bytes: &'f [u8],
    range: GuestRange,
}

/// Reads a header of a segment; `None` if it is not whole, or names bytes that the file lacks.
fn segment<'f>(file: &'f [u8], header: &[u8]) -> Option<Segment<'f>> {
    let length = usize::try_from(word(header, FILE_BYTES)?).ok()?;
    let bytes = file.get(usize::try_from(word(header, OFFSET)?).ok()?..)?.get(..length)?;
    let start = GuestAddr::new(word(header, PHYSICAL)?);
    let range = GuestRange::new(start, word(header, MEMORY_BYTES)?.max(length as u64))?;
    Some(Segment { bytes, range })
}

/// Calls `each` with the segments of `file` that are loaded; returns its entry.
fn read<'f>(
    file: &'f [u8],
    machine: u16,
    mut each: impl FnMut(Segment<'f>) -> Result<(), NoKernel>,
) -> Result<GuestAddr, NoKernel> {
    if !file.starts_with(MAGIC) || half(file, MACHINE) != Some(machine) {
        return Err(NoKernel("the image is not a 64-bit ELF file for this architecture"));
    }
    let broken = NoKernel("the image is shorter than its headers say");
    let first = word(file, SEGMENTS).and_then(|at| usize::try_from(at).ok()).ok_or(broken)?;
    let size = half(file, SEGMENT_BYTES).filter(|size| *size != 0).ok_or(broken)?.into();
    let count = half(file, SEGMENT_COUNT).ok_or(broken)?.into();
    let headers = file.get(first..).ok_or(broken)?.chunks_exact(size);
    if headers.len() < count {
        return Err(broken);
    }
    for header in headers.take(count) {
        let kind = field(header, KIND).map(u32::from_le_bytes).ok_or(broken)?;
        if kind == LOAD {
            each(segment(file, header).ok_or(broken)?)?;
        }
    }
    word(file, ENTRY).map(GuestAddr::new).ok_or(broken)
}

/// Prepares a guest with the memory `ram`, which is zero so far, and `vcpus` virtual CPUs to run this kernel.
///
/// # Errors
///
/// [`NoKernel`]: the file is not an image of this architecture, or has no room; or an error of `put`.
pub(crate) fn prepare<G: Guests>(
    files: &OwnFiles<'_>,
    (ram, vcpus): (GuestRange, usize),
    put: &mut Put<'_>,
) -> Result<KernelStart, NoKernel> {
    let no_room = NoKernel("the image does not fit the guest's memory");
    let entry = read(files.image, G::ELF_MACHINE, |segment| {
        if !ram.covers(segment.range) {
            return Err(no_room);
        }
        put(segment.range.start(), segment.bytes)
    })?;
    let described = G::describe(ram, vcpus, put)?;
    put_start_info(&described, files.words, put)?;
    Ok(KernelStart { entry, arguments: [described.start_info.start().get(), 0, 0, 0] })
}

/// Both parts one after the other in `room`; `None` if they do not fit.
fn joined<'r>(room: &'r mut [u8], [first, second]: [&[u8]; 2]) -> Option<&'r [u8]> {
    let (begin, rest) = room.split_at_mut_checked(first.len())?;
    begin.copy_from_slice(first);
    rest.get_mut(..second.len())?.copy_from_slice(second);
    room.get(..first.len() + second.len())
}

/// Writes the start info. The addresses of the guest are physical ones to it.
fn put_start_info(
    described: &Described,
    command_line: &[u8],
    put: &mut Put<'_>,
) -> Result<(), NoKernel> {
    let at = described.start_info.start();
    let physical = |at: GuestAddr| PhysAddr::new(at.get());
    let ranges = described.memory.iter().filter_map(|(range, usable)| {
        let range = PhysRange::new(physical(range.start()), range.len())?;
        (!range.is_empty()).then_some((range, *usable))
    });
    let too_long = NoKernel("its command line is too long");
    let mut line = [0; COMMAND_LINE_BYTES];
    let command_line = joined(&mut line, [described.words, command_line]).ok_or(too_long)?;
    let info = StartInfo { rsdp: physical(described.rsdp), command_line };
    let mut bytes = [0; START_INFO_BYTES];
    let room = bytes.get_mut(..described.start_info.len().min(START_INFO_BYTES as u64) as usize);
    room.and_then(|room| start_info::write(&info, ranges, physical(at), room)).ok_or(too_long)?;
    put(at, &bytes)
}

#[cfg(test)]
mod tests;
