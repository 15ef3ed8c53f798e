//! Firmware's tables, mapped read-only on demand.

// UNSAFETY: makes slices of mapped firmware memory.
#![expect(unsafe_code)]

use super::devices::map_pages;
use super::layout::FIRMWARE_BASE;
use super::machine::KernelTables;
use hotmem::paging::{Attr, ReadPhys};
use hotmem::{PhysRange, VirtRange};
use hotmem_arch::current::addressing;
use hotmem_boot::RangeList;

/// The longest range that is mapped at once: no table is larger.
const LONGEST: u64 = 16 << 20;

/// Memory that holds firmware's tables: all memory that is not RAM of the kernel.
#[derive(Clone, Copy, Debug)]
pub struct FirmwareMemory<'b> {
    tables: &'b KernelTables,
    ram: &'b RangeList,
}

impl<'b> FirmwareMemory<'b> {
    /// Firmware memory: everything except `ram`.
    pub fn new(tables: &'b KernelTables, ram: &'b RangeList) -> Self {
        Self { tables, ram }
    }
}

impl ReadPhys for FirmwareMemory<'_> {
    fn bytes(&self, range: PhysRange) -> Option<&[u8]> {
        if range.is_empty() {
            return Some(&[]);
        }
        if range.len() > LONGEST || self.ram.overlaps(range) {
            return None;
        }
        let start = map_pages(range, FIRMWARE_BASE, Attr::empty(), self.tables).ok()?;
        let bytes = addressing::bytes(VirtRange::new(start, range.len())?)?;
        // SAFETY: the pages are mapped, for ever and nowhere writable; they are not RAM of the kernel, so no code in
        // this kernel changes them.
        Some(unsafe { core::slice::from_raw_parts(bytes.as_ptr(), range.len() as usize) })
    }
}
