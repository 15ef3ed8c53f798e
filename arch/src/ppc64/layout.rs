//! The kernel's address space on ppc64, and the sizes it is compiled for.
//!
//! Quadrant 3 of a radix MMU: 52 bits below `0xc` (Power ISA 3.0B, book III, 5.7.5). An image has one page size: 64
//! KiB, unless it was built for another.

use super::Ppc64;
use crate::contract::Layout;
use crate::page_size::page_shift;
use hotmem_paging::addr::{PhysAddr, VirtAddr};

impl Ppc64 {
    /// The base of the image: virtual minus physical address. Its low 32 bits are zero, so that code which runs
    /// without translation finds the image's data by the low half of their addresses.
    pub const KERNEL_BASE: VirtAddr = VirtAddr::new(0xc00f_0000_0000_0000);
}

impl Layout for Ppc64 {
    /// 16 or 12: page tables have no other format.
    const PAGE_SHIFT: u32 = page_shift(16);
    /// Linux's choice.
    const SECTION_SHIFT: u32 = 24;
    /// A logical memory block, firmware's unit of hotplug.
    const BLOCK_SHIFT: u32 = 28;
    const LINEAR_BASE: VirtAddr = VirtAddr::new(0xc000_0000_0000_0000);
    const VMEMMAP_BASE: VirtAddr = VirtAddr::new(0xc00c_0000_0000_0000);
    const DEVICE_BASE: VirtAddr = VirtAddr::new(0xc00d_0000_0000_0000);
    const FIRMWARE_BASE: VirtAddr = VirtAddr::new(0xc00d_8000_0000_0000);
    const STACK_BASE: VirtAddr = VirtAddr::new(0xc00e_0000_0000_0000);
    const PHYS_LIMIT: PhysAddr = PhysAddr::new(1 << 43);
    /// The word with the return address that the frame owner's callee saved (64-bit ELF V2 ABI, 2.2.2.1, "LR save
    /// doubleword").
    const RETURN_ADDRESS: u64 = 16;
    /// For traps that interrupt the kernel, and for a trap that interrupts another.
    const TRAP_STACKS: &'static [&'static str] = &["trap", "nested-trap"];
}
