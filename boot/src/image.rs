//! Where the kernel image lies, as the linker script placed it.
//!
//! Every architecture's `image.ld` defines the same symbols: the entry part is linked where it is
//! loaded, everything else at [`KERNEL_BASE`] + where it is loaded.

// UNSAFETY: linker symbols are extern statics; only their addresses are taken.
#![expect(unsafe_code)]

use crate::current::KERNEL_BASE;
use hotmem_paging::addr::{PhysAddr, PhysRange, VirtAddr, VirtRange};

unsafe extern "C" {
    static __image_start: u8;
    static __text_start: u8;
    static __text_end: u8;
    static __rodata_start: u8;
    static __rodata_end: u8;
    static __data_start: u8;
    static __image_end: u8;
    static __ksyms_start: u8;
    static __ksyms_end: u8;
    static __early_stack: u8;
    static __early_stack_top: u8;
}

/// A part of the image with one kind of access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Segment {
    /// Instructions.
    Text,
    /// Constants.
    Rodata,
    /// Variables.
    Data,
}

fn between(start: *const u8, end: *const u8) -> VirtRange {
    let (start, end) = (start.addr() as u64, end.addr() as u64);
    VirtRange::new(VirtAddr::new(start), end.saturating_sub(start)).unwrap_or_default()
}

impl Segment {
    /// Every segment, in address order.
    pub const ALL: [Self; 3] = [Self::Text, Self::Rodata, Self::Data];

    /// Where the segment runs: whole pages, linked at [`KERNEL_BASE`] and on.
    pub fn virt(self) -> VirtRange {
        match self {
            Self::Text => between(&raw const __text_start, &raw const __text_end),
            Self::Rodata => between(&raw const __rodata_start, &raw const __rodata_end),
            Self::Data => between(&raw const __data_start, &raw const __image_end),
        }
    }

    /// Where the segment was loaded.
    pub fn phys(self) -> PhysRange {
        let virt = self.virt();
        let start = PhysAddr::new(virt.start().offset_from(KERNEL_BASE));
        PhysRange::new(start, virt.len()).unwrap_or_default()
    }
}

/// Everything that was loaded, entry code and early tables included.
pub fn phys() -> PhysRange {
    let virt = between(&raw const __image_start, &raw const __image_end);
    let start = PhysAddr::new(virt.start().offset_from(KERNEL_BASE));
    PhysRange::new(start, virt.len()).unwrap_or_default()
}

/// The stack of the entry code, mapped only by the early tables.
pub fn early_stack() -> VirtRange {
    between(&raw const __early_stack, &raw const __early_stack_top)
}

/// The symbol table that was filled in after linking.
pub fn symbols() -> &'static [u8] {
    let range = between(&raw const __ksyms_start, &raw const __ksyms_end);
    // SAFETY: the linker script puts the two symbols around one section of initialised, read-only
    // bytes, which nobody writes while the kernel runs.
    unsafe { core::slice::from_raw_parts(&raw const __ksyms_start, range.len() as usize) }
}
