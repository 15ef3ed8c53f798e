//! Places a Linux kernel in a guest's memory, by the 64-bit boot protocol (Linux, Documentation/arch/x86/boot.rst).
//!
//! ```text
//!   0x7000   boot_params   0x8000 command line   0x9000 page tables, 1:1   0xb000 GDT   0xe0000 ACPI tables
//!   the address that the kernel prefers: its protected-mode part; its 64-bit entry is 0x200 behind
//!   the last pages that it allows: the initial RAM disk
//! ```

use super::acpi;
use crate::contract::{Described, KernelStart, NoKernel, Put};
use hotmem_paging::addr::{GuestAddr, GuestRange};

const BOOT_PARAMS: u64 = 0x7000;
const COMMAND_LINE: u64 = 0x8000;
const COMMAND_LINE_BYTES: usize = 0x800;
/// CR3 at the entry.
pub(crate) const TABLES: u64 = 0x9000;
const TABLES_BELOW: u64 = 0xa000;
/// The descriptors at the entry.
pub(crate) const GDT: u64 = 0xb000;
pub(crate) const GDT_BYTES: u32 = size_of_val(&DESCRIPTORS) as u32;
/// What lies at fixed addresses ends below this.
const FIXED_END: u64 = 0x10_0000;

// The setup header, by its offset in the image and in boot_params.
const SETUP_SECTORS: usize = 0x1f1;
const HEADER: usize = 0x1f1;
const PARAGRAPHS: usize = 0x1f4;
const HEADER_LENGTH: usize = 0x201;
const MAGIC: usize = 0x202;
const VERSION: usize = 0x206;
const LOAD_FLAGS: usize = 0x211;
const MORE_LOAD_FLAGS: usize = 0x236;
const LAST_OF_DISK: usize = 0x22c;
const LONGEST_COMMAND_LINE: usize = 0x238;
const PREFERRED: usize = 0x258;
const NEEDED: usize = 0x260;
/// The header ends here at least: all fields above are in it.
const HEADER_END: usize = 0x264;

// Fields that the loader writes to boot_params.
const PARAMS_RSDP: u64 = 0x70;
const PARAMS_REGIONS: u64 = 0x1e8;
const PARAMS_LOADER: u64 = 0x210;
const PARAMS_DISK: u64 = 0x218;
const PARAMS_COMMAND_LINE: u64 = 0x228;
const PARAMS_MAP: u64 = 0x2d0;
/// A loader without a number of its own.
const LOADER: u8 = 0xff;

/// Protocol 2.12, the first one with [`MORE_LOAD_FLAGS`].
const LEAST_VERSION: u16 = 0x20c;
const LOADED_HIGH: u8 = 1;
const HAS_64_BIT_ENTRY: u16 = 1;
const ENTRY_64: u64 = 0x200;
const SECTOR: usize = 512;
const PAGE: u64 = 4096;
const GIB: u64 = 1 << 30;

/// Memory that is not to be used: from the last KiB that is a kernel's on a PC to the end of the tables of firmware, and
/// where a PC has its interrupt controllers and firmware.
const LOW_END: u64 = 0x9_f000;
const HOLE: u64 = 0xfec0_0000;
const HOLE_END: u64 = 1 << 32;
const USABLE: u32 = 1;
const RESERVED: u32 = 2;

/// The selectors that the protocol asks for, and their descriptors.
const DESCRIPTORS: [u64; 4] = [0, 0, 0x00af_9b00_0000_ffff, 0x00cf_9300_0000_ffff];

/// The bytes of a field.
fn field<const N: usize>(image: &[u8], at: usize) -> [u8; N] {
    let bytes = image.get(at..).and_then(|rest| rest.first_chunk());
    bytes.copied().unwrap_or([0; N])
}

/// A kernel whose header was checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Kernel<'a> {
    header: &'a [u8],
    body: &'a [u8],
    at: u64,
    end: u64,
    last_of_disk: u64,
    longest_command_line: usize,
}

