//! On the host the kernel is a part of a test program. Its page tables show an image of this shape, whose memory
//! holds nothing.

use crate::current::KERNEL_BASE;
use hotmem_paging::addr::VirtRange;

/// Where the image is loaded.
const PHYS: u64 = 0x10_0000;
/// The entry code, with its tables and stack.
const ENTRY: u64 = 0x8000;
const TEXT: u64 = 0x4_0000;
const RODATA: u64 = 0x2_0000;
const DATA: u64 = 0x8_0000;

/// `len` bytes, `offset` bytes into the image.
fn part(offset: u64, len: u64) -> VirtRange {
    VirtRange::new(KERNEL_BASE.add(PHYS + offset), len).unwrap_or_default()
}

pub(super) fn whole() -> VirtRange {
    part(0, ENTRY + TEXT + RODATA + DATA)
}

pub(super) fn text() -> VirtRange {
    part(ENTRY, TEXT)
}

pub(super) fn rodata() -> VirtRange {
    part(ENTRY + TEXT, RODATA)
}

pub(super) fn data() -> VirtRange {
    part(ENTRY + TEXT + RODATA, DATA)
}

/// Stacks are the host's own.
pub(super) fn early_stack() -> VirtRange {
    VirtRange::default()
}

pub(super) fn symbols() -> &'static [u8] {
    &[]
}
