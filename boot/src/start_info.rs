//! The PVH start info: what a hypervisor (QEMU `-kernel`, Xen) hands to an x86 kernel with a PVH note,
//! and what this project's own UEFI loader hands to any.
//!
//! Layout: Xen's public header `xen/include/public/arch-x86/hvm/start_info.h`, version 1:
//!
//! ```text
//!   +0 magic u32   +4 version u32   +8 flags u32   +12 modules u32   +16 module list u64
//!   +24 command line u64   +32 RSDP u64   +40 memory map u64   +48 entries u32   +52 reserved u32
//!   memory map entry: address u64, size u64, type u32 (1 = RAM), reserved u32
//! ```

use crate::info::{BootInfo, COMMAND_LINE_BYTES, CommandLine, Firmware, HandoffError, LeftOut};
use crate::ranges::RangeList;
use hotmem_paging::ReadPhys;
use hotmem_paging::addr::{PhysAddr, PhysRange};

const MAGIC: u32 = 0x336e_c578;
const START_INFO_BYTES: u64 = 56;
const ENTRY_BYTES: u64 = 24;
const MAX_ENTRIES: u32 = 1024;
const TYPE_RAM: u32 = 1;
const TYPE_RESERVED: u32 = 2;
const PAGE: u64 = 4096;

/// Copies the hand-off at `start_info` into a [`BootInfo`].
///
/// # Errors
///
/// [`HandoffError`] for a start info that is not one, has no RAM or no RSDP, or points outside of
/// what `memory` can read. A command line that cannot be read counts as empty.
pub fn parse(memory: &impl ReadPhys, start_info: PhysAddr) -> Result<BootInfo, HandoffError> {
    let header = fetch(memory, start_info, START_INFO_BYTES)?;
    let (magic, version) = (u32_at(header, 0), u32_at(header, 4));
    if magic != MAGIC {
        return Err(HandoffError::BadMagic { found: magic });
    }
    if version < 1 {
        return Err(HandoffError::OldVersion { version });
    }
    let rsdp = u64_at(header, 32);
    if rsdp == 0 {
        return Err(HandoffError::NoRsdp);
    }

    let map = PhysAddr::new(u64_at(header, 40));
    Ok(BootInfo {
        ram: memory_map(memory, map, u32_at(header, 48))?,
        left_out: LeftOut::default(),
        firmware: Firmware::Acpi(PhysAddr::new(rsdp)),
        command_line: command_line(memory, PhysAddr::new(u64_at(header, 24))),
    })
}

/// RAM in whole pages, without what another entry claims too.
fn memory_map(
    memory: &impl ReadPhys,
    map: PhysAddr,
    entries: u32,
) -> Result<RangeList, HandoffError> {
    if entries > MAX_ENTRIES {
        return Err(HandoffError::TooManyEntries { entries });
    }
    let bytes = fetch(memory, map, u64::from(entries) * ENTRY_BYTES)?;
    let entries = |wanted: fn(u32) -> bool| {
        let all = bytes.chunks_exact(ENTRY_BYTES as usize);
        all.filter(move |entry| wanted(u32_at(entry, 16))).map(|entry| {
            let start = u64_at(entry, 0);
            (start, start.saturating_add(u64_at(entry, 8)))
        })
    };

    let mut ram = RangeList::new();
    for (start, end) in entries(|kind| kind == TYPE_RAM) {
        ram.insert(pages(start.saturating_add(PAGE - 1), end));
    }
    for (start, end) in entries(|kind| kind != TYPE_RAM) {
        ram.remove(pages(start, end.saturating_add(PAGE - 1)));
    }
    // Page 0 holds real-mode vectors, and a null pointer must never be RAM.
    ram.remove(pages(0, PAGE));
    if ram.as_slice().is_empty() {
        return Err(HandoffError::NoRam);
    }
    Ok(ram)
}

/// What [`write()`] writes.
#[derive(Clone, Copy, Debug)]
pub struct StartInfo<'a> {
    /// The ACPI root pointer.
    pub rsdp: PhysAddr,
    /// The kernel command line.
    pub command_line: &'a [u8],
}