impl<'a> Kernel<'a> {
    /// The kernel in `image`, a bzImage.
    ///
    /// # Errors
    ///
    /// [`NoKernel`].
    pub(crate) fn of(image: &'a [u8]) -> Result<Self, NoKernel> {
        if field(image, MAGIC) != *b"HdrS" {
            return Err(NoKernel("the kernel is not a bzImage: it lacks the setup header"));
        }
        let version = u16::from_le_bytes(field(image, VERSION));
        if version < LEAST_VERSION {
            return Err(NoKernel("the boot protocol of the kernel is older than 2.12"));
        }
        let [flags] = field(image, LOAD_FLAGS);
        let more = u16::from_le_bytes(field(image, MORE_LOAD_FLAGS));
        if flags & LOADED_HIGH == 0 || more & HAS_64_BIT_ENTRY == 0 {
            return Err(NoKernel("the kernel has no 64-bit entry"));
        }
        let [length] = field(image, HEADER_LENGTH);
        let header_end = MAGIC + usize::from(length);
        let header = image.get(HEADER..header_end).filter(|_| header_end >= HEADER_END);
        let [sectors] = field(image, SETUP_SECTORS);
        let sectors = if sectors == 0 { 4 } else { usize::from(sectors) };
        let bytes = u32::from_le_bytes(field(image, PARAGRAPHS)) as usize * 16;
        let body = image.get((sectors + 1) * SECTOR..).and_then(|rest| rest.get(..bytes));
        let (Some(header), Some(body)) = (header, body) else {
            return Err(NoKernel("the kernel is shorter than its header says"));
        };
        let at = u64::from_le_bytes(field(image, PREFERRED));
        let needed = u32::from_le_bytes(field(image, NEEDED)).max(body.len() as u32);
        let end = at.saturating_add(needed.into());
        if body.len() as u64 <= ENTRY_64 {
            return Err(NoKernel("the kernel is shorter than its header says"));
        }
        // The tables of the entry map 4 GiB.
        if at < FIXED_END || at % PAGE != 0 || end > HOLE {
            return Err(NoKernel("the kernel asks for memory that guests do not have"));
        }
        Ok(Self {
            header,
            body,
            at,
            end,
            last_of_disk: u32::from_le_bytes(field(image, LAST_OF_DISK)).into(),
            longest_command_line: u32::from_le_bytes(field(image, LONGEST_COMMAND_LINE)) as usize,
        })
    }
}

/// A number in decimal digits.
pub(crate) struct Decimal {
    digits: [u8; 20],
    first: usize,
}

impl Decimal {
    pub(crate) fn new(mut number: u64) -> Self {
        let mut new = Self { digits: [b'0'; 20], first: 20 };
        for (index, digit) in new.digits.iter_mut().enumerate().rev() {
            *digit = b'0' + (number % 10) as u8;
            number /= 10;
            new.first = index;
            if number == 0 {
                break;
            }
        }
        new
    }

    pub(crate) fn digits(&self) -> &[u8] {
        self.digits.get(self.first..).unwrap_or_default()
    }
}

/// Places `kernel`, the initial RAM disk and the parts of the command line in a guest with `memory` bytes of zeroed memory
/// from address 0 on, and `cpus` CPUs. It begins with the address of its boot_params as its only argument.
///
/// # Errors
///
/// [`NoKernel`]: they do not fit, and nothing was written; or an error of `put`.
pub(crate) fn place(
    kernel: &Kernel<'_>,
    disk: &[u8],
    command_line: &[&[u8]],
    (memory, cpus): (u64, usize),
    put: &mut Put<'_>,
) -> Result<KernelStart, NoKernel> {
    let below_hole = memory.min(HOLE);
    if kernel.end > below_hole {
        return Err(NoKernel("the kernel does not fit the guest's memory"));
    }
    let disk_bytes = disk.len() as u64;
    let disk_end = below_hole.min(kernel.last_of_disk.saturating_add(1));
    let disk_at = disk_end.checked_sub(disk_bytes).map(|at| at & !(PAGE - 1));
    let disk_at = disk_at.filter(|at| *at >= kernel.end);
    let disk_at = disk_at.ok_or(NoKernel("the initial RAM disk does not fit beside the kernel"))?;
    let longest = kernel.longest_command_line.min(COMMAND_LINE_BYTES - 1);
    if command_line.iter().map(|part| part.len()).sum::<usize>() > longest {
        return Err(NoKernel("the command line is longer than the kernel allows"));
    }

    let mut put = |at, bytes: &[u8]| put(GuestAddr::new(at), bytes);
    put(kernel.at, kernel.body)?;
    put(disk_at, disk)?;
    let mut at = COMMAND_LINE;
    for part in command_line {
        put(at, part)?;
        at += part.len() as u64;
    }
    put_acpi(cpus, &mut put)?;
    put_params(kernel.header, (disk_at, disk_bytes), memory, &mut put)?;
    put_tables(&mut put)?;
    let entry = GuestAddr::new(kernel.at + ENTRY_64);
    Ok(KernelStart { entry, arguments: [BOOT_PARAMS, 0, 0, 0] })
}

