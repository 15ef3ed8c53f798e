//! The kernel's address space on aarch64, and the sizes it is compiled for.
//!
//! The upper range of 48-bit addresses, the same for every granule. An image has one page size, 4 KiB
//! unless it was built for another.

use crate::page_size::page_shift;
use hotmem_paging::addr::{PhysAddr, VirtAddr};

/// Log2 of a base page's bytes.
pub const PAGE_SHIFT: u32 = page_shift(option_env!("HOTMEM_PAGE_SIZE"), 12);
/// Log2 of a section's bytes: Linux's choice, whose memory blocks an operator knows.
pub const SECTION_SHIFT: u32 = if PAGE_SHIFT == 16 { 29 } else { 27 };
/// Log2 of the bytes of a memory block, unless the command line says otherwise.
pub const BLOCK_SHIFT: u32 = SECTION_SHIFT;

/// Where physical address 0 is in the linear map.
pub const LINEAR_BASE: VirtAddr = VirtAddr::new(0xffff_0000_0000_0000);
/// Where the descriptor of pfn 0 is.
pub const VMEMMAP_BASE: VirtAddr = VirtAddr::new(0xffff_8000_0000_0000);
/// Where device registers are mapped.
pub const DEVICE_BASE: VirtAddr = VirtAddr::new(0xffff_a000_0000_0000);
/// Where firmware's tables are mapped.
pub const FIRMWARE_BASE: VirtAddr = VirtAddr::new(0xffff_a800_0000_0000);
/// Where the stacks are.
pub const STACK_BASE: VirtAddr = VirtAddr::new(0xffff_b000_0000_0000);
/// Where the image is: virtual minus physical address.
pub const KERNEL_BASE: VirtAddr = VirtAddr::new(0xffff_c000_0000_0000);
/// One past the highest physical address that the linear map and the memmap have room for.
pub const PHYS_LIMIT: PhysAddr = PhysAddr::new(1 << 46);

/// From a stack frame's address to its return address (AAPCS64, 6.4.6).
pub const RETURN_ADDRESS: u64 = 8;

/// The stacks of traps: of all that interrupt the kernel, and of one that interrupts another.
pub const TRAP_STACKS: [&str; 2] = ["trap", "nested-trap"];

const _: () = assert!(PAGE_SHIFT != 0, "HOTMEM_PAGE_SIZE is 4K, 16K or 64K");
