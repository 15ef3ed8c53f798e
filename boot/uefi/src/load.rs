//! The program itself.

// UNSAFETY: writes memory that UEFI gave away, and ends UEFI's boot services.
#![expect(unsafe_code)]

use crate::image::{BadImage, Kernel};
use crate::leave::Way;
use core::convert::Infallible;
use core::fmt;
use hotmem_boot::efi;
use hotmem_boot::start_info::{self, StartInfo};
use hotmem_paging::addr::{PhysAddr, PhysRange};
use uefi::boot::{self, AllocateType, MemoryType, PAGE_SIZE};
use uefi::mem::memory_map::{MemoryMap, MemoryMapOwned};
use uefi::proto::loaded_image::LoadedImage;
use uefi::table::cfg::ConfigTableEntry;
use uefi::{Status, entry, println, system};

/// The image, aligned as its headers require.
#[repr(C, align(4096))]
struct Aligned<T: ?Sized>(T);

static KERNEL: &Aligned<[u8]> = &Aligned(*include_bytes!(env!("HOTMEM_KERNEL")));

/// Bytes for start info, command line and memory map.
const HANDOFF_BYTES: usize = 64 << 10;
/// What the kernel's early page tables show ends here.
const EARLY_LIMIT: u64 = 4 << 30;
/// Bytes of command line that are looked at.
const LINE_BYTES: usize = 2048;

/// Why the kernel was not started.
enum LoadError {
    Image(BadImage),
    /// UEFI refused something.
    Uefi(&'static str, uefi::Error),
    NoRsdp,
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Image(error) => error.fmt(f),
            Self::Uefi(what, error) => write!(f, "{what}: {error}"),
            Self::NoRsdp => f.write_str("UEFI has no ACPI tables"),
        }
    }
}

#[entry]
fn main() -> Status {
    match load() {
        Ok(never) => match never {},
        Err(error) => {
            println!("hotmem: cannot start: {error}");
            Status::LOAD_ERROR
        }
    }
}

fn load() -> Result<Infallible, LoadError> {
    let kernel = Kernel::new(&KERNEL.0).map_err(LoadError::Image)?;
    let mut line = [0; LINE_BYTES];
    let line = command_line(&mut line);
    let rsdp = root_pointer().ok_or(LoadError::NoRsdp)?;
    let low = AllocateType::MaxAddress(EARLY_LIMIT - 1);
    let handoff =
        allocate("no memory for the hand-off", low, MemoryType::LOADER_DATA, HANDOFF_BYTES)?;
    let way = Way::new(|bytes| {
        allocate("no memory for the last code", low, MemoryType::LOADER_CODE, bytes)
    })?;
    put_in_place(&kernel)?;

    // SAFETY: nothing of UEFI is used from here on: no service, no console, no event.
    let map = unsafe { boot::exit_boot_services(None) };
    // SAFETY: the pages were allocated for this, and nothing else uses them.
    let bytes = unsafe { core::slice::from_raw_parts_mut(handoff as *mut u8, HANDOFF_BYTES) };
    let info = StartInfo { rsdp, command_line: line };
    // A map that does not fit ends early, without a message, since the console is gone. The kernel then
    // finds no start info and reports that.
    let _ = start_info::write(&info, ranges(&map), PhysAddr::new(handoff), bytes);
    let (start, end) = kernel.span();
    let ours = [(start, end), (handoff, handoff + HANDOFF_BYTES as u64)];
    // SAFETY: boot services have ended, the kernel is in place where it is linked, which is below 4 GiB as the hand-off is, and
    // UEFI maps both at their physical addresses.
    unsafe { way.take(kernel.entry(), handoff, &ours) }
}

/// Pages of ours.
fn allocate(
    what: &'static str,
    place: AllocateType,
    kind: MemoryType,
    bytes: usize,
) -> Result<u64, LoadError> {
    let pages = bytes.div_ceil(PAGE_SIZE);
    let at = boot::allocate_pages(place, kind, pages);
    Ok(at.map_err(|error| LoadError::Uefi(what, error))?.as_ptr() as u64)
}

/// Copies the image to where it is linked.
fn put_in_place(kernel: &Kernel<'_>) -> Result<(), LoadError> {
    let (start, end) = kernel.span();
    let what = "the memory that the kernel is linked for is in use";
    let place = AllocateType::Address(start);
    allocate(what, place, MemoryType::LOADER_DATA, (end - start) as usize)?;
    for segment in kernel.segments() {
        let to = segment.at as *mut u8;
        // SAFETY: the segment's memory was just allocated, and UEFI maps memory at its physical address.
        unsafe { to.write_bytes(0, segment.size as usize) };
        // SAFETY: as above; the segment is at least as large as its bytes in the file.
        unsafe { to.copy_from_nonoverlapping(segment.bytes.as_ptr(), segment.bytes.len()) };
    }
    Ok(())
}

/// The options that the program was started with, as far as they are ASCII.
fn command_line(into: &mut [u8; LINE_BYTES]) -> &[u8] {
    let image = boot::open_protocol_exclusive::<LoadedImage>(boot::image_handle());
    let mut length = 0;
    if let Ok(image) = &image
        && let Ok(options) = image.load_options_as_cstr16()
    {
        for (slot, unit) in into.iter_mut().zip(options.to_u16_slice()) {
            *slot = u8::try_from(*unit).unwrap_or(b'?');
            length += 1;
        }
    }
    into.get(..length).unwrap_or_default()
}

/// Where the ACPI tables begin.
fn root_pointer() -> Option<PhysAddr> {
    system::with_config_table(|tables| {
        let acpi = tables.iter().find(|table| table.guid == ConfigTableEntry::ACPI2_GUID);
        acpi.map(|table| PhysAddr::new(table.address as u64))
    })
}

/// The ranges of UEFI's memory map, and whether the kernel may use each.
fn ranges(map: &MemoryMapOwned) -> impl Iterator<Item = (PhysRange, bool)> + '_ {
    map.entries().filter_map(|entry| {
        let bytes = entry.page_count.saturating_mul(4096);
        let range = PhysRange::new(PhysAddr::new(entry.phys_start), bytes)?;
        Some((range, efi::is_free(entry.ty.0, entry.att.bits())))
    })
}