/// Writes a start info with its command line and a memory map of `ranges`, each with whether it is
/// RAM, into the bytes at `at`. `None` if they are too few.
pub fn write(
    info: &StartInfo<'_>,
    ranges: impl Iterator<Item = (PhysRange, bool)>,
    at: PhysAddr,
    into: &mut [u8],
) -> Option<()> {
    let line_at = START_INFO_BYTES as usize;
    let line_end = line_at.checked_add(info.command_line.len())?;
    let map_at = line_end.checked_add(1)?.checked_next_multiple_of(8)?;
    into.get_mut(line_at..line_end)?.copy_from_slice(info.command_line);
    into.get_mut(line_end..map_at)?.fill(0);

    let mut entries = 0u32;
    let mut slots = into.get_mut(map_at..)?.chunks_exact_mut(ENTRY_BYTES as usize);
    for (range, is_ram) in ranges {
        let slot = slots.next()?;
        put(slot, 0, &range.start().get().to_le_bytes())?;
        put(slot, 8, &range.len().to_le_bytes())?;
        put(slot, 16, &u32::to_le_bytes(if is_ram { TYPE_RAM } else { TYPE_RESERVED }))?;
        put(slot, 20, &[0; 4])?;
        entries += 1;
    }

    let address = |offset: usize| (at.get() + offset as u64).to_le_bytes();
    into.get_mut(..line_at)?.fill(0);
    put(into, 0, &MAGIC.to_le_bytes())?;
    put(into, 4, &1u32.to_le_bytes())?;
    put(into, 24, &address(line_at))?;
    put(into, 32, &info.rsdp.get().to_le_bytes())?;
    put(into, 40, &address(map_at))?;
    put(into, 48, &entries.to_le_bytes())
}

fn put(into: &mut [u8], at: usize, bytes: &[u8]) -> Option<()> {
    into.get_mut(at..)?.get_mut(..bytes.len())?.copy_from_slice(bytes);
    Some(())
}

/// The range from `start` to `end`, both rounded down to a page; empty if nothing is left.
fn pages(start: u64, end: u64) -> PhysRange {
    let (start, end) = (start & !(PAGE - 1), end & !(PAGE - 1));
    PhysRange::new(PhysAddr::new(start), end.saturating_sub(start)).unwrap_or_default()
}

/// The NUL-terminated text at `at`, read page by page: its length is not known beforehand.
fn command_line(memory: &impl ReadPhys, at: PhysAddr) -> CommandLine {
    if at.get() == 0 {
        return CommandLine::new();
    }
    // One byte more than is kept shows whether the line fits or was cut.
    let most = (COMMAND_LINE_BYTES + 1) as u64;
    let to_page_end = PAGE - at.get() % PAGE;
    let whole = fetch(memory, at, most);
    let text = whole.or_else(|_| fetch(memory, at, most.min(to_page_end)));
    text.map(CommandLine::copy).unwrap_or_default()
}

