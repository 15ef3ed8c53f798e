//! Images that are loaded, and files that are refused.

use super::*;

const RAM: u64 = 0x4000_0000;
const MIB: u64 = 1 << 20;
const ARM: u16 = 183;

/// A board with its tables in the first page of the memory, and a start info in the second one.
fn board(ram: GuestRange) -> Described {
    let part = |from, bytes| GuestRange::new(ram.start().add(from), bytes).unwrap();
    let none = (GuestRange::default(), false);
    let memory = [(part(0, 4096), false), (part(4096, ram.len() - 4096), true), none, none, none];
    Described { rsdp: ram.start(), start_info: part(4096, 4096), memory }
}

/// An image with a segment of 5 bytes that takes a page of memory, one that is not loaded, and one of zeroes.
fn image() -> Vec<u8> {
    let mut image = vec![0; 64 + 3 * 56];
    image[..7].copy_from_slice(MAGIC);
    let mut put = |at: usize, value: u64, bytes: usize| {
        image[at..at + bytes].copy_from_slice(&value.to_le_bytes()[..bytes]);
    };
    put(MACHINE, ARM.into(), 2);
    put(ENTRY, RAM + MIB + 2, 8);
    put(SEGMENTS, 64, 8);
    put(SEGMENT_BYTES, 56, 2);
    put(SEGMENT_COUNT, 3, 2);
    let segments = [(1, 232, MIB, 5, 4096), (4, 0, 0, u64::MAX, 0), (1, 0, MIB + 4096, 0, 4096)];
    for (index, (kind, offset, at, file, memory)) in segments.into_iter().enumerate() {
        let header = 64 + 56 * index;
        put(header, kind, 4);
        put(header + OFFSET, offset, 8);
        put(header + PHYSICAL, RAM + at, 8);
        put(header + FILE_BYTES, file, 8);
        put(header + MEMORY_BYTES, memory, 8);
    }
    image.extend(b"first");
    image
}

/// Writes `value` at `at`.
fn change<const N: usize>(image: &mut [u8], at: usize, value: [u8; N]) {
    image[at..at + N].copy_from_slice(&value);
}

/// Where a field of a segment is.
fn of_segment(index: usize, field: usize) -> usize {
    64 + 56 * index + field
}

/// The memory of a guest of `bytes` after the preparation, and where it begins.
fn placed(image: &[u8], words: &[u8], bytes: u64) -> Result<(Vec<u8>, KernelStart), NoKernel> {
    let mut memory = vec![0; bytes as usize];
    let mut put = |at: GuestAddr, piece: &[u8]| {
        let at = (at.get() - RAM) as usize;
        memory[at..at + piece.len()].copy_from_slice(piece);
        Ok(())
    };
    let described = board(GuestRange::new(GuestAddr::new(RAM), bytes).unwrap());
    let start = place(&OwnFiles { image, words }, ARM, &described, &mut put)?;
    Ok((memory, start))
}

fn refusal(image: &[u8], words: &[u8], bytes: u64) -> &'static str {
    placed(image, words, bytes).unwrap_err().0
}

struct Seen<'m>(&'m [u8]);

impl hotmem::paging::ReadPhys for Seen<'_> {
    fn bytes(&self, range: PhysRange) -> Option<&[u8]> {
        let at = range.start().get().checked_sub(RAM)? as usize;
        self.0.get(at..at + range.len() as usize)
    }
}

#[test]
fn segments_go_where_they_say_and_the_kernel_finds_its_board_described() {
    let (memory, start) = placed(&image(), b"log=debug", 4 * MIB).unwrap();
    assert_eq!(start.entry, GuestAddr::new(RAM + MIB + 2));
    assert_eq!(&memory[MIB as usize..][..6], b"first\0");
    let info = start_info::parse(&Seen(&memory), PhysAddr::new(start.arguments[0])).unwrap();
    assert_eq!(info.firmware, hotmem_boot::Firmware::Acpi(PhysAddr::new(RAM)));
    let ram = PhysRange::new(PhysAddr::new(RAM + 4096), 4 * MIB - 4096).unwrap();
    assert_eq!(info.ram.as_slice(), [ram]);
}

#[test]
fn the_command_line_is_what_the_file_says() {
    let longest = [b'x'; COMMAND_LINE_BYTES];
    for words in [&b"log=debug policy=offline"[..], b"", &longest] {
        let (memory, start) = placed(&image(), words, 4 * MIB).unwrap();
        let info = start_info::parse(&Seen(&memory), PhysAddr::new(start.arguments[0])).unwrap();
        assert_eq!(info.command_line.as_bytes(), words);
    }
    assert_eq!(refusal(&image(), &[b'x'; 4096], 4 * MIB), "its command line is too long");
    let zero = "its command line has a zero byte, which would end it";
    assert_eq!(refusal(&image(), b"log=debug\0", 4 * MIB), zero);
}

#[test]
fn a_file_that_is_not_an_image_is_refused_with_the_reason() {
    let not = "the image is not a 64-bit ELF file for this architecture";
    assert_eq!(refusal(b"", b"", MIB), not);
    let mut other = image();
    other[MACHINE] = 8;
    assert_eq!(refusal(&other, b"", 4 * MIB), not);
    let broken = "the headers of the image contradict its length or one another";
    assert_eq!(refusal(&image()[..232], b"", 4 * MIB), broken);
    assert_eq!(refusal(&image()[..100], b"", 4 * MIB), broken);
    let mut longer = image();
    change(&mut longer, of_segment(0, MEMORY_BYTES), 4_u64.to_le_bytes());
    assert_eq!(refusal(&longer, b"", 4 * MIB), broken);
}

#[test]
fn an_image_that_lies_elsewhere_than_in_memory_that_it_may_use_is_refused() {
    let no_room = "the image does not fit the guest's memory";
    assert_eq!(refusal(&image(), b"", MIB + 4096), no_room);
    // On the tables, on the start info, below and above the memory, and around the end of all addresses.
    for at in [RAM, RAM + 4096 + 8, RAM - 4096, RAM + 4 * MIB - 1, u64::MAX - 4096] {
        let mut image = image();
        change(&mut image, of_segment(0, PHYSICAL), at.to_le_bytes());
        assert_eq!(refusal(&image, b"", 4 * MIB), no_room, "{at:#x}");
    }
    let mut large = image();
    change(&mut large, of_segment(2, MEMORY_BYTES), (4 * MIB).to_le_bytes());
    assert_eq!(refusal(&large, b"", 4 * MIB), no_room);
}

#[test]
fn an_image_with_overlapping_or_too_many_segments_or_a_wild_entry_is_refused() {
    let mut image = image();
    change(&mut image, of_segment(2, PHYSICAL), (RAM + MIB + 4095).to_le_bytes());
    assert_eq!(refusal(&image, b"", 4 * MIB), "segments of the image overlap");
    let mut image = self::image();
    for entry in [0, RAM + MIB - 1, RAM + MIB + 8192, u64::MAX] {
        change(&mut image, ENTRY, entry.to_le_bytes());
        let why = "the image begins outside of its segments";
        assert_eq!(refusal(&image, b"", 4 * MIB), why, "{entry:#x}");
    }
    // The same header again and again, as an image of 64 KiB can have it.
    let mut image = self::image();
    change(&mut image, SEGMENT_COUNT, 17_u16.to_le_bytes());
    let header = image[64..64 + 56].to_vec();
    image.splice(64.., header.iter().copied().cycle().take(17 * 56 + 232));
    assert_eq!(refusal(&image, b"", 4 * MIB), "the image has more than 16 segments");
}
