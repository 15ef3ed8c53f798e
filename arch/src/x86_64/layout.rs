//! The kernel's address space on x86_64, and the sizes it is compiled for.

use hotmem_paging::addr::{PhysAddr, VirtAddr};

/// Log2 of a base page's bytes.
pub const PAGE_SHIFT: u32 = 12;
/// Log2 of a section's bytes.
pub const SECTION_SHIFT: u32 = 27;
/// Log2 of the bytes of a memory block, unless the command line says otherwise.
pub const BLOCK_SHIFT: u32 = SECTION_SHIFT;

/// Where physical address 0 is in the linear map.
pub const LINEAR_BASE: VirtAddr = VirtAddr::new(0xffff_8000_0000_0000);
/// Where the descriptor of pfn 0 is.
pub const VMEMMAP_BASE: VirtAddr = VirtAddr::new(0xffff_c000_0000_0000);
/// Where device registers are mapped.
pub const DEVICE_BASE: VirtAddr = VirtAddr::new(0xffff_e000_0000_0000);
/// Where firmware's tables are mapped.
pub const FIRMWARE_BASE: VirtAddr = VirtAddr::new(0xffff_e800_0000_0000);
/// Where the stacks are.
pub const STACK_BASE: VirtAddr = VirtAddr::new(0xffff_f000_0000_0000);
/// One past the highest physical address that the linear map and the memmap have room for.
pub const PHYS_LIMIT: PhysAddr = PhysAddr::new(1 << 46);

/// From a stack frame's address to its return address (System V ABI, 3.2.2).
pub const RETURN_ADDRESS: u64 = 8;

/// The stacks of traps that need one of their own, in the order of `tables::TrapStacks`.
pub const TRAP_STACKS: [&str; 3] = ["double-fault", "page-fault", "NMI"];
