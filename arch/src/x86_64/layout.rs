//! The kernel's address space on x86_64, and the sizes it is compiled for.

use super::X86_64;
use crate::contract::Layout;
use hotmem_paging::addr::{PhysAddr, VirtAddr};

impl Layout for X86_64 {
    const PAGE_SHIFT: u32 = 12;
    const SECTION_SHIFT: u32 = 27;
    const LINEAR_BASE: VirtAddr = VirtAddr::new(0xffff_8000_0000_0000);
    const VMEMMAP_BASE: VirtAddr = VirtAddr::new(0xffff_c000_0000_0000);
    const DEVICE_BASE: VirtAddr = VirtAddr::new(0xffff_e000_0000_0000);
    const FIRMWARE_BASE: VirtAddr = VirtAddr::new(0xffff_e800_0000_0000);
    const STACK_BASE: VirtAddr = VirtAddr::new(0xffff_f000_0000_0000);
    const PHYS_LIMIT: PhysAddr = PhysAddr::new(1 << 46);
    /// System V ABI, 3.2.2.
    const RETURN_ADDRESS: u64 = 8;
    const TRAP_STACKS: &'static [&'static str] = &["double-fault", "page-fault", "NMI"];
}
