//! The kernel's address space on aarch64, and the sizes it is compiled for.
//!
//! The upper range of 48-bit addresses, the same for every granule. An image has one page size: 4 KiB, unless it was
//! built for another.

use super::Aarch64;
use crate::contract::Layout;
use crate::page_size::page_shift;
use hotmem_paging::addr::{PhysAddr, VirtAddr};

impl Aarch64 {
    /// The base of the image: virtual minus physical address.
    pub const KERNEL_BASE: VirtAddr = VirtAddr::new(0xffff_c000_0000_0000);
}

impl Layout for Aarch64 {
    const PAGE_SHIFT: u32 = page_shift(12);
    /// Linux's choice, so that memory blocks have the size that an operator knows.
    const SECTION_SHIFT: u32 = if Self::PAGE_SHIFT == 16 { 29 } else { 27 };
    const LINEAR_BASE: VirtAddr = VirtAddr::new(0xffff_0000_0000_0000);
    const VMEMMAP_BASE: VirtAddr = VirtAddr::new(0xffff_8000_0000_0000);
    const DEVICE_BASE: VirtAddr = VirtAddr::new(0xffff_a000_0000_0000);
    const FIRMWARE_BASE: VirtAddr = VirtAddr::new(0xffff_a800_0000_0000);
    const STACK_BASE: VirtAddr = VirtAddr::new(0xffff_b000_0000_0000);
    const PHYS_LIMIT: PhysAddr = PhysAddr::new(1 << 46);
    /// AAPCS64, 6.4.6.
    const RETURN_ADDRESS: u64 = 8;
    /// For traps that interrupt the kernel, and for a trap that interrupts another.
    const TRAP_STACKS: &'static [&'static str] = &["trap", "nested-trap"];
}
