//! RAM in the upper half, by tables of the crate `aarch64-paging`. The lower half stays that of the tables before.

use aarch64_paging::descriptor::{El1Attributes, PhysicalAddress};
use aarch64_paging::paging::{
    Constraints, El1And0, MemoryRegion, PageTable, RootTable, Translation, VaRange,
};
use core::arch::asm;
use core::mem;
use core::ptr::NonNull;

/// Where physical address 0 is.
pub const OFFSET: u64 = 0xffff_0000_0000_0000;
/// Ranges of RAM that the kernel uses.
pub const MOST: usize = 16;
/// The smallest that it uses.
const LEAST: u64 = 2 << 20;
/// Memory for tables.
const EARLY: u64 = 1 << 20;
/// Bytes of a page.
pub const PAGE: u64 = 4096;

/// How RAM is mapped: with number 3 of the memory types in MAIR, where UEFI has write-back.
pub const MEMORY: El1Attributes = El1Attributes::VALID
    .union(El1Attributes::ATTRIBUTE_INDEX_3)
    .union(El1Attributes::INNER_SHAREABLE)
    .union(El1Attributes::ACCESSED)
    .union(El1Attributes::PXN)
    .union(El1Attributes::UXN);

/// Ranges of RAM that nothing uses, ascending: start and bytes.
pub struct Ram {
    ranges: [(u64, u64); MOST],
    count: usize,
}

impl Ram {
    /// What is `free`, but for small pieces.
    pub fn new(free: impl Iterator<Item = (u64, u64)>) -> Self {
        let mut ram = Self { ranges: [(0, 0); MOST], count: 0 };
        for range in free.filter(|&(_, len)| len >= LEAST).take(MOST) {
            ram.ranges[ram.count] = range;
            ram.count += 1;
        }
        ram.ranges[..ram.count].sort_unstable();
        ram
    }

    /// The ranges.
    pub fn ranges(&self) -> &[(u64, u64)] {
        &self.ranges[..self.count]
    }
}

/// Memory for the first tables.
pub struct Early {
    next: u64,
    end: u64,
}

impl Early {
    /// Takes it from the largest range.
    pub fn new(ram: &mut Ram) -> Self {
        let ranges = &mut ram.ranges[..ram.count];
        let (at, len) = ranges.iter_mut().max_by_key(|(_, len)| *len).expect("memory");
        let early = Self { next: *at, end: *at + EARLY };
        (*at, *len) = (*at + EARLY, *len - EARLY);
        early
    }
}

impl Translation<El1Attributes> for Early {
    fn allocate_table(&mut self) -> (NonNull<PageTable<El1Attributes>>, PhysicalAddress) {
        let at = self.next;
        self.next += PAGE;
        assert!(self.next <= self.end, "memory for tables");
        // SAFETY: the page has no other use, and is mapped to itself.
        unsafe { (at as *mut u8).write_bytes(0, PAGE as usize) };
        (self.physical_to_virtual(PhysicalAddress(at as usize)), PhysicalAddress(at as usize))
    }

    unsafe fn deallocate_table(&mut self, _table: NonNull<PageTable<El1Attributes>>) {}

    fn physical_to_virtual(&self, at: PhysicalAddress) -> NonNull<PageTable<El1Attributes>> {
        NonNull::new(at.0 as *mut PageTable<El1Attributes>).expect("a table is not at 0")
    }
}

/// Maps RAM, and has the CPU use the tables; returns the root.
///
/// # Safety
///
/// To be called once, with all memory mapped to itself.
pub unsafe fn init(ram: &Ram, early: Early) -> u64 {
    let mut tables = RootTable::with_va_range(early, 0, El1And0, VaRange::Upper);
    // What `early` has taken is mapped, too: the walker reaches the tables there.
    let all = ram.ranges().iter().map(|&(at, len)| (at, len));
    let own = (tables.translation().end - EARLY, EARLY);
    for (at, len) in all.chain([own]) {
        let region = MemoryRegion::new((OFFSET + at) as usize, (OFFSET + at + len) as usize);
        let at = PhysicalAddress(at as usize);
        tables.map_range(&region, at, MEMORY, Constraints::NO_CONTIGUOUS_HINT).expect("a mapping");
    }
    let root = tables.to_physical().0 as u64;
    // They stay.
    mem::forget(tables);
    // SAFETY: the upper half is used for nothing yet.
    unsafe { activate(root) };
    root
}

/// Has the CPU translate the upper half by the tables at `root`: 48 bits, pages of 4 KiB, walks by write-back accesses.
///
/// # Safety
///
/// The tables show what may be accessed.
unsafe fn activate(root: u64) {
    /// T1SZ to TG1 of TCR_EL1.
    const UPPER: u64 = 0xffff << 16;
    const VALUE: u64 = 16 << 16 | 1 << 24 | 1 << 26 | 3 << 28 | 2 << 30;
    // SAFETY: what the lower half is translated by stays.
    unsafe {
        asm!(
            "dsb ishst",
            "msr ttbr1_el1, {root}",
            "mrs {tcr}, tcr_el1",
            "bic {tcr}, {tcr}, {upper}",
            "orr {tcr}, {tcr}, {value}",
            "msr tcr_el1, {tcr}",
            "isb",
            "tlbi vmalle1",
            "dsb nsh",
            "isb",
            root = in(reg) root,
            tcr = out(reg) _,
            upper = in(reg) UPPER,
            value = in(reg) VALUE,
            options(nostack)
        );
    }
}
