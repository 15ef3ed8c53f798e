//! Images that are loaded, and files that are refused.

use super::*;
use hotmem::testing::Random;

const RAM: u64 = 0x4000_0000;
const MIB: u64 = 1 << 20;

/// An architecture with a board.
#[derive(Debug)]
struct Board;

impl Guests for Board {
    type GuestFormat = hotmem_arch::x86_64::pte::X86Pte4;
    type Vcpu = hotmem_arch::host::SoftVcpu;

    const GUEST_RAM: GuestAddr = GuestAddr::new(RAM);
    const GUEST_LIMIT: GuestAddr = GuestAddr::new(1 << 36);
    const GUEST_FLUSH_REACHES_ALL: bool = true;
    const ELF_MACHINE: u16 = 7;

    fn enable_guests() -> Result<(), hotmem_arch::contract::NoGuests> {
        Ok(())
    }

    fn publish_guest_entries() {}

    fn drop_guest_translations(_: &hotmem_arch::contract::GuestSpace, _: &[GuestRange]) {}

    fn describe(ram: GuestRange, _cpus: usize, put: &mut Put<'_>) -> Result<Described, NoKernel> {
        put(ram.start(), b"RSD PTR ")?;
        let none = (GuestRange::default(), false);
        let part = |from, bytes| GuestRange::new(ram.start().add(from), bytes).unwrap_or_default();
        let memory =
            [(part(0, 4096), false), (part(4096, ram.len() - 4096), true), none, none, none];
        Ok(Described { rsdp: ram.start(), start_info: part(4096, 4096), words: b"board ", memory })
    }

    fn payload() -> &'static [u8] {
        b""
    }
}

/// An image with a segment of 5 bytes that takes a page of memory, one that is not loaded, and one of zeroes.
fn image() -> Vec<u8> {
    let mut image = vec![0; 64 + 3 * 56];
    image[..7].copy_from_slice(MAGIC);
    let mut put = |at: usize, value: u64, bytes: usize| {
        image[at..at + bytes].copy_from_slice(&value.to_le_bytes()[..bytes]);
    };
    put(MACHINE, 7, 2);
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

/// The memory of a guest of `bytes` after the preparation, and where it begins.
fn prepared(image: &[u8], words: &[u8], bytes: u64) -> Result<(Vec<u8>, KernelStart), NoKernel> {
    let mut memory = vec![0; bytes as usize];
    let mut put = |at: GuestAddr, piece: &[u8]| {
        let at = at.get().checked_sub(RAM).ok_or(NoKernel("below"))? as usize;
        let room = memory.get_mut(at..at + piece.len()).ok_or(NoKernel("above"))?;
        room.copy_from_slice(piece);
        Ok(())
    };
    let ram = GuestRange::new(GuestAddr::new(RAM), bytes).unwrap();
    let start = prepare::<Board>(&OwnFiles { image, words }, (ram, 1), &mut put)?;
    Ok((memory, start))
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
    let (memory, start) = prepared(&image(), b"log=debug", 4 * MIB).unwrap();
    assert_eq!(start.entry, GuestAddr::new(RAM + MIB + 2));
    assert_eq!(&memory[MIB as usize..][..6], b"first\0");
    let info = start_info::parse(&Seen(&memory), PhysAddr::new(start.arguments[0])).unwrap();
    assert_eq!(info.command_line.as_bytes(), b"board log=debug");
    assert_eq!(info.firmware, hotmem_boot::Firmware::Acpi(PhysAddr::new(RAM)));
    let ram = PhysRange::new(PhysAddr::new(RAM + 4096), 4 * MIB - 4096).unwrap();
    assert_eq!(info.ram.as_slice(), [ram]);
}

#[test]
fn what_is_not_an_image_or_has_no_room_is_refused_with_the_reason() {
    let refusal = |image: &[u8], words: &[u8], bytes| prepared(image, words, bytes).unwrap_err().0;
    let not = "the image is not a 64-bit ELF file for this architecture";
    assert_eq!(refusal(b"", b"", MIB), not);
    let mut other = image();
    other[MACHINE] = 8;
    assert_eq!(refusal(&other, b"", 4 * MIB), not);
    let short = "the image is shorter than its headers say";
    assert_eq!(refusal(&image()[..232], b"", 4 * MIB), short);
    assert_eq!(refusal(&image()[..100], b"", 4 * MIB), short);
    let no_room = "the image does not fit the guest's memory";
    assert_eq!(refusal(&image(), b"", MIB + 4096), no_room);
    assert_eq!(refusal(&image(), &[b'x'; 4096], 4 * MIB), "its command line is too long");
}

#[test]
fn no_damage_to_an_image_causes_a_panic() {
    let good = image();
    let mut random = Random::new(5);
    for _ in 0..20_000 {
        let mut bad = good.clone();
        for _ in 0..=random.below(3) {
            let at = random.below(bad.len() as u64) as usize;
            bad[at] = random.bits() as u8;
        }
        bad.truncate(random.below(good.len() as u64 + 1) as usize);
        let ram = GuestRange::new(GuestAddr::new(RAM), 4 * MIB).unwrap();
        let mut put = |at: GuestAddr, piece: &[u8]| {
            let range = GuestRange::new(at, piece.len() as u64).unwrap();
            assert!(ram.covers(range));
            Ok(())
        };
        let _ = prepare::<Board>(&OwnFiles { image: &bad, words: b"" }, (ram, 1), &mut put);
    }
}