/// Describes the board to a kernel that begins with a start info; that goes where boot_params do.
///
/// # Errors
///
/// An error of `put`.
pub(crate) fn describe(memory: u64, cpus: usize, put: &mut Put<'_>) -> Result<Described, NoKernel> {
    put_acpi(cpus, &mut |at, bytes: &[u8]| put(GuestAddr::new(at), bytes))?;
    let mut map = [(GuestRange::default(), false); 5];
    for (slot, (start, end, kind)) in map.iter_mut().zip(regions(memory)) {
        let range = GuestRange::new(GuestAddr::new(start), end - start).unwrap_or_default();
        *slot = (range, kind == USABLE);
    }
    let room = GuestRange::new(GuestAddr::new(BOOT_PARAMS), LOW_END - BOOT_PARAMS);
    Ok(Described {
        rsdp: GuestAddr::new(acpi::AT),
        start_info: room.unwrap_or_default(),
        memory: map,
    })
}

/// Writes the ACPI tables.
fn put_acpi(
    cpus: usize,
    put: &mut impl FnMut(u64, &[u8]) -> Result<(), NoKernel>,
) -> Result<(), NoKernel> {
    let written = acpi::with_tables(cpus, |tables| put(acpi::AT, tables));
    written.unwrap_or(Err(NoKernel("its ACPI tables have no room")))
}

fn put_params(
    header: &[u8],
    (disk_at, disk_bytes): (u64, u64),
    memory: u64,
    put: &mut impl FnMut(u64, &[u8]) -> Result<(), NoKernel>,
) -> Result<(), NoKernel> {
    let mut param = |offset: u64, bytes: &[u8]| put(BOOT_PARAMS + offset, bytes);
    param(HEADER as u64, header)?;
    param(PARAMS_RSDP, &acpi::AT.to_le_bytes())?;
    param(PARAMS_LOADER, &[LOADER])?;
    param(PARAMS_DISK, &(disk_at as u32).to_le_bytes())?;
    param(PARAMS_DISK + 4, &(disk_bytes as u32).to_le_bytes())?;
    param(PARAMS_COMMAND_LINE, &(COMMAND_LINE as u32).to_le_bytes())?;
    let mut count = 0_u8;
    for (start, end, kind) in regions(memory) {
        let entry = PARAMS_MAP + u64::from(count) * 20;
        param(entry, &start.to_le_bytes())?;
        param(entry + 8, &(end - start).to_le_bytes())?;
        param(entry + 16, &kind.to_le_bytes())?;
        count += 1;
    }
    param(PARAMS_REGIONS, &[count])
}

/// The map of memory: start, end and kind of each region that is there.
fn regions(memory: u64) -> impl Iterator<Item = (u64, u64, u32)> {
    [
        (0, LOW_END, USABLE),
        (LOW_END, FIXED_END, RESERVED),
        (FIXED_END, HOLE, USABLE),
        (HOLE, HOLE_END, RESERVED),
        (HOLE_END, u64::MAX, USABLE),
    ]
    .into_iter()
    .map(move |(start, end, kind)| (start, end.min(memory), kind))
    .filter(|(start, end, _)| start < end)
}

/// Page tables that map the first 4 GiB where they are, and the descriptors.
fn put_tables(put: &mut impl FnMut(u64, &[u8]) -> Result<(), NoKernel>) -> Result<(), NoKernel> {
    // Present, writable, accessed; a leaf also dirty and large.
    put(TABLES, &(TABLES_BELOW | 0x23).to_le_bytes())?;
    for index in 0..HOLE_END / GIB {
        put(TABLES_BELOW + index * 8, &((index * GIB) | 0xe3).to_le_bytes())?;
    }
    for (index, descriptor) in (0..).zip(DESCRIPTORS) {
        put(GDT + index * 8, &descriptor.to_le_bytes())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
