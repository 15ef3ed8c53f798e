//! The image as the linker script placed it. Every architecture's `image.ld` defines the same symbols.

// UNSAFETY: linker symbols are extern statics; only their addresses are taken, but for the symbol table's bytes.
#![expect(unsafe_code)]

use hotmem_paging::addr::{VirtAddr, VirtRange};

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

fn between(start: *const u8, end: *const u8) -> VirtRange {
    let (start, end) = (start.addr() as u64, end.addr() as u64);
    VirtRange::new(VirtAddr::new(start), end.saturating_sub(start)).unwrap_or_default()
}

pub(super) fn whole() -> VirtRange {
    between(&raw const __image_start, &raw const __image_end)
}

pub(super) fn text() -> VirtRange {
    between(&raw const __text_start, &raw const __text_end)
}

pub(super) fn rodata() -> VirtRange {
    between(&raw const __rodata_start, &raw const __rodata_end)
}

pub(super) fn data() -> VirtRange {
    between(&raw const __data_start, &raw const __image_end)
}

pub(super) fn early_stack() -> VirtRange {
    between(&raw const __early_stack, &raw const __early_stack_top)
}

pub(super) fn symbols() -> &'static [u8] {
    let range = between(&raw const __ksyms_start, &raw const __ksyms_end);
    // SAFETY: the linker script puts the two symbols around one section of initialised, read-only
    // bytes, which are never written while the kernel runs.
    unsafe { core::slice::from_raw_parts(&raw const __ksyms_start, range.len() as usize) }
}
