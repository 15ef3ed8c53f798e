//! What the loader of the crate `bootloader` passes, in the place of the template's `boot.rs`.

use bootloader::bootinfo::{MemoryRegion, MemoryRegionType};
use x86_64::instructions::tlb;
use x86_64::structures::paging::{OffsetPageTable, Page, Size4KiB};
use x86_64::{PhysAddr, VirtAddr};

/// Ranges of RAM that the kernel uses.
pub const MOST: usize = 16;
/// Where a BIOS leaves the root pointer of ACPI (ACPI 6.5, 5.2.5.1).
const BIOS: core::ops::Range<u64> = 0xe_0000..0x10_0000;

/// The machine's description.
#[derive(Debug)]
pub struct BootInfo {
    /// Ranges of RAM, ascending: start and bytes.
    pub ram: [(u64, u64); MOST],
    /// How many.
    pub ranges: usize,
    /// The root pointer of ACPI.
    pub rsdp: PhysAddr,
    /// The first byte of RAM behind what is in use: the kernel, its stack, and the loader's tables.
    pub first_free: u64,
    /// Where the loader maps physical memory.
    pub offset: VirtAddr,
    /// The end of what it maps there.
    mapped: u64,
}

impl BootInfo {
    /// Reads what the loader passed.
    ///
    /// # Panics
    ///
    /// When the machine has no BIOS or no ACPI, or its RAM is in more than [`MOST`] pieces.
    pub fn new(info: &bootloader::BootInfo) -> Self {
        let offset = VirtAddr::new(info.physical_memory_offset);
        let regions = &info.memory_map;
        let mut boot = Self {
            ram: [(0, 0); MOST],
            ranges: 0,
            rsdp: find_rsdp(offset),
            first_free: regions.iter().filter(|one| in_use(one)).map(end).max().unwrap_or(0),
            offset,
            mapped: regions.iter().map(end).max().unwrap_or(0),
        };
        for region in
            regions.iter().filter(|one| one.region_type == MemoryRegionType::Usable || in_use(one))
        {
            boot.add(region.range.start_addr(), end(region));
        }
        boot
    }

    /// Adds RAM from `start` to `end`: the loader divides what firmware lists by what it uses.
    fn add(&mut self, start: u64, end: u64) {
        match self.ram[..self.ranges].last_mut() {
            Some((at, len)) if *at + *len == start => *len = end - *at,
            _ => {
                self.ram[self.ranges] = (start, end - start);
                self.ranges += 1;
            }
        }
    }

    /// The end of RAM, up to the next 2 MiB: firmware keeps its tables there.
    pub fn end(&self) -> u64 {
        let end = self.ram[..self.ranges].iter().map(|&(at, len)| at + len).max();
        end.unwrap_or(0).next_multiple_of(2 << 20)
    }

    /// Takes the loader's map of physical memory out of `tables`: it is writable and executable, and covers far more than RAM.
    pub fn unmap(&self, tables: &mut OffsetPageTable<'_>) {
        let entry = |at| Page::<Size4KiB>::containing_address(self.offset + at).p4_index();
        for index in usize::from(entry(0))..=usize::from(entry(self.mapped)) {
            tables.level_4_table_mut()[index].set_unused();
        }
        tlb::flush_all();
    }
}

/// Whether the loader has put something there.
fn in_use(region: &MemoryRegion) -> bool {
    use MemoryRegionType as Kind;
    let firmware =
        [Kind::Usable, Kind::Reserved, Kind::AcpiReclaimable, Kind::AcpiNvs, Kind::BadMemory];
    !firmware.contains(&region.region_type)
}

fn end(region: &MemoryRegion) -> u64 {
    region.range.end_addr()
}

fn find_rsdp(offset: VirtAddr) -> PhysAddr {
    let found = BIOS.step_by(16).find(|&at| {
        let place: *const [u8; 8] = (offset + at).as_ptr();
        // SAFETY: the loader maps it there, and nothing writes it.
        unsafe { *place == *b"RSD PTR " }
    });
    PhysAddr::new(found.expect("the root pointer of ACPI, of a BIOS"))
}
