//! The kernel's address space on ppc64, and the sizes it is compiled for.
//!
//! Quadrant 3 of a radix MMU: 52 bits below `0xc` (Power ISA 3.0B, book III, 5.7.5). An image has one
//! page size, 64 KiB unless it was built for another.

use crate::page_size::page_shift;
use hotmem_paging::addr::{PhysAddr, VirtAddr};

/// Log2 of a base page's bytes: 16 or 12, for the page tables have no other format.
pub const PAGE_SHIFT: u32 = page_shift(option_env!("HOTMEM_PAGE_SIZE"), 16);
/// Log2 of a section's bytes: Linux's choice.
pub const SECTION_SHIFT: u32 = 24;
/// Log2 of the bytes of a memory block, unless the command line says otherwise: a logical memory
/// block, the unit that firmware hands over.
pub const BLOCK_SHIFT: u32 = 28;

/// Where physical address 0 is in the linear map.
pub const LINEAR_BASE: VirtAddr = VirtAddr::new(0xc000_0000_0000_0000);
/// Where the descriptor of pfn 0 is.
pub const VMEMMAP_BASE: VirtAddr = VirtAddr::new(0xc00c_0000_0000_0000);
/// Where device registers are mapped.
pub const DEVICE_BASE: VirtAddr = VirtAddr::new(0xc00d_0000_0000_0000);
/// Where firmware's tables are mapped.
pub const FIRMWARE_BASE: VirtAddr = VirtAddr::new(0xc00d_8000_0000_0000);
/// Where the stacks are.
pub const STACK_BASE: VirtAddr = VirtAddr::new(0xc00e_0000_0000_0000);
/// Where the image is: virtual minus physical address. Its low 32 bits are zero, so that code which
/// runs without translation finds the image's data by the low half of their addresses.
pub const KERNEL_BASE: VirtAddr = VirtAddr::new(0xc00f_0000_0000_0000);
/// One past the highest physical address that the linear map and the section map have room for.
pub const PHYS_LIMIT: PhysAddr = PhysAddr::new(1 << 43);

/// From a stack frame's address to the word with the return address that its owner's callee saved
/// (64-bit ELF V2 ABI, 2.2.2.1, "LR save doubleword").
pub const RETURN_ADDRESS: u64 = 16;

/// The stacks of traps: of all that interrupt the kernel, and of one that interrupts another.
pub const TRAP_STACKS: [&str; 2] = ["trap", "nested-trap"];
