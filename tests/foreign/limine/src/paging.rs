//! The loader's page tables, and in them the first 4 GiB at their own addresses: firmware's tables and the local APIC.

use crate::boot::{BootInfo, EarlyFrames};
use x86_64::registers::control::Cr3;
use x86_64::structures::paging::{Mapper, OffsetPageTable, PageTable};
use x86_64::structures::paging::{PageTableFlags as Flags, PhysFrame, Size2MiB};
use x86_64::{PhysAddr, VirtAddr};

/// The registers of the local APIC.
pub const APIC: u64 = 0xfee0_0000;
/// The end of what is mapped to itself.
pub const LOW: u64 = 4 << 30;
const LARGE: u64 = 2 << 20;

/// The tables in use, with the first 4 GiB mapped to themselves. They are read-only but for the registers.
///
/// # Safety
///
/// To be called once, with the loader's tables in use.
pub unsafe fn init(boot: &BootInfo, frames: &mut EarlyFrames) -> OffsetPageTable<'static> {
    let root = boot.offset + Cr3::read().0.start_address().as_u64();
    // SAFETY: the loader maps its tables at the offset.
    let mut tables =
        unsafe { OffsetPageTable::new(&mut *root.as_mut_ptr::<PageTable>(), boot.offset) };
    for at in (0..LOW).step_by(LARGE as usize) {
        let frame = PhysFrame::<Size2MiB>::containing_address(PhysAddr::new(at));
        let flags = Flags::PRESENT | Flags::NO_EXECUTE;
        let registers = Flags::WRITABLE | Flags::NO_CACHE;
        let flags = if at == APIC { flags | registers } else { flags };
        // SAFETY: the lower half is unused; what is written there is written elsewhere.
        unsafe { tables.identity_map(frame, flags, frames) }.expect("memory for tables").flush();
    }
    tables
}

/// A register of the local APIC.
pub fn register(offset: u64) -> *mut u32 {
    VirtAddr::new(APIC + offset).as_mut_ptr()
}