fn fetch(memory: &impl ReadPhys, at: PhysAddr, bytes: u64) -> Result<&[u8], HandoffError> {
    PhysRange::new(at, bytes)
        .and_then(|range| memory.bytes(range))
        .ok_or(HandoffError::Unreachable { address: at.get(), bytes })
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let word = bytes.get(at..).and_then(|rest| rest.first_chunk());
    word.copied().map_or(0, u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let word = bytes.get(at..).and_then(|rest| rest.first_chunk());
    word.copied().map_or(0, u64::from_le_bytes)
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use std::vec::Vec;

    struct Fake(Vec<u8>);

    impl ReadPhys for Fake {
        fn bytes(&self, range: PhysRange) -> Option<&[u8]> {
            let start = usize::try_from(range.start().get()).ok()?;
            self.0.get(start..start.checked_add(usize::try_from(range.len()).ok()?)?)
        }
    }

    const START: u64 = 0x100;
    const MAP: u64 = 0x200;
    const LINE: u64 = 0x2000;

    impl Fake {
        fn new(entries: &[(u64, u64, u32)], line: &[u8]) -> Self {
            let mut fake = Self(std::vec![0; 0x3000]);
            fake.put(START, &MAGIC.to_le_bytes());
            fake.put(START + 4, &1u32.to_le_bytes());
            fake.put(START + 24, &LINE.to_le_bytes());
            fake.put(START + 32, &0xf59e0u64.to_le_bytes());
            fake.put(START + 40, &MAP.to_le_bytes());
            fake.put(START + 48, &(entries.len() as u32).to_le_bytes());
            for (i, &(start, size, kind)) in entries.iter().enumerate() {
                let at = MAP + i as u64 * ENTRY_BYTES;
                fake.put(at, &start.to_le_bytes());
                fake.put(at + 8, &size.to_le_bytes());
                fake.put(at + 16, &kind.to_le_bytes());
            }
            fake.put(LINE, line);
            fake
        }

        fn put(&mut self, at: u64, bytes: &[u8]) {
            self.0[at as usize..at as usize + bytes.len()].copy_from_slice(bytes);
        }

        fn parse(&self) -> Result<BootInfo, HandoffError> {
            parse(self, PhysAddr::new(START))
        }
    }

    /// The map QEMU gives a q35 machine with 512 MiB.
    const Q35: &[(u64, u64, u32)] = &[
        (0, 0x9fc00, 1),
        (0x9fc00, 0x400, 2),
        (0xf0000, 0x10000, 2),
        (0x10_0000, 0x1fee_0000, 1),
        (0x1ffe_0000, 0x2_0000, 2),
        (0xb000_0000, 0x1000_0000, 2),
        (0xfd_0000_0000, 0x3_0000_0000, 2),
    ];

    #[test]
    fn a_q35_map_becomes_whole_pages_of_ram() {
        let info = Fake::new(Q35, b"placement=block log=debug\0junk").parse().unwrap();
        let ram = [pages(0x1000, 0x9f000), pages(0x10_0000, 0x1ffe_0000)];
        assert_eq!(info.ram.as_slice(), ram);
        assert_eq!(info.firmware, Firmware::Acpi(PhysAddr::new(0xf59e0)));
        assert_eq!(info.command_line.as_bytes(), b"placement=block log=debug");
    }

    #[test]
    fn reserved_wins_over_ram_that_claims_the_same_bytes() {
        let info = Fake::new(&[(0, 0x40_0000, 1), (0x10_0800, 0x10, 5)], b"").parse().unwrap();
        assert_eq!(info.ram.as_slice(), [pages(0x1000, 0x10_0000), pages(0x10_1000, 0x40_0000)]);
    }

    #[test]
    fn memory_of_every_other_type_is_reserved() {
        // Reserved, ACPI, ACPI NVS, unusable, disabled, persistent, and types that are not defined yet.
        for kind in [0, 2, 3, 4, 5, 6, 7, 8, 12, 0xf000_0000, u32::MAX] {
            for first in [true, false] {
                let mut map = [(0x10_0000, 0x10_0000, kind), (0x10_0000, 0x40_0000, 1)];
                if !first {
                    map.reverse();
                }
                let info = Fake::new(&map, b"").parse().unwrap();
                assert_eq!(info.ram.as_slice(), [pages(0x20_0000, 0x50_0000)], "type {kind:#x}");
            }
        }
    }

    #[test]
    fn entries_past_the_end_of_the_address_space_are_cut() {
        let info = Fake::new(&[(0x1000, 0x4000, 1), (u64::MAX - 10, 100, 2)], b"").parse().unwrap();
        assert_eq!(info.ram.bytes(), 0x4000);
    }

    #[test]
    fn a_broken_start_info_is_refused_with_its_value() {
        let mut fake = Fake::new(Q35, b"");
        fake.put(START + 48, &u32::MAX.to_le_bytes());
        assert_eq!(fake.parse().unwrap_err(), HandoffError::TooManyEntries { entries: u32::MAX });
        fake.put(START + 40, &u64::MAX.to_le_bytes());
        fake.put(START + 48, &7u32.to_le_bytes());
        let beyond = HandoffError::Unreachable { address: u64::MAX, bytes: 7 * ENTRY_BYTES };
        assert_eq!(fake.parse().unwrap_err(), beyond);
        fake.put(START + 32, &[0; 8]);
        assert_eq!(fake.parse().unwrap_err(), HandoffError::NoRsdp);
        fake.put(START + 4, &[0]);
        assert_eq!(fake.parse().unwrap_err(), HandoffError::OldVersion { version: 0 });
        fake.put(START, &[0]);
        assert_eq!(fake.parse().unwrap_err(), HandoffError::BadMagic { found: 0x336e_c500 });
        assert_eq!(Fake::new(&[], b"").parse().unwrap_err(), HandoffError::NoRam);
    }

    #[test]
    fn a_long_command_line_is_cut_and_says_so() {
        let info = Fake::new(Q35, &[b'x'; COMMAND_LINE_BYTES + 1]).parse().unwrap();
        assert_eq!(info.command_line.as_bytes().len(), COMMAND_LINE_BYTES);
        assert!(info.command_line.truncated());
        let info = Fake::new(Q35, &[b'x'; COMMAND_LINE_BYTES]).parse().unwrap();
        assert!(!info.command_line.truncated());
    }

    #[test]
    fn what_is_written_is_read_back() {
        let (at, rsdp) = (PhysAddr::new(0x100), PhysAddr::new(0xf59e0));
        let info = StartInfo { rsdp, command_line: b"placement=block" };
        let ranges = [(pages(0x1000, 0xb000), true), (pages(0x9000, 0xa000), false)];
        let mut fake = Fake(std::vec![0xff; 0x1800]);
        write(&info, ranges.into_iter(), at, &mut fake.0[0x100..]).unwrap();
        let read = fake.parse().unwrap();
        assert_eq!(read.ram.as_slice(), [pages(0x1000, 0x9000), pages(0xa000, 0xb000)]);
        assert_eq!(read.firmware, Firmware::Acpi(rsdp));
        assert_eq!(read.command_line.as_bytes(), b"placement=block");
        assert_eq!(write(&info, ranges.into_iter(), at, &mut [0; 119]), None);
    }

    #[test]
    fn a_map_of_more_pieces_than_a_list_can_hold_costs_ram_and_not_the_boot() {
        // Every other page of 1 MiB, then one large piece.
        let small = (0..256).map(|i| (0x10_0000 + u64::from(i) * 0x1000, 0x1000, 2 - i % 2));
        let map: Vec<_> = small.chain([(1 << 32, 1 << 30, TYPE_RAM)]).collect();
        let ram = Fake::new(&map, b"").parse().unwrap().ram;
        assert!(ram.covers(pages(1 << 32, 5 << 30)));
        assert_eq!((ram.as_slice().len(), ram.dropped()), (128, 0x1000));
    }

    #[test]
    fn no_flipped_byte_makes_the_parser_panic_or_reserved_memory_ram() {
        let clean = Fake::new(Q35, b"quiet");
        for at in START..LINE {
            for value in [0, 1, 0x7f, 0xff] {
                let mut fake = Fake(clean.0.clone());
                fake.put(at, &[value]);
                let Ok(info) = fake.parse() else { continue };
                let map = &fake.0[MAP as usize..];
                let all = if at < MAP { 0 } else { Q35.len() };
                for entry in map.chunks_exact(ENTRY_BYTES as usize).take(all) {
                    let (start, size) = (u64_at(entry, 0), u64_at(entry, 8));
                    let reserved = pages(start, start.saturating_add(size));
                    let is_ram = u32_at(entry, 16) == TYPE_RAM;
                    assert!(is_ram || !info.ram.overlaps(reserved), "{at:#x} is {value:#x}");
                }
            }
        }
    }
}
