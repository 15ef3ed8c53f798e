//! The kernel's address space on the host: that of x86_64, whose table format it uses, with smaller sections.

use super::Host;
use crate::contract::Layout;
use crate::x86_64::X86_64;
use hotmem_paging::addr::{PhysAddr, VirtAddr};

impl Layout for Host {
    const PAGE_SHIFT: u32 = X86_64::PAGE_SHIFT;
    /// Small, since a test fills the memory that it plugs.
    const SECTION_SHIFT: u32 = 24;
    const LINEAR_BASE: VirtAddr = X86_64::LINEAR_BASE;
    const VMEMMAP_BASE: VirtAddr = X86_64::VMEMMAP_BASE;
    const DEVICE_BASE: VirtAddr = X86_64::DEVICE_BASE;
    const FIRMWARE_BASE: VirtAddr = X86_64::FIRMWARE_BASE;
    const STACK_BASE: VirtAddr = X86_64::STACK_BASE;
    const PHYS_LIMIT: PhysAddr = X86_64::PHYS_LIMIT;
    const RETURN_ADDRESS: u64 = X86_64::RETURN_ADDRESS;
    const TRAP_STACKS: &'static [&'static str] = &["trap"];
}
